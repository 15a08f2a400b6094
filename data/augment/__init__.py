"""Effects on (mixture, stems) that run in the data loader, on the CPU."""

from data.augment.automation import RandomVolumeAutomation
from data.augment.base import Compose, CPUBase, GainEffect
from data.augment.delay import RandomPedalboardDelay
from data.augment.distortion import RandomPedalboardDistortion
from data.augment.dynamics import RandomPedalboardCompressor, RandomPedalboardLimiter
from data.augment.equalizer import RandomParametricEQ
from data.augment.gain import RandomFlipPhase, RandomGain
from data.augment.limiter import LimitAug
from data.augment.loudness import LoudnessNormalize
from data.augment.modulation import RandomPedalboardChorus, RandomPedalboardPhaser
from data.augment.reverb import RandomPedalboardReverb, RandomSoxReverb
from data.augment.stereo import Mono2Stereo, RandomPan, RandomStereoWidener, RandomSwapLR

__all__ = [
    "CPUBase",
    "Compose",
    "GainEffect",
    "LimitAug",
    "LoudnessNormalize",
    "Mono2Stereo",
    "RandomFlipPhase",
    "RandomGain",
    "RandomPan",
    "RandomParametricEQ",
    "RandomPedalboardChorus",
    "RandomPedalboardCompressor",
    "RandomPedalboardDelay",
    "RandomPedalboardDistortion",
    "RandomPedalboardLimiter",
    "RandomPedalboardPhaser",
    "RandomPedalboardReverb",
    "RandomSoxReverb",
    "RandomStereoWidener",
    "RandomSwapLR",
    "RandomVolumeAutomation",
]
