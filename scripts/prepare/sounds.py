"""Audio to WAV files, in blocks, and to the last bit as it was given."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from aimless import stopping
from aimless.errors import DataError
from aimless.songs.stem_format import StemFormat
from data import audio
from data.audio import AudioReadError, printable

__all__ = ["BITS", "Extremes", "round_to", "write_sound"]

BITS = ("16", "24", "float")


class Extremes(NamedTuple):
    """Lowest and highest sample, full scale is ±1."""

    lowest: float
    highest: float

    def fit(self, bits: str) -> bool:
        """Whether samples of so many bits hold them; the highest integer is a little below 1."""
        return bits == "float" or (self.lowest >= -1 and self.highest <= 1 - 2.0 ** (1 - int(bits)))

    @property
    def peak(self) -> float:
        """The largest absolute value."""
        return max(-self.lowest, self.highest)

    def describe(self, path: Path) -> str:
        """A line about a file whose samples are beyond what integers hold."""
        decibels = 20 * math.log10(self.peak)
        return f"{printable(path)}: {decibels:+.1f} dB of full scale, in 32-bit float"


def round_to(bits: str, block: NDArray[np.floating]) -> NDArray[np.floating]:
    """Samples as a file of so many bits holds them; integers are not clipped here.

    Args:
        bits: `16`, `24` or `float`.
        block: of any shape, full scale is ±1.
    """
    if bits == "float":
        return block.astype(np.float32)
    scale = 2.0 ** (int(bits) - 1)
    return np.rint(block * scale) / scale


def write_sound(
    path: Path,
    blocks: Iterable[NDArray[np.floating]],
    rate: int,
    channels: int,
    frames: int,
    bits: str,
) -> Extremes:
    """Write a WAV file, RF64 from 4 GiB on.

    Args:
        path: the file, which may have any suffix; one that is there is replaced.
        blocks: (channels, n) each, `frames` together.
        rate: in Hz.
        channels: of all blocks.
        frames: samples per channel.
        bits: `16` and `24` round to the nearest and clip what is beyond full scale.

    Returns:
        The extremes of the blocks as they were given.

    Raises:
        DataError: it cannot be written.
    """
    arguments = StemFormat("wav", bits).sound_file(rate, channels, frames)
    lowest = highest = 0.0
    try:
        path.touch()  # says why it cannot, which libsndfile does not
        with soundfile.SoundFile(os.fsencode(path), "w", **arguments) as file:
            for block in blocks:
                stopping.check()
                lowest = min(lowest, float(block.min(initial=0)))
                highest = max(highest, float(block.max(initial=0)))
                file.write(_encoded(block, bits).T)
        _check_end(path, frames)
        _forget_time(path)
    except (soundfile.SoundFileError, AssertionError, OSError) as error:
        raise DataError(
            f"{printable(path.parent)}: cannot be written: {_reason(path, error)}"
        ) from error
    return Extremes(lowest, highest)


def _encoded(block: NDArray[np.floating], bits: str) -> NDArray[np.number]:
    """Samples as the file's own numbers: libsndfile scales floats by one step less."""
    if bits == "float":
        return block.astype(np.float32, copy=False)
    scale = 2.0 ** (int(bits) - 1)
    rounded = np.clip(np.rint(block * scale), -scale, scale - 1)
    return rounded.astype(np.int16) if bits == "16" else rounded.astype(np.int32) << 8


def _check_end(path: Path, frames: int) -> None:
    """On a full disk a file may be closed without an error and without its end."""
    try:
        whole = audio.info(path).frames == frames
    except AudioReadError:
        whole = False
    if not whole:
        raise OSError(errno.EIO, "its end is missing")


def _forget_time(path: Path) -> None:
    """Libsndfile notes in float files when they were written; without it a file can be compared."""
    with open(path, "r+b") as file:
        header = file.read(256)
        chunk = header.find(b"PEAK", 0, header.find(b"data"))
        if chunk >= 0:
            file.seek(chunk + 12)  # after name, size and version
            file.write(bytes(4))


def _reason(path: Path, error: Exception) -> str:
    """Why nothing can be appended to a file; libsndfile only says "System error"."""
    try:
        with open(path, "ab") as file:
            file.write(bytes(1 << 16))
    except OSError as found:
        return found.strerror or str(found)
    return getattr(error, "strerror", None) or getattr(error, "error_string", "") or "cut off"
