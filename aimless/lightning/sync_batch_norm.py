"""Batch norm over the batches of all processes, on CPUs too."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["HostSyncBatchNorm", "SyncBatchNorm", "layer_sync"]


class HostSyncBatchNorm(_BatchNorm):
    """What `torch.nn.SyncBatchNorm` is to a GPU, for the CPU, which it and DDP refuse.

    In training, mean and variance are those of all processes' items together, weighted by how
    many each has; gradients flow through them. Ioffe and Szegedy, "Batch normalization" (ICML
    2015). Weights, statistics and keys of the state dict are those of `BatchNorm1d` to `3d`.

    A batch costs two reductions of a number per channel on the way forward, and two on the way
    back.

    Args:
        as those of `torch.nn.BatchNorm1d`.

    Shape:
        (batch, channels, ...) -> the same
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel."""
        alone = not (distributed.is_available() and distributed.is_initialized())
        if alone or not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        per_channel = [1, -1] + [1] * (input.ndim - 2)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mine = x.new_tensor([x.numel() / x.shape[1]])
        sums = all_reduce(torch.cat([x.sum(axes), mine]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        x = x - mean.view(per_channel)
        # of what is left, and not the mean square less the squared mean, which cancels
        variance = all_reduce(x.square().sum(axes)) / count
        x = x * torch.rsqrt(variance + self.eps).view(per_channel)
        self._remember(mean.detach(), variance.detach(), count)
        if self.affine:
            x = x * self.weight.view(per_channel) + self.bias.view(per_channel)
        return x.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:  # the mean of all batches so far
            share = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * count / (count - 1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes will do."""


class SyncBatchNorm(TorchSyncBatchNorm):
    """What `--trainer.sync_batchnorm true` does to a network: Lightning's, and on CPUs too."""

    def __init__(self) -> None:
        self._converted: list[tuple[nn.Module, type[nn.Module]]] = []

    def apply(self, model: nn.Module) -> nn.Module:
        """Turn each batch norm into one over all processes."""
        assert isinstance(model, pl.LightningModule)
        if model.trainer.strategy.root_device.type != "cpu":
            return super().apply(model)
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._converted = [(module, type(module)) for module in norms]
        for module in norms:
            module.__class__ = HostSyncBatchNorm  # the same layer with another forward
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Make them what they were."""
        if not self._converted:
            return super().revert(model)
        for module, before in self._converted:
            module.__class__ = before
        self._converted = []
        return model


def layer_sync(wanted: bool | None) -> list[LayerSync]:
    """The plugins for a trainer's `sync_batchnorm`."""
    return [SyncBatchNorm()] if wanted else []
