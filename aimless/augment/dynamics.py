"""Compressor and limiter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aimless.augment.base import DeviceEffect
from aimless.augment.envelope import follow
from aimless.augment.lazy import LazyStems, on_device
from aimless.draws import Range, Ranges, require

__all__ = ["Compressor", "Limiter"]

# The first stage of the limiter, a gentle compressor whatever the settings.
_FIRST_THRESHOLD_DB, _FIRST_RATIO, _FIRST_ATTACK_MS, _FIRST_RELEASE_MS = -10.0, 4.0, 2.0, 200.0
_SECOND_RATIO, _SECOND_ATTACK_MS = 1000.0, 0.001
_MS = 1000  # per second

# A coefficient below which an attack is over within a sample.
_INSTANT = 1e-6


class Compressor(DeviceEffect):
    """Compress the dynamics of a stem, each channel by itself.

    A peak envelope with attack and release, and a gain of (envelope / threshold)^(1 / ratio - 1)
    above the threshold.

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

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
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
        require(self, "sample_rate", sample_rate, 1)
        self.sample_rate = sample_rate
        self.ranges = Ranges(
            self,
            threshold_db=Range(min_threshold_db, max_threshold_db, -120, 20),
            ratio=Range(min_ratio, max_ratio, 1),
            attack_ms=Range(min_attack_ms, max_attack_ms, 0, 10000),
            release_ms=Range(min_release_ms, max_release_ms, 0, 10000),
        )

    def numbers(self, samples: int) -> int:
        """One for each parameter."""
        return len(self.ranges)

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """A compressor for each chosen stem."""
        drawn = self.ranges.at(uniform)
        stems.replace(chosen, lambda x: compressed(x, self.sample_rate, **drawn))


class Limiter(DeviceEffect):
    """Limit the peaks of a stem, each channel by itself, and bring it back to full scale.

    A compressor of ratio 4 above -10 dB, then one of ratio 1000 above the threshold with
    instant attack, make-up gain, and clipping at full scale.

    Args:
        sample_rate: in Hz.
        min_threshold_db: lowest threshold in dB of full scale.
        max_threshold_db: highest threshold; both parameters are drawn uniformly.
        min_release_ms: shortest release of the second stage in ms.
        max_release_ms: longest release.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
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
        require(self, "sample_rate", sample_rate, 1)
        self.sample_rate = sample_rate
        self.ranges = Ranges(
            self,
            threshold_db=Range(min_threshold_db, max_threshold_db, -120, 20),
            release_ms=Range(min_release_ms, max_release_ms, 0, 10000),
        )

    def numbers(self, samples: int) -> int:
        """One for each parameter."""
        return len(self.ranges)

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """A limiter for each chosen stem."""
        drawn = self.ranges.at(uniform)
        stems.replace(chosen, lambda x: self._limit(x, drawn["threshold_db"], drawn["release_ms"]))

    def _limit(
        self, x: Tensor, threshold_db: NDArray[np.float64], release_ms: NDArray[np.float64]
    ) -> Tensor:
        def every(value: float) -> NDArray[np.float64]:
            return np.full(len(x), value)

        first = compressed(
            x,
            self.sample_rate,
            every(_FIRST_THRESHOLD_DB),
            every(_FIRST_RATIO),
            every(_FIRST_ATTACK_MS),
            every(_FIRST_RELEASE_MS),
        )
        second = compressed(
            first,
            self.sample_rate,
            threshold_db,
            every(_SECOND_RATIO),
            every(_SECOND_ATTACK_MS),
            release_ms,
        )
        # Half of what the first stage takes from a peak at full scale, and the threshold.
        makeup_db = -_FIRST_THRESHOLD_DB * (1 - 1 / _FIRST_RATIO) / 2 - threshold_db
        return (second * on_device(10 ** (makeup_db / 20), x)[:, None, None]).clamp(-1, 1)


def compressed(
    x: Tensor,
    rate: int,
    threshold_db: NDArray[np.float64],
    ratio: NDArray[np.float64],
    attack_ms: NDArray[np.float64],
    release_ms: NDArray[np.float64],
) -> Tensor:
    """Stems (stems, channels, samples) through compressors, settings (stems) of each."""
    channels = x.shape[1]

    def each(values: NDArray[np.float64]) -> Tensor:
        """One per signal, (stems * channels, 1)."""
        return on_device(np.repeat(values, channels)[:, None], x)

    attack, release = _smoothing(attack_ms, rate), _smoothing(release_ms, rate)
    instant = bool((attack < _INSTANT).all())
    envelope = follow(x.abs().flatten(0, 1), each(attack), each(release), instant)
    excess = (envelope * each(10 ** (-threshold_db / 20))).clamp(min=1)
    return x * excess.pow(each(1 / ratio - 1)).view_as(x)


def _smoothing(time_ms: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Coefficients of envelopes whose times are 2 pi time constants."""
    return np.where(time_ms > 0, np.exp(-2 * np.pi * _MS / (np.maximum(time_ms, 1e-9) * rate)), 0.0)
