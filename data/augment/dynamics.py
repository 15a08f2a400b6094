"""Compressor and limiter for single stems."""

from __future__ import annotations

import math

import numpy as np

from aimless.draws import Range, Ranges
from data.augment.base import Audio, CPUBase, require, require_package

__all__ = ["RandomPedalboardCompressor", "RandomPedalboardLimiter"]

# The first stage of the limiter, a gentle compressor whatever the settings.
_FIRST_THRESHOLD_DB, _FIRST_RATIO, _FIRST_ATTACK_MS, _FIRST_RELEASE_MS = -10.0, 4.0, 2.0, 200.0
_SECOND_RATIO, _SECOND_ATTACK_MS = 1000.0, 0.001


class RandomPedalboardCompressor(CPUBase):
    """Compress the dynamics of a stem, each channel by itself.

    Equals `pedalboard.Compressor` (JUCE), which is not needed: a peak envelope with attack and
    release, and a gain of (envelope / threshold)^(1 / ratio - 1) above the threshold.

    Args:
        sample_rate: in Hz.
        min_threshold_db: lowest threshold in dB of full scale.
        max_threshold_db: highest threshold; all parameters are drawn uniformly.
        min_ratio: smallest ratio, at least 1.
        max_ratio: largest ratio.
        min_attack_ms: shortest time in which the envelope rises by 99.8 %, in ms.
        max_attack_ms: longest attack.
        min_release_ms: shortest time in which it falls by as much, in ms.
        max_release_ms: longest release.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or numba is not installed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_threshold_db: float = -42.0,
        max_threshold_db: float = -6.0,
        min_ratio: float = 1.5,
        max_ratio: float = 4.0,
        min_attack_ms: float = 1.0,
        max_attack_ms: float = 50.0,
        min_release_ms: float = 10.0,
        max_release_ms: float = 250.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require_package(self, "numba", "train")
        require(self, "sample_rate", sample_rate, 1)
        self.sample_rate = sample_rate
        self.ranges = Ranges(
            self,
            threshold_db=Range(min_threshold_db, max_threshold_db, -120, 20),
            ratio=Range(min_ratio, max_ratio, 1),
            attack_ms=Range(min_attack_ms, max_attack_ms, 0, 10000),
            release_ms=Range(min_release_ms, max_release_ms, 0, 10000),
        )

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem through a drawn compressor."""
        return _compressed(stem, self.sample_rate, **self.ranges.draw(rng))


class RandomPedalboardLimiter(CPUBase):
    """Limit the peaks of a stem, each channel by itself, and bring it back to full scale.

    Equals `pedalboard.Limiter` (JUCE), which is not needed: a compressor of ratio 4 above
    -10 dB, then one of ratio 1000 above the threshold with instant attack, make-up gain, and
    clipping at full scale.

    Args:
        sample_rate: in Hz.
        min_threshold_db: lowest threshold in dB of full scale.
        max_threshold_db: highest threshold; both parameters are drawn uniformly.
        min_release_ms: shortest release of the second stage in ms.
        max_release_ms: longest release.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or numba is not installed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_threshold_db: float = -32.0,
        max_threshold_db: float = -6.0,
        min_release_ms: float = 10.0,
        max_release_ms: float = 300.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require_package(self, "numba", "train")
        require(self, "sample_rate", sample_rate, 1)
        self.sample_rate = sample_rate
        self.ranges = Ranges(
            self,
            threshold_db=Range(min_threshold_db, max_threshold_db, -120, 20),
            release_ms=Range(min_release_ms, max_release_ms, 0, 10000),
        )

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem through a drawn limiter."""
        drawn = self.ranges.draw(rng)
        first = _compressed(
            stem,
            self.sample_rate,
            _FIRST_THRESHOLD_DB,
            _FIRST_RATIO,
            _FIRST_ATTACK_MS,
            _FIRST_RELEASE_MS,
        )
        # Half of what the first stage takes from a peak at full scale, and the threshold.
        makeup_db = -_FIRST_THRESHOLD_DB * (1 - 1 / _FIRST_RATIO) / 2 - drawn["threshold_db"]
        second = _compressed(
            first,
            self.sample_rate,
            drawn["threshold_db"],
            _SECOND_RATIO,
            _SECOND_ATTACK_MS,
            drawn["release_ms"],
            makeup_db,
        )
        return np.clip(second, -1, 1, out=second)


def _compressed(
    stem: Audio,
    rate: int,
    threshold_db: float,
    ratio: float,
    attack_ms: float,
    release_ms: float,
    makeup_db: float = 0.0,
) -> Audio:
    """A new array (channels, samples)."""
    from data.kernels.lanes import compress

    return compress(
        stem,
        threshold=10 ** (threshold_db / 20),
        slope=1 / ratio - 1,
        attack=_smoothing(attack_ms, rate),
        release=_smoothing(release_ms, rate),
        makeup=10 ** (makeup_db / 20),
    )


def _smoothing(time_ms: float, rate: int) -> float:
    """Coefficient of an envelope whose time is 2 pi time constants."""
    return math.exp(-2 * math.pi * 1000 / (time_ms * rate)) if time_ms > 0 else 0.0
