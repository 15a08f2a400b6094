"""Chorus and phaser: copies of a stem through delays and all-pass filters that swing."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aimless.augment.all_passes import all_passes
from aimless.augment.base import DeviceEffect
from aimless.augment.lazy import LazyStems, Settings, on_device
from aimless.draws import Range, Ranges, require

__all__ = ["Chorus", "Phaser"]

_MS = 1000  # per second
_SHORTEST_DELAY_MS, _SWING_MS = 1.0, 20.0
# What is left of the feedback where the series is cut off: -110 dB.
_RESIDUE = 3e-6

_STAGES = 6
_HOLD = 4  # samples for which the phaser's filters stay as they are
_LOWEST_HZ, _HIGHEST_HZ, _HIGHEST_SHARE = 20.0, 20000.0, 0.49


class _Modulation(DeviceEffect):
    """Base of both: drawn settings, and a mix of the stem and its copy."""

    def __init__(self, sample_rate: int, ranges: dict[str, Range], p: float) -> None:
        super().__init__(p)
        require(self, "sample_rate", sample_rate, 1)
        self.sample_rate = sample_rate
        self.ranges = Ranges(self, **ranges)

    def numbers(self, samples: int) -> int:
        """One for each parameter."""
        return len(self.ranges)

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """A copy for each chosen stem."""
        drawn = self.ranges.at(uniform)

        def mixed(x: Tensor) -> Tensor:
            mix = on_device(drawn["mix"], x)[:, None, None]
            return x * (1 - mix) + self._copy(x, drawn) * mix

        stems.replace(chosen, mixed)

    def _copy(self, x: Tensor, drawn: Settings) -> Tensor:
        """The copies of stems (stems, channels, samples)."""
        raise NotImplementedError

    def _swing(self, x: Tensor, drawn: Settings, hold: int) -> Tensor:
        """-depth / 2 sin(2 pi rate t) every `hold` samples, (stems, ceil(samples / hold))."""
        steps = torch.arange(-(-x.shape[-1] // hold), dtype=torch.float64, device=x.device)
        # in double precision until a whole number of turns is gone
        rate = torch.from_numpy(drawn["rate_hz"] * hold / self.sample_rate)
        turns = (steps * rate.to(x.device, non_blocking=True)[:, None]).remainder(1).to(x.dtype)
        depth = on_device(drawn["depth"] / 2, x)[:, None]
        return -depth * (turns * (2 * math.pi)).sin()


class Chorus(_Modulation):
    """Add a copy of the stem whose delay swings, by up to 10 ms around its centre.

    The delay is interpolated linearly and at least 1 ms. The copy is fed back with its sign
    changed; since a round takes a millisecond at least, the series of rounds is summed until
    it is 110 dB down.

    Args:
        sample_rate: in Hz.
        min_rate_hz: slowest swing in Hz.
        max_rate_hz: fastest swing; all parameters are drawn uniformly.
        min_depth: smallest depth of the swing, from 0 to 1.
        max_depth: largest depth.
        min_centre_delay_ms: shortest delay around which it swings, in ms.
        max_centre_delay_ms: longest delay.
        min_feedback: smallest feedback, from -0.99 to 0.99.
        max_feedback: largest feedback.
        min_mix: smallest part of the copy in the result, from 0 to 1.
        max_mix: largest part.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_rate_hz: float = 0.25,
        max_rate_hz: float = 4.0,
        min_depth: float = 0.0,
        max_depth: float = 0.6,
        min_centre_delay_ms: float = 5.0,
        max_centre_delay_ms: float = 10.0,
        min_feedback: float = 0.1,
        max_feedback: float = 0.6,
        min_mix: float = 0.1,
        max_mix: float = 0.7,
        p: float = 1.0,
    ) -> None:
        ranges = {
            "rate_hz": Range(min_rate_hz, max_rate_hz, 0, 99),
            "depth": Range(min_depth, max_depth, 0, 1),
            "centre_delay_ms": Range(min_centre_delay_ms, max_centre_delay_ms, 1, 100),
            "feedback": Range(min_feedback, max_feedback, -0.99, 0.99),
            "mix": Range(min_mix, max_mix, 0, 1),
        }
        super().__init__(sample_rate, ranges, p)

    def _copy(self, x: Tensor, drawn: Settings) -> Tensor:
        centre = on_device(drawn["centre_delay_ms"], x)[:, None]
        delay = (self._swing(x, drawn, 1) * _SWING_MS + centre).clamp(min=_SHORTEST_DELAY_MS)
        delay = (delay * (self.sample_rate / _MS)).clamp(min=1)
        whole = delay.floor()
        # the longest delay that can be, so that its length needs no look at the device
        longest = math.ceil((_SWING_MS / 2 + 100) * self.sample_rate / _MS) + 2
        index = torch.arange(x.shape[-1], device=x.device) - whole.long() + longest
        index = index[:, None].expand_as(x)
        fraction = (delay - whole)[:, None]

        def late(y: Tensor) -> Tensor:
            padded = F.pad(y, (longest, 0))
            return padded.gather(-1, index).lerp(padded.gather(-1, index - 1), fraction)

        feedback = on_device(drawn["feedback"], x)[:, None, None]
        largest = max(float(np.abs(drawn["feedback"]).max()), _RESIDUE)
        first = copy = late(x)
        for _ in range(min(math.ceil(math.log(_RESIDUE) / math.log(largest)), x.shape[-1])):
            copy = first - late(F.pad(copy, (1, 0))[..., :-1] * feedback)
        return copy


