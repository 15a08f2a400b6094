"""Saves the whole state of a run, and goes on from it as if nothing had happened."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer

from aimless.errors import AimlessError, ConfigError, NumericalError
from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from aimless.lightning.guard import NonFiniteGuard
from aimless.lightning.loop_state import Place, restart_loops, write_place
from aimless.lightning.random_state import random_state, set_random_state
from aimless.lightning.signals import Signals
from aimless.stopping import Stopped

__all__ = ["SaveRun"]

logger = logging.getLogger(__name__)


class SaveRun(pl.Callback):
    """Keeps `last.ckpt`, from which a run goes on exactly, whatever ends it.

    Every checkpoint of the run, those of `ModelCheckpoint` too, holds the state after an
    optimizer step: where in the epoch and its validation the run is, the items that were used,
    the random generators of each process. A batch that was begun after that step, or batches
    that are being accumulated, are begun anew. Weights only stay weights only.

    `last.ckpt`, beside the checkpoints of the first `ModelCheckpoint`, is written

    - at SIGTERM or SIGUSR1 to any process and at Ctrl-C, after the step that is under way; the
      run then ends, with status 143 or 130. In a validation the run ends after the batch, and
      the validation is done anew later. A second Ctrl-C ends the process at once.
    - at an error that leaves the weights of the last step intact, such as a dead loader process,
      a missing file or too little memory;
    - by the two settings below, and at the end of training.

    A trainer without checkpoints (`enable_checkpointing: false`, `fast_dev_run`) saves nothing.

    Args:
        every_n_steps: optimizer steps between two saves; null: none by steps.
        every_minutes: minutes without any complete checkpoint after which one is saved; null:
            none by time.
        async_save: write behind the training, see `AtomicCheckpointIO`; costs memory for two
            copies of the state.

    Raises:
        ConfigError: a number that is not above 0.
        DataError: when training begins, if the folder cannot be written.
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        every_minutes: float | None = 15.0,
        async_save: bool = False,
    ) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("every_minutes", every_minutes)):
            if value is not None and not value > 0:
                raise ConfigError(f"saving.{name}: {value}; must be above 0")
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.async_save = async_save
        self.signals = Signals()
        self._active = False
        self._path = ""
        self._saved_at = 0.0
        self._first_step = 0  # optimizer steps that were made before this process
        self._place: Place = "begun"
        self._batches = 0  # of the epoch, up to the last optimizer step
        self._before: dict[str, Any] | None = None  # random state, while a step is under way
        self._updating = False  # weights are being changed
        self._averaged = False  # validation has put averaged weights in place
        self._alone = False  # saving without the other processes
        self._weights: dict[str, torch.Tensor] = {}  # at an epoch's end, where they are averaged
        self._loaded: dict[str, Any] | None = None

    # -- start ------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out whether checkpoints can be written, before the first step."""
        trial = getattr(trainer, "fast_dev_run", False)
        self._active = bool(trainer.checkpoint_callbacks) and not trial
        io = trainer.strategy.checkpoint_io
        if self._active and trainer.is_global_zero and isinstance(io, AtomicCheckpointIO):
            folders = (getattr(one, "dirpath", None) for one in trainer.checkpoint_callbacks)
            for folder in {
                str(folder) for folder in folders if folder and "://" not in str(folder)
            }:
                io.prepare(folder)

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over."""
        self.signals.install()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin, or go on where the checkpoint was saved."""
        self.signals.install()
        self._saved_at = time.monotonic()
        self._first_step = trainer.global_step
        self._place, self._batches, self._before = "begun", 0, None
        self._updating = self._averaged = False
        self._weights = {}
        if self._active:
            self._path = trainer.strategy.broadcast(_choose_path(trainer))
            if keeper := _keeper(trainer):
                keeper.last_model_path = self._path
        if self._loaded is not None:
            self._go_on(trainer, pl_module, self._loaded)

    def _go_on(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loaded: dict[str, Any]
    ) -> None:
        self._place = loaded["place"]
        self._batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in loaded["metrics"].items()}
        )
        restart_loops(trainer, loaded["ended"])
        states = loaded["random"]
        rank = trainer.global_rank
        if rank < len(states) and states[rank] is not None:
            set_random_state(states[rank], pl_module.device)

    # -- where the run is -------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """No batch of this epoch is done."""
        self._place, self._batches = "begun", 0
        self._weights = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the random state that a step begins with."""
        if self._loaded is not None:  # what loggers show as the step
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            self._loaded = None
        if self._before is None:
            self._before = random_state(pl_module.device)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """From here on the weights are neither those before nor those after the step."""
        self._updating = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """After an optimizer step: leave if asked to, save if it is time."""
        if trainer.fit_loop._should_accumulate():
            return
        self._before, self._updating = None, False
        self._place = "stepped"
        self._batches = _batches_done(trainer)
        signal, due = self.signals.agree(self._is_time(trainer))
        if signal:
            self._leave(trainer, signal)
        if due or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            self._save(trainer)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Weight averaging has swapped the weights by now."""
        self._averaged = True

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Leave if asked to."""
        if trainer.state.fn == "fit" and (signal := self.signals.agree(False)[0]):
            if trainer.sanity_checking:
                raise self._stopped(trainer, signal, "before the first step; nothing to save")
            self._take_average_back(trainer, pl_module)
            self._leave(trainer, signal)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Weight averaging has swapped the weights back."""
        self._averaged = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The validation of this step is done."""
        if self._place == "stepped" and not trainer.sanity_checking:
            self._place = "validated"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All of the epoch is done."""
        self._place = "finished"
        if any(isinstance(one, WeightAveraging) for one in trainer.callbacks):  # type: ignore[attr-defined]
            # When training ends, the average takes their place before anything is saved.
            state = pl_module.state_dict()
            self._weights = {name: value.to("cpu", copy=True) for name, value in state.items()}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last step: ModelCheckpoint does not, where its metric got no better."""
        io = trainer.strategy.checkpoint_io
        if isinstance(io, AtomicCheckpointIO):
            io.flush()
        if trainer.strategy.broadcast(self._has_news(trainer) or self._lags(trainer)):
            self._save(trainer)

    # -- saving -----------------------------------------------------------------------------

    def _is_time(self, trainer: pl.Trainer) -> bool:
        if not self.every_minutes or not trainer.is_global_zero:
            return False
        return time.monotonic() - self._saved_at >= 60 * self.every_minutes

    def _has_news(self, trainer: pl.Trainer) -> bool:
        """Whether this process made steps that no checkpoint holds."""
        newest = getattr(trainer.strategy.checkpoint_io, "newest", None)
        saved = self._first_step if newest is None else newest.step
        return self._active and trainer.global_step > saved

    def _lags(self, trainer: pl.Trainer) -> bool:
        """Whether the last step of this process is saved, but under another name."""
        newest = getattr(trainer.strategy.checkpoint_io, "newest", None)
        return self._active and newest is not None and str(newest.path) != self._where(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if self._active:
            trainer.save_checkpoint(self._where(trainer))

    def _where(self, trainer: pl.Trainer) -> str:
        keeper = _keeper(trainer)
        return keeper.last_model_path if keeper and keeper.last_model_path else self._path

    def _leave(self, trainer: pl.Trainer, signal: int) -> None:
        """Save, and end this process.

        Raises:
            Stopped: always.
        """
        self._save(trainer)
        io = trainer.strategy.checkpoint_io
        if isinstance(io, AtomicCheckpointIO):
            io.flush()
        trainer.strategy.barrier("saved")
        if self._has_news(trainer) and trainer.is_global_zero:
            raise self._stopped(trainer, signal, "which could not be saved")
        where = f"saved in {self._where(trainer)}; --ckpt_path last goes on from there"
        raise self._stopped(trainer, signal, where if self._active else "which is not saved")

    def stopped_by(self, trainer: pl.Trainer) -> Stopped | None:
        """What to end with after an error that a signal may be the cause of; None without one."""
        if not self.signals.received:
            return None
        lost = self._has_news(trainer)
        message = "which could not be saved" if lost else f"saved in {self._where(trainer)}"
        return self._stopped(trainer, self.signals.received, message)

    def _stopped(self, trainer: pl.Trainer, signal: int, message: str) -> Stopped:
        environment = getattr(trainer.strategy, "cluster_environment", None)
        # A process that Lightning started itself; it kills all of them if one has another status.
        child = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
        message = f"stopped at step {trainer.global_step}, {message}"
        return Stopped(signal, message if trainer.is_global_zero else "", 0 if child else None)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the last step, as this process has it, if its weights are whole."""
        io = trainer.strategy.checkpoint_io
        whole = not self._updating or isinstance(exception, NumericalError)
        everything_here = isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
        if isinstance(exception, Stopped) or not (whole and everything_here and self._path):
            return
        if not isinstance(io, AtomicCheckpointIO) or io.failing:
            return
        try:
            io.flush()
            if self._has_news(trainer):
                self._take_average_back(trainer, pl_module)
                self._save_alone(trainer, io)
        except (AimlessError, OSError, RuntimeError) as error:
            logger.warning("the last step could not be saved: %s", error)

    def _save_alone(self, trainer: pl.Trainer, io: AtomicCheckpointIO) -> None:
        """Save without the other processes, which may wait for something else."""
        self._alone = True
        try:
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            io.save_checkpoint(checkpoint, self._where(trainer))
            io.flush()
        finally:
            self._alone = False
        if not self._has_news(trainer):
            logger.warning("step %d is saved in %s", trainer.global_step, self._where(trainer))

    def _take_average_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._averaged:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):
                    callback.on_validation_epoch_end(trainer, pl_module)
            self._averaged = False

    # -- checkpoints ------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning leaves out, as of the last optimizer step."""
        self._saved_at = time.monotonic()
        loops = checkpoint["loops"]["fit_loop"]
        progress = trainer.fit_loop.epoch_loop.batch_progress
        whole = progress.is_last_batch or self._batches == trainer.num_training_batches
        place: Place = self._place if self._before is None else "begun"
        ended = place == "finished" and whole
        write_place(loops, place, self._batches, whole)
        if self._before is not None:
            _put_buffers_back(trainer, checkpoint)
        if self._weights and "current_model_state" in checkpoint:
            checkpoint["current_model_state"] = self._weights
        metrics = trainer.callback_metrics if place in ("validated", "finished") else {}
        epoch = loops["epoch_progress"]["current"]["processed"]
        checkpoint["resume"] = {
            "place": place,
            "ended": ended,
            "random": self._gather(trainer, self._before or random_state(pl_module.device)),
            "metrics": {name: float(value) for name, value in metrics.items()},
            "epoch": epoch,
            "processes": trainer.world_size,
            **_data_position(trainer, epoch, 0 if ended else self._batches),
        }

    def _gather(self, trainer: pl.Trainer, state: dict[str, Any]) -> list[dict[str, Any] | None]:
        """The state of each process."""
        states: list[dict[str, Any] | None] = [None] * trainer.world_size
        if self._alone or trainer.world_size == 1:
            states[trainer.global_rank] = state
        else:
            torch.distributed.all_gather_object(states, state)
        return states

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on at the same item, also in batches of another size."""
        loaded = checkpoint.get("resume")
        if trainer.state.fn != "fit" or loaded is None:
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


def _batches_done(trainer: pl.Trainer) -> int:
    """Of the epoch; Lightning has yet to count the last one as completed."""
    current: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return current.processed


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


def _keeper(trainer: pl.Trainer) -> ModelCheckpoint | None:
    """The ModelCheckpoint that writes the last checkpoint too, if there is one."""
    for one in trainer.checkpoint_callbacks:
        if isinstance(one, ModelCheckpoint) and one.save_last is True and not one.save_weights_only:
            return one
    return None


def _choose_path(trainer: pl.Trainer) -> str:
    """A name that is free, or that of the run that goes on."""
    keeper = _keeper(trainer)
    folder = Path(getattr(keeper or trainer.checkpoint_callbacks[0], "dirpath", None) or ".")
    if keeper and keeper.last_model_path and Path(keeper.last_model_path).parent == folder:
        return keeper.last_model_path
    weights = any(getattr(one, "save_last", None) for one in trainer.checkpoint_callbacks)
    name = "resume" if weights and keeper is None else "last"
    resumed = trainer.ckpt_path
    if resumed is not None and Path(resumed).resolve().parent == folder.resolve():
        return str(folder / f"{name}.ckpt")
    names = [name, *(f"{name}-v{number}" for number in range(1, 10_000))]
    return str(next(path for one in names if not (path := folder / f"{one}.ckpt").exists()))
