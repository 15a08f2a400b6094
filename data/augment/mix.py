"""Stems and their mixture on the way through the effects, and gains that can be joined."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Audio", "Gain", "Mix"]

Audio = NDArray[np.float32]

# Samples that `Gain.apply` works on at a time, so that they stay in the cache.
_CHUNK = 16384


class Gain(NamedTuple):
    """What a gain, a pan, a swap and a fader have in common, so that they can be joined.

    Attributes:
        channels: one factor, or a (channels, channels) matrix from old to new channels.
        curve: factors over time (samples), or None: constant.
    """

    channels: float | NDArray[np.float64]
    curve: Audio | None = None

    def then(self, later: Gain) -> Gain:
        """This gain and the later one as one."""
        if isinstance(self.channels, np.ndarray) and isinstance(later.channels, np.ndarray):
            channels: float | NDArray[np.float64] = later.channels @ self.channels
        else:
            channels = later.channels * self.channels
        curves = [curve for curve in (self.curve, later.curve) if curve is not None]
        return Gain(
            channels, curves[0] * curves[1] if len(curves) == 2 else next(iter(curves), None)
        )

    def apply(self, stem: Audio) -> None:
        """Change a stem (channels, samples) in place."""
        channels = np.asarray(self.channels, np.float32)
        for begin in range(0, stem.shape[1], _CHUNK):
            part = stem[:, begin : begin + _CHUNK]
            if channels.ndim:
                part[...] = channels @ part
            elif channels != 1:
                part *= channels
            if self.curve is not None:
                part *= self.curve[begin : begin + _CHUNK]


class Mix:
    """Stems and their mixture while effects work on them.

    The given arrays are not written to: stems are copied before the first change. Nothing is
    computed before it is needed: the mixture is summed when it is asked for and no longer that
    of the stems; gains are collected per stem and applied together when the stem is asked for.

    Args:
        mixture: (channels, samples), or None if the stems have not been summed yet.
        stems: (sources, channels, samples).
        in_place: the stems may be written to, which saves the copy.
    """

    def __init__(self, mixture: Audio | None, stems: Audio, in_place: bool = False) -> None:
        self._mixture = mixture
        self._stems = stems
        self._owned = in_place
        self._gains: dict[int, Gain] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(sources, channels, samples)."""
        sources, channels, samples = self._stems.shape
        return sources, channels, samples

    @property
    def stems(self) -> Audio:
        """(sources, channels, samples), to be read only."""
        for source in list(self._gains):
            self.stem(source)
        return self._stems

    @property
    def mixture(self) -> Audio:
        """(channels, samples), to be read only."""
        if self._mixture is None:
            self._mixture = self.stems.sum(0)
        return self._mixture

    def stem(self, source: int) -> Audio:
        """One stem (channels, samples), to be read only."""
        gain = self._gains.pop(source, None)
        if gain is not None:
            gain.apply(self._own()[source])
        return self._stems[source]

    def replace(self, source: int, stem: Audio) -> None:
        """Put a changed stem (channels, samples) in its place."""
        self._gains.pop(source, None)
        self._own()[source] = stem
        self._mixture = None

    def replace_all(self, stems: Audio) -> None:
        """Go on with other stems (sources, channels, samples), which are not written to."""
        self._gains.clear()
        self._mixture, self._stems, self._owned = None, stems, False

    def multiply(self, source: int, gain: Gain) -> None:
        """Change a stem by a gain."""
        earlier = self._gains.get(source)
        self._gains[source] = gain if earlier is None else earlier.then(gain)
        self._mixture = None

    def _own(self) -> Audio:
        """Stems that may be written to."""
        if not self._owned:
            self._stems = self._stems.copy()
            self._owned = True
        return self._stems

    def scale(self, gain: Audio) -> None:
        """Multiply the stems, and so the mixture, by a gain that broadcasts to the mixture."""
        self._mixture = self.mixture * gain
        self._stems = np.multiply(self.stems, gain, out=self._stems if self._owned else None)
        self._owned = True
