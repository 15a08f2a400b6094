"""What the processes of a run work out together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, distributed

from aimless.metrics import SourceSDR

__all__ = ["add_up", "average_batch", "count_processes"]


def count_processes() -> int:
    """Processes of the run; 1 outside distributed runs."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def add_up(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, each of which must call this; a new tensor.

    Unlike the `reduce` of Lightning's strategies it has no barrier before it, for which the host
    would wait for the device.
    """
    if count_processes() == 1:
        return tensor
    tensor = tensor.detach().clone()
    distributed.all_reduce(tensor)
    return tensor


def average_batch(
    losses: Mapping[str, Tensor], scores: SourceSDR | None, together: bool
) -> dict[str, Tensor]:
    """What was measured of a training batch, by name.

    Args:
        losses: scalars.
        scores: that hold the items of this process; None: they were not scored.
        together: the means over all processes, each of which must call this with the same names,
            and the scores of all their items, in one reduction; else those of this process.
    """
    measured = torch.stack([loss.detach().float() for loss in losses.values()])
    if scores is not None:
        measured = torch.cat([measured, scores.total, scores.count])
    if together:
        measured = add_up(measured)
        measured[: len(losses)] /= count_processes()
    named = dict(zip(losses, measured))
    if scores is not None:
        total, count = measured[len(losses) :].chunk(2)
        named |= scores.name(total, count)
    return named
