"""Random numbers as a function of where they are used, and the ranges that effects draw from.

A draw depends on its key, for instance (seed, epoch, index), and on nothing else: not on the
number of workers or processes, not on what was drawn before, not on a library's global
state. A run that is killed and resumed therefore draws what it would have drawn.
"""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aimless.errors import ConfigError

__all__ = ["Range", "Ranges", "generator", "require"]


def generator(*key: int | str) -> np.random.Generator:
    """A generator of its own for a key of non-negative integers and words.

    Words keep streams apart that share numbers: `generator("order", seed, epoch)` and
    `generator("segment", seed, epoch)` are independent. Philox is a counter-based generator,
    so that making one for each item costs microseconds (Salmon et al., 2011).

    >>> generator("segment", 1, 2).integers(100) == generator("segment", 1, 2).integers(100)
    np.True_
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key]
    # SeedSequence ignores zeros at the end; the length tells (1,) from (1, 0)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([len(words), *words])))


def require(
    effect: object, name: str, value: float, low: float = -math.inf, high: float = math.inf
) -> None:
    """Check an argument of an effect.

    Raises:
        ConfigError: the value is no finite number between `low` and `high`, both included.
    """
    if not (math.isfinite(value) and low <= value <= high):
        key = f"{type(effect).__name__}.{name}"
        raise ConfigError(f"{key}: {value} is not a finite number from {low:g} to {high:g}")


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
        return float(self.at(np.asarray(rng.random())))

    def at(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values that uniform numbers from 0 to 1 stand for, of the same shape."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            # exp may round beyond the ends
            return np.clip(np.exp(low + (high - low) * uniform), self.low, self.high)
        return self.low + (self.high - self.low) * uniform


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

    def __len__(self) -> int:
        """Number of parameters."""
        return len(self._ranges)

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """A value of each parameter, drawn in the order of the ranges."""
        return {name: limits.draw(rng) for name, limits in self._ranges.items()}

    def at(self, uniform: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The values that uniform numbers (..., parameters) stand for, (...) of each parameter."""
        columns = np.moveaxis(uniform, -1, 0)
        return {name: limits.at(u) for (name, limits), u in zip(self._ranges.items(), columns)}
