"""What the processes of a run work out together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _NormBase

from aimless.lightning.sync_batch_norm import HostSyncBatchNorm
from aimless.metrics import SourceSDR

__all__ = ["add_up", "average_batch", "count_processes", "share_statistics"]


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


@torch.no_grad()
def share_statistics(network: nn.Module) -> None:
    """Give all processes the running statistics of process 0; each of them must call this.

    Each normalises with those of its own items, unless they are synchronised anyway. DDP does the
    same before the next forward pass, so that a step computes what it would have; but a process
    that saves alone before that would save its own.
    """
    if count_processes() == 1:
        return
    synchronised = HostSyncBatchNorm, nn.SyncBatchNorm
    statistics = [
        one
        for module in network.modules()
        if isinstance(module, _NormBase) and not isinstance(module, synchronised)
        for one in (module.running_mean, module.running_var)
        if one is not None
    ]
    if statistics:
        together = torch.cat(statistics)  # (channels of all)
        distributed.broadcast(together, 0)
        for one, values in zip(statistics, together.split([len(one) for one in statistics])):
            one.copy_(values)
