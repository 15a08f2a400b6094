"""What is measured of a network while it trains, without waiting for the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

__all__ = [
    "Parts",
    "energies",
    "find_parts",
    "gradient_norm",
    "local",
    "probe_weights",
    "target_stems",
]

_PROBE = 8  # weights of each parameter that are compared

#: part of the network -> its parameters
Parts = dict[str, list[nn.Parameter]]


def find_parts(module: nn.Module, name: str = "model") -> Parts:
    """The network's trainable parts by name: its children, and its own parameters.

    Of a network with one child only, those of the child.
    """
    children = [(label, _trainable(child)) for label, child in module.named_children()]
    children = [(label, part) for label, part in children if part]
    own = [weight for weight in module.parameters(recurse=False) if weight.requires_grad]
    if len(children) == 1 and not own:
        (label, _) = children[0]
        return find_parts(module.get_submodule(label), f"{name}.{label}")
    parts = {f"{name}.{label}": part for label, part in children}
    return {**parts, **({name: own} if own or not parts else {})}


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.requires_grad]


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that several of them share."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def gradient_norm(part: list[nn.Parameter]) -> Tensor:
    """2-norm of the gradients of a part; 0 without any."""
    gradients = [local(weight.grad).float() for weight in part if weight.grad is not None]
    gradients = [gradient for gradient in gradients if gradient.numel()]
    if gradients:
        return get_total_norm(gradients)
    # a process that holds nothing of a part cannot tell
    holds = any(local(weight).numel() for weight in part)
    device = part[0].device if part else torch.device("cpu")
    return torch.tensor(0.0 if holds or not part else 1.0, device=device)


def probe_weights(part: list[nn.Parameter]) -> Tensor:
    """A few weights of each parameter of a part; a copy."""
    with torch.no_grad():
        pieces = [local(weight).flatten()[:_PROBE].float() for weight in part]
        return torch.cat(pieces).clone() if pieces else torch.empty(0)


def target_stems(batch: Any, pl_module: Any) -> Tensor | None:
    """The target stems of a batch (mixture, stems, ...): (batch, targets, channels, samples)."""
    stems = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    if not isinstance(stems, Tensor) or stems.ndim != 4:
        return None
    return stems[:, getattr(pl_module, "target_indices", slice(None))]


def energies(mixture: Tensor, stems: Tensor, estimates: Tensor) -> Tensor:
    """The fields of `aimless.lightning.symptoms.Levels` for each target, (5, targets)."""
    samples = estimates.shape[-1]
    mixture = mixture[:, None, ..., :samples].float().expand_as(estimates)
    stems, estimates = stems[..., :samples].float(), estimates.float()
    signals = [mixture, stems, estimates, estimates - mixture, stems - mixture]
    return torch.stack([signal.square().sum((0, 2, 3), dtype=torch.float64) for signal in signals])
