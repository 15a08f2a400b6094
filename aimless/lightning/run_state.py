"""What goes into a checkpoint, and comes out of it, beside what Lightning keeps there."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_info

from aimless.lightning.guard import NonFiniteGuard
from aimless.lightning.loop_state import Place, restart_loops, write_place
from aimless.lightning.random_state import random_state, set_random_state

__all__ = ["RunState"]


class RunState:
    """Where a run is, as of its last optimizer step; `SaveRun` says what happens.

    Attributes:
        place: what has happened since that step.
        whole: whether the weights are those after that step, and no update is under way.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None
        self.begin()

    # -- what happens -----------------------------------------------------------------------

    def begin(self) -> None:
        """Training begins."""
        self.place: Place = "begun"
        self.whole = True
        self._batches = 0  # of the epoch, up to the last optimizer step
        self._before: dict[str, Any] | None = None  # random state, while a step is under way
        self._averaged = False  # validation has put averaged weights in place
        self._weights: dict[str, torch.Tensor] = {}  # at an epoch's end, where they are averaged

    def begin_epoch(self) -> None:
        """No batch of this epoch is done."""
        self.place, self._batches = "begun", 0
        self._weights = {}

    def begin_batch(self, trainer: pl.Trainer, device: torch.device) -> None:
        """Remember the random state that a step begins with."""
        if self._loaded is not None:  # what loggers show as the step
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            self._loaded = None
        if self._before is None:
            self._before = random_state(device)

    def begin_update(self) -> None:
        """From here on the weights are neither those before nor those after the step."""
        self.whole = False

    def end_step(self, trainer: pl.Trainer) -> None:
        """An optimizer step is done; Lightning has yet to count its batch as completed."""
        self._before, self.whole = None, True
        self.place = "stepped"
        current: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        self._batches = current.processed

    def swap_average(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, averaged: bool
    ) -> None:
        """Weight averaging has put its weights in place for a validation, or back."""
        self._averaged = averaged
        if averaged:
            for callback in _averaging(trainer):
                _keep_constants(callback, pl_module)

    def take_average_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A validation is broken off: put the weights of the run in place."""
        if self._averaged:
            for callback in _averaging(trainer):
                callback.on_validation_epoch_end(trainer, pl_module)
            self._averaged = False

    def end_validation(self) -> None:
        """The validation of this step is done."""
        if self.place == "stepped":
            self.place = "validated"

    def end_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All of the epoch is done."""
        self.place = "finished"
        if _averaging(trainer):
            # When training ends, the average takes their place before anything is saved.
            state = pl_module.state_dict()
            self._weights = {name: value.to("cpu", copy=True) for name, value in state.items()}

    # -- checkpoints ------------------------------------------------------------------------

    def write(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        checkpoint: dict[str, Any],
        alone: bool,
    ) -> None:
        """Add what Lightning leaves out, as of the last optimizer step.

        Args:
            trainer: of the run.
            pl_module: that is trained.
            checkpoint: as Lightning has filled it; changed in place.
            alone: without the other processes, which may wait for something else. Their random
                generators are left out.
        """
        loops = checkpoint["loops"]["fit_loop"]
        progress = trainer.fit_loop.epoch_loop.batch_progress
        whole = progress.is_last_batch or self._batches == trainer.num_training_batches
        place: Place = self.place if self._before is None else "begun"
        ended = place == "finished" and whole
        write_place(loops, place, self._batches, whole)
        if self._before is not None:
            _put_buffers_back(trainer, checkpoint)
        if self._weights and "current_model_state" in checkpoint:
            checkpoint["current_model_state"] = self._weights
        # Those of a batch that is begun anew come again as they are now.
        metrics = trainer.callback_metrics
        epoch = loops["epoch_progress"]["current"]["processed"]
        state = self._before or random_state(pl_module.device)
        checkpoint["resume"] = {
            "place": place,
            "ended": ended,
            "random": _gather(trainer, state, alone),
            "metrics": {name: float(value) for name, value in metrics.items()},
            "epoch": epoch,
            "processes": trainer.world_size,
            **_data_position(trainer, epoch, 0 if ended else self._batches),
        }

    def read(self, trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
        """Go on at the same item, also with batches of another size or other processes."""
        loaded = checkpoint.get("resume")
        if loaded is None:
            return
        self._loaded = loaded
        data: Any = getattr(trainer, "datamodule", None)
        if "items" not in loaded or not hasattr(data, "set_position"):
            return
        data.set_position(loaded["epoch"], loaded["items"])
        then = loaded["processes"], loaded["batch_size"]
        now = trainer.world_size, data.batch_size
        if then != now:
            rank_zero_info(
                f"Goes on at item {loaded['items']} of epoch {loaded['epoch']}, with "
                f"{now[0]} process{'es'[: 2 * (now[0] > 1)]} and batches of {now[1]} (so far "
                f"{then[0]} and {then[1]}): the same items in the same order, but not bit for bit"
            )
        if not loaded["ended"]:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            progress["current"] = dict.fromkeys(progress["current"], data.batches_done())

    def go_on(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put in place what was read, when training begins."""
        if (loaded := self._loaded) is None:
            return
        self.place = loaded["place"]
        self._batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in loaded["metrics"].items()}
        )
        restart_loops(trainer, loaded["ended"])
        states = loaded["random"]
        rank = trainer.global_rank
        if rank < len(states) and states[rank] is not None:
            set_random_state(states[rank], pl_module.device)


def _averaging(trainer: pl.Trainer) -> list[WeightAveraging]:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return [one for one in callbacks if isinstance(one, WeightAveraging)]


def _keep_constants(callback: WeightAveraging, pl_module: pl.LightningModule) -> None:
    """Buffers that are not in checkpoints, such as windows, are not what their average is.

    It is off by a rounding error that depends on how often the run was begun; so would scores be.
    """
    if callback._average_model is None:
        return
    current = dict(callback._average_model.module.named_buffers())  # they are swapped
    saved = pl_module.state_dict().keys()
    for name, buffer in pl_module.named_buffers():
        if name not in saved:
            buffer.copy_(current[name])


def _gather(trainer: pl.Trainer, state: dict[str, Any], alone: bool) -> list[dict[str, Any] | None]:
    """The state of each process."""
    states: list[dict[str, Any] | None] = [None] * trainer.world_size
    if alone or trainer.world_size == 1:
        states[trainer.global_rank] = state
    else:
        torch.distributed.all_gather_object(states, state)
    return states


def _data_position(trainer: pl.Trainer, epoch: int, batches: int) -> dict[str, int]:
    """How many items of the epoch were used; nothing, if the data module does not say."""
    data: Any = getattr(trainer, "datamodule", None)
    if not hasattr(data, "items_used"):
        return {}
    return {"items": data.items_used(epoch, batches), "batch_size": data.batch_size}


def _put_buffers_back(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Undo what the batches of an unfinished step did to running statistics."""
    state = checkpoint.get("current_model_state", checkpoint["state_dict"])
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, NonFiniteGuard):
            state.update(callback.buffers_before_step())
