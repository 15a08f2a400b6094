"""Steps that several networks share: checks of arguments, normalisation, small layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aimless.errors import ConfigError
from aimless.transforms import at_least_float32, no_autocast

__all__ = [
    "GroupNorm",
    "LayerNorm",
    "check_positive",
    "check_sources",
    "check_waveform",
    "mean_and_std",
    "recompute",
    "rescale_convolutions",
    "run_lstm",
]


def check_positive(**arguments: float) -> None:
    """Raise ConfigError, with the argument's name, for the first that is not above 0."""
    for name, value in arguments.items():
        if not value > 0:
            raise ConfigError(f"{name}: {value} is not positive")


def check_sources(sources: Sequence[str]) -> tuple[str, ...]:
    """The names of the sources; raises ConfigError unless there is one and all differ."""
    names = (sources,) if isinstance(sources, str) else tuple(sources)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"sources: needs different names, got {list(names)}")
    return names


def check_waveform(mixture: Tensor, channels: int) -> None:
    """Raise ValueError unless the shape is (batch, channels, samples), not empty."""
    if mixture.dim() != 3 or mixture.shape[1] != channels or not mixture.numel():
        raise ValueError(
            f"mixture of shape {tuple(mixture.shape)} given to a network for "
            f"(batch, {channels}, samples)"
        )


def mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each item, (batch, 1, ..., 1) both.

    Args:
        x: (batch, ...), at least one value per item.
    """
    dims = tuple(range(1, x.dim()))
    mean = x.mean(dim=dims, keepdim=True)
    # a single value has no deviation, where torch would answer NaN
    several = x[0].numel() > 1
    std = x.std(dim=dims, keepdim=True) if several else torch.zeros_like(mean)
    return mean, std


def recompute(enabled: bool, block: Any, *inputs: Any) -> Any:
    """`block(*inputs)`; with `enabled`, what lies inside is computed again for its gradient.

    Saves the memory of all intermediate results in exchange for a second forward pass (Chen
    et al., "Training deep nets with sublinear memory cost", 2016). The gradients are the same.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


def run_lstm(lstm: nn.Module, x: Tensor) -> Tensor:
    """Outputs of an `nn.LSTM` that starts from zero.

    On a CPU, which has no LSTM in IEEE's 16-bit floats, float32 takes their place.
    """
    if x.device.type == "cpu" and torch.get_autocast_dtype("cpu") == torch.float16:
        with no_autocast(x):
            return lstm(at_least_float32(x))[0]
    return lstm(x)[0]


@torch.no_grad()
def rescale_convolutions(module: nn.Module, reference: float) -> None:
    """Divide weights and biases of every convolution by sqrt(std(weight) / reference)."""
    kinds = (nn.Conv1d, nn.ConvTranspose1d, nn.Conv2d, nn.ConvTranspose2d)
    for layer in module.modules():
        if isinstance(layer, kinds):
            scale = (layer.weight.std() / reference).sqrt()
            layer.weight /= scale
            if layer.bias is not None:
                layer.bias /= scale


class GroupNorm(nn.GroupNorm):
    """Group normalisation in at least float32, also where mixed precision is on.

    Unlike torch's it takes a group of one value, which it maps to the bias.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, ...) -> the same shape."""
        with no_autocast(x):
            x = at_least_float32(x)
            return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in at least float32, also where mixed precision is on."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        with no_autocast(x):
            return super().forward(at_least_float32(x))
