"""Waveform to spectra and back in blocks of frames, so small that they stay in a cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from aimless.transforms import STFT

__all__ = ["Spectra", "frames_at_once", "overlap_add"]

# Numbers in a block: few enough to stay near a processor, enough to be worth the calls (timed).
_CACHED = 1 << 18


def frames_at_once(signals: int, bins: int, device: torch.device) -> int | None:
    """Frames of all signals that a block holds: on a CPU what stays in its cache; None: all."""
    return max(1, _CACHED // (signals * bins)) if device.type == "cpu" else None


class Spectra:
    """The spectrogram that an `STFT` gives, in blocks: complex (signals, frames of one, bins).

    Args:
        x: (signals, samples), at least one sample.
        stft: says window and hop.
    """

    def __init__(self, x: Tensor, stft: STFT) -> None:
        half = stft.n_fft // 2
        if (missing := half + 1 - x.shape[-1]) > 0:
            x = F.pad(x, (0, missing))
        x = F.pad(x[:, None], (half, half), "reflect")[:, 0]
        self._window = stft.window_like(x)
        self._frames = x.unfold(-1, stft.n_fft, stft.hop_length)
        self._at_once = frames_at_once(len(x), stft.bins, x.device) or self.count

    @property
    def count(self) -> int:
        """Frames in all."""
        return self._frames.shape[1]

    def __iter__(self) -> Iterator[Tensor]:
        for block in self._frames.split(self._at_once, 1):
            yield torch.fft.rfft(block * self._window)


def overlap_add(blocks: Iterable[Tensor], stft: STFT, counts: Sequence[int]) -> Tensor:
    """Waveforms of spectra: inverse FFT, window, sum, division by the sum of squared windows.

    As `STFT.inverse`, for signals of different numbers of frames.

    Args:
        blocks: frames in order, complex (signals, frames of the block, bins), as many as the
            longest signal has, and zero after the end of a signal.
        stft: says window and hop.
        counts: frames of each signal; those of one count lie side by side.

    Returns:
        (signals, samples), from the centre of the first frame on. Signal i is valid up to
        (counts[i] - 1) * hop_length, or to hop_length if it has one frame.
    """
    hop, pieces = stft.hop_length, -(-stft.n_fft // stft.hop_length)
    wave: Tensor | None = None
    first = 0
    for block in blocks:
        window = stft.window_like(block.real)
        if wave is None:
            wave = window.new_zeros(len(counts), max(counts) + pieces - 1, hop)
        y = torch.fft.irfft(block, n=stft.n_fft)
        _add_frames(y, window, wave[:, first : first + y.shape[1] + pieces - 1])
        first += block.shape[1]
    assert wave is not None
    begin = 0
    for count, same in itertools.groupby(counts):
        end = begin + len(list(same))
        _divide_by_envelope(wave[begin:end, : count + pieces - 1], window, count)
        begin = end
    begin = stft.n_fft // 2
    return wave.flatten(1)[:, begin : begin + max(max(counts) - 1, 1) * hop]


def _add_frames(frames: Tensor, window: Tensor, wave: Tensor) -> None:
    """Add (..., frames, n_fft) under a window, a hop later each, to a wave (..., hops, hop)."""
    count, hop = frames.shape[-2], wave.shape[-1]
    if rest := -len(window) % hop:
        frames, window = F.pad(frames, (0, rest)), F.pad(window, (0, rest))
    frames = frames.unflatten(-1, (-1, hop))
    for piece, weight in enumerate(window.view(-1, hop)):
        wave[..., piece : piece + count, :].addcmul_(frames[..., piece, :], weight)


def _divide_by_envelope(wave: Tensor, window: Tensor, count: int) -> None:
    """Divide (signals, hops, hop) by the sum of so many squared windows, a hop apart."""
    pieces = wave.shape[1] - count + 1
    # every hop that a whole window's worth of frames reaches has the same sum
    repeated = max(0, count - 2 * pieces)
    envelope = wave.new_zeros(wave.shape[1] - repeated, wave.shape[2])
    _add_frames(window.expand(count - repeated, -1), window, envelope)
    # samples that no window reaches are left at zero
    envelope.clamp_(min=torch.finfo(wave.dtype).tiny)
    wave[:, :pieces].div_(envelope[:pieces])
    wave[:, pieces : pieces + repeated].div_(envelope[pieces - 1])
    wave[:, pieces + repeated :].div_(envelope[pieces:])
