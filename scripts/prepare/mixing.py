"""The sum of stems as a file, not clipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data import audio
from data.audio import AudioFile
from prepare.sounds import BITS, Extremes, write_sound

__all__ = ["AUTO_BITS", "write_sum"]

AUTO_BITS = ("auto", *BITS)
_BLOCK_FRAMES = 1 << 18


def write_sum(path: Path, stems: Sequence[AudioFile], bits: str = "auto") -> Extremes | None:
    """Write the sum of files of one rate, as long as the longest of them.

    Integers are summed exactly. Where the sum is beyond what integers hold, the file has 32-bit
    float samples instead, so that it is still the sum.

    Args:
        path: of the WAV file.
        stems: of one rate; mono files go into all channels.
        bits: `16`, `24` or `float`; `auto` takes those of the stems, the most there are.

    Returns:
        The extremes of a sum for which float was taken in place of integers, else None.

    Raises:
        AudioReadError: a stem cannot be read.
        DataError: the file cannot be written.
    """
    frames = max(stem.frames for stem in stems)
    channels = max(stem.channels for stem in stems)
    chosen = _most_bits(stems) if bits == "auto" else bits

    def write(bits: str) -> Extremes:
        return write_sound(path, _sums(stems, channels), stems[0].rate, channels, frames, bits)

    extremes = write(chosen)
    if extremes.fit(chosen):
        return None
    write("float")
    return extremes


def _sums(stems: Sequence[AudioFile], channels: int) -> Iterator[NDArray[np.float64]]:
    frames = max(stem.frames for stem in stems)
    buffer = np.empty((channels, _BLOCK_FRAMES), np.float32)
    for start in range(0, frames, _BLOCK_FRAMES):
        total = np.zeros((channels, min(_BLOCK_FRAMES, frames - start)))
        for stem in stems:
            length = min(total.shape[1], stem.frames - start)
            if length > 0:
                total[:, :length] += audio.read(stem, start, length, buffer[:, :length])
        yield total


def _most_bits(stems: Sequence[AudioFile]) -> str:
    """What holds the samples of all stems without rounding; 32-bit integers only nearly."""
    known = {"PCM_U8": "16", "PCM_S8": "16", "PCM_16": "16", "PCM_24": "24"}
    return max((known.get(stem.subtype, "float") for stem in stems), key=BITS.index)
