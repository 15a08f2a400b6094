"""What makes long runs go well, through the command line: guard, averaging, schedule, compile."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from aimless.draws import generator
from aimless.lightning.waveform import WaveformSeparator
from aimless.loss import L1Loss
from data.dataset.base import Item
from data.lightning import MUSDB
from data.sampling import Key
from tests.helpers import REPOSITORY, SOURCES, experiment, main, metrics

CHECKPOINT = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {"save_last": True, "save_top_k": -1, "every_n_train_steps": 1},
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def failing(bad_batches, **settings):
    settings = {"bad_batches": bad_batches, **settings}
    return {"class_path": "tests.helpers.FailingLoss", "init_args": settings}


def recorder(folder):
    folder.mkdir(exist_ok=True)
    return {"class_path": "tests.helpers.RecordWeights", "init_args": {"folder": str(folder)}}


def weights(folder, step, rank=0):
    return torch.load(folder / f"{rank}_{step}.pt", weights_only=True)


def load(folder, name="last.ckpt"):
    return torch.load(next(folder.rglob(name)), weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def column(folder, name):
    """All logged values of a metric."""
    rows = csv.DictReader(next(folder.rglob("metrics.csv")).open())
    return [float(row[name]) for row in rows if row.get(name)]


class TestGuard:
    def test_ten_bad_steps_in_a_row_end_with_status_4_and_a_good_checkpoint(
        self, musdb_root, tmp_path, capsys
    ):
        config = experiment(
            musdb_root,
            tmp_path,
            data__init_args__samples_per_track=16,
            model__init_args__criterion=failing(list(range(3, 16))),
            trainer__callbacks=[CHECKPOINT, recorder(tmp_path / "weights")],
        )
        assert main("fit", "--config", config) == 4
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
        assert "10 training steps in a row were not finite, first step 3: the loss" in line
        assert line.count("vocals.wav from ") == 2  # the items of one batch
        saved = load(tmp_path)
        assert saved["global_step"] == 12  # three good steps, nine skipped ones
        good = weights(tmp_path / "weights", 2)
        assert all(value.isfinite().all() for value in saved["state_dict"].values())
        assert all(torch.equal(saved["state_dict"][name], value) for name, value in good.items())

    def test_skipped_steps_are_logged(self, musdb_root, tmp_path):
        config = experiment(
            musdb_root, tmp_path, model__init_args__criterion=failing([1, 2]), excerpts=None
        )
        assert main("fit", "--config", config) == 0
        assert column(tmp_path, "train/skipped_steps") == [0, 1, 2, 2]

    @pytest.mark.slow
    def test_a_bad_batch_of_one_of_two_processes_is_skipped_by_both(self, musdb_root, tmp_path):
        """Its gradients are finite, so that only the agreement keeps rank 0 from its step."""
        config = experiment(
            musdb_root,
            tmp_path,
            data__init_args__samples_per_track=8,
            model__init_args__criterion=failing([1], ranks=[1], gradients=False),
            trainer__callbacks=[CHECKPOINT, recorder(tmp_path / "weights")],
            trainer__limit_val_batches=0,
        )
        command = [sys.executable, "main.py", "fit", "--config", config]
        command += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]

        steps = [[weights(tmp_path / "weights", n, rank) for n in range(4)] for rank in (0, 1)]
        assert all(same(one, other) for one, other in zip(*steps))
        assert same(steps[0][0], steps[0][1])  # the skipped one
        assert not same(steps[0][1], steps[0][2])
        assert metrics(tmp_path)["train/skipped_steps"] == 1

        (line,) = [x for x in done.stderr.splitlines() if x.startswith("skipped step 1: the loss")]
        order = generator("order", 0, 0).permutation(16)
        assert self.described(musdb_root, order[1::2][2:4]) in line
        assert done.stderr.count("Separates drums, bass, other, vocals of") == 1

    @staticmethod
    def described(root, indices):
        """What the message says of a batch of these items."""
        settings = {"seq_duration": 0.5, "samples_per_track": 8, "batch_size": 2}
        data = MUSDB(str(root), random=True, random_track_mix=True, num_workers=0, **settings)
        data.setup("fit")
        plans = [data.datasets["train"].describe(Key(0, int(index))) for index in indices]
        return "; ".join(
            ", ".join(
                f"{e.file.path} from {e.start / 44100:.3f} s" for n in SOURCES for e in plan[n]
            )
            for plan in plans
        )


class TestDescribe:
    @pytest.mark.parametrize("random", [False, True])
    def test_a_batch_names_the_files_and_offsets_of_its_items(self, musdb_root, random):
        data = MUSDB(str(musdb_root), seq_duration=0.7, random=random, batch_size=3, num_workers=0)
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        lines = data.describe(batch)
        assert len(lines) == 3
        for line, index in zip(lines, batch.index.tolist()):
            plan = data.datasets["train"].describe(Key(0, index))
            assert line.split(", ") == [
                f"{e.file.path} from {e.start / 44100:.3f} s" for (e,) in plan.values()
            ]
            assert {*plan} == {*SOURCES, "mixture"}


DECAY = 0.5


def averaging(root, folder, epochs):
    """The config of a run with 4 steps per epoch and Lightning's EMA callback."""
    folder.mkdir()
    save = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"save_last": True, "monitor": "val/sdr", "mode": "max"},
    }
    average = {
        "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
        "init_args": {"decay": DECAY},
    }
    return experiment(
        root,
        folder,
        trainer__max_epochs=epochs,
        trainer__callbacks=[save, average, recorder(folder / "weights")],
        excerpts={"count": 0},
    )


