"""A phase vocoder that stretches every item by its own ratio, all in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimless.augment.lazy import on_device

__all__ = ["overlap_add", "phase_vocoder", "stretched_frames"]

# 2 pi as a sum of two numbers of five bits and a small rest: whole multiples of the first two,
# up to 2 ** 19 of them, are exact in single precision.
_TURN = 2 * math.pi
_TURN_PARTS = (6.25, 0.033203125, _TURN - 6.25 - 0.033203125)

# Numbers that an intermediate result has where it is to stay in a processor's cache.
_CACHED = 1 << 17


def stretched_frames(frames: int, stretch: Fraction) -> int:
    """Frames of a stretched spectrogram, ceil(frames * stretch)."""
    return -(-frames * stretch.numerator // stretch.denominator)


def phase_vocoder(
    spec: Tensor, stretches: Sequence[Fraction], hop_length: int, double_phase: bool = False
) -> Tensor:
    """Stretch spectrograms in time without changing their frequencies.

    Frame k of the result stands at k / stretch in the input: its magnitude is interpolated
    there, its phase is that of frame k - 1 plus what the input's phase gains there from one
    frame to the next (Flanagan and Golden, 1966; Dolson, 1986).

    Args:
        spec: complex (items, channels, bins, frames), quickest if the bins lie side by side, as
            `STFT` has them.
        stretches: length of the result over the length of the input for each item, positive.
        hop_length: samples between frames.
        double_phase: add the phases up in double precision, see `RandomPitch`.

    Returns:
        complex (items, channels, bins, frames), as many frames as the longest item has; those
        of a shorter one are zero after its ceil(frames * stretch).
    """
    items, channels, bins, frames = spec.shape
    signals = items * channels
    # (signals, frames, bins)
    magnitude, gain = _analyse(spec.transpose(-1, -2).flatten(0, 1), hop_length, double_phase)
    left, before, fraction, inside = (
        on_device(values, magnitude) for values in _time_grids(stretches, channels, frames)
    )
    magnitude, gain = magnitude.flatten(0, 1), gain.flatten(0, 1)
    steps = left.shape[1]
    stretched = magnitude.new_empty(signals, steps, bins, 2)
    total: Tensor | None = None
    block = _rows_at_once(spec) // signals + 1
    for first in range(0, steps, block):
        part = slice(first, first + block)
        rows = left[:, part].flatten()
        size = magnitude.index_select(0, rows)
        size = size.lerp_(magnitude.index_select(0, rows + 1), fraction[:, part].reshape(-1, 1))
        if len(set(stretches)) > 1:
            size = size.mul_(inside[:, part].reshape(-1, 1))
        size = size.view(signals, -1, bins)
        gained = gain.index_select(0, before[:, part].flatten()).view(signals, -1, bins)
        phase, total = _accumulate(total, gained)
        torch.mul(phase.cos().to(size.dtype), size, out=stretched[:, part, :, 0])
        torch.mul(phase.sin_().to(size.dtype), size, out=stretched[:, part, :, 1])
    return torch.view_as_complex(stretched).unflatten(0, (items, channels)).transpose(-1, -2)


def _rows_at_once(spec: Tensor) -> int:
    """How many rows of bins to work on at a time: on a CPU, as many as stay in its cache."""
    return _CACHED // spec.shape[-2] if spec.device.type == "cpu" else spec.numel()


def _analyse(spec: Tensor, hop_length: int, double_phase: bool) -> tuple[Tensor, Tensor]:
    """Magnitudes and phases of spectrograms (signals, frames, bins).

    Returns:
        Magnitudes (signals, frames + 1, bins), those of the last frame zero, to interpolate
        towards. What the phase gains from each frame to the next, the last of which is silent,
        and, after that, the phase of the first frame; the same shape.
    """
    signals, frames, bins = spec.shape
    magnitude = spec.real.new_zeros(signals, frames + 1, bins)
    gain = torch.zeros_like(magnitude, dtype=torch.float64 if double_phase else None)
    advance = torch.linspace(0, math.pi * hop_length, bins, dtype=gain.dtype, device=gain.device)
    before: Tensor | None = None
    block = _rows_at_once(spec.transpose(-1, -2)) // signals + 1
    for first in range(0, frames, block):
        last = min(first + block, frames)
        real = spec[:, first:last].real.contiguous()
        imag = spec[:, first:last].imag.contiguous()
        torch.hypot(real, imag, out=magnitude[:, first:last])
        phase = torch.atan2(imag, real).to(gain.dtype)
        if before is None:
            gain[:, -1] = phase[:, 0]
        else:
            _unwrapped(phase[:, :1] - before, advance, gain[:, first - 1 : first])
        _unwrapped(phase[:, 1:] - phase[:, :-1], advance, gain[:, first : last - 1])
        before = phase[:, -1:]
    assert before is not None
    _unwrapped(-before, advance, gain[:, frames - 1 : frames])
    return magnitude, gain


def _unwrapped(difference: Tensor, advance: Tensor, out: Tensor) -> None:
    """The gain of phase nearest to what the centre frequency of the bin gains in one hop."""
    difference = difference.sub_(advance)
    # rounded product by product, as published: one fused step would give other last bits, which
    # the sum over frames makes audible
    turns = (difference / _TURN).round_().mul_(_TURN)
    torch.add(difference.sub_(turns), advance, out=out)


def _time_grids(
    stretches: Sequence[Fraction], channels: int, frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where frames of the result stand in the input.

    Returns:
        The frame to the left, as a row of (items * channels * (frames + 1)); the same of the
        step before, at the first step the row after the last frame; the fraction of the way to
        the next; and 0 after the end of an item, else 1. Each (items * channels, steps).
    """
    counts = [stretched_frames(frames, stretch) for stretch in stretches]
    steps = np.arange(max(counts))
    left, fraction = np.empty((2, len(stretches), channels, len(steps)))
    for item, stretch in enumerate(stretches):
        position = np.minimum(steps, counts[item] - 1) * stretch.denominator
        begin = (item * channels + np.arange(channels)) * (frames + 1)
        left[item] = begin[:, None] + position // stretch.numerator
        fraction[item] = position % stretch.numerator / stretch.numerator
    inside = 1.0 * (steps < np.repeat(counts, channels)[:, None])
    rows = left.astype(np.int64).reshape(-1, len(steps))
    after_last = np.arange(1, len(rows) + 1)[:, None] * (frames + 1) - 1
    before = np.concatenate([after_last, rows[:, :-1]], axis=1)
    return rows, before, fraction.reshape(rows.shape), inside


