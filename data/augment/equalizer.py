"""Parametric equaliser."""

from __future__ import annotations

import math

import numpy as np

from aimless.draws import Range, Ranges
from aimless.errors import ConfigError
from data.augment.base import Audio, CPUBase, require, require_package

__all__ = ["RandomParametricEQ", "peaking", "shelf"]

# Frequencies of the shelves in Hz.
_LOW_SHELF = (20.0, 200.0)
_HIGH_SHELF = (8000.0, 16000.0)

# No frequency is drawn above this part of the sample rate.
_HIGHEST = 0.45


class RandomParametricEQ(CPUBase):
    """A low shelf, some peaking bands and a high shelf, all drawn anew for each stem.

    The shelves lie at 20 to 200 Hz and 8 to 16 kHz, log-uniformly. Frequencies end at 45 % of
    the sample rate.

    Args:
        sample_rate: in Hz.
        num_bands: number of peaking bands.
        min_gain_db: lowest gain of a band or shelf in dB.
        max_gain_db: highest gain; drawn uniformly between the two.
        min_cutoff_freq: lowest centre of a band in Hz.
        max_cutoff_freq: highest centre; log-uniform between the two.
        min_q_factor: lowest quality of a band or shelf, greater than 0.
        max_q_factor: highest quality; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or numba is not installed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        num_bands: int = 3,
        min_gain_db: float = -6.0,
        max_gain_db: float = 6.0,
        min_cutoff_freq: float = 1000.0,
        max_cutoff_freq: float = 10000.0,
        min_q_factor: float = 0.1,
        max_q_factor: float = 4.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require_package(self, "numba", "train")
        require(self, "sample_rate", sample_rate, 100)
        if num_bands < 0 or num_bands != int(num_bands):
            name = type(self).__name__
            raise ConfigError(f"{name}.num_bands: {num_bands} is not a whole number from 0 on")
        self.sample_rate = sample_rate
        self.num_bands = num_bands
        self.ranges = Ranges(
            self,
            gain_db=Range(min_gain_db, max_gain_db, -60, 60),
            q_factor=Range(min_q_factor, max_q_factor, 0.01, 100),
            cutoff_freq=Range(min_cutoff_freq, max_cutoff_freq, 1, log=True),
        )

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem through a drawn equaliser."""
        from data.kernels.lanes import biquads

        return biquads(stem, self.draw(rng))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw an equaliser: (sections, 5), each b0, b1, b2, a1, a2 for a0 = 1."""
        sections = []
        for number in range(self.num_bands + 2):
            drawn = self.ranges.draw(rng)
            gain_db, quality = drawn["gain_db"], drawn["q_factor"]
            if 0 < number <= self.num_bands:
                sections.append(peaking(self._angle(drawn["cutoff_freq"]), gain_db, quality))
            else:
                high = number > 0
                limits = _HIGH_SHELF if high else _LOW_SHELF
                angle = self._angle(Range(*limits, log=True).draw(rng))
                sections.append(shelf(angle, gain_db, quality, high))
        return np.array(sections)

    def _angle(self, frequency: float) -> float:
        """Radians per sample."""
        return 2 * math.pi * min(frequency / self.sample_rate, _HIGHEST)


def peaking(angle: float, gain_db: float, quality: float) -> list[float]:
    """Second-order section that has its gain at one frequency, 0 dB far from it.

    Formulas of this and of `shelf`: Robert Bristow-Johnson, "Cookbook formulae for audio
    equalizer biquad filter coefficients".

    Args:
        angle: centre in radians per sample.
        gain_db: gain there in dB.
        quality: centre over width.

    Returns:
        b0, b1, b2, a1, a2 for a0 = 1.
    """
    amplitude = 10 ** (gain_db / 40)
    alpha = math.sin(angle) / (2 * quality)
    middle = -2 * math.cos(angle)
    numerator = (1 + alpha * amplitude, middle, 1 - alpha * amplitude)
    denominator = (1 + alpha / amplitude, middle, 1 - alpha / amplitude)
    return _normalised(numerator, denominator)


def shelf(angle: float, gain_db: float, quality: float, high: bool) -> list[float]:
    """Second-order section that has its gain above (`high`) or below a frequency.

    The two are mirror images: cos and the odd coefficients change sign. Arguments and result
    as in `peaking`.
    """
    amplitude = 10 ** (gain_db / 40)
    slope = 2 * math.sqrt(amplitude) * math.sin(angle) / (2 * quality)
    sign = -1 if high else 1
    cosine = sign * math.cos(angle)
    up, down = amplitude + 1, amplitude - 1
    numerator = (
        amplitude * (up - down * cosine + slope),
        sign * 2 * amplitude * (down - up * cosine),
        amplitude * (up - down * cosine - slope),
    )
    denominator = (
        up + down * cosine + slope,
        sign * -2 * (down + up * cosine),
        up + down * cosine - slope,
    )
    return _normalised(numerator, denominator)


def _normalised(b: tuple[float, ...], a: tuple[float, ...]) -> list[float]:
    return [value / a[0] for value in (*b, *a[1:])]
