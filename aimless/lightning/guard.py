"""Keeps numbers that are not finite out of the weights and off the disk."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, distributed, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from aimless.errors import ConfigError, NumericalError
from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from aimless.lightning.collectives import add_up
from aimless.lightning.dump import Seen, StepDumps
from aimless.lightning.probes import local
from aimless.lightning.random_state import random_state

__all__ = ["NonFiniteGuard"]

logger = logging.getLogger(__name__)

#: Items that a message names; a batch of thousands would bury its line.
_NAMED = 64


class NonFiniteGuard(pl.Callback):
    """Skips optimizer steps whose loss or gradients are not finite, and stops after too many.

    A skipped step leaves weights, optimizer state and buffers (the running statistics of
    batch norm) as they were before its batches, on all ranks, whichever rank had the bad batch.
    Step count, learning-rate schedule and random state go on. With accumulated gradients a
    bad batch costs the whole step. A warning names the step and the items of the batch, as far
    as the data module has `describe(batch) -> list[str]`; `train/skipped_steps` counts.

    The checks run on the device. Whether to step is decided on the host, as optimizers are
    driven from there, which costs one read of a few numbers per optimizer step, and with several
    ranks one reduction of two numbers; batches that are accumulated in between cost neither.

    In 16-bit mixed precision gradients overflow in the normal course, until the gradient
    scaler has found its scale. It skips such steps itself; only the loss is looked at.

    Args:
        limit: skipped steps in a row after which the run stops; 0 never stops it.
        dumps: files that are written of the first skipped steps, so that they can be done again,
            see `aimless.lightning.dump`; each holds the weights and the batch.

    Raises:
        ConfigError: a negative number.
        NumericalError: while training, after `limit` skipped steps in a row; while saving, if
            a weight is not finite.
    """

    def __init__(self, limit: int = 10, dumps: int = 3) -> None:
        for name, value in (("limit", limit), ("dumps", dumps)):
            if value < 0:
                raise ConfigError(f"guard.{name}: {value}; must be 0 or more")
        self.limit = limit
        self.dumps = StepDumps(dumps)
        self.skipped = 0
        self._in_a_row = 0
        self._first = ""  # what was said of the first one in a row
        self._batches: list[Any] = []  # since the last optimizer step, without their audio
        self._bad_losses: dict[int, Tensor] = {}  # position in _batches -> bool scalar
        self._seen: list[Seen] = []  # the same batches, as a dump needs them; the last with audio
        self._saved_names: frozenset[str] = frozenset()
        self._buffers: dict[str, Tensor] = {}
        self._clip_val: float | None = None  # the trainer's, while a step is skipped

    # -- before the step: what happened, and what it may have changed -----------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin to count; a checkpoint that is loaded after this counts on."""
        self._in_a_row = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with no batch seen."""
        io = trainer.strategy.checkpoint_io
        if isinstance(io, AtomicCheckpointIO) and self.check_weights not in io.hooks:
            io.hooks.append(self.check_weights)
        self._batches, self._bad_losses, self._seen = [], {}, []
        # A buffer that checkpoints leave out is a constant or a cache: nothing to restore.
        self._saved_names = frozenset(pl_module.state_dict())

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the buffers as they are before the first batch of an optimizer step."""
        if not self._batches:
            self._buffers = {
                name: buffer.detach().clone() for name, buffer in self._saved_buffers(pl_module)
            }
        self._batches.append(_without_audio(batch))
        if self.dumps.left:
            if self._seen:
                self._seen[-1] = self._seen[-1]._replace(batch=self._batches[-2])
            self._seen.append(Seen(batch, batch_idx, random_state(pl_module.device), None))

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Check the loss of each batch."""
        self._bad_losses[len(self._batches) - 1] = ~loss.detach().isfinite().all()
        if self._seen and getattr(trainer.precision_plugin, "scaler", None) is None:
            whole = loss.detach() * trainer.accumulate_grad_batches
            self._seen[-1] = self._seen[-1]._replace(loss=whole)

    def buffers_before_step(self) -> dict[str, Tensor]:
        """Buffers before the first batch of the step that is under way; none between steps."""
        return self._buffers

    def _saved_buffers(self, pl_module: nn.Module) -> list[tuple[str, Tensor]]:
        return [item for item in pl_module.named_buffers() if item[0] in self._saved_names]

    # -- the step ---------------------------------------------------------------------------

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradients away if anything is not finite: optimizers pass over None."""
        batches, losses, seen = self._batches, self._bad_losses, self._seen
        self._batches, self._bad_losses, self._seen = [], {}, []
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        gradients_bad = None if scaled else _any_gradient_bad(pl_module)
        bad, loss_bad, mine = _decide(pl_module.device, list(losses.values()), gradients_bad)
        if bad:
            pl_module.zero_grad(set_to_none=True)
            # torch cannot clip by value where no gradients are
            self._clip_val, trainer.gradient_clip_val = trainer.gradient_clip_val, None
            self._restore(pl_module)
            suspects = [position for position, is_bad in zip(losses, mine) if is_bad]
            suspects = suspects if loss_bad else list(range(len(batches)))
            said = self._describe(trainer, [batches[position] for position in suspects], loss_bad)
            if suspects and seen:
                self.dumps.write(trainer, pl_module, [seen[p] for p in suspects], said)
            self._count(trainer, said)
        else:
            self._in_a_row = 0
        pl_module.log("train/skipped_steps", float(self.skipped))

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Clip the gradients of the next step again; after a step, forget the buffers before it."""
        if not self._batches:
            self._buffers = {}
        if self._clip_val is not None:
            trainer.gradient_clip_val, self._clip_val = self._clip_val, None

    @torch.no_grad()
    def _restore(self, pl_module: nn.Module) -> None:
        for name, buffer in self._saved_buffers(pl_module):
            buffer.copy_(self._buffers[name])

    def _describe(self, trainer: pl.Trainer, suspects: list[Any], loss_bad: bool) -> str:
        """What happened, and in which batches of all ranks."""
        cause = "the loss" if loss_bad else "a gradient"
        said = f"step {trainer.global_step}: {cause} is not finite{_name_items(trainer, suspects)}"
        if trainer.is_global_zero:
            logger.warning("skipped %s", said)
        return said

    def _count(self, trainer: pl.Trainer, said: str) -> None:
        """Stop the run if it happens all the time."""
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row == 1:
            self._first = said
        if self.limit and self._in_a_row >= self.limit:  # a resumed run counts on
            raise NumericalError(
                f"{self._in_a_row} training steps in a row were not finite, first {self._first}"
            )

    # -- checkpoints ------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to save weights that are not finite, in place of what was saved before."""
        self.check_weights(checkpoint)

    def check_weights(self, checkpoint: dict[str, Any]) -> None:
        """Check what is about to be saved, also if it is weights only.

        Raises:
            NumericalError: a weight is not finite.
        """
        weights = [
            (name, value)
            # weight averaging keeps the average in the one and the weights in the other
            for key in ("current_model_state", "state_dict")
            for name, value in checkpoint.get(key, {}).items()
            if isinstance(value, Tensor) and value.is_floating_point() and value.numel()
        ]
        name = _first_not_finite(weights)
        if name is not None:
            raise NumericalError(
                f"step {checkpoint.get('global_step', 0)}: {name} is not finite; "
                "no checkpoint is written"
            )

    def state_dict(self) -> dict[str, Any]:
        """The number of skipped steps, and of the last ones in a row."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row, "first": self._first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self.skipped = state_dict["skipped"]
        self._in_a_row = state_dict.get("in_a_row", 0)
        self._first = state_dict.get("first", "")


def _without_audio(batch: Any) -> Any:
    """A batch with its floating-point tensors emptied.

    What says which items it holds stays; the audio of accumulated batches would fill the memory.
    """

    def empty(tensor: Tensor) -> Tensor:
        return tensor.new_empty(0) if tensor.is_floating_point() else tensor

    return apply_to_collection(batch, Tensor, empty)


def _any_gradient_bad(module: nn.Module) -> Tensor | None:
    """Bool scalar on the device; None without gradients."""
    gradients = [
        local(parameter.grad) for parameter in module.parameters() if parameter.grad is not None
    ]
    # the squares of float16 overflow too early
    gradients = [one.float() if one.dtype == torch.float16 else one for one in gradients]
    # The 2-norm is the quickest pass over memory that keeps NaN and infinity. A gradient whose
    # square overflows is caught as well: it would do so in the second moments of Adam.
    return ~get_total_norm(gradients).isfinite() if gradients else None


def _decide(
    device: torch.device, losses: list[Tensor], gradients: Tensor | None
) -> tuple[bool, bool, list[bool]]:
    """One decision for all ranks, with one read from the device.

    Args:
        device: of this rank.
        losses: whether each loss of this rank is bad; bool scalars.
        gradients: whether a gradient is bad; None if that is not asked.

    Returns:
        (anything is bad on any rank, a loss is bad on any rank, which losses of this rank are)
    """
    none = torch.zeros((), dtype=torch.bool, device=device)
    mine = torch.stack([none, *losses])
    loss_bad = mine.any()
    bad = loss_bad if gradients is None else loss_bad | gradients.to(device)
    shared = add_up(torch.stack([bad, loss_bad]).float())
    verdict = torch.cat([shared, mine.float()]).tolist()
    return verdict[0] > 0, verdict[1] > 0, [value > 0 for value in verdict[3:]]


def _name_items(trainer: pl.Trainer, batches: list[Any]) -> str:
    """The items of batches of all ranks, as the data module describes them."""
    describe = getattr(getattr(trainer, "datamodule", None), "describe", None)
    items = [item for batch in batches for item in describe(batch)] if describe else []
    if distributed.is_available() and distributed.is_initialized():
        parts: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, items)
        items = [item for part in parts for item in part]
    if not items:
        return ""
    more = f"; and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return f"; the batch holds {'; '.join(items[:_NAMED])}{more}"


def _first_not_finite(tensors: list[tuple[str, Tensor]]) -> str | None:
    """Name of the first tensor with a value that is not finite; one read from the device."""
    if not tensors:
        return None
    home = tensors[0][1].device
    # NaN is its own minimum and maximum; several times quicker on a CPU than isfinite().all()
    extremes = [torch.stack(value.aminmax()).isfinite().all().to(home) for _, value in tensors]
    finite = torch.stack(extremes).tolist()
    return next((name for (name, _), good in zip(tensors, finite) if not good), None)