def _accumulate(total: Tensor | None, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of gains (signals, frames, bins) along the frames, less whole turns.

    Summed in double precision and rounded to that of the gains, on every device.

    Args:
        total: sum of what came before (signals, bins).
        gain: in radians.

    Returns:
        Phases of the same shape, and the sum up to the last (signals, bins).
    """
    exact = gain.double()
    if total is not None:
        exact[:, 0] += total
    exact = exact.transpose(1, 2).cumsum(-1).transpose(1, 2)
    phase = exact.to(gain.dtype, copy=True)
    turns = (phase * (1 / _TURN)).round_()
    for part in _TURN_PARTS:
        phase.sub_(turns, alpha=part)
    return phase, exact[:, -1]


def overlap_add(spec: Tensor, window: Tensor, hop_length: int, counts: Sequence[int]) -> Tensor:
    """Waveforms of spectrograms: inverse FFT, window, sum, division by the sum of squared windows.

    As `STFT.inverse`, for items of different numbers of frames.

    Args:
        spec: complex (items, channels, bins, frames), zero after the end of an item.
        window: (n_fft).
        hop_length: samples between frames.
        counts: frames of each item, ascending or descending.

    Returns:
        (items, channels, samples), from the centre of the first frame on. Item i is valid up to
        (counts[i] - 1) * hop_length, or to hop_length if it has one frame.
    """
    n_fft = len(window)
    pieces = -(-n_fft // hop_length)
    y = torch.fft.irfft(spec.transpose(-1, -2), n=n_fft).mul_(window)
    wave = _shifted_sum(y, hop_length)
    distinct = sorted(set(counts))
    squares = window.square().expand(len(distinct), 1, max(counts), n_fft)
    present = np.arange(max(counts)) < np.array(distinct)[:, None]
    squares = squares * on_device(1.0 * present, wave)[:, None, :, None]
    envelope = _shifted_sum(squares, hop_length)
    rows = on_device(np.array([distinct.index(count) for count in counts]), wave)
    # samples that no window reaches are left at zero
    envelope = envelope.clamp(min=torch.finfo(wave.dtype).tiny).index_select(0, rows)
    begin = n_fft // 2
    end = begin + max(max(counts) - 1, 1) * hop_length
    assert end <= (max(counts) + pieces - 1) * hop_length
    return wave[..., begin:end] / envelope[..., begin:end]


def _shifted_sum(frames: Tensor, hop_length: int) -> Tensor:
    """Sum of (..., frames, n_fft), each frame a hop later than the one before, (..., samples)."""
    count, n_fft = frames.shape[-2:]
    pieces = -(-n_fft // hop_length)
    if n_fft % hop_length:
        frames = F.pad(frames, (0, pieces * hop_length - n_fft))
    frames = frames.unflatten(-1, (pieces, hop_length))
    shape = (*frames.shape[:-3], count + pieces - 1, hop_length)
    total = torch.zeros(shape, dtype=frames.dtype, device=frames.device)
    for piece in range(pieces):
        total[..., piece : piece + count, :] += frames[..., piece, :]
    return total.flatten(-2)
