"""Chorus and phaser, by way of the package pedalboard."""

from __future__ import annotations

from typing import Any

import numpy as np

from aimless.draws import Range, Ranges
from data.augment.base import Audio, CPUBase, require, require_package

__all__ = ["RandomPedalboardChorus", "RandomPedalboardPhaser"]

# pedalboard takes the longer axis for time; stems with fewer samples are lengthened.
_SHORTEST = 256


class _Modulation(CPUBase):
    """Base of the effects whose plug-in is made by pedalboard from the drawn parameters.

    Args:
        sample_rate: in Hz.
        ranges: of the plug-in's parameters, by their names in pedalboard.
        p: probability per stem, from 0 to 1.
    """

    def __init__(self, sample_rate: int, ranges: dict[str, Range], p: float) -> None:
        super().__init__(p)
        require_package(self, "pedalboard", "pedalboard")
        require(self, "sample_rate", sample_rate, 1)
        self.sample_rate = sample_rate
        self.ranges = Ranges(self, **ranges)

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem through a plug-in with drawn parameters.

        The plug-in is made here since it cannot be sent to a worker process.
        """
        samples = stem.shape[1]
        if samples < _SHORTEST:
            stem = np.pad(stem, ((0, 0), (0, _SHORTEST - samples)))
        plugin = self.plugin(self.ranges.draw(rng))
        return plugin.process(stem, self.sample_rate)[:, :samples]

    def plugin(self, parameters: dict[str, float]) -> Any:
        """An effect of pedalboard."""
        raise NotImplementedError(f"{type(self).__name__} does not override plugin")


class RandomPedalboardChorus(_Modulation):
    """Add a copy of the stem whose delay swings, by `pedalboard.Chorus`.

    Args:
        sample_rate: in Hz.
        min_rate_hz: slowest swing in Hz.
        max_rate_hz: fastest swing; all parameters are drawn uniformly.
        min_depth: smallest depth of the swing, from 0 to 1.
        max_depth: largest depth.
        min_centre_delay_ms: shortest delay around which it swings, in ms.
        max_centre_delay_ms: longest delay.
        min_feedback: smallest feedback, from -1 to 1.
        max_feedback: largest feedback.
        min_mix: smallest part of the copy in the result, from 0 to 1.
        max_mix: largest part.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or pedalboard is not installed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_rate_hz: float = 0.25,
        max_rate_hz: float = 4.0,
        min_depth: float = 0.0,
        max_depth: float = 0.6,
        min_centre_delay_ms: float = 5.0,
        max_centre_delay_ms: float = 10.0,
        min_feedback: float = 0.1,
        max_feedback: float = 0.6,
        min_mix: float = 0.1,
        max_mix: float = 0.7,
        p: float = 1.0,
    ) -> None:
        ranges = {
            "rate_hz": Range(min_rate_hz, max_rate_hz, 0, 99),
            "depth": Range(min_depth, max_depth, 0, 1),
            "centre_delay_ms": Range(min_centre_delay_ms, max_centre_delay_ms, 1, 100),
            "feedback": Range(min_feedback, max_feedback, -0.99, 0.99),
            "mix": Range(min_mix, max_mix, 0, 1),
        }
        super().__init__(sample_rate, ranges, p)

    def plugin(self, parameters: dict[str, float]) -> Any:
        """A chorus."""
        import pedalboard

        return pedalboard.Chorus(**parameters)


class RandomPedalboardPhaser(_Modulation):
    """Add a copy of the stem through all-pass filters that swing, by `pedalboard.Phaser`.

    Args:
        sample_rate: in Hz.
        min_rate_hz: slowest swing in Hz.
        max_rate_hz: fastest swing; all parameters are drawn uniformly.
        min_depth: smallest depth of the swing, from 0 to 1.
        max_depth: largest depth.
        min_centre_frequency_hz: lowest frequency around which it swings, in Hz.
        max_centre_frequency_hz: highest frequency.
        min_feedback: smallest feedback, from -1 to 1.
        max_feedback: largest feedback.
        min_mix: smallest part of the copy in the result, from 0 to 1.
        max_mix: largest part.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or pedalboard is not installed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_rate_hz: float = 0.25,
        max_rate_hz: float = 5.0,
        min_depth: float = 0.1,
        max_depth: float = 0.6,
        min_centre_frequency_hz: float = 200.0,
        max_centre_frequency_hz: float = 600.0,
        min_feedback: float = 0.1,
        max_feedback: float = 0.6,
        min_mix: float = 0.1,
        max_mix: float = 0.7,
        p: float = 1.0,
    ) -> None:
        centre = Range(min_centre_frequency_hz, max_centre_frequency_hz, 20, 0.45 * sample_rate)
        ranges = {
            "rate_hz": Range(min_rate_hz, max_rate_hz, 0, 99),
            "depth": Range(min_depth, max_depth, 0, 1),
            "centre_frequency_hz": centre,
            "feedback": Range(min_feedback, max_feedback, -0.99, 0.99),
            "mix": Range(min_mix, max_mix, 0, 1),
        }
        super().__init__(sample_rate, ranges, p)

    def plugin(self, parameters: dict[str, float]) -> Any:
        """A phaser."""
        import pedalboard

        return pedalboard.Phaser(**parameters)
