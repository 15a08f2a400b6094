"""Compare synthetic songs with a recorded one: spectra, loudness, peaks, overlap of stems.

PYTHONPATH=scripts python -m synthetic.likeness data/synthetic/test --picture likeness.png
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.loudness import integrated_loudness

__all__ = ["Likeness", "bands", "measure"]

Audio = NDArray[np.float32]

_FFT, _HOP = 2048, 1024
_FLOOR = 1e-10
_HEARD = 10 ** (-60 / 10)  # power of a frame against the mixture's mean, from which it sounds
_BANDS_PER_OCTAVE = 3
_LOWEST, _HIGHEST = 40.0, 16000.0  # Hz


class Likeness(NamedTuple):
    """What is measured of a song.

    Attributes:
        spectra: stem -> power in dB per third of an octave, against its sum.
        loudness: stem -> LUFS against the mixture.
        crest: stem -> peak over RMS in dB, the mixture's too.
        active: stem -> share of frames in which it sounds.
        centroid: stem -> centre of the power spectrum in Hz.
        together: mean number of stems that sound in a frame.
        overlap: share of the mixture's energy in cells of time and frequency where the loudest
            stem has less than 90 % of the energy.
    """

    spectra: dict[str, NDArray[np.float64]]
    loudness: dict[str, float]
    crest: dict[str, float]
    active: dict[str, float]
    centroid: dict[str, float]
    together: float
    overlap: float


def bands() -> NDArray[np.float64]:
    """Centres of the thirds of octaves, in Hz."""
    count = round(math.log2(_HIGHEST / _LOWEST) * _BANDS_PER_OCTAVE)
    return _LOWEST * 2 ** (np.arange(count + 1) / _BANDS_PER_OCTAVE)


def measure(stems: Mapping[str, Audio], rate: int) -> Likeness:
    """Measure a song.

    Args:
        stems: (2, frames) each.
        rate: in Hz.
    """
    mixture = np.sum(list(stems.values()), axis=0)
    power = {name: _power(stem) for name, stem in stems.items()}
    energy = {name: cells.sum(0) for name, cells in power.items()}
    heard = sum(energy.values(), np.zeros(1)).mean() * _HEARD
    loud = integrated_loudness(mixture, rate)
    sounding = {name: frames > heard for name, frames in energy.items()}
    cells = np.stack(list(power.values()))
    shared = cells.max(0) < 0.9 * cells.sum(0)
    frequency = np.fft.rfftfreq(_FFT, 1 / rate)
    return Likeness(
        {name: _thirds(cells.sum(1), frequency) for name, cells in power.items()},
        {name: integrated_loudness(stem, rate) - loud for name, stem in stems.items()},
        {name: _crest(signal) for name, signal in {**stems, "mixture": mixture}.items()},
        {name: float(frames.mean()) for name, frames in sounding.items()},
        {name: float(frequency @ cells.sum(1) / cells.sum()) for name, cells in power.items()},
        float(np.sum(list(sounding.values()), axis=0).mean()),
        float(cells.sum(0)[shared].sum() / cells.sum()),
    )


def _power(stem: Audio) -> NDArray[Any]:
    """Power spectrogram (bins, frames) of (2, samples), both channels added."""
    window = np.hanning(_FFT).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(stem, _FFT, axis=1)[:, ::_HOP]
    return (np.abs(np.fft.rfft(frames * window)) ** 2).sum(0).T


def _thirds(spectrum: NDArray[Any], frequency: NDArray[Any]) -> NDArray[np.float64]:
    """The power of a bin is spread over its width: the lowest bands are narrower than one."""
    half = 2 ** (0.5 / _BANDS_PER_OCTAVE)
    up_to, below = frequency + frequency[1] / 2, np.cumsum(spectrum)
    sums = np.interp(bands() * half, up_to, below) - np.interp(bands() / half, up_to, below)
    return 10 * np.log10(np.maximum(sums / max(spectrum.sum(), _FLOOR), _FLOOR))


def _crest(signal: Audio) -> float:
    rms = math.sqrt(float(np.mean(signal.astype(np.float64) ** 2)))
    return 20 * math.log10(max(float(np.abs(signal).max()), _FLOOR) / max(rms, _FLOOR))