@pytest.fixture(scope="module")
def averaged(musdb_root, tmp_path_factory):
    """The folder of a finished run of 2 epochs, and its config."""
    folder = tmp_path_factory.mktemp("average") / "run"
    config = averaging(musdb_root, folder, 2)
    before = os.getcwd()
    os.chdir(REPOSITORY)
    try:
        assert main("fit", "--config", config) == 0
    finally:
        os.chdir(before)
    return folder, config


class TestAveraging:
    def test_the_checkpoint_holds_the_average_of_all_steps(self, averaged):
        folder, _ = averaged
        average = weights(folder / "weights", 0)
        for step in range(1, 8):
            now = weights(folder / "weights", step)
            average = {name: DECAY * average[name] + (1 - DECAY) * now[name] for name in now}
        saved = load(folder)
        for name, value in average.items():
            assert torch.allclose(saved["state_dict"][name], value, rtol=1e-5, atol=1e-7), name
            assert torch.equal(saved["current_model_state"][name], now[name])
        assert not same({name: saved["state_dict"][name] for name in now}, now)

    def test_validation_uses_the_average(self, averaged, tmp_path):
        """What the run logged last is what its checkpoint's average gives, and nothing else."""
        folder, config = averaged
        while_training = metrics(folder)["val/loss"]
        checkpoint = next(folder.rglob("last.ckpt"))
        current = tmp_path / "current.ckpt"
        saved = load(folder)
        torch.save({**saved, "state_dict": saved["current_model_state"]}, current)
        losses = []
        for path in (checkpoint, current):
            words = ["--trainer.logger.init_args.save_dir", tmp_path / path.stem]
            assert main("validate", "--config", config, "--ckpt_path", path, *words) == 0
            losses.append(metrics(tmp_path / path.stem)["val/loss"])
        assert losses[0] == pytest.approx(while_training, rel=1e-5)
        assert losses[1] != pytest.approx(while_training, rel=1e-5)

    def test_training_goes_on_with_both(self, averaged, musdb_root, tmp_path):
        """One epoch, then another from the checkpoint, are two epochs, bit for bit."""
        first, second = tmp_path / "first", tmp_path / "second"
        assert main("fit", "--config", averaging(musdb_root, first, 1)) == 0
        last = next(first.rglob("last.ckpt"))
        config = averaging(musdb_root, second, 2)
        assert main("fit", "--config", config, "--ckpt_path", last) == 0
        whole, parts = load(averaged[0]), load(second)
        assert parts["global_step"] == whole["global_step"] == 8
        for key in ("state_dict", "current_model_state"):
            assert same(parts[key], whole[key]), key


