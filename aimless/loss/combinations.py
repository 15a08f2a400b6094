"""Losses over all combinations of sources, in closed form.

A combination is a proper non-empty subset of the sources (14 of 4 sources; of a single source,
the source itself); its target is the sum of its sources, its estimate the sum of theirs.
Sawata et al., "All for one and one for all" (ICASSP 2021). Summed naively, S sources cost
2^S passes over the data. Here squared errors need S + 1 passes, and the weighted SDR needs
the inner products of 2 S + 1 waveforms, from which all combinations follow. Absolute errors know
no such identity; theirs are computed block by block, in the cache, with their gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aimless.transforms import no_autocast

__all__ = [
    "combination_l1",
    "combination_mse",
    "combination_wsdr",
    "subset_matrix",
    "subset_sums",
]

# Samples of all waveforms in a block: on a CPU the block fits the cache; other devices want few,
# large operations.
_CPU_BLOCK, _DEVICE_BLOCK = 2**16, 2**21


def subset_matrix(sources: int) -> Tensor:
    """Which sources each combination holds.

    Args:
        sources: number of sources, at least 1.

    Returns:
        float64 (combinations, sources) of zeros and ones, on the CPU.
    """
    codes = torch.arange(1, max(2, 2**sources - 1), device="cpu")
    return (codes[:, None] >> torch.arange(sources, device="cpu") & 1).double()


def subset_sums(x: Tensor, out: Tensor | None = None) -> Sequence[Tensor]:
    """Sums over the sources of each combination, at one addition each.

    Args:
        x: (batch, sources, ...).
        out: where to write them, (combinations, batch, ...); without it they may share memory
            with x.

    Returns:
        Tensors (batch, ...), in the order of `subset_matrix`.
    """
    sums: list[Tensor] = []
    for code in range(1, max(2, 2 ** x.shape[1] - 1)):
        lowest = (code & -code).bit_length() - 1
        rest = code & (code - 1)  # a smaller number: its sum is there already
        target = None if out is None else out[code - 1]
        if rest:
            sums.append(torch.add(sums[rest - 1], x[:, lowest], out=target))
        else:
            sums.append(x[:, lowest] if target is None else target.copy_(x[:, lowest]))
    return sums


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
    gram: Tensor = _Gram.apply(estimate, target, mix)
    x, rest, error = _coefficients(estimate.shape[1], gram.device)
    # <u, v> for each waveform and combination, where u and v are rows of coefficients
    xx = _products(x, gram, x)
    rr = _products(rest, gram, rest)
    weight = xx / (xx + rr + 1e-10)
    term = -weight * _cosine(x, x + error, gram, xx)
    term = term - (1 - weight) * _cosine(rest, rest - error, gram, rr)
    return term.mean().to(torch.promote_types(estimate.dtype, torch.float32))


class _Gram(torch.autograd.Function):
    """Inner products of targets, errors and what the targets leave of the mixture.

    Those are the rows of a basis (B,C,2S+1,L), in terms of which no combination needs a
    difference of large numbers. It is made anew in every block of samples and never kept, in
    float64: that keeps the products exact, whatever precision float32 matrix products are set
    to. Only the device type mps, which has no float64, uses float32.
    """

    @staticmethod
    def forward(ctx: Any, estimate: Tensor, target: Tensor, mix: Tensor) -> Tensor:
        inputs = (estimate, target, mix)
        bases = (_basis(*(x[..., block] for x in inputs)) for block in _sample_blocks(mix))
        ctx.save_for_backward(*inputs)
        return reduce(torch.add, (basis @ basis.mT for basis in bases))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        sources = inputs[0].shape[1]
        rows = grad + grad.mT  # the basis's gradient is this times the basis
        errors, left = rows[..., sources:-1, :], rows[..., -1:, :]
        weights = (errors, rows[..., :sources, :] - errors - left, left)
        grads = [
            torch.empty_like(x) if needed else None
            for x, needed in zip(inputs, ctx.needs_input_grad)
        ]
        for block in _sample_blocks(inputs[2]):
            basis = _basis(*(x[..., block] for x in inputs))
            for weight, out in zip(weights, grads):
                if out is not None:
                    product = (weight @ basis).transpose(1, 2)
                    out[..., block] = product if out.dim() == 4 else product[:, 0]
        return tuple(grads)


def _sample_blocks(x: Tensor) -> Iterator[slice]:
    """Slices of the last axis of (batch, channels, samples); one of them if it is empty."""
    samples = _CPU_BLOCK if x.device.type == "cpu" else _DEVICE_BLOCK
    size = max(1, samples // max(1, x.shape[0] * x.shape[1]))
    return (slice(start, start + size) for start in range(0, max(1, x.shape[-1]), size))


def _basis(estimate: Tensor, target: Tensor, mix: Tensor) -> Tensor:
    """Rows of `_Gram` for a block of samples."""
    batch, sources, channels, samples = target.shape
    dtype = torch.float32 if mix.device.type == "mps" else torch.float64
    basis = torch.empty(batch, channels, 2 * sources + 1, samples, dtype=dtype, device=mix.device)
    targets, errors, left = basis.split([sources, sources, 1], dim=2)
    targets.copy_(target.transpose(1, 2))
    errors.copy_(estimate.transpose(1, 2)).sub_(targets)
    left[:, :, 0].copy_(mix).sub_(targets.sum(2))
    return basis


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


def combination_l1(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over all combinations, channels, samples and items.

    Args:
        estimate: (batch, sources, channels, samples).
        target: the same shape.

    Returns:
        A scalar in the estimate's precision.
    """
    return _CombinationL1.apply(estimate, target)


class _CombinationL1(torch.autograd.Function):
    """Value and gradient in one go: a source's gradient is a sum of its combinations' signs."""

    @staticmethod
    def forward(ctx: Any, estimate: Tensor, target: Tensor) -> Tensor:
        inside = subset_matrix(estimate.shape[1]).to(estimate)  # zeros and ones
        needed = any(ctx.needs_input_grad)
        total = estimate.new_zeros(len(inside))
        signs = torch.empty_like(estimate) if needed else None
        for block in _sample_blocks(estimate[:, 0]):
            residual = estimate[..., block] - target[..., block]
            sums = residual.new_empty(len(inside), *residual[:, 0].shape)  # (combinations,B,C,L)
            subset_sums(residual, out=sums)
            total += sums.abs().flatten(1).sum(1)  # many times quicker than vector_norm
            if signs is not None:
                # small whole numbers, exact whatever precision matrix products are set to
                counts = inside.mT @ sums.sign_().flatten(1)
                signs[..., block] = counts.view(-1, *sums.shape[1:]).transpose(0, 1)
        ctx.size = len(inside) * target[:, 0].numel()
        ctx.save_for_backward(signs)
        return total.sum() / ctx.size

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (signs,) = ctx.saved_tensors
        own = signs * (grad / ctx.size)
        return own, -own if ctx.needs_input_grad[1] else None


def _products(u: Tensor, gram: Tensor, v: Tensor) -> Tensor:
    """Inner products of the combinations u and v, (B,C,combinations)."""
    return ((u @ gram) * v).sum(-1)


def _cosine(u: Tensor, v: Tensor, gram: Tensor, uu: Tensor) -> Tensor:
    """Cosine between u and v; 0, with gradient 0, where one of them is silent."""
    norms = uu.clamp_min(1e-16).sqrt() * _products(v, gram, v).clamp_min(1e-16).sqrt()
    return _products(u, gram, v) / norms
