"""Where the last checkpoint of a run goes, and which were the best before it went on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = ["choose_path", "keep_best", "keeper"]


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


def keep_best(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Have each ModelCheckpoint go on with the best so far, though its folder is a new one.

    Lightning begins a new list wherever the folder has changed, as the default one does with each
    start; the first validation would be the best. The files stay in the folder of their run.

    Args:
        trainer: of the run that goes on.
        checkpoint: that it goes on from; changed in place.
    """
    for one in trainer.checkpoint_callbacks:
        state = checkpoint.get("callbacks", {}).get(one.state_key)
        if not isinstance(one, ModelCheckpoint) or not state:
            continue
        if state.get("dirpath", one.dirpath) == one.dirpath:  # Lightning goes on by itself
            continue
        best = state.get("best_k_models") or {}
        there = trainer.strategy.broadcast([path for path in best if Path(path).is_file()])
        best = {path: best[path] for path in there}
        if best:
            worst = (max if one.mode == "min" else min)(best, key=best.__getitem__)
            state |= {"kth_best_model_path": worst, "kth_value": best[worst]}
            state |= {"best_k_models": best, "last_model_path": "", "dirpath": one.dirpath}
