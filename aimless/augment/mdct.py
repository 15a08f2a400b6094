"""The modified discrete cosine transform and its inverse, by FFT."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["inverse_mdct", "mdct"]


def mdct(x: Tensor, lines: int) -> Tensor:
    r"""Spectra of half-overlapping frames under a sine window.

    X[k] = \sum_n w[n] x[n] cos(pi / N (n + 1/2 + N/2) (k + 1/2)) for frames of 2 N samples
    (Princen, Johnson and Bradley, 1987).

    Args:
        x: (..., samples); zeros are put before and after it.
        lines: N.

    Returns:
        (..., frames, lines), frames = ceil(samples / lines) + 1
    """
    samples = x.shape[-1]
    x = F.pad(x, (lines, lines + -samples % lines))
    frames = x.unfold(-1, 2 * lines, lines) * _window(x, lines)
    before, after = _twiddles(x, lines)
    return (torch.fft.fft(frames * before)[..., :lines] * after).real


def inverse_mdct(spectra: Tensor, samples: int) -> Tensor:
    """The signal (..., samples) of `mdct`'s spectra (..., frames, lines)."""
    lines = spectra.shape[-1]
    before, after = _twiddles(spectra, lines)
    folded = torch.fft.ifft(spectra * after.conj(), n=2 * lines) * before.conj()
    frames = folded.real * _window(spectra, lines) * 4
    # the first half of each frame meets the second half of the one before
    early, late = frames[..., :lines], frames[..., lines:]
    x = early[..., 1:, :] + late[..., :-1, :]
    return x.flatten(-2)[..., :samples]


def _window(like: Tensor, lines: int) -> Tensor:
    """The sine window (2 * lines), whose square and its mirror image sum to 1."""
    steps = torch.arange(2 * lines, dtype=torch.float64, device=like.device)
    return ((steps + 0.5) * (math.pi / (2 * lines))).sin().to(like.dtype)


def _twiddles(like: Tensor, lines: int) -> tuple[Tensor, Tensor]:
    """exp(-j pi n / 2N) (2 * lines) and exp(-j pi (1/2 + N/2) (k + 1/2) / N) (lines)."""
    dtype = like.to(torch.complex64).dtype if like.dtype == torch.float32 else torch.complex128
    steps = torch.arange(2 * lines, dtype=torch.float64, device=like.device)
    before = steps * (-math.pi / (2 * lines))
    after = (steps[:lines] + 0.5) * (-math.pi * (0.5 + lines / 2) / lines)
    one = torch.ones_like(steps)
    return torch.polar(one, before).to(dtype), torch.polar(one[:lines], after).to(dtype)
