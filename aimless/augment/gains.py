"""Effects that only scale and mix the channels of a stem; neighbours become one pass."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from aimless.augment.base import DeviceEffect
from aimless.augment.lazy import Curve, LazyStems
from aimless.draws import Range, Ranges, require

__all__ = ["FlipPhase", "Gain", "Pan", "StereoWidener", "SwapLR", "VolumeAutomation"]


class _Matrix(DeviceEffect):
    """Base of the effects that multiply the channels by a matrix, drawn by one number."""

    stereo_only = False

    def numbers(self, samples: int) -> int:
        """One."""
        return 1

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """Give each chosen stem its matrix."""
        if stems.channels == 2 or not self.stereo_only:
            stems.gain(chosen, [self.matrix(u, stems.channels) for u in uniform[:, 0]])

    def matrix(self, uniform: np.float64, channels: int) -> NDArray[np.float64]:
        """The matrix (channels, channels) from old to new channels."""
        raise NotImplementedError


class Gain(_Matrix):
    """Multiply a stem by a linear gain, drawn uniformly between `low` and `high`.

    Args:
        low: smallest gain, 0 or more.
        high: largest gain, at least `low`.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, low: float = 0.25, high: float = 1.25, p: float = 1.0) -> None:
        super().__init__(p)
        require(self, "low", low, 0)
        require(self, "high", high, low)
        self.range = Range(low, high)

    def matrix(self, uniform: np.float64, channels: int) -> NDArray[np.float64]:
        """One factor."""
        return self.range.at(np.asarray(uniform)) * np.eye(channels)


class FlipPhase(_Matrix):
    """Negate a stem: the mixture's phases change, what the stem sounds like does not.

    Args:
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def matrix(self, uniform: np.float64, channels: int) -> NDArray[np.float64]:
        """Minus one."""
        return -np.eye(channels)


class SwapLR(_Matrix):
    """Swap left and right of a stem; with more channels, reverse their order.

    Mono stems stay as they are.

    Args:
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """Reverse the channels, where there are several."""
        if stems.channels > 1:
            super().change(stems, chosen, uniform)

    def matrix(self, uniform: np.float64, channels: int) -> NDArray[np.float64]:
        """The matrix that reverses the channels."""
        return np.eye(channels)[::-1]


class StereoWidener(_Matrix):
    """Scale the middle of a stereo stem by 2 (1 - width) and its side by 2 width.

    With middle (left + right) / 2 and side (left - right) / 2, a width of 0 is mono, 0.5 changes
    nothing and 1 leaves the side alone. Stems that are not stereo stay as they are.

    Args:
        min_width: smallest width, from 0 to 1.
        max_width: largest width; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    stereo_only = True

    def __init__(self, min_width: float = 0.0, max_width: float = 1.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.range = Range(min_width, max_width, 0, 1)
        Ranges(self, width=self.range)

    def matrix(self, uniform: np.float64, channels: int) -> NDArray[np.float64]:
        """From left and right to middle and side and back: 1 - w + w, 1 - w - w."""
        width = float(self.range.at(np.asarray(uniform)))
        return np.array([[1, 1 - 2 * width], [1 - 2 * width, 1]])


class Pan(_Matrix):
    """Pan a stereo stem with constant power.

    The gains are (cos t - sin t) / sqrt(2) on the left and (cos t + sin t) / sqrt(2) on the
    right with t = pan pi / 4: 1 on one side and 0 on the other at the ends, 0.707 on both in
    the middle. Stems that are not stereo stay as they are.

    Args:
        min_pan: -1 is left.
        max_pan: 1 is right; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    stereo_only = True

    def __init__(self, min_pan: float = -1.0, max_pan: float = 1.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.range = Range(min_pan, max_pan, -1, 1)
        Ranges(self, pan=self.range)

    def matrix(self, uniform: np.float64, channels: int) -> NDArray[np.float64]:
        """One factor per side."""
        angle = float(self.range.at(np.asarray(uniform))) * math.pi / 4
        # the same as above, without cancellation at the ends
        return np.diag([math.cos(math.pi / 4 + angle), math.cos(math.pi / 4 - angle)])


class VolumeAutomation(DeviceEffect):
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

    Shape:
        stems (batch, sources, channels, samples) -> the same.

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
        self.range = Range(min_volume_automation_db, max_volume_automation_db, -120, 40)
        Ranges(self, volume_automation_db=self.range)
        self.shortest = min_segment_seconds * sample_rate

    def numbers(self, samples: int) -> int:
        """The number of lines, their lengths, the levels where they meet."""
        return 2 + 2 * self._most_lines(samples)

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """One curve per stem for all channels."""
        curves = [self.curve(u, stems.samples) for u in uniform]
        stems.gain(chosen, [None] * len(chosen), curves)

    def curve(self, uniform: NDArray[np.float64], samples: int) -> Curve:
        """The curve that uniform numbers (`numbers`) stand for."""
        most = self._most_lines(samples)
        lines = 1 + int(uniform[0] * most)
        # exponential variables over their sum are uniform on the simplex
        shares = -np.log1p(-uniform[1 : 1 + lines])
        spare = max(0.0, samples - lines * self.shortest)
        lengths = shares / max(shares.sum(), 1e-300) * spare + min(self.shortest, samples / lines)
        ends = np.round(np.cumsum([0, *lengths])).astype(np.int64)
        return Curve(ends, self.range.at(uniform[1 + most : 2 + most + lines]))

    def _most_lines(self, samples: int) -> int:
        return max(1, int(samples / self.shortest))
