"""What an effect draws: each parameter from its own range."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from aimless.errors import ConfigError
from data.augment.base import require

__all__ = ["Range", "Ranges"]


class Range(NamedTuple):
    """Values from `low` to `high`; equal ones give a constant.

    Attributes:
        low: smallest value that is drawn.
        high: largest value.
        at_least: smallest value that makes sense, above 0 if `log`.
        at_most: largest value that makes sense.
        log: uniform in the logarithm, as for frequencies and times.
    """

    low: float
    high: float
    at_least: float = -math.inf
    at_most: float = math.inf
    log: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        if self.log:
            # exp may round beyond the ends
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return min(max(value, self.low), self.high)
        return float(rng.uniform(self.low, self.high))


class Ranges:
    """The ranges of an effect's parameters, checked.

    Args:
        effect: its class is named in errors.
        ranges: by parameter; `Effect.min_<parameter>` and `Effect.max_<parameter>` are what
            the user knows their ends by.

    Raises:
        ConfigError: an end is not a finite number within what makes sense, or the largest
            value is below the smallest.
    """

    def __init__(self, effect: object, **ranges: Range) -> None:
        for name, limits in ranges.items():
            require(effect, f"min_{name}", limits.low, limits.at_least, limits.at_most)
            require(effect, f"max_{name}", limits.high, limits.at_least, limits.at_most)
            if limits.high < limits.low:
                key = f"{type(effect).__name__}.max_{name}"
                raise ConfigError(f"{key}: {limits.high} is below min_{name}: {limits.low}")
        self._ranges = ranges

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """A value of each parameter, drawn in the order of the ranges."""
        return {name: limits.draw(rng) for name, limits in self._ranges.items()}
