"""Stems that are made of what the network gives and the mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aimless.errors import ConfigError

__all__ = ["DerivedStems"]


@dataclass(frozen=True)
class DerivedStems:
    """Which stems are given: those of the network, or what is made of them and the mixture.

    Args:
        two_stems: one stem of the network; given are that stem and `no_<stem>`, the mixture
            without it.
        residual: give one more stem, `residual`: the mixture without all stems of the network,
            which is "everything but vocals" where it separates vocals alone.
        mixture_consistency: spread what the stems lack of the mixture evenly over them, so
            that they sum to it (Wisdom et al., 2019, "Differentiable consistency constraints",
            with equal weights). Only meaningful where the stems cover the mixture: where one
            of its sources has no stem, its sound would go into the others.

    Raises:
        ConfigError: settings that exclude each other.
    """

    two_stems: str | None = None
    residual: bool = False
    mixture_consistency: bool = False

    def __post_init__(self) -> None:
        if self.residual and self.mixture_consistency:
            raise ConfigError("residual: would be silent with mixture_consistency; choose one")
        if self.residual and self.two_stems is not None:
            raise ConfigError(f"residual: two_stems gives no_{self.two_stems}; choose one of both")

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Names of the stems of a network with these sources.

        Raises:
            ConfigError: no such source, or a name twice.
        """
        names = tuple(sources)
        if self.two_stems is not None:
            if self.two_stems not in sources:
                known = ", ".join(sources)
                raise ConfigError(f"two_stems: '{self.two_stems}' is not a stem; known: {known}")
            names = (self.two_stems, f"no_{self.two_stems}")
        if self.residual:
            names = (*names, "residual")
        if len(set(names)) != len(names):
            raise ConfigError(f"stems: a name stands twice in {', '.join(names)}")
        return names

    def __call__(self, mixture: Tensor, stems: Tensor, sources: Sequence[str]) -> Tensor:
        """The stems of `names`.

        Shape:
            - mixture: (channels, samples)
            - stems: (sources, channels, samples)
            - output: (names, channels, samples)
        """
        if self.mixture_consistency:
            stems = stems + (mixture - stems.sum(0)) / len(stems)
        if self.two_stems is not None:
            stem = stems[list(sources).index(self.two_stems)]
            stems = torch.stack([stem, mixture - stem])
        if self.residual:
            stems = torch.cat([stems, (mixture - stems.sum(0))[None]])
        return stems
