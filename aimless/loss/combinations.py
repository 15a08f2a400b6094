"""Losses over all combinations of sources, in closed form.

A combination is a proper non-empty subset of the sources (14 of 4 sources; of a single source,
the source itself); its target is the sum of its sources, its estimate the sum of theirs.
Sawata et al., "All for one and one for all" (ICASSP 2021). Summed naively, S sources cost
2^S passes over the data. Here squared errors need S + 1 passes, and the weighted SDR needs
the inner products of 2 S + 1 waveforms, from which all combinations follow.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from aimless.transforms import no_autocast

__all__ = ["combination_mse", "combination_wsdr", "subset_matrix"]


def subset_matrix(sources: int) -> Tensor:
    """Which sources each combination holds.

    Args:
        sources: number of sources, at least 1.

    Returns:
        float64 (combinations, sources) of zeros and ones, on the CPU.
    """
    codes = torch.arange(1, max(2, 2**sources - 1), device="cpu")
    return (codes[:, None] >> torch.arange(sources, device="cpu") & 1).double()


def combination_mse(residual: Tensor) -> Tensor:
    """Mean squared error over all combinations.

    With r_i the residual of source i, a combination's is the sum of r_i over it. Of
    n = 2^S - 2 combinations, a source is in a = 2^(S-1) - 1 and a pair in b = 2^(S-2) - 1, so
    that the mean over the combinations is ((a - b) sum |r_i|^2 + b |sum r_i|^2) / n.

    Args:
        residual: estimate minus target, (batch, sources, ...), real or complex.

    Returns:
        A scalar, the mean of |.|^2; a complex number counts as one.
    """
    sources = residual.shape[1]
    with no_autocast(residual):
        single = sources * _mean_power(residual)
        if sources == 1:
            return single
        total = _mean_power(residual.sum(1))
        alone = 2 ** (sources - 1) - 1
        paired = 2**sources // 4 - 1
        return ((alone - paired) * single + paired * total) / (2**sources - 2)


def _mean_power(x: Tensor) -> Tensor:
    if x.is_complex():
        return 2 * torch.view_as_real(x).square().mean()
    return x.square().mean()


def combination_wsdr(estimate: Tensor, target: Tensor, mix: Tensor) -> Tensor:
    """Mean of the weighted SDR term over all combinations, channels and items.

    For a combination's target x and estimate x', and the mixture y, the term is
    -a cos(x, x') - (1 - a) cos(y - x, y - x') with a = |x|^2 / (|x|^2 + |y - x|^2 + 1e-10)
    (Choi et al., "Phase-aware speech enhancement with deep complex U-Net", ICLR 2019). It
    is -1 for a perfect estimate.

    Args:
        estimate: (batch, sources, channels, samples).
        target: the same shape.
        mix: (batch, channels, samples); need not be the sum of the targets.

    Returns:
        A scalar between -1 and 1, in the estimate's precision but at least float32.
    """
    gram = _gram(_basis(estimate, target, mix))
    x, rest, error = _coefficients(estimate.shape[1], gram.device)
    # <u, v> for each waveform and combination, where u and v are rows of coefficients
    xx = _products(x, gram, x)
    rr = _products(rest, gram, rest)
    weight = xx / (xx + rr + 1e-10)
    term = -weight * _cosine(x, x + error, gram, xx)
    term = term - (1 - weight) * _cosine(rest, rest - error, gram, rr)
    return term.mean().to(torch.promote_types(estimate.dtype, torch.float32))


def _basis(estimate: Tensor, target: Tensor, mix: Tensor) -> Tensor:
    """Targets, errors and what the targets leave of the mixture, (B,C,2S+1,L) in float64.

    In terms of these no combination needs a difference of large numbers. Float64 keeps the
    inner products exact whatever precision float32 matrix products are set to.
    """
    estimate, target, mix = estimate.double(), target.double(), mix.double()
    left = mix[:, None] - target.sum(1, keepdim=True)
    return torch.cat([target, estimate - target, left], dim=1).transpose(1, 2)


def _gram(basis: Tensor) -> Tensor:
    """Inner products of all pairs, (B,C,2S+1,2S+1)."""
    return basis @ basis.transpose(-1, -2)


@lru_cache(maxsize=32)
def _coefficients(sources: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Rows over the basis, (combinations, 2S+1), of x, y - x and x' - x.

    Kept on the device, so that a step copies nothing to it; and kept as ordinary tensors, so
    that training may use what a validation in inference mode has made.
    """
    with torch.inference_mode(False):
        inside = subset_matrix(sources).to(device)
        none, one = torch.zeros_like(inside), torch.ones_like(inside)
        x = torch.cat([inside, none, none[:, :1]], dim=1)
        rest = torch.cat([one - inside, none, one[:, :1]], dim=1)
        error = torch.cat([none, inside, none[:, :1]], dim=1)
        return x, rest, error


def _products(u: Tensor, gram: Tensor, v: Tensor) -> Tensor:
    """Inner products of the combinations u and v, (B,C,combinations)."""
    return ((u @ gram) * v).sum(-1)


def _cosine(u: Tensor, v: Tensor, gram: Tensor, uu: Tensor) -> Tensor:
    """Cosine between u and v; 0, with gradient 0, where one of them is silent."""
    norms = uu.clamp_min(1e-16).sqrt() * _products(v, gram, v).clamp_min(1e-16).sqrt()
    return _products(u, gram, v) / norms
