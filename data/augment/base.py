"""What all effects share: the draw per stem, copies before changes, one sum at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aimless.errors import ConfigError

__all__ = ["Audio", "CPUBase", "Compose", "Mix", "require"]

Audio = NDArray[np.float32]


class Mix:
    """Stems and their mixture while effects work on them.

    The given arrays are not written to: stems are copied before the first change. The mixture
    is summed when it is asked for and no longer that of the stems, and only then.

    Args:
        mixture: (channels, samples), or None if the stems have not been summed yet.
        stems: (sources, channels, samples).
        in_place: the stems may be written to, which saves the copy.
    """

    def __init__(self, mixture: Audio | None, stems: Audio, in_place: bool = False) -> None:
        self._mixture = mixture
        self._stems = stems
        self._owned = in_place

    @property
    def stems(self) -> Audio:
        """(sources, channels, samples), to be read only."""
        return self._stems

    @property
    def mixture(self) -> Audio:
        """(channels, samples), to be read only."""
        if self._mixture is None:
            self._mixture = self._stems.sum(0)
        return self._mixture

    def replace(self, source: int, stem: Audio) -> None:
        """Put a changed stem (channels, samples) in its place."""
        if not self._owned:
            self._stems = self._stems.copy()
            self._owned = True
        self._stems[source] = stem
        self._mixture = None

    def scale(self, gain: Audio) -> None:
        """Multiply the stems, and so the mixture, by a gain that broadcasts to the mixture."""
        self._mixture = self.mixture * gain
        self._stems = np.multiply(self._stems, gain, out=self._stems if self._owned else None)
        self._owned = True


class CPUBase:
    """Base class of the effects that run in the data loader.

    To write an effect, override `transform` if it works on one stem at a time; each stem is
    then drawn by itself. Override `apply` instead if it needs the mixture or several stems.
    Neither may write into the arrays it gets. All randomness must come from the generator that
    is passed, so that a batch can be made again; an effect must be picklable, since it is sent
    to worker processes.

    Args:
        p: probability, between 0 and 1, with which a stem (or the mixture) is changed.

    Raises:
        ConfigError: `p` is not between 0 and 1.
    """

    def __init__(self, p: float = 1.0) -> None:
        require(self, "p", p, 0, 1)
        self.p = p

    def __call__(
        self, mixture: Audio | None, stems: Audio, rng: np.random.Generator
    ) -> tuple[Audio, Audio]:
        """Apply the effect.

        Args:
            mixture: float32 (channels, samples); None: sum of the stems.
            stems: float32 (sources, channels, samples), any number of each.
            rng: makes all draws.

        Returns:
            (mixture, stems) of the same shapes; the mixture is the sum of the stems where one
            of them changed. If nothing changed, what was passed. Never written in place.
        """
        mix = Mix(mixture, stems)
        self.apply(mix, rng)
        return mix.mixture, mix.stems

    def apply(self, mix: Mix, rng: np.random.Generator) -> None:
        """Draw which stems to change, and replace each by its `transform`."""
        for source in np.flatnonzero(rng.random(len(mix.stems)) < self.p):
            mix.replace(int(source), self.transform(mix.stems[source], rng))

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """A changed version of one stem (channels, samples), of the same shape.

        An effect that overrides `apply` has no need of it.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither transform nor apply")


class Compose(CPUBase):
    """Effects one after the other; the mixture is summed when one needs it, else at the end.

    Args:
        transforms: the effects, first to last. None of them: nothing changes.
    """

    def __init__(self, transforms: Sequence[CPUBase]) -> None:
        super().__init__()
        self.transforms = tuple(transforms)

    def apply(self, mix: Mix, rng: np.random.Generator) -> None:
        """Apply each effect to the result of the one before."""
        for transform in self.transforms:
            transform.apply(mix, rng)


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
