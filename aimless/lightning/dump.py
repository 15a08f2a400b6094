"""Files with which a training step that went wrong can be done again."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from aimless.errors import DataError
from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from aimless.lightning.sharding import ShardedStrategy

__all__ = ["Seen", "StepDumps"]

logger = logging.getLogger(__name__)

_MOST_BATCHES = 8  # of accumulated ones; more would make files of many gigabytes


class Seen(NamedTuple):
    """A batch that was trained on.

    Attributes:
        batch: without its audio, or with it if it is the last one.
        batch_idx: of the epoch.
        random: state of the random generators before it, see `aimless.lightning.random_state`.
        loss: a scalar.
    """

    batch: Any
    batch_idx: int
    random: dict[str, Any]
    loss: Tensor | None


class StepDumps:
    """Writes `dumps/step_<step>_rank_<rank>.pt` beside the checkpoints or logs of a run.

    A dump holds the weights before the step, the batches (audio, and the keys that they were
    drawn from), the random state before each, the config, and what was said of the step. It is
    data, and whole or not there; `python -m aimless.lightning.replay FILE` does the step again.

    Args:
        count: how many are written by each process of a run.
    """

    def __init__(self, count: int) -> None:
        self.left = count
        # a disk that is full of anything else must not end the run
        self._io = AtomicCheckpointIO(limit=sys.maxsize)

    def write(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, seen: list[Seen], said: str
    ) -> None:
        """Write a dump of a step whose weights are still, or again, those before it.

        Args:
            trainer: of the run; one without a folder gets no dump, nor one whose processes hold
                a share of the weights each.
            pl_module: the separator.
            seen: the batches in question; those without audio are read again.
            said: what went wrong, for people.
        """
        folder = _run_folder(trainer)
        if not self.left or folder is None or isinstance(trainer.strategy, ShardedStrategy):
            return
        self.left -= 1
        batches = [entry for one in seen[-_MOST_BATCHES:] if (entry := _entry(trainer, one))]
        dump = {
            "said": said,
            "global_step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "rank": trainer.global_rank,
            "world_size": trainer.world_size,
            "precision": str(getattr(trainer, "precision", "32-true")),
            "config": _config(trainer),
            "batches": batches,
            "state_dict": _to_host(pl_module.state_dict()),
        }
        name = f"step_{trainer.global_step:07d}_rank_{trainer.global_rank}.pt"
        self._io.save_checkpoint(dump, folder / "dumps" / name)
        if not self._io.failing:
            text = "%s holds the step; `python -m aimless.lightning.replay` does it again"
            logger.warning(text, folder / "dumps" / name)


def _entry(trainer: pl.Trainer, seen: Seen) -> dict[str, Any] | None:
    """A batch as plain data; None if it cannot be had again."""
    batch = seen.batch
    mixture = batch[0] if isinstance(batch, (tuple, list)) else batch
    if isinstance(mixture, Tensor) and not mixture.numel():
        reload = getattr(getattr(trainer, "datamodule", None), "reload", None)
        try:
            batch = reload(batch) if reload else None
        except DataError as error:
            logger.warning("batch %d is left out of the dump: %s", seen.batch_idx, error)
            return None
        if batch is None:
            return None
    fields = list(getattr(batch, "_fields", ()))
    return {
        "fields": fields,
        "values": _to_host(list(batch) if fields else batch),
        "batch_idx": seen.batch_idx,
        "random": seen.random,
        "loss": None if seen.loss is None else float(seen.loss),
    }


def _to_host(values: Any) -> Any:
    """The same with tensors of the host, which share no larger memory."""
    return apply_to_collection(values, Tensor, lambda tensor: tensor.detach().cpu().clone())


def _run_folder(trainer: pl.Trainer) -> Path | None:
    """Where checkpoints go, else logs; None in trials and where a run writes nothing."""
    if getattr(trainer, "fast_dev_run", False):
        return None
    folder = getattr(trainer.checkpoint_callback, "dirpath", None)
    if folder is None and trainer.loggers:
        folder = trainer.log_dir
    return None if folder is None else Path(os.fspath(folder))


def _config(trainer: pl.Trainer) -> str | None:
    """The run's config as YAML text; None if there is none, as without a command line."""
    from aimless.lightning.cli import SaveConfig  # which imports the guard

    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((one.text for one in callbacks if isinstance(one, SaveConfig)), None)
