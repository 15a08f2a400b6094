"""Signals: the run saves after its step, says how to go on, and leaves with the right status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from aimless.lightning.signals import Signals
from tests.helpers import REPOSITORY, experiment, main

TERM, USR1, INT = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def configure(root, folder, number, steps, where="train", ranks=(0,), **overrides):
    signal_at = {
        "class_path": "tests.helpers.SignalAt",
        "init_args": {
            "number": int(number),
            "steps": list(steps),
            "where": where,
            "ranks": list(ranks),
        },
    }
    averaging = {
        "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
        "init_args": {"decay": 0.5},
    }
    callbacks = [signal_at, averaging]
    settings = {"trainer__max_epochs": 2, "excerpts__count": 0, "trainer__callbacks": callbacks}
    return experiment(root, folder, **{**settings, **overrides})


def last_of(folder):
    newest = max(folder.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return torch.load(newest, weights_only=True)


@pytest.mark.parametrize(
    ("number", "where", "step", "saved", "status"),
    [
        (TERM, "train", 0, 1, 143),
        (USR1, "train", 2, 3, 143),
        (INT, "train", 2, 3, 130),
        (TERM, "validation", 4, 4, 143),
        (USR1, "validation", 4, 4, 143),
    ],
)
def test_a_signal_saves_the_step(number, where, step, saved, status, musdb_root, tmp_path, capsys):
    before = [signal.getsignal(one) for one in (TERM, USR1, INT)]
    config = configure(musdb_root, tmp_path, number, [step], where)
    assert main("fit", "--config", config) == status
    said = capsys.readouterr().err
    assert f"stopped at step {saved}, saved in " in said
    assert "--ckpt_path last" in said
    assert "Traceback" not in said
    content = last_of(tmp_path)
    assert content["global_step"] == saved
    assert [signal.getsignal(one) for one in (TERM, USR1, INT)] == before


@pytest.mark.parametrize("where", ["train", "validation"])
def test_the_weights_are_those_of_a_run_that_was_not_asked_to_end(where, musdb_root, tmp_path):
    """In a validation the averaged weights are in place; they are not taken for the others."""
    step = 3 if where == "train" else 4
    runs = {}
    for run, steps in (("quiet", []), ("stopped", [step])):
        (tmp_path / run).mkdir()
        config = configure(musdb_root, tmp_path / run, TERM, steps, where)
        words = ["fit", "--config", config, "--trainer.max_epochs", "1"]
        assert main(*words) == (143 if steps else 0)
        runs[run] = last_of(tmp_path / run)
    for part in ("state_dict", "current_model_state"):
        for name, value in runs["quiet"][part].items():
            assert torch.equal(runs["stopped"][part][name], value), part + name


def test_before_the_first_step_there_is_nothing_to_save(musdb_root, tmp_path, capsys):
    config = configure(musdb_root, tmp_path, TERM, [0], "check")
    assert main("fit", "--config", config) == 143
    assert "nothing to save" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_accumulated_batches_are_finished_first(musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, TERM, [1], trainer__accumulate_grad_batches=2)
    assert main("fit", "--config", config) == 143
    saved = last_of(tmp_path)
    assert saved["global_step"] == 2
    assert saved["resume"]["items"] == 8


def test_a_trial_saves_nothing(musdb_root, tmp_path, capsys):
    config = configure(musdb_root, tmp_path, TERM, [0])
    assert main("fit", "--config", config, "--trainer.fast_dev_run", "3") == 143
    assert "not saved" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_signals_are_forgotten_by_nobody_and_a_second_ctrl_c_leaves_at_once():
    code = (
        "import os, signal, time; from aimless.lightning.signals import Signals\n"
        "signals = Signals(); signals.install()\n"
        "os.kill(os.getpid(), signal.SIGINT); assert signals.agree(False) == (2, False)\n"
        "print('once', flush=True); os.kill(os.getpid(), signal.SIGINT); time.sleep(20)\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "once\n"), done.stderr
    assert time.monotonic() - began < 20


def test_a_ctrl_c_that_is_ignored_stays_so():
    before = [signal.getsignal(one) for one in (TERM, USR1, INT)]
    try:
        signal.signal(INT, signal.SIG_IGN)
        Signals().install()
        assert signal.getsignal(INT) is signal.SIG_IGN
        assert signal.getsignal(TERM) is not before[0]
    finally:
        for one, handler in zip((TERM, USR1, INT), before):
            signal.signal(one, handler)


@pytest.mark.slow
def test_two_processes_that_lightning_starts_agree(musdb_root, tmp_path):
    """Both leave after the same step, see tests/distributed; the one that was started tells it."""
    config = configure(musdb_root, tmp_path, TERM, [0], "train", ranks=[1])
    words = ["fit", "--config", config, "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(
        [sys.executable, "main.py", *words],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 143, done.stderr[-3000:]
    assert "stopped at step 1, saved in " in done.stderr
    content = last_of(tmp_path)
    assert content["global_step"] == 1
    assert len(content["resume"]["random"]) == 2
