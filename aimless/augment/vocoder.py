"""A phase vocoder that stretches every signal by its own ratio, all in one pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimless.augment.frames import frames_at_once
from aimless.augment.lazy import on_device

__all__ = ["phase_vocoder", "stretched_frames"]

# 2 pi as a sum of two numbers of five bits and a small rest: whole multiples of the first two,
# up to 2 ** 19 of them, are exact in single precision.
_TURN = 2 * math.pi
_TURN_PARTS = (6.25, 0.033203125, _TURN - 6.25 - 0.033203125)


def stretched_frames(frames: int, stretch: Fraction) -> int:
    """Frames of a stretched spectrogram, ceil(frames * stretch)."""
    return -(-frames * stretch.numerator // stretch.denominator)


def phase_vocoder(
    blocks: Iterable[Tensor],
    frames: int,
    stretches: Sequence[Fraction],
    hop_length: int,
    double_phase: bool = False,
) -> Iterator[Tensor]:
    """Stretch spectrograms in time without changing their frequencies.

    Frame k of the result stands at k / stretch in the input: its magnitude is interpolated
    there, its phase is that of frame k - 1 plus what the input's phase gains there from one
    frame to the next (Flanagan and Golden, 1966; Dolson, 1986).

    Args:
        blocks: frames in order, complex (signals, frames of the block, bins).
        frames: how many these are in all.
        stretches: length of the result over the length of the input for each signal, positive.
        hop_length: samples between frames.
        double_phase: add the phases up in double precision, see `RandomPitch`.

    Yields:
        Frames in order, complex (signals, frames of the block, bins), in all as many as the
        longest signal has; those of a shorter one are zero after its ceil(frames * stretch).
    """
    magnitude, gain = _analyse(blocks, frames, hop_length, double_phase)
    signals, _, bins = magnitude.shape
    magnitude, gain = magnitude.flatten(0, 1), gain.flatten(0, 1)
    around, weights, arrived = (
        on_device(values, magnitude) for values in _time_grids(stretches, frames)
    )
    steps = arrived.shape[1]
    block = frames_at_once(signals, bins, magnitude.device) or steps
    total: Tensor | None = None
    for first in range(0, steps, block):
        part = slice(first, first + block)
        rows, shares = around[:, part].flatten(0, 1), weights[:, part].flatten(0, 1)
        size = F.embedding_bag(rows, magnitude, mode="sum", per_sample_weights=shares)
        size = size.view(signals, -1, bins)
        gained = gain.index_select(0, arrived[:, part].flatten()).view(signals, -1, bins)
        phase, total = _accumulate(total, gained)
        real = phase.cos().to(size.dtype).mul_(size)
        imag = phase.sin_().to(size.dtype).mul_(size)
        yield torch.complex(real, imag)


def _analyse(
    blocks: Iterable[Tensor], frames: int, hop_length: int, double_phase: bool
) -> tuple[Tensor, Tensor]:
    """Magnitudes and phases of spectrograms (signals, frames, bins), given in blocks.

    Returns:
        Magnitudes (signals, frames + 1, bins), those of the last frame zero, to interpolate
        towards. What the phase gains on the way to each of these frames from the one before,
        and, in the first, its phase; the same shape.
    """
    blocks = iter(blocks)
    head = next(blocks)
    signals, _, bins = head.shape
    magnitude = head.real.new_empty(signals, frames + 1, bins)
    gain = torch.empty_like(magnitude, dtype=torch.float64 if double_phase else None)
    advance = torch.linspace(0, math.pi * hop_length, bins, dtype=gain.dtype, device=gain.device)
    before = torch.zeros_like(gain[:, :1])
    first = 0
    for block in itertools.chain([head], blocks):
        last = first + block.shape[1]
        real, imag = block.real.contiguous(), block.imag.contiguous()
        phase = torch.cat([before, torch.atan2(imag, real).to(gain.dtype)], 1)
        torch.sqrt(real.square_().addcmul_(imag, imag), out=magnitude[:, first:last])
        _unwrapped(phase[:, 1:] - phase[:, :-1], advance, gain[:, first:last])
        if first == 0:
            gain[:, 0] = phase[:, 1]
        before = phase[:, -1:]
        first = last
    magnitude[:, frames] = 0
    _unwrapped(-before, advance, gain[:, frames:])
    return magnitude, gain


def _unwrapped(difference: Tensor, advance: Tensor, out: Tensor) -> None:
    """The gain of phase nearest to what the centre frequency of the bin gains in one hop."""
    difference = difference.sub_(advance)
    # rounded product by product, as published: one fused step would give other last bits, which
    # the sum over frames makes audible
    turns = (difference / _TURN).round_().mul_(_TURN)
    torch.add(difference.sub_(turns), advance, out=out)


def _time_grids(
    stretches: Sequence[Fraction], frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where frames of the result stand in the input, which has a silent frame at its end.

    Returns:
        The frames to the left and to the right, as rows of (signals * (frames + 1)), the silent
        one after the end of a signal, and their weights, each (signals, steps, 2); the one to
        the right of the step before, at the first step the first, (signals, steps).
    """
    counts = [stretched_frames(frames, stretch) for stretch in stretches]
    steps = np.arange(max(counts))
    left = np.empty((len(stretches), len(steps)), np.int64)
    fraction = np.empty(left.shape)
    for signal, stretch in enumerate(stretches):
        position = steps * stretch.denominator
        left[signal] = position // stretch.numerator
        fraction[signal] = position % stretch.numerator / stretch.numerator
    begin = (frames + 1) * np.arange(len(stretches))[:, None]
    around = np.minimum(left[..., None] + [0, 1], frames) + begin[..., None]
    arrived = np.concatenate([begin, around[:, :-1, 1]], axis=1)
    return around, np.stack([1 - fraction, fraction], axis=-1), arrived


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
    exact = _running_sum(exact)
    phase = exact.to(gain.dtype, copy=True)
    turns = (phase * (1 / _TURN)).round_()
    for part in _TURN_PARTS:
        phase.sub_(turns, alpha=part)
    return phase, exact[:, -1]


def _running_sum(x: Tensor) -> Tensor:
    """Sums of (signals, frames, bins) along the frames; x is not needed afterwards."""
    if x.device.type != "cpu":
        return x.cumsum(1)
    # on a CPU frame by frame: `cumsum` would walk through memory with a stride
    for before, frame in itertools.pairwise(x.unbind(1)):
        frame.add_(before)
    return x
