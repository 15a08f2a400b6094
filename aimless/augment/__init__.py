"""Augmentations that run on batches, on the training device."""

from aimless.augment.base import CudaBase
from aimless.augment.pitch import RandomPitch
from aimless.augment.speed import SpeedPerturb

__all__ = ["CudaBase", "RandomPitch", "SpeedPerturb"]