def test_the_schedule_counts_optimizer_steps_and_goes_on(musdb_root, tmp_path):
    """8 batches per epoch, 2 per step: 4 steps; then 4 more from the checkpoint."""
    schedule = {
        "class_path": "aimless.schedules.WarmupCosine",
        "init_args": {"warmup_steps": 2, "total_steps": 6, "final_ratio": 0.5},
    }
    monitor = {
        "class_path": "lightning.pytorch.callbacks.LearningRateMonitor",
        "init_args": {"logging_interval": "step"},
    }
    seen, words = [], []
    for epochs in (1, 2):
        folder = tmp_path / str(epochs)
        folder.mkdir()
        config = experiment(
            musdb_root,
            folder,
            lr_scheduler=schedule,
            data__init_args__samples_per_track=8,
            trainer__accumulate_grad_batches=2,
            trainer__callbacks=[CHECKPOINT, monitor],
            trainer__max_epochs=epochs,
            trainer__limit_val_batches=0,
        )
        assert main("fit", "--config", config, *words) == 0
        words = ["--ckpt_path", next(folder.rglob("last.ckpt"))]
        seen += column(folder, "lr-Adam")
    middle = [0.5 + 0.5 * share for share in (0.8535534, 0.5, 0.1464466)]
    expected = [0, 0.5, 1, *middle, 0.5, 0.5]
    assert seen[::2] == pytest.approx([1e-3 * factor for factor in expected], rel=1e-6)


def test_a_bad_schedule_is_one_line(musdb_root, tmp_path, capsys):
    schedule = {
        "class_path": "aimless.schedules.WarmupCosine",
        "init_args": {"warmup_steps": 20, "total_steps": 6},
    }
    assert main("fit", "--config", experiment(musdb_root, tmp_path, lr_scheduler=schedule)) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert "lr_scheduler.init_args.total_steps: 6; must be above warmup_steps, 20" in line


def test_excerpts_of_every_second_validation(musdb_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    excerpts = {"count": 1, "seconds": 0.1, "every_n_validations": 2}
    config = experiment(musdb_root, tmp_path, trainer__max_epochs=4, excerpts=excerpts)
    assert main("fit", "--config", config) == 0
    steps = {path.parent.name for path in tmp_path.rglob("excerpt_0")}
    assert steps == {"step_0000004", "step_0000012"}
    assert main("fit", "--config", config, "--excerpts.every_n_validations", "0") == 2
    assert "excerpts.every_n_validations: 0; must be 1 or more" in capsys.readouterr().err


def can_compile():
    """A C++ compiler and Python's headers are there."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return header.is_file() and shutil.which(os.environ.get("CXX", "g++")) is not None


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 4, 1), nn.Conv1d(4, 2, 1)

    def forward(self, mixture):
        return self.second(self.first(mixture).tanh())


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler and Python's headers")
def test_a_compiled_network_gives_the_same_under_the_same_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # for one kernel, compiling torch's headers beforehand costs more than it saves
    monkeypatch.setattr("torch._inductor.config.cpp_cache_precompile_headers", False)
    batch = Item(
        torch.randn(2, 2, 1000), torch.randn(2, 4, 2, 1000), torch.ones(2) > 0, torch.zeros(2), 0
    )
    losses, keys, graphs = [], [], []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        torch.manual_seed(0)
        separator = WaveformSeparator(TwoLayers(), L1Loss(), targets=["vocals"], compile=compiled)
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        (scores,) = trainer.validate(separator, DataLoader([batch], batch_size=None), verbose=False)
        losses.append(scores["val/loss"])
        keys.append(list(separator.state_dict()))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert keys[0] == keys[1]
    assert graphs[0] == 0 < graphs[1]


def test_nothing_is_compiled_before_it_is_used():
    """So that a config can be looked at, and a checkpoint loaded, without a compiler."""
    plain = WaveformSeparator(nn.Conv1d(2, 2, 1), L1Loss(), targets=["vocals"])
    asked = WaveformSeparator(nn.Conv1d(2, 2, 1), L1Loss(), targets=["vocals"], compile=True)
    assert asked.model._compiled_call_impl is None
    assert list(plain.state_dict()) == list(asked.state_dict())
