"""Effects on (mixture, stems) that run in the data loader, on the CPU."""

from data.augment.base import Compose, CPUBase
from data.augment.gain import RandomFlipPhase, RandomGain
from data.augment.limiter import LimitAug
from data.augment.stereo import RandomSwapLR

__all__ = ["CPUBase", "Compose", "LimitAug", "RandomFlipPhase", "RandomGain", "RandomSwapLR"]
