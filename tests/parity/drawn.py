"""Weights and inputs that are drawn by a fixed rule, so that they need not be stored."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn

# buffers that a constructor computes and that therefore keep their values
_COMPUTED = ("inv_freq", "sample.kernel")


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal numbers in float32."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def drawn_state(module: nn.Module, case: str) -> dict[str, Tensor]:
    """A state dict for `module`, each entry drawn from the names of the case and the entry."""
    return {
        key: _drawn_entry(f"{case}:{key}", key, value) for key, value in module.state_dict().items()
    }


def _drawn_entry(name: str, key: str, value: Tensor) -> Tensor:
    if not value.is_floating_point() or key.endswith(_COMPUTED):
        return value
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    shape = tuple(value.shape)
    if key.endswith("running_var"):
        numbers = rng.uniform(0.5, 1.5, shape)
    elif len(shape) >= 2:
        numbers = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        numbers = rng.standard_normal(shape) * 0.1
        if key.endswith(("weight", "scale")):
            numbers += 1
    return torch.from_numpy(numbers).to(value.dtype)
