"""A run that goes on from a checkpoint ends where it would have ended without a break."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import ClassVar

import lightning.pytorch as pl
import pytest
import torch

from tests.helpers import REPOSITORY, assert_same_state, experiment, main

CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
SCHEDULES = {
    "cosine": {
        "class_path": "aimless.schedules.WarmupCosine",
        "init_args": {"warmup_steps": 3, "total_steps": 24},
    },
    "plateau": {  # halves the rate at each epoch
        "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
        "init_args": {"monitor": "val/sdr", "mode": "max", "threshold": 50.0, "patience": 0},
    },
}
AVERAGING = {
    "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
    "init_args": {"decay": 0.9},
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def keep(name, **settings):
    """A ModelCheckpoint that keeps everything."""
    settings = {"save_top_k": -1, "filename": name, "auto_insert_metric_name": False, **settings}
    return {"class_path": CHECKPOINT, "init_args": settings}


def everything():
    """Checkpoints after each step, after each validation and after each epoch."""
    return [
        keep("step{step}", every_n_train_steps=1),
        keep("val{step}", every_n_epochs=1, monitor="val/sdr", save_on_train_epoch_end=False),
        keep("epoch{step}", every_n_epochs=1, save_on_train_epoch_end=True),
    ]


def callback(name, **settings):
    return {"class_path": f"tests.helpers.{name}", "init_args": settings}


def configure(root, folder, callbacks=(), **overrides):
    """8 batches of 2 per epoch, 3 epochs; a network with dropout and batch norm."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "model__init_args__model__init_args__nb_layers": 2,
        "data__init_args__samples_per_track": 8,
        "trainer__max_epochs": 3,
        "excerpts__count": 0,
        "trainer__callbacks": list(callbacks),
        **overrides,
    }
    return experiment(root, folder, **settings)


