"""Place in the stereo image."""

from __future__ import annotations

import numpy as np

from data.augment.base import Audio, CPUBase

__all__ = ["RandomSwapLR"]


class RandomSwapLR(CPUBase):
    """Swap left and right of a stem; with more channels, reverse their order.

    Mono stems stay as they are.

    Args:
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem with its channels in reverse order."""
        return stem[::-1]
