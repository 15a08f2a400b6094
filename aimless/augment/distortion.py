"""Distortion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aimless.augment.base import DeviceEffect
from aimless.augment.lazy import LazyStems, on_device
from aimless.draws import Range, Ranges

__all__ = ["Distortion"]


class Distortion(DeviceEffect):
    """Bend the waveform of a stem by tanh(drive x).

    Args:
        min_drive_db: least gain before the curve, in dB.
        max_drive_db: most gain; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self, min_drive_db: float = -20.0, max_drive_db: float = 12.0, p: float = 1.0
    ) -> None:
        super().__init__(p)
        self.range = Range(min_drive_db, max_drive_db, -120, 120)
        Ranges(self, drive_db=self.range)

    def numbers(self, samples: int) -> int:
        """One."""
        return 1

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """A drive for each chosen stem."""
        drive = 10 ** (self.range.at(uniform)[..., None] / 20)
        stems.replace(chosen, lambda x: (x * on_device(drive, x)).tanh())
