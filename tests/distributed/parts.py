"""Runs that write down what each of their processes computes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import distributed
from torch.optim import Optimizer

from aimless.augment import DeviceEffect
from aimless.models import X_UMX
from tests.helpers import experiment

#: Python's doors to collective operations; DDP's own reductions do not pass through them
COLLECTIVES = ("all_reduce", "broadcast", "all_gather", "all_gather_object", "barrier")


class SpareWeights(X_UMX):
    """X-UMX with weights that nothing depends on."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spare = torch.nn.Linear(2, 2)


class NoteDraws(DeviceEffect):
    """Changes nothing, and keeps what it drew for each stem of each batch."""

    def __init__(self) -> None:
        super().__init__(p=1.0)
        self.drawn: list[torch.Tensor] = []

    def numbers(self, samples: int) -> int:
        return 1

    def change(self, stems: Any, chosen: Any, uniform: Any) -> None:
        self.drawn.append(torch.from_numpy(uniform[:, 0].copy()))


class RecordRun(pl.Callback):
    """Writes what a process computes to `<folder>/<rank>.pt`.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.seen: dict[str, list[Any]] = {"losses": [], "gradients": [], "collectives": []}
        self.calls: Counter[str] = Counter()
        self.held = 0
        self.looks_for_unused = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.originals = {name: getattr(distributed, name) for name in COLLECTIVES}
        for name, original in self.originals.items():
            setattr(distributed, name, self._counted(name, original))

    def _counted(self, name: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return original(*args, **kwargs)

        return call

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wrapper = trainer.strategy.model
        self.looks_for_unused = getattr(wrapper, "find_unused_parameters", False)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        weights = dict(pl_module.model.named_parameters())
        self.seen["gradients"].append({name: _whole(p.grad) for name, p in weights.items()})
        self.held = sum(_held(weight) for weight in weights.values())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        self.seen["losses"].append(outputs["loss"].detach())
        self.seen["collectives"].append(dict(self.calls))
        self.calls.clear()  # what comes from here on belongs to the next batch

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for name, original in self.originals.items():
            setattr(distributed, name, original)
        effects = [one for one in pl_module.transforms if isinstance(one, NoteDraws)]
        content = {
            **self.seen,
            "held": self.held,
            "weights": {name: _whole(p) for name, p in pl_module.model.named_parameters()},
            "buffers": dict(pl_module.model.named_buffers()),
            "metrics": dict(trainer.callback_metrics),
            "draws": [effect.drawn for effect in effects],
            "seed": torch.initial_seed(),  # of dropout
            "looks_for_unused": self.looks_for_unused,
        }
        torch.save(content, self.folder / f"{trainer.global_rank}.pt")


def _held(tensor: torch.Tensor) -> int:
    """Numbers of a tensor that this process has in memory."""
    return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).numel()


def _whole(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """A copy, of a tensor that the processes share of the whole."""
    if tensor is None:
        return None
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()


def recorded(root: Path, folder: Path, **overrides: Any) -> str:
    """A config of a run that writes down what it computes, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    recorder = {
        "class_path": "tests.distributed.parts.RecordRun",
        "init_args": {"folder": str(folder)},
    }
    callbacks = [recorder, *overrides.pop("callbacks", [])]
    settings = {"excerpts__count": 0, "trainer__num_sanity_val_steps": 0}
    return experiment(
        root, folder, **{**settings, **overrides}, **{"trainer__callbacks": callbacks}
    )


def records(folder: Path) -> list[dict[str, Any]]:
    """What each process of a run wrote down."""
    files = sorted(folder.glob("[0-9].pt"))
    return [torch.load(file, weights_only=True) for file in files]
