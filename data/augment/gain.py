"""Level and polarity."""

from __future__ import annotations

import numpy as np

from data.augment.base import Gain, GainEffect, require

__all__ = ["RandomFlipPhase", "RandomGain"]


class RandomGain(GainEffect):
    """Multiply a stem by a linear gain, drawn uniformly between `low` and `high`.

    Args:
        low: smallest gain, 0 or more.
        high: largest gain, at least `low`.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, low: float = 0.25, high: float = 1.25, p: float = 1.0) -> None:
        super().__init__(p)
        require(self, "low", low, 0)
        require(self, "high", high, low)
        self.low = low
        self.high = high

    def gain(self, channels: int, samples: int, rng: np.random.Generator) -> Gain:
        """One factor."""
        return Gain(float(rng.uniform(self.low, self.high)))


class RandomFlipPhase(GainEffect):
    """Negate a stem: the mixture's phases change, what the stem sounds like does not.

    Args:
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def gain(self, channels: int, samples: int, rng: np.random.Generator) -> Gain:
        """Minus one."""
        return Gain(-1.0)
