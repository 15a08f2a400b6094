"""Parts of a file at another sample rate, without reading the rest of it.

The samples are those of a cut out of the whole file resampled: a part is read with enough
context on both sides for the filter, and from a frame on that falls onto a sample of the new
rate. Equal rates are read as they are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from data import audio
from data.audio import AudioFile

__all__ = ["frames_at", "read_at"]

# Half the length of soxr's filter at its default quality, in samples of the slower rate, with a
# margin: the rest of the file changes a part by less than -120 dB.
_CONTEXT = 256


def frames_at(file: AudioFile, rate: int) -> int:
    """How many samples per channel a file has at a rate in Hz, to the nearest, halves up."""
    return (2 * file.frames * rate + file.rate) // (2 * file.rate)


def read_at(file: AudioFile, start: int, frames: int, rate: int) -> NDArray[np.float32]:
    """Read a part of a file at a sample rate.

    Args:
        file: a WAV or FLAC file of any rate.
        start: first frame, counted from 0 at the new rate.
        frames: how many, at the new rate; at most to the end, see `frames_at`.
        rate: the new rate in Hz.

    Returns:
        Samples (channels of the file, frames); full scale is ±1.

    Raises:
        AudioReadError: see `data.audio.read`.
    """
    if file.rate == rate:
        return audio.read(file, start, frames)
    import soxr  # only where rates differ

    common = math.gcd(file.rate, rate)
    step, new_step = file.rate // common, rate // common
    context = math.ceil(_CONTEXT * max(1, file.rate / rate))
    # Each `step` frames of the file, a sample of either rate falls on the same instant.
    first_step = max(0, start * file.rate // rate - context) // step
    first = first_step * step
    last = min(file.frames, (start + frames) * file.rate // rate + 1 + context)
    block = audio.read(file, first, last - first)
    resampled = soxr.resample(block.T, file.rate, rate).T  # (channels, samples)
    offset = start - first_step * new_step
    return np.ascontiguousarray(resampled[:, offset : offset + frames])
