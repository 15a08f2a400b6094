"""Saves the whole state of a run, and goes on from it as if nothing had happened."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch.optim import Optimizer

from aimless.errors import AimlessError, ConfigError, NumericalError
from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from aimless.lightning.checkpoint_names import choose_path, keep_best, keeper
from aimless.lightning.collectives import share_statistics
from aimless.lightning.processes import Processes
from aimless.lightning.resume import check_agreement
from aimless.lightning.run_state import RunState
from aimless.lightning.sharding import ShardedStrategy
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
        self.state = RunState()
        self._active = False
        self._path = ""
        self._saved_at = 0.0
        self._first_step = 0  # optimizer steps that were made before this process
        self._saved_step = 0  # in the last checkpoint that all processes have made together
        self._alone = False  # saving without the other processes

    # -- what happens in the run ------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find out whether all processes go on from the same checkpoint, before they do."""
        if stage == "fit":
            check_agreement(trainer.ckpt_path)

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
        self._install_signals(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin, or go on where the checkpoint was saved."""
        self._install_signals(trainer)
        self._saved_at = time.monotonic()
        self._first_step = self._saved_step = trainer.global_step
        self.state.begin()
        if self._active:
            self._path = trainer.strategy.broadcast(choose_path(trainer))
            if keeps := keeper(trainer):
                keeps.last_model_path = self._path
        self.state.go_on(trainer, pl_module)

    def _install_signals(self, trainer: pl.Trainer) -> None:
        self.signals.install(getattr(trainer.strategy, "_timeout", None))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """No batch of this epoch is done."""
        self.state.begin_epoch()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember what a step begins with."""
        self.state.begin_batch(trainer, pl_module.device)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """The weights are about to be changed."""
        share_statistics(pl_module)
        self.state.begin_update()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """After an optimizer step: leave if asked to, save if it is time."""
        if trainer.fit_loop._should_accumulate():
            return
        self.state.end_step(trainer)
        signal, due = self.signals.agree(self._is_time(trainer))
        if signal:
            self._leave(trainer, signal)
        if due or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            self._save(trainer)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Weight averaging has swapped the weights by now."""
        self.state.swap_average(trainer, pl_module, True)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Leave if asked to."""
        if trainer.state.fn == "fit" and (signal := self.signals.agree(False)[0]):
            if trainer.sanity_checking:
                raise self._stopped(trainer, signal, "before the first step; nothing to save")
            self.state.take_average_back(trainer, pl_module)
            self._leave(trainer, signal)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Weight averaging has swapped the weights back."""
        self.state.swap_average(trainer, pl_module, False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The validation of this step is done."""
        if not trainer.sanity_checking:
            self.state.end_validation()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All of the epoch is done."""
        self.state.end_epoch(trainer, pl_module)

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
        saved = self._first_step if trainer.is_global_zero else self._saved_step
        saved = saved if newest is None else max(saved, newest.step)
        return self._active and trainer.global_step > saved

    def _lags(self, trainer: pl.Trainer) -> bool:
        """Whether the last step of this process is saved, but under another name."""
        newest = getattr(trainer.strategy.checkpoint_io, "newest", None)
        return self._active and newest is not None and str(newest.path) != self._where(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if self._active:
            trainer.save_checkpoint(self._where(trainer), weights_only=False)

    def _where(self, trainer: pl.Trainer) -> str:
        keeps = keeper(trainer)
        return keeps.last_model_path if keeps and keeps.last_model_path else self._path

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
        message = f"stopped at step {trainer.global_step}, {message}"
        return Stopped(signal, message if trainer.is_global_zero else "")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the last step, as this process has it, if its weights are whole."""
        io = trainer.strategy.checkpoint_io
        whole = self.state.whole or isinstance(exception, NumericalError)
        if isinstance(exception, Stopped) or not (whole and self._path):
            return
        if not isinstance(io, AtomicCheckpointIO) or io.failing:
            return
        try:
            io.flush()
            if self._has_news(trainer) and self._may_save_alone(trainer):
                self.state.take_average_back(trainer, pl_module)
                self._save_alone(trainer, io)
        except (AimlessError, OSError, RuntimeError) as error:
            logger.warning("the last step could not be saved: %s", error)

    def _may_save_alone(self, trainer: pl.Trainer) -> bool:
        strategy = trainer.strategy
        whole = isinstance(strategy, (SingleDeviceStrategy, DDPStrategy))
        if not whole or isinstance(strategy, ShardedStrategy):
            logger.warning(
                "step %d is not saved: each process holds a share of the weights only",
                trainer.global_step,
            )
            return False
        processes = [one for one in trainer.callbacks if isinstance(one, Processes)]  # type: ignore[attr-defined]
        return all(one.may_save(trainer) for one in processes)

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

    # -- checkpoints ------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning leaves out."""
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        self.state.write(trainer, pl_module, checkpoint, self._alone)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on at the same item, also in batches of another size."""
        if trainer.state.fn == "fit":
            self.state.read(trainer, checkpoint)
            keep_best(trainer, checkpoint)
