"""Filtering by FFT: whole signals or overlapping blocks, and responses of common filters."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["biquad_response", "delayed", "filtered", "settling_time", "tail_class"]

# Blocks are four times as long as what they overlap by, so that a quarter of the work is lost.
_BLOCK_PER_TAIL = 4
_SHORTEST_TAIL = 8192


def filtered(x: Tensor, tail: int, respond: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Filter signals by what a function does to their spectra.

    Short impulse responses are done in blocks (overlap-save), which stay in the cache and need
    the response at few frequencies.

    Args:
        x: (stems, channels, samples).
        tail: samples after which all impulse responses are over, from `tail_class`.
        respond: maps spectra (stems, channels, blocks, bins) and the length of the FFT to
            spectra of the same shape.

    Returns:
        (stems, channels, samples)
    """
    samples = x.shape[-1]
    if _BLOCK_PER_TAIL * tail >= samples:
        n_fft = fast_length(samples + tail)
        spectra = torch.fft.rfft(x.unsqueeze(2), n=n_fft)
        return torch.fft.irfft(respond(spectra, n_fft), n=n_fft)[:, :, 0, :samples]
    n_fft = _BLOCK_PER_TAIL * tail
    hop = n_fft - tail
    blocks = -(-samples // hop)
    x = F.pad(x, (tail, blocks * hop - samples)).unfold(-1, n_fft, hop)
    y = torch.fft.irfft(respond(torch.fft.rfft(x), n_fft), n=n_fft)[..., tail:]
    return y.flatten(2)[..., :samples]


def tail_class(samples: int) -> int:
    """The next power of two, so that different filters can be done together.

    It depends on nothing but the stem's own filters: neither does the result, to the bit.
    """
    return max(_SHORTEST_TAIL, 1 << max(samples - 1, 0).bit_length())


@lru_cache(maxsize=256)
def fast_length(samples: int) -> int:
    """The smallest even number with no prime factor above 5 that is not below `samples`."""
    best = 1 << max(1, (samples - 1).bit_length())
    for threes in range(12):
        for fives in range(9):
            odd = 3**threes * 5**fives
            best = min(best, odd << max(1, (-(-samples // odd) - 1).bit_length()))
    return best


def biquad_response(sections: NDArray[np.float64], n_fft: int, like: Tensor) -> Tensor:
    r"""Response of second-order sections in series.

    With w the angle, c = cos(w/2) and s = sin(w/2), a quadratic in z^-1 times e^{jw} is

        b_0 e^{jw} + b_1 + b_2 e^{-jw}
            = (b_0 + b_1 + b_2) c^2 - (b_0 - b_1 + b_2) s^2 + 2j (b_0 - b_2) s c.

    Only the sums of coefficients cancel, and they are made in double precision: the rest is
    accurate in single precision also for a shelf at 20 Hz, whose poles and zeros nearly meet.

    Args:
        sections: (stems, sections, 5), each b0, b1, b2, a1, a2 for a0 = 1.
        n_fft: length of the FFT.
        like: a tensor of the device and precision of the result.

    Returns:
        complex (stems, bins)
    """
    real = like.real if like.is_complex() else like
    c2, s2, sc = _half_angles(n_fft, real.device, real.dtype)
    b = sections[..., :3]
    a = np.concatenate([np.ones_like(b[..., :1]), sections[..., 3:]], axis=-1)
    # (2, stems, sections, 3)
    sums = np.stack([_symmetric(b), _symmetric(a)])
    table = torch.from_numpy(sums).to(real.dtype).to(real.device, non_blocking=True)[..., None]
    response = None
    for number in range(sections.shape[1]):
        even0, even2, odd = table[:, :, number].unbind(2)  # each (2, stems, 1)
        (x, p), (y, q) = even0 * c2 - even2 * s2, odd * sc
        scale = (p * p + q * q).reciprocal()
        section = torch.complex((x * p + y * q) * scale, (y * p - x * q) * scale)
        response = section if response is None else response * section
    if response is None:
        return torch.ones(len(sections), len(c2), dtype=like.dtype, device=like.device)
    return response


def _symmetric(q: NDArray[np.float64]) -> NDArray[np.float64]:
    q0, q1, q2 = np.moveaxis(q, -1, 0)
    return np.stack([q0 + q1 + q2, q0 - q1 + q2, 2 * (q0 - q2)], axis=-1)


def settling_time(sections: NDArray[np.float64], residue: float) -> NDArray[np.int64]:
    """Samples after which sections in series have forgotten what they heard.

    That of the slowest section; the others, should their poles be near, make the decay less
    than exponential at first, for which four time constants of each are added.

    Args:
        sections: (stems, sections, 5) as in `biquad_response`, stable.
        residue: what is left of the state.

    Returns:
        (stems)
    """
    a1, a2 = sections[..., 3], sections[..., 4]
    root = np.sqrt(np.maximum(a1 * a1 / 4 - a2, 0))
    radius = np.where(root > 0, np.abs(a1) / 2 + root, np.sqrt(np.abs(a2)))
    constants = -1 / np.log(np.clip(radius, 0.1, 1 - 1e-9))
    slowest = constants.max(-1, initial=0)
    return np.ceil(4 * constants.sum(-1) - math.log(residue) * slowest).astype(np.int64)


def delayed(delay: Tensor | int, n_fft: int, like: Tensor) -> Tensor:
    """Response of delays by whole numbers of samples, which may be large.

    Args:
        delay: samples (..., 1), or one number.
        n_fft: length of the FFT.
        like: a tensor of the device and precision of the result.

    Returns:
        complex (..., bins)
    """
    dtype = like.dtype if like.is_complex() else like.to(torch.complex64).dtype
    turns = torch.arange(n_fft // 2 + 1, device=like.device) * delay % n_fft
    circle = _circle(n_fft, like.device, dtype)
    return circle.index_select(0, turns.flatten()).view(turns.shape)


@lru_cache(maxsize=8)
def _half_angles(n_fft: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """cos^2, sin^2 and sin cos of half the angles of an FFT's bins, (bins) each."""
    half = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (math.pi / n_fft)
    cos, sin = half.cos(), half.sin()
    return tuple(value.to(device, dtype) for value in (cos * cos, sin * sin, cos * sin))


@lru_cache(maxsize=8)
def _circle(n_fft: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """exp(-2 pi j k / n_fft), complex (n_fft)."""
    angle = torch.arange(n_fft, dtype=torch.float64) * (-2 * math.pi / n_fft)
    return torch.polar(torch.ones_like(angle), angle).to(device, dtype)
