"""Place and width in the stereo image."""

from __future__ import annotations

import math

import numpy as np

from aimless.draws import Range, Ranges
from data.augment.base import CPUBase, Gain, GainEffect, Mix

__all__ = ["Mono2Stereo", "RandomPan", "RandomStereoWidener", "RandomSwapLR"]


class RandomSwapLR(GainEffect):
    """Swap left and right of a stem; with more channels, reverse their order.

    Mono stems stay as they are.

    Args:
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def gain(self, channels: int, samples: int, rng: np.random.Generator) -> Gain | None:
        """The matrix that reverses the channels."""
        return Gain(np.eye(channels)[::-1]) if channels > 1 else None


class RandomStereoWidener(GainEffect):
    """Scale the middle of a stereo stem by 2 (1 - width) and its side by 2 width.

    With middle (left + right) / 2 and side (left - right) / 2, a width of 0 is mono, 0.5 changes
    nothing and 1 leaves the side alone. Stems that are not stereo stay as they are.

    Args:
        min_width: smallest width, from 0 to 1.
        max_width: largest width; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, min_width: float = 0.0, max_width: float = 1.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.ranges = Ranges(self, width=Range(min_width, max_width, 0, 1))

    def gain(self, channels: int, samples: int, rng: np.random.Generator) -> Gain | None:
        """The matrix from left and right to middle and side and back."""
        width = self.ranges.draw(rng)["width"]
        if channels != 2:
            return None
        to_middle_side = np.array([[0.5, 0.5], [0.5, -0.5]])
        scale = np.diag([2 * (1 - width), 2 * width])
        return Gain(np.array([[1.0, 1.0], [1.0, -1.0]]) @ scale @ to_middle_side)


class RandomPan(GainEffect):
    """Pan a stereo stem with constant power.

    The gains are (cos t - sin t) / sqrt(2) on the left and (cos t + sin t) / sqrt(2) on the
    right with t = pan pi / 4: 1 on one side and 0 on the other at the ends, 0.707 on both in
    the middle. Stems that are not stereo stay as they are.

    Args:
        min_pan: -1 is left.
        max_pan: 1 is right; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, min_pan: float = -1.0, max_pan: float = 1.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.ranges = Ranges(self, pan=Range(min_pan, max_pan, -1, 1))

    def gain(self, channels: int, samples: int, rng: np.random.Generator) -> Gain | None:
        """One factor per side."""
        angle = self.ranges.draw(rng)["pan"] * math.pi / 4
        if channels != 2:
            return None
        left, right = math.cos(angle) - math.sin(angle), math.cos(angle) + math.sin(angle)
        return Gain(math.sqrt(0.5) * np.diag([left, right]))


class Mono2Stereo(CPUBase):
    """Give mono stems a second, equal channel; other stems stay as they are.

    All stems of an item have the same channels, so this one has no probability.
    """

    def __init__(self) -> None:
        super().__init__()

    def apply(self, mix: Mix, rng: np.random.Generator) -> None:
        """Repeat the channel."""
        if mix.shape[1] == 1:
            mix.replace_all(np.repeat(mix.stems, 2, axis=1))

    def channels_after(self, channels: int) -> int:
        """Two after one."""
        return max(channels, 2)