def last_of(folder):
    newest = max(folder.rglob("last*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return torch.load(newest, weights_only=True)


VARIANTS = {
    "accumulation": (
        {
            "trainer__accumulate_grad_batches": 3,
            "trainer__val_check_interval": 0.5,
            "lr_scheduler": SCHEDULES["cosine"],
        },
        [AVERAGING],
        # begun: a validation between two batches of a step; then in mid-epoch; the epoch's end
        {"val1": "begun", "step2": "stepped", "val3": "validated", "epoch3": "finished"},
    ),
    "plateau": (
        {"lr_scheduler": SCHEDULES["plateau"]},
        [],
        {"step8": "stepped", "val8": "validated", "epoch8": "finished"},
    ),
    "without validation": (
        {"trainer__limit_val_batches": 0, "trainer__max_epochs": -1, "trainer__max_steps": 20},
        [],
        {"step11": "stepped", "epoch16": "finished"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_bit_for_bit_from_any_point(name, musdb_root, tmp_path):
    overrides, callbacks, points = VARIANTS[name]
    quiet = tmp_path / "quiet"
    config = configure(musdb_root, quiet, [*callbacks, *everything()], **overrides)
    assert main("fit", "--config", config) == 0
    end = last_of(quiet)
    for point, place in points.items():
        file = next(quiet.rglob(f"{point}.ckpt"))
        assert torch.load(file, weights_only=True)["resume"]["place"] == place
        again = tmp_path / point
        config = configure(musdb_root, again, [*callbacks, *everything()], **overrides)
        assert main("fit", "--config", config, "--ckpt_path", file) == 0
        assert_same_state(last_of(again), end)
        done = {path.name for path in again.rglob("val*.ckpt")}
        later = {path.name for path in quiet.rglob("val*.ckpt") if path.stat().st_mtime_ns}
        assert done <= later
        assert done or not later or place != "stepped", "a validation was left out"


def run_in_child(*words):
    """The command in a process of its own, which may be killed; its exit code."""
    child = multiprocessing.get_context("fork").Process(target=_exit_with_status, args=words)
    child.start()
    child.join(120)
    return child.exitcode


def _exit_with_status(*words):
    os._exit(main(*words))


def recorded(path):
    """(epoch, items, sum of the audio) of each batch."""
    lines = [line.split() for line in Path(path).read_text().splitlines()]
    return [(int(epoch), items, total) for _, epoch, items, total in lines]


@pytest.mark.slow
def test_20_steps_are_10_and_a_kill_and_10(musdb_root, tmp_path):
    """Killed in the 11th step; the batches after the kill are those of the quiet run.

    However many loader processes there are: the quiet run has none.
    """

    def words(folder, workers, *more):
        callbacks = [
            callback("RecordItems", path=str(folder / "items.txt")),
            *more,
            keep("{step}", every_n_epochs=3),
        ]
        settings = {"trainer__max_steps": 20, "data__init_args__num_workers": workers}
        config = configure(musdb_root, folder, callbacks, saving__every_n_steps=1, **settings)
        return "fit", "--config", config, "--ckpt_path", "auto"

    quiet = tmp_path / "quiet"
    assert main(*words(quiet, 0)) == 0
    assert len(recorded(quiet / "items.txt")) == 20
    for workers in (0, 2, 4):
        killed = tmp_path / str(workers)
        kill = callback("SignalAt", number=int(signal.SIGKILL), steps=[10])
        assert run_in_child(*words(killed, workers, kill)) == -signal.SIGKILL
        assert len(recorded(killed / "items.txt")) == 10
        assert main(*words(killed, workers)) == 0
        assert recorded(killed / "items.txt") == recorded(quiet / "items.txt")
        assert_same_state(last_of(killed), last_of(quiet))


def test_after_five_preemptions_no_item_was_drawn_twice(musdb_root, tmp_path):
    """Two of them in one epoch."""
    stops = [2, 5, 8, 9, 20]
    callbacks = [
        callback("RecordItems", path=str(tmp_path / "items.txt")),
        callback("SignalAt", number=int(signal.SIGUSR1), steps=stops),
    ]
    config = configure(musdb_root, tmp_path, callbacks)
    for _ in stops:
        assert main("fit", "--config", config, "--ckpt_path", "auto") == 143
    assert main("fit", "--config", config, "--ckpt_path", "last") == 0
    batches = recorded(tmp_path / "items.txt")
    assert len(batches) == 24
    for epoch in range(3):
        items = [item for e, batch, _ in batches if e == epoch for item in batch.split("+")]
        assert sorted(items, key=int) == [str(index) for index in range(16)]


def test_other_batches_go_on_at_the_same_item(musdb_root, tmp_path, caplog):
    callbacks = [
        callback("RecordItems", path=str(tmp_path / "items.txt")),
        callback("SignalAt", number=int(signal.SIGTERM), steps=[2]),
    ]
    config = configure(musdb_root, tmp_path, callbacks, trainer__max_epochs=2)
    assert main("fit", "--config", config) == 143
    words = ["--data.init_args.batch_size", "5", "--ckpt_path", "last"]
    with caplog.at_level("INFO"):
        assert main("fit", "--config", config, *words) == 0
    assert "Goes on at item 6 of epoch 0, with 1 process and batches of 5 (so far" in caplog.text
    items = [[], []]
    for epoch, batch, _ in recorded(tmp_path / "items.txt"):
        items[epoch] += batch.split("+")
    # 3 x 2, then 2 x 5 of the 10 that are left; 3 x 5 of 16
    assert [len(epoch) for epoch in items] == [16, 15]
    assert len(set(items[0])) == 16


def test_the_best_so_far_are_known_in_another_folder(musdb_root, tmp_path):
    """By default each start writes to a folder of its own."""

    def best(folder):
        last = max(folder.rglob("last.ckpt"), key=os.path.getmtime)
        states = torch.load(last, weights_only=True)["callbacks"]
        (state,) = [one for name, one in states.items() if name.startswith("ModelCheckpoint")]
        assert state["kth_best_model_path"] in state["best_k_models"]
        assert all(Path(path).is_file() for path in state["best_k_models"])
        return sorted(float(score) for score in state["best_k_models"].values())

    callbacks = [keep("{step}", monitor="val/sdr", mode="max", save_top_k=2, save_last=True)]
    folders = {}
    for epochs in ((4,), (2, 4)):
        folders[epochs] = folder = tmp_path / f"{len(epochs)}"
        config = configure(musdb_root, folder, callbacks)
        for epoch in epochs:
            words = ["--ckpt_path", "auto", "--trainer.max_epochs", epoch]
            assert main("fit", "--config", config, *words) == 0
    assert len(list(folders[2, 4].rglob("version_*"))) == 2
    assert best(folders[2, 4]) == best(folders[4,])


def test_a_checkpoint_says_what_it_holds_as_plain_data(musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, [keep("{step}", every_n_train_steps=4)])
    assert main("fit", "--config", config, "--trainer.max_steps", "4") == 0
    saved = torch.load(next(tmp_path.rglob("4.ckpt")), weights_only=True)
    resume = saved["resume"]
    assert (resume["epoch"], resume["items"], resume["batch_size"]) == (0, 8, 2)
    assert resume["processes"] == len(resume["random"]) == 1
    del resume["random"]
    json.dumps(resume)


class Windows(pl.Callback):
    """Collects how far the window of the STFT is from what it should be, in each validation."""

    seen: ClassVar[list[float]] = []

    def on_validation_batch_start(self, trainer, pl_module, *args, **kwargs):
        window = pl_module.spec.window
        self.seen.append((window - torch.hann_window(len(window))).abs().max().item())


def test_what_checkpoints_leave_out_is_not_averaged(musdb_root, tmp_path):
    """Or scores would depend on how often a run was begun."""
    averaging = {**AVERAGING, "init_args": {"decay": 0.7}}
    probe = {"class_path": f"{__name__}.Windows"}
    Windows.seen.clear()
    config = configure(musdb_root, tmp_path, [averaging, probe], trainer__max_epochs=2)
    assert main("fit", "--config", config) == 0
    assert len(Windows.seen) > 2
    assert set(Windows.seen) == {0.0}
