"""Change of speed, and with it of pitch, by resampling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from aimless.augment.base import CudaBase
from aimless.errors import ConfigError
from aimless.transforms import Resample

__all__ = ["SpeedPerturb"]


class SpeedPerturb(CudaBase):
    """Resample stems to a percentage of their rate and take them as if the rate were the same.

    The percentage is that of the length: 90 makes a stem 10 % shorter, it plays 1.11 times
    faster and two semitones higher; 110 makes it longer and lower.

    Args:
        orig_freq: sample rate in Hz. The new rate is `orig_freq * speed / 100`, whatever it
            is: only the ratio counts, and it is kept exact.
        speeds: percentages to draw from, each a positive integer up to 1000.
        p: probability that a stem is drawn.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self, orig_freq: int = 44100, speeds: Sequence[int] = (90, 100, 110), p: float = 0.2
    ) -> None:
        super().__init__(speeds, p)
        if orig_freq < 1:
            raise ConfigError(f"orig_freq: {orig_freq} is not positive")
        for speed in speeds:
            if not 1 <= speed <= 1000 or speed != int(speed):
                raise ConfigError(f"speeds: {speed} is not a whole percentage from 1 to 1000")
        self.orig_freq = orig_freq
        self.resamplers = nn.ModuleDict({str(speed): Resample(100, int(speed)) for speed in speeds})

    def is_identity(self, choice: int) -> bool:
        """A speed of 100 changes nothing."""
        return choice == 100

    def transform(self, x: Tensor, choice: int) -> Tensor:
        """Resample (N, channels, samples) to `choice` percent of the samples, rounded up."""
        return self.resamplers[str(choice)](x)
