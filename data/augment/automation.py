"""A fader that moves during the segment."""

from __future__ import annotations

import numpy as np

from aimless.draws import Range, Ranges
from data.augment.base import Audio, Gain, GainEffect, require

__all__ = ["RandomVolumeAutomation"]


class RandomVolumeAutomation(GainEffect):
    """Move the level of a stem along straight lines in decibels.

    The number of lines is uniform from one to as many as fit, the lengths share what is left
    after the shortest allowed one of each by a flat Dirichlet distribution, and the levels
    where lines meet are uniform. A stem shorter than two lines gets one.

    Args:
        sample_rate: in Hz.
        min_segment_seconds: shortest line, greater than 0.
        min_volume_automation_db: lowest level in dB.
        max_volume_automation_db: highest level in dB.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_segment_seconds: float = 3.0,
        min_volume_automation_db: float = -6.0,
        max_volume_automation_db: float = 6.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require(self, "sample_rate", sample_rate, 1)
        require(self, "min_segment_seconds", min_segment_seconds, 1 / sample_rate)
        level = Range(min_volume_automation_db, max_volume_automation_db, -120, 40)
        self.ranges = Ranges(self, volume_automation_db=level)
        self.shortest = min_segment_seconds * sample_rate

    def gain(self, channels: int, samples: int, rng: np.random.Generator) -> Gain:
        """One curve for all channels."""
        lines = rng.integers(1, max(1, int(samples / self.shortest)) + 1)
        spare = max(0.0, samples - lines * self.shortest)
        lengths = rng.dirichlet(np.ones(lines)) * spare + min(self.shortest, samples / lines)
        ends = np.round(np.cumsum([0, *lengths])).astype(int)
        levels = [self.ranges.draw(rng)["volume_automation_db"] for _ in range(lines + 1)]
        parts = [
            _line(begin, end, count)
            for begin, end, count in zip(levels[:-1], levels[1:], np.diff(ends))
        ]
        return Gain(1.0, np.concatenate(parts))


def _line(begin: float, end: float, count: int) -> Audio:
    """Gain from `begin` dB up to, and without, `end` dB.

    A line in dB is a geometric series, and so the outer product of two short ones.
    """
    step = np.log(10) / 20 * (end - begin) / max(count, 1)
    width = min(512, max(count, 1))
    coarse = np.exp(np.log(10) / 20 * begin + step * width * np.arange(-(-count // width)))
    fine = np.exp(step * np.arange(width))
    curve = np.multiply.outer(coarse.astype(np.float32), fine.astype(np.float32))
    return curve.ravel()[:count]
