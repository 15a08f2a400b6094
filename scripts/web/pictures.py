"""What a stem looks like: its outline, and its spectrogram as a picture without axes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

__all__ = ["FLOOR_DB", "LOWEST", "Outline", "spectrogram", "spectrogram_png"]

FLOOR_DB = -80.0
#: Frequency at the lower edge of a spectrogram, in Hz.
LOWEST = 40.0
_WINDOW, _ROWS, _MOST_COLUMNS = 4096, 192, 1200
#: The Hann window, so that a sine of amplitude 1 has a peak of 1.
_HANN = (np.hanning(_WINDOW + 1)[:-1] / (_WINDOW / 4)).astype(np.float32)
#: Colours from the floor up to the loudest: dark violet, red, orange, light yellow.
_COLOURS = np.array(
    [(9, 6, 32), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)]
)


class Outline:
    """Smallest and largest sample of each of a number of equal parts, gathered block by block.

    Args:
        frames: of the whole.
        columns: number of parts.
    """

    def __init__(self, frames: int, columns: int = 1000) -> None:
        self.columns = min(columns, frames)
        self._frames, self._done = frames, 0
        self.low = np.zeros(self.columns, np.float32)
        self.high = np.zeros(self.columns, np.float32)

    def add(self, block: NDArray[np.float32]) -> None:
        """The next frames (n, channels)."""
        first, last = (
            frame * self.columns // self._frames
            for frame in (self._done, min(self._done + len(block), self._frames) - 1)
        )
        parts = np.arange(first, last + 1)
        edges = -(-parts * self._frames // self.columns)  # the first frame of each part
        starts = np.maximum(edges - self._done, 0) * block.shape[1]
        samples = block.reshape(-1)
        low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
        self.low[parts] = np.minimum(self.low[parts], low)
        self.high[parts] = np.maximum(self.high[parts], high)
        self._done += len(block)

    def rounded(self) -> list[list[float]]:
        """(low, high) of each part, short enough to send."""
        return [self.low.round(3).tolist(), self.high.round(3).tolist()]


def spectrogram(path: Path) -> NDArray[np.float64]:
    """Power in dB on logarithmic frequencies, as few columns as a picture needs.

    The file is read at the columns only, so that a long song takes as long as a short one.

    Args:
        path: WAV file.

    Returns:
        (rows, columns), the highest frequency first; each row is the loudest bin of its band, or
        the nearest where bands are narrower than bins.
    """
    with soundfile.SoundFile(path) as file:
        columns = int(np.clip(file.frames // (_WINDOW // 4), 1, _MOST_COLUMNS))
        starts = np.linspace(0, max(file.frames - _WINDOW, 0), columns).astype(int)
        power = np.stack([_column(file, int(start)) for start in starts], axis=1)
        edges = np.geomspace(LOWEST, file.samplerate / 2, _ROWS + 1) * _WINDOW / file.samplerate
    first = np.minimum(np.floor(edges[:-1]).astype(int), len(power) - 1)
    last = np.maximum(np.ceil(edges[1:]).astype(int), first + 1)
    rows = [power[low:high].max(0) for low, high in zip(first, last)]
    return 10 * np.log10(np.maximum(np.stack(rows[::-1]), 1e-20))


def _column(file: soundfile.SoundFile, start: int) -> NDArray[np.float32]:
    """Mean power of the channels in one window; a sine of amplitude 1 has 0 dB."""
    file.seek(start)
    frames = file.read(_WINDOW, dtype="float32", always_2d=True, fill_value=0)
    spectrum = np.fft.rfft(frames.T * _HANN)
    return (spectrum.real**2 + spectrum.imag**2).mean(0)


def spectrogram_png(decibels: NDArray[np.float64], loudest: float) -> bytes:
    """A PNG, one pixel a value, from `FLOOR_DB` below `loudest` up to it."""
    from PIL import Image

    share = np.clip((decibels - loudest) / -FLOOR_DB + 1, 0, 1)
    picture = Image.fromarray(np.round(share * 255).astype(np.uint8), mode="P")
    steps = np.linspace(0, len(_COLOURS) - 1, 256)
    known = np.arange(len(_COLOURS))
    palette = np.stack([np.interp(steps, known, channel) for channel in _COLOURS.T], axis=1)
    picture.putpalette(np.round(palette).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
