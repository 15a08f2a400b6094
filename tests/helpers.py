"""Small experiments through the command line, and parts for them that go wrong on purpose."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from torch import Tensor

from aimless.lightning.run import run
from aimless.loss import CLoss
from main import TRAINER_DEFAULTS

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = ["drums", "bass", "other", "vocals"]


def experiment(root, folder, **overrides):
    """A config of a network that trains in a second, with `a.b.c` keys overridden."""
    config = {
        "trainer": {
            "max_epochs": 1,
            "default_root_dir": str(folder),
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": str(folder)},
            },
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"save_last": True, "monitor": "val/sdr", "mode": "max"},
                }
            ],
        },
        "excerpts": {"count": 1, "seconds": 0.5},
        "model": {
            "class_path": "aimless.lightning.freq_mask.MaskPredictor",
            "init_args": {
                "targets": SOURCES,
                "n_fft": 512,
                "hop_length": 128,
                "model": {
                    "class_path": "aimless.models.xumx.X_UMX",
                    "init_args": {"hidden_channels": 8, "nb_layers": 1},
                },
                "criterion": {"class_path": "aimless.loss.freq.CLoss"},
            },
        },
        "data": {
            "class_path": "data.lightning.MUSDB",
            "init_args": {
                "root": str(root),
                "seq_duration": 0.5,
                "samples_per_track": 4,
                "random": True,
                "random_track_mix": True,
                "batch_size": 2,
                "num_workers": 0,
            },
        },
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}},
    }
    for key, value in overrides.items():
        *parents, leaf = key.split("__")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(leaf, None)
        else:
            node[leaf] = value
    path = Path(folder) / "experiment.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def main(*words):
    return run(TRAINER_DEFAULTS, [str(word) for word in words])


def metrics(folder):
    """The last value of each logged metric."""
    values = {}
    for row in csv.DictReader(next(folder.rglob("metrics.csv")).open()):
        values |= {name: float(value) for name, value in row.items() if value}
    return values


class FailingLoss(CLoss):
    """A loss that is NaN for chosen training batches.

    Args:
        bad_batches: training batches, counted from 0, of the ranks in `ranks`.
        ranks: that fail; none: all.
        gradients: whether the gradients are NaN too, or only the value of the loss.
        **kwargs: those of `CLoss`.
    """

    def __init__(
        self,
        bad_batches: list[int],
        ranks: list[int] | None = None,
        gradients: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        here = ranks is None or int(os.environ.get("LOCAL_RANK", "0")) in ranks
        self.bad_batches = bad_batches if here else []
        self.gradients = gradients
        self.seen = 0

    def forward(self, *args: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().forward(*args)
        if self.training:
            self.seen += 1
            if self.seen - 1 in self.bad_batches:
                loss = loss * math.nan if self.gradients else loss + math.nan
        return loss, parts


class RecordWeights(pl.Callback):
    """Saves the parameters of each rank after each batch, as `<folder>/<rank>_<batch>.pt`."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        path = self.folder / f"{trainer.global_rank}_{trainer.global_step - 1}.pt"
        torch.save({name: p.detach() for name, p in pl_module.named_parameters()}, path)


class RecordItems(pl.Callback):
    """Appends a line per batch that was trained on: its rank, epoch, items, and a sum of its audio.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        index: int,
    ) -> None:
        items = "+".join(str(item) for item in batch.index.tolist())
        total = batch.stems.double().sum().item()
        with self.path.open("a") as file:
            file.write(f"{trainer.global_rank} {batch.epoch[0].item()} {items} {total!r}\n")


class SignalAt(pl.Callback):
    """Sends this process a signal, as a scheduler or a user does.

    Args:
        number: of the signal.
        steps: after so many optimizer steps.
        where: in the next batch (train), in the validation, or in the check before training.
        ranks: of the processes that get it.
    """

    def __init__(
        self, number: int, steps: list[int], where: str = "train", ranks: list[int] | None = None
    ) -> None:
        self.number = number
        self.steps = list(steps)
        self.where = where
        self.ranks = ranks or [0]

    def _send(self, trainer: pl.Trainer, where: str) -> None:
        if where == self.where and trainer.global_step in self.steps:
            self.steps.remove(trainer.global_step)
            if trainer.global_rank in self.ranks:
                os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self._send(trainer, "train")

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._send(trainer, "check" if trainer.sanity_checking else "validation")


def flat(value, name=""):
    if isinstance(value, dict):
        value = value.items()
    elif isinstance(value, (list, tuple)):
        value = enumerate(value)
    else:
        yield name, value
        return
    for key, inner in value:
        yield from flat(inner, f"{name}/{key}")


#: The run's own: weights and average, optimizer, schedules, precision, random states, guard.
PARTS = ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "resume")


def assert_same_state(one, other):
    for part in (*PARTS, "global_step"):
        ours, theirs = dict(flat(one.get(part))), dict(flat(other.get(part)))
        ours.pop("/place", None), theirs.pop("/place", None)
        assert ours.keys() == theirs.keys(), part
        for name, value in ours.items():
            same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert same(value, theirs[name]), part + name
