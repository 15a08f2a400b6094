"""What all effects share: the draw per stem, and checks of their arguments."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from aimless.draws import require
from aimless.errors import ConfigError
from data.augment.mix import Audio, Gain, Mix

__all__ = [
    "Audio",
    "CPUBase",
    "Compose",
    "Gain",
    "GainEffect",
    "Mix",
    "require",
    "require_package",
]


class CPUBase:
    """Base class of the effects that run in the data loader.

    To write an effect, override `transform` if it works on one stem at a time; each stem is
    then drawn by itself; see `GainEffect` if it only scales. Override `apply` instead if it
    needs the mixture or several stems. Neither may write into the arrays it gets. All
    randomness must come from the generator that is passed, so that a batch can be made again;
    an effect must be picklable, since it is sent to worker processes.

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
            (mixture, stems) of the same shapes, but for effects that say otherwise in
            `channels_after`; the mixture is the sum of the stems where one of them changed. If
            nothing changed, what was passed. Never written in place.
        """
        mix = Mix(mixture, stems)
        self.apply(mix, rng)
        return mix.mixture, mix.stems

    def apply(self, mix: Mix, rng: np.random.Generator) -> None:
        """Draw which stems to change, and replace each by its `transform`."""
        for source in self.selected(mix, rng):
            mix.replace(source, self.transform(mix.stem(source), rng))

    def channels_after(self, channels: int) -> int:
        """How many channels stems have after the effect, given how many they have before.

        An effect that changes them overrides it, so that batches are made with as many.
        """
        return channels

    def selected(self, mix: Mix, rng: np.random.Generator) -> list[int]:
        """The stems to change, each with probability `p`."""
        return [int(source) for source in np.flatnonzero(rng.random(mix.shape[0]) < self.p)]

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """A changed version of one stem (channels, samples), of the same shape.

        An effect that overrides `apply` has no need of it.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither transform nor apply")


class GainEffect(CPUBase):
    """Base class of the effects that only mix the channels of a stem, or scale it over time.

    Those that follow one another in a `Compose` become one pass over the samples. Override
    `gain` instead of `transform`.
    """

    def apply(self, mix: Mix, rng: np.random.Generator) -> None:
        """Draw which stems to change, and a gain for each."""
        _, channels, samples = mix.shape
        for source in self.selected(mix, rng):
            gain = self.gain(channels, samples, rng)
            if gain is not None:
                mix.multiply(source, gain)

    def gain(self, channels: int, samples: int, rng: np.random.Generator) -> Gain | None:
        """Draw what a stem of that shape is changed by; None: it stays as it is."""
        raise NotImplementedError(f"{type(self).__name__} does not override gain")


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

    def channels_after(self, channels: int) -> int:
        """Those after the last effect."""
        for transform in self.transforms:
            channels = transform.channels_after(channels)
        return channels


def require_package(effect: object, package: str, extra: str) -> None:
    """Check that a package is there which the effect imports when it is first applied.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        text = f"{type(effect).__name__} needs {package}, which is not installed"
        raise ConfigError(f"{text}: pip install 'aimless[{extra}]'")
