"""Rooms."""

from __future__ import annotations

import numpy as np

from aimless.draws import Range, Ranges
from data.augment.base import Audio, CPUBase, require, require_package

__all__ = ["RandomPedalboardReverb", "RandomSoxReverb"]

# Freeverb's scaling of its parameters.
_INPUT_GAIN = 0.015
_WET_SCALE = 3.0
_DRY_SCALE = 2.0
_ROOM_OFFSET, _ROOM_SCALE = 0.7, 0.28
_DAMPING_SCALE = 0.4
_SPREAD = 23  # samples at 44.1 kHz by which the right channel's delays are longer

# SoX's.
_SOX_SPREAD = 12
_SOX_LOSS = (0.7, 0.02)  # 1 - feedback at a reverberance of 0 and 100 %
_SOX_DAMPING = (0.2, 0.5)
_SOX_SCALE = (0.1, 1.0)


class RandomPedalboardReverb(CPUBase):
    """Put a stem into a room: Freeverb, a wet level and a dry level of 1 - wet.

    Equals `pedalboard.Reverb` (JUCE), which is not needed. A stem of more than two channels is
    taken in pairs.

    Args:
        sample_rate: in Hz.
        min_room_size: smallest room, from 0 to 1.
        max_room_size: largest room; all parameters are drawn uniformly.
        min_damping: least damping of high frequencies, from 0 to 1.
        max_damping: most damping.
        min_wet_level: least reverberation, from 0 to 1.
        max_wet_level: most reverberation.
        min_width: smallest width of the reverberation, from 0, which is mono, to 1.
        max_width: largest width.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or numba is not installed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_room_size: float = 0.0,
        max_room_size: float = 1.0,
        min_damping: float = 0.0,
        max_damping: float = 1.0,
        min_wet_level: float = 0.0,
        max_wet_level: float = 0.7,
        min_width: float = 0.0,
        max_width: float = 1.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require_package(self, "numba", "train")
        require(self, "sample_rate", sample_rate, 1000)
        self.sample_rate = sample_rate
        self.ranges = Ranges(
            self,
            room_size=Range(min_room_size, max_room_size, 0, 1),
            damping=Range(min_damping, max_damping, 0, 1),
            wet_level=Range(min_wet_level, max_wet_level, 0, 1),
            width=Range(min_width, max_width, 0, 1),
        )

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem in a drawn room."""
        drawn = self.ranges.draw(rng)
        feedback = _ROOM_OFFSET + _ROOM_SCALE * drawn["room_size"]
        damping = _DAMPING_SCALE * drawn["damping"]
        wet, width = _WET_SCALE * drawn["wet_level"], drawn["width"]
        # How much of the same and of the other channel's reverberation each channel gets.
        same, other = wet * (1 + width) / 2, wet * (1 - width) / 2
        out = stem * np.float32(_DRY_SCALE * (1 - drawn["wet_level"]))
        for first in range(0, len(stem), 2):
            room = _room(stem[first : first + 2], self.sample_rate, feedback, damping, _SPREAD)
            # no matrix product: BLAS would start threads, which then spin in every loader process
            out[first : first + 2] += np.float32(same) * room
            if len(room) == 2:
                out[first : first + 2] += np.float32(other) * room[::-1]
        return out


class RandomSoxReverb(CPUBase):
    """Put a stem into a room with the parameters of the `reverb` effect of SoX.

    SoX's reverb is a Freeverb with other ranges, and this is the same reverberator as in
    `RandomPedalboardReverb`, set as follows. Reverberance r %: the loops lose the part
    0.7 (0.02 / 0.7)^(r / 100) of a round. Damping d %: the coefficient of the low-pass in the
    loops is 0.2 + 0.003 d. Room scale s %: the combs' delays are scaled by 0.1 + 0.009 s.
    Stereo depth: the right channel's delays are longer by up to 12 samples. The result is
    (1 - w) stem + w reverberation for a wet/dry ratio w. It sounds like SoX's, without being
    the same samples. A stem of more than two channels is taken in pairs.

    Args:
        sample_rate: in Hz.
        min_reverberance: shortest decay, in percent.
        max_reverberance: longest decay; all parameters are drawn uniformly.
        min_damping: least damping of high frequencies, in percent.
        max_damping: most damping.
        min_room_scale: smallest room, in percent.
        max_room_scale: largest room.
        min_stereo_depth: smallest difference of the channels, in percent.
        max_stereo_depth: largest difference.
        min_pre_delay: shortest time before the reverberation begins, in ms.
        max_pre_delay: longest time.
        min_wet_dry: least reverberation, from 0 to 1.
        max_wet_dry: most reverberation.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or numba is not installed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_reverberance: float = 10.0,
        max_reverberance: float = 100.0,
        min_damping: float = 0.0,
        max_damping: float = 100.0,
        min_room_scale: float = 5.0,
        max_room_scale: float = 100.0,
        min_stereo_depth: float = 20.0,
        max_stereo_depth: float = 100.0,
        min_pre_delay: float = 0.0,
        max_pre_delay: float = 100.0,
        min_wet_dry: float = 0.0,
        max_wet_dry: float = 1.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require_package(self, "numba", "train")
        require(self, "sample_rate", sample_rate, 1000)
        self.sample_rate = sample_rate
        self.ranges = Ranges(
            self,
            reverberance=Range(min_reverberance, max_reverberance, 0, 100),
            damping=Range(min_damping, max_damping, 0, 100),
            room_scale=Range(min_room_scale, max_room_scale, 0, 100),
            stereo_depth=Range(min_stereo_depth, max_stereo_depth, 0, 100),
            pre_delay=Range(min_pre_delay, max_pre_delay, 0, 500),
            wet_dry=Range(min_wet_dry, max_wet_dry, 0, 1),
        )

    def transform(self, stem: Audio, rng: np.random.Generator) -> Audio:
        """The stem in a drawn room."""
        drawn = self.ranges.draw(rng)
        longest, shortest = _SOX_LOSS
        feedback = 1 - longest * (shortest / longest) ** (drawn["reverberance"] / 100)
        damping = _between(_SOX_DAMPING, drawn["damping"])
        scale = _between(_SOX_SCALE, drawn["room_scale"])
        spread = round(_SOX_SPREAD * drawn["stereo_depth"] / 100)
        begin = min(round(drawn["pre_delay"] / 1000 * self.sample_rate), stem.shape[1])
        out = stem * np.float32(1 - drawn["wet_dry"])
        for first in range(0, len(stem), 2):
            pair = stem[first : first + 2, : stem.shape[1] - begin]
            room = _room(pair, self.sample_rate, feedback, damping, spread, scale)
            out[first : first + 2, begin:] += np.float32(_WET_SCALE * drawn["wet_dry"]) * room
        return out


def _room(
    pair: Audio, rate: int, feedback: float, damping: float, spread: int, scale: float = 1.0
) -> Audio:
    """Reverberation of one or two channels together, heard in as many, (channels, samples)."""
    from data.kernels.freeverb import reverberate

    mono = pair.sum(0) * np.float32(_INPUT_GAIN)
    return np.stack(
        [
            reverberate(mono, rate, feedback, damping, channel * spread, scale)
            for channel in range(len(pair))
        ]
    )


def _between(ends: tuple[float, float], percent: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * percent / 100
