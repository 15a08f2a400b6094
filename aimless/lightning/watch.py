"""Warns of a training that runs, but learns nothing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from aimless.errors import ConfigError
from aimless.lightning.probes import (
    energies,
    find_parts,
    gradient_norm,
    probe_weights,
    target_stems,
)
from aimless.lightning.symptoms import (
    Levels,
    Sample,
    find_still_parts,
    is_constant,
    is_falling,
    judge_output,
)

__all__ = ["TrainingWatch"]

logger = logging.getLogger(__name__)

_SILENT_SAMPLES = 10  # in a row, before a target counts as silent
_SILENCE = 1e-12  # mean square: -120 dBFS


class TrainingWatch(pl.Callback):
    """Warns, once each, of what keeps a network from learning, with the likely cause.

    - Gradients that are 0, of all of the network or of one of its parts.
    - Weights that do not move.
    - A loss that has not moved: it is the same for all batches of `patience` steps, or has not
      fallen in the first `patience` steps of a run (by the medians of the last fifth and of the
      first, or of the first tenth of that); not judged if the learning rate still rises then.
    - Estimates that are the mixture, or silent, in a validation.
    - Targets that are silent.

    The network is looked at every `every_n_steps` batches. What is measured stays on the device,
    and is read once in that many batches.

    Args:
        every_n_steps: batches between two looks; 0 looks at nothing.
        patience: steps over which a loss must move.
        min_change: relative change of a loss below which it counts as the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self, every_n_steps: int = 50, patience: int = 1000, min_change: float = 1e-4
    ) -> None:
        if every_n_steps < 0:
            raise ConfigError(f"watch.every_n_steps: {every_n_steps}; must be 0 or more")
        if patience < 10:
            raise ConfigError(f"watch.patience: {patience}; must be 10 or more")
        if not min_change >= 0:
            raise ConfigError(f"watch.min_change: {min_change}; must be 0 or more")
        self.every_n_steps = every_n_steps
        self.patience = patience
        self.min_change = min_change
        self.warned: set[str] = set()

    # -- what is measured on the device -----------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the parts of the network."""
        self._parts = find_parts(getattr(pl_module, "model", pl_module))
        self._seen = 0  # batches
        self._fresh = trainer.global_step == 0
        self._losses: list[Tensor] = []  # on the device
        self._window = self.patience * trainer.accumulate_grad_batches  # batches of as many steps
        self._history: deque[float] = deque(maxlen=self._window)
        self._rates: list[float] = []  # at the last look
        self._samples: deque[Sample] = deque(maxlen=_SILENT_SAMPLES)
        self._silent: dict[str, int] = {}  # target -> samples in a row
        self._gradients: Tensor | None = None
        self._powers: Tensor | None = None
        self._probe: Tensor | None = None
        self._probed_at = -1
        if self.every_n_steps and not any(self._parts.values()):
            self._warn(trainer, "frozen", "no weight of the network can be trained: all are frozen")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure the stems of a batch that is looked at."""
        if self._is_due() and (stems := target_stems(batch, pl_module)) is not None:
            self._powers = stems.float().square().mean((0, 2, 3))

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the gradients of a batch that is looked at, before anybody changes them."""
        if self._is_due():
            self._gradients = torch.stack([gradient_norm(part) for part in self._parts.values()])

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss; at a look, read everything and judge it."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self.every_n_steps and isinstance(loss, Tensor):
            self._losses.append(loss.detach())
        if self._is_due() and self._gradients is not None and self._losses:
            self._look(trainer, pl_module)
        self._seen += 1

    def _is_due(self) -> bool:
        return self.every_n_steps > 0 and self._seen % self.every_n_steps == 0

    # -- a look -----------------------------------------------------------------------------

    def _look(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read what was measured, in one go, and judge it."""
        assert self._gradients is not None
        parts, powers = list(self._parts), self._powers
        moved = self._compare_weights(trainer.global_step)
        losses = torch.stack([loss.reshape(()) for loss in self._losses])
        measured = [losses, self._gradients, moved, powers if powers is not None else moved[:0]]
        read = torch.cat([values.float() for values in measured]).tolist()
        count = len(self._losses)
        self._history.extend(read[:count])
        gradients, moves = read[count:][: len(parts)], read[count + len(parts) :]
        named = dict(zip(parts, map(bool, moves))) if len(moved) else None
        self._samples.append(Sample(dict(zip(parts, gradients)), named))
        self._count_silence(pl_module, moves[len(moved) :])
        self._losses, self._gradients, self._powers = [], None, None
        self._judge(trainer)

    def _compare_weights(self, step: int) -> Tensor:
        """Whether each part has moved since the last look: bools; none if there was no step."""
        probes = [probe_weights(part) for part in self._parts.values()]
        probe = torch.cat(probes)
        before, self._probe = self._probe, probe
        stepped, self._probed_at = step > self._probed_at >= 0, step
        if before is None or not stepped or len(before) != len(probe):
            return probe.new_empty(0, dtype=torch.bool)
        sizes = [len(part) for part in probes]
        return torch.stack([part.any() for part in (before != probe).split(sizes)])

    def _count_silence(self, pl_module: pl.LightningModule, powers: Sequence[float]) -> None:
        names = getattr(pl_module, "targets", None) or range(len(powers))
        for name, power in zip(names, powers):
            self._silent[str(name)] = self._silent.get(str(name), 0) + 1 if power < _SILENCE else 0

    def _judge(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        dead, still = find_still_parts(list(self._samples))
        cause = self._cause(trainer)
        if dead and len(dead) == len(self._parts):
            because = cause or "the loss does not depend on the network's output (detached?)"
            self._warn(trainer, "gradients", f"step {step}: all gradients are 0: {because}")
        elif dead:
            self._warn(
                trainer,
                "gradient",
                f"step {step}: the gradient of {_names(dead)} is 0: the loss does not depend on it "
                "(unused, or detached), or its output is saturated",
            )
        if still:
            because = cause or "the learning rate is too small for the weights' precision"
            text = f"step {step}: the weights of {_names(still)} do not move: {because}"
            self._warn(trainer, "weights", text)
        for name, count in self._silent.items():
            if count >= _SILENT_SAMPLES:
                text = f"step {step}: the target {name} was silent in {count} batches in a row"
                self._warn(trainer, f"silent {name}", text)
        self._judge_loss(trainer, cause)

    def _judge_loss(self, trainer: pl.Trainer, cause: str | None) -> None:
        losses = list(self._history)
        before, self._rates = self._rates, _rates(trainer)
        if len(losses) < self._window:
            return
        said = f"step {trainer.global_step}: the loss has not"
        if is_constant(losses, self.min_change):
            because = cause or "it does not depend on the batch, or the output is saturated"
            text = f"{said} moved in {self.patience} steps ({losses[-1]:.4g}): {because}"
            self._warn(trainer, "loss", text)
        elif (
            self._fresh
            and max(self._rates, default=0) <= max(before, default=0)
            and not is_falling(losses)
        ):
            rates = ", ".join(sorted({f"{rate:g}" for rate in self._rates}))
            because = cause or (
                f"the learning rate ({rates}) is too low or too high, or the targets do not follow "
                "from the mixture"
            )
            text = f"{said} fallen in the first {self.patience} steps: {because}"
            self._warn(trainer, "loss", text)
        self._fresh = False

    def _cause(self, trainer: pl.Trainer) -> str | None:
        """What the state of the run itself explains."""
        if not any(self._parts.values()):
            return "all weights are frozen"
        rates = _rates(trainer)
        if rates and not any(rates):
            return "the learning rate is 0"
        if self._silent and all(count >= 3 for count in self._silent.values()):
            return "all targets are silent"
        return None

    def _warn(self, trainer: pl.Trainer, kind: str, text: str) -> None:
        if kind not in self.warned and trainer.is_global_zero:
            logger.warning(text)
        self.warned.add(kind)

    # -- validation -------------------------------------------------------------------------

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with no energy."""
        self._energies: Tensor | None = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add up the energies of mixture, stems and estimates, on the device."""
        if not self.every_n_steps or trainer.sanity_checking or not outputs:
            return
        levels = energies(outputs["mixture"], outputs["stems"], outputs["estimates"])
        self._energies = levels if self._energies is None else self._energies + levels

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the estimates of each target."""
        if self._energies is None:
            return
        targets = getattr(pl_module, "targets", None) or range(self._energies.shape[1])
        for target, values in zip(targets, self._energies.T.tolist()):
            if text := judge_output(str(target), Levels(*values)):
                self._warn(trainer, f"output {target}", f"step {trainer.global_step}: {text}")
        self._energies = None


def _rates(trainer: pl.Trainer) -> list[float]:
    groups = (group for optimizer in trainer.optimizers for group in optimizer.param_groups)
    return [float(group["lr"]) for group in groups if "lr" in group]


def _names(parts: Sequence[str]) -> str:
    shown = ", ".join(parts[:5])
    return shown + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")
