"""Echo."""

from __future__ import annotations

import logging

import numpy as np

from aimless.draws import Range, Ranges
from data.augment.base import Audio, CPUBase, require

__all__ = ["RandomPedalboardDelay"]

logger = logging.getLogger(__name__)


class RandomPedalboardDelay(CPUBase):
    """Add a decaying series of echoes to a stem, as `pedalboard.Delay` does.

    Args:
        sample_rate: in Hz.
        min_delay_seconds: shortest time between echoes.
        max_delay_seconds: longest time; log-uniform between the two.
        min_feedback: smallest ratio of an echo to the one before, from 0 to below 1.
        max_feedback: largest ratio; drawn uniformly between the two.
        min_mix: least part of echoes in the result, from 0 to 1.
        max_mix: largest part; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.
        max_delay_sconds: old spelling of `max_delay_seconds`.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_delay_seconds: float = 0.1,
        max_delay_seconds: float = 1.0,
        min_feedback: float = 0.05,
        max_feedback: float = 0.6,
        min_mix: float = 0.0,
        max_mix: float = 0.7,
        p: float = 1.0,
        max_delay_sconds: float | None = None,
    ) -> None:
        super().__init__(p)
        require(self, "sample_rate", sample_rate, 1)
        if max_delay_sconds is not None:
            logger.warning("%s.max_delay_sconds is now max_delay_seconds", type(self).__name__)
            max_delay_seconds = max_delay_sconds
        self.sample_rate = sample_rate
        shortest = 1 / sample_rate
        self.ranges = Ranges(
            self,
            delay_seconds=Range(min_delay_seconds, max_delay_seconds, shortest, log=True),
            feedback=Range(min_feedback, max_feedback, 0, 0.999),
            mix=Range(min_mix, max_mix, 0, 1),
        )

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem with drawn echoes."""
        drawn = self.ranges.draw(rng)
        feedback, mix = np.float32(drawn["feedback"]), np.float32(drawn["mix"])
        delay = max(1, int(drawn["delay_seconds"] * self.sample_rate))
        echoes = np.zeros_like(stem)
        for begin in range(delay, stem.shape[1], delay):
            # An echo repeats what was heard a delay ago, itself an echo or not.
            size = min(delay, stem.shape[1] - begin)
            past = slice(begin - delay, begin - delay + size)
            np.multiply(echoes[:, past], feedback, out=echoes[:, begin : begin + size])
            echoes[:, begin : begin + size] += stem[:, past]
        echoes *= mix
        echoes += stem * (1 - mix)
        return echoes
