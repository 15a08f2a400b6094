"""Augmentations that run on batches, on the training device."""

from aimless.augment.base import CudaBase, DeviceEffect, augment_in_turn
from aimless.augment.codec import Codec
from aimless.augment.convolution import RandomConvolutions
from aimless.augment.distortion import Distortion
from aimless.augment.dynamics import Compressor, Limiter
from aimless.augment.filters import Delay, ParametricEQ
from aimless.augment.gains import FlipPhase, Gain, Pan, StereoWidener, SwapLR, VolumeAutomation
from aimless.augment.loudness import LoudnessNormalize
from aimless.augment.modulation import Chorus, Phaser
from aimless.augment.pitch import RandomPitch
from aimless.augment.rooms import Reverb
from aimless.augment.speed import SpeedPerturb

__all__ = [
    "Chorus",
    "Codec",
    "Compressor",
    "CudaBase",
    "Delay",
    "DeviceEffect",
    "Distortion",
    "FlipPhase",
    "Gain",
    "Limiter",
    "LoudnessNormalize",
    "Pan",
    "ParametricEQ",
    "Phaser",
    "RandomConvolutions",
    "RandomPitch",
    "Reverb",
    "SpeedPerturb",
    "StereoWidener",
    "SwapLR",
    "VolumeAutomation",
    "augment_in_turn",
]
