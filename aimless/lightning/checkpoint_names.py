"""Where the last checkpoint of a run goes."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = ["choose_path", "keeper"]


def keeper(trainer: pl.Trainer) -> ModelCheckpoint | None:
    """The ModelCheckpoint that writes the last checkpoint too, if there is one."""
    for one in trainer.checkpoint_callbacks:
        if isinstance(one, ModelCheckpoint) and one.save_last is True and not one.save_weights_only:
            return one
    return None


def choose_path(trainer: pl.Trainer) -> str:
    """A name that is free, or that of the run that goes on."""
    keeps = keeper(trainer)
    folder = Path(getattr(keeps or trainer.checkpoint_callbacks[0], "dirpath", None) or ".")
    if keeps and keeps.last_model_path and Path(keeps.last_model_path).parent == folder:
        return keeps.last_model_path
    weights = any(getattr(one, "save_last", None) for one in trainer.checkpoint_callbacks)
    name = "resume" if weights and keeps is None else "last"
    resumed = trainer.ckpt_path
    if resumed is not None and Path(resumed).resolve().parent == folder.resolve():
        return str(folder / f"{name}.ckpt")
    names = [name, *(f"{name}-v{number}" for number in range(1, 10_000))]
    return str(next(path for one in names if not (path := folder / f"{one}.ckpt").exists()))
