"""Distortion."""

from __future__ import annotations

import numpy as np

from aimless.draws import Range, Ranges
from data.augment.base import Audio, CPUBase, require

__all__ = ["RandomPedalboardDistortion"]


class RandomPedalboardDistortion(CPUBase):
    """Bend the waveform of a stem by tanh(drive x), as `pedalboard.Distortion` does.

    Args:
        min_drive_db: least gain before the curve, in dB.
        max_drive_db: most gain; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.
        sample_rate: in Hz; makes no difference, since the curve has no memory, and is there
            because all effects of this family take it.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self,
        min_drive_db: float = -20.0,
        max_drive_db: float = 12.0,
        p: float = 1.0,
        sample_rate: int = 44100,
    ) -> None:
        super().__init__(p)
        require(self, "sample_rate", sample_rate, 1)
        self.ranges = Ranges(self, drive_db=Range(min_drive_db, max_drive_db, -120, 120))

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem with a drawn drive."""
        out = stem * np.float32(10 ** (self.ranges.draw(rng)["drive_db"] / 20))
        return np.tanh(out, out=out)
