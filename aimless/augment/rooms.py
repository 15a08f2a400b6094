r"""Rooms: the reverberator known as Freeverb, as a filter.

Eight comb filters side by side, each with a one-pole low-pass in its loop, then four all-pass
filters in series (Moorer, "About this reverberation business", 1979; delays and gains are those
that Jezar at Dreampoint gave to the public domain). With a loop gain g and a damping d,

    C(z) = \sum_i z^{-D_i} / (1 - g (1 - d) / (1 - d z^{-1}) z^{-D_i}),
    A(z) = \prod_i (3/2 z^{-D_i} - 1) / (1 - 1/2 z^{-D_i}).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimless.augment.base import DeviceEffect
from aimless.augment.lazy import LazyStems, Settings, on_device
from aimless.augment.spectral import delayed
from aimless.draws import Range, Ranges, require

__all__ = ["Reverb"]

_COMBS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)  # samples at 44.1 kHz
_ALL_PASSES = (556, 441, 341, 225)
_TUNED_FOR = 44100
_SPREAD = 23  # samples at 44.1 kHz by which the right channel's delays are longer

# Freeverb's scaling of its parameters.
_INPUT_GAIN = 0.015
_WET_SCALE = 3.0
_DRY_SCALE = 2.0
_ROOM_OFFSET, _ROOM_SCALE = 0.7, 0.28
_DAMPING_SCALE = 0.4

# What is left of the reverberation where it is taken to be over: -110 dB.
_RESIDUE = 3e-6
_ALL_PASS_ROUNDS = 18  # after which a half to that power is below it


class Reverb(DeviceEffect):
    """Put a stem into a room: Freeverb, a wet level and a dry level of 1 - wet.

    A stem of more than two channels is taken in pairs.

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

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
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
        require(self, "sample_rate", sample_rate, 1000)
        self.sample_rate = sample_rate
        self.ranges = Ranges(
            self,
            room_size=Range(min_room_size, max_room_size, 0, 1),
            damping=Range(min_damping, max_damping, 0, 1),
            wet_level=Range(min_wet_level, max_wet_level, 0, 1),
            width=Range(min_width, max_width, 0, 1),
        )

    def numbers(self, samples: int) -> int:
        """One for each parameter."""
        return len(self.ranges)

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """A room for each chosen stem."""
        drawn = self.ranges.at(uniform)
        loop = _ROOM_OFFSET + _ROOM_SCALE * drawn["room_size"]
        rounds = np.ceil(math.log(_RESIDUE) / np.log(loop))
        tails = rounds * self._delay(max(_COMBS), 1)
        tails += _ALL_PASS_ROUNDS * self._delay(max(_ALL_PASSES), 1)
        settings = {**drawn, "loop": loop}
        stems.filter(chosen, self._respond, settings, tails.astype(np.int64))

    def _respond(self, spectra: Tensor, settings: Settings, n_fft: int) -> Tensor:
        wet, width = _WET_SCALE * settings["wet_level"], settings["width"]
        # How much of the same and of the other channel's reverberation each channel gets.
        same, other, dry = (
            on_device(level[:, None, None], spectra)
            for level in (
                wet * (1 + width) / 2 * _INPUT_GAIN,
                wet * (1 - width) / 2 * _INPUT_GAIN,
                _DRY_SCALE * (1 - settings["wet_level"]),
            )
        )
        pairs = []
        rooms = [self._room(ear, settings, n_fft, spectra) for ear in range(2)]
        for pair in spectra.split(2, dim=1):
            both = pair.sum(1)
            heard = [rooms[ear] * same for ear in range(pair.shape[1])]
            if len(heard) == 2:
                heard = [heard[0] + rooms[1] * other, heard[1] + rooms[0] * other]
            pairs += [pair[:, ear] * dry + both * gain for ear, gain in enumerate(heard)]
        return torch.stack(pairs, dim=1)

    def _room(self, ear: int, settings: Settings, n_fft: int, like: Tensor) -> Tensor:
        """Response (stems, 1, bins) of combs and all-passes."""
        damping = on_device(_DAMPING_SCALE * settings["damping"][:, None], like)
        gain = on_device(settings["loop"][:, None], like) * (1 - damping)
        loop = gain * (1 - damping * delayed(1, n_fft, like)).reciprocal()
        combs: Tensor | None = None
        # times the reciprocal: a complex division takes three times as long
        for delay in _COMBS:
            once = delayed(self._delay(delay, ear), n_fft, like)
            comb = once * (1 - loop * once).reciprocal()
            combs = comb if combs is None else combs + comb
        assert combs is not None
        passes = torch.ones_like(combs[0])
        for delay in _ALL_PASSES:
            once = delayed(self._delay(delay, ear), n_fft, like)
            passes = passes * (1.5 * once - 1) * (1 - 0.5 * once).reciprocal()
        return (combs * passes)[:, None]

    def _delay(self, samples: int, ear: int) -> int:
        """A delay at 44.1 kHz in samples of this rate."""
        return max(1, int((samples + ear * _SPREAD) * self.sample_rate / _TUNED_FOR))