class Phaser(_Modulation):
    """Add a copy of the stem through six all-pass filters whose frequency swings.

    The frequency swings in its logarithm, by up to half of what lies between 20 Hz and 20 kHz
    around its centre, and is set every four samples; the copy is fed back with its sign changed.

    Args:
        sample_rate: in Hz.
        min_rate_hz: slowest swing in Hz.
        max_rate_hz: fastest swing; all parameters are drawn uniformly.
        min_depth: smallest depth of the swing, from 0 to 1.
        max_depth: largest depth.
        min_centre_frequency_hz: lowest frequency around which it swings, in Hz.
        max_centre_frequency_hz: highest frequency.
        min_feedback: smallest feedback, from -0.99 to 0.99.
        max_feedback: largest feedback.
        min_mix: smallest part of the copy in the result, from 0 to 1.
        max_mix: largest part.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_rate_hz: float = 0.25,
        max_rate_hz: float = 5.0,
        min_depth: float = 0.1,
        max_depth: float = 0.6,
        min_centre_frequency_hz: float = 200.0,
        max_centre_frequency_hz: float = 600.0,
        min_feedback: float = 0.1,
        max_feedback: float = 0.6,
        min_mix: float = 0.1,
        max_mix: float = 0.7,
        p: float = 1.0,
    ) -> None:
        centre = Range(min_centre_frequency_hz, max_centre_frequency_hz, 20, 0.45 * sample_rate)
        ranges = {
            "rate_hz": Range(min_rate_hz, max_rate_hz, 0, 99),
            "depth": Range(min_depth, max_depth, 0, 1),
            "centre_frequency_hz": centre,
            "feedback": Range(min_feedback, max_feedback, -0.99, 0.99),
            "mix": Range(min_mix, max_mix, 0, 1),
        }
        super().__init__(sample_rate, ranges, p)

    def _copy(self, x: Tensor, drawn: Settings) -> Tensor:
        octaves = math.log(min(_HIGHEST_HZ, _HIGHEST_SHARE * self.sample_rate) / _LOWEST_HZ)
        centre = on_device(np.log(drawn["centre_frequency_hz"] / _LOWEST_HZ) / octaves, x)[:, None]
        place = (self._swing(x, drawn, _HOLD) + centre).clamp(0, 1)
        frequency = _LOWEST_HZ * (place * octaves).exp()
        tangent = (frequency * (math.pi / self.sample_rate)).tan()
        coefficient = (tangent / (1 + tangent)).repeat_interleave(_HOLD, -1)[:, : x.shape[-1]]
        return all_passes(x, coefficient, on_device(drawn["feedback"], x), _STAGES)
