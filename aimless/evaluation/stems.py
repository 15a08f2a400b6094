"""Stems that are read piece by piece, wherever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from aimless.errors import DataError

__all__ = ["ArrayStem", "FileStem", "Stem", "SumStem"]


class Stem(ABC):
    """Audio of one source. `where` names it in messages; `rate` is in Hz."""

    where: str
    rate: int
    channels: int
    samples: int

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`, float64 (channels, stop - start).

        Raises:
            DataError: they cannot be read, or one of them is not finite.
        """


class FileStem(Stem):
    """A stem in an audio file, of any format that libsndfile reads.

    Args:
        path: of the file.

    Raises:
        DataError: it is missing, empty or no audio.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            header = soundfile.info(self.where)
        except (OSError, soundfile.SoundFileError) as error:
            raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
        if not header.frames:
            raise DataError(f"{path}: no samples")
        self.rate, self.channels, self.samples = header.samplerate, header.channels, header.frames

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`, float64 (channels, stop - start)."""
        try:
            audio, _ = soundfile.read(self.where, stop - start, start, always_2d=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise DataError(f"{self.where}: cannot be read: {_reason(error)}") from error
        if len(audio) < stop - start:
            raise DataError(f"{self.where}: ends at sample {start + len(audio)}, damaged")
        return _finite(audio.T, self.where, start)


class ArrayStem(Stem):
    """A stem in memory.

    Args:
        audio: (channels, samples).
        rate: in Hz.
        where: what messages call it.
    """

    def __init__(self, audio: np.ndarray, rate: int, where: str) -> None:
        self.where, self.rate, self.audio = where, rate, audio
        self.channels, self.samples = audio.shape

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`, float64 (channels, stop - start)."""
        return _finite(self.audio[:, start:stop].astype(np.float64), self.where, start)


class SumStem(Stem):
    """The sum of stems that are alike in rate, channels and, nearly, in length.

    Args:
        stems: at least one; the shortest sets the length.
        where: what messages call it.
    """

    def __init__(self, stems: Sequence[Stem], where: str) -> None:
        self.where, self.stems = where, list(stems)
        self.rate, self.channels = stems[0].rate, stems[0].channels
        self.samples = min(stem.samples for stem in stems)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`, float64 (channels, stop - start)."""
        return np.sum([stem.read(start, stop) for stem in self.stems], axis=0)


def _finite(audio: np.ndarray, where: str, start: int) -> np.ndarray:
    if not np.isfinite(audio).all():
        first = start + int(np.argmin(np.isfinite(audio).all(0)))
        raise DataError(f"{where}: sample {first} is not finite (NaN or infinite)")
    return audio


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path that it repeats."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
