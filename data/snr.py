"""Signal-to-noise ratios: their draws, and the gain that makes one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import Distribution, Uniform

from aimless.errors import ConfigError

__all__ = ["Sampler", "SnrSampler", "noise_gain"]

# Mean square below which sound counts as silence: -90 dB of full scale, the noise of 16 bits.
_SILENCE = 1e-9
_MOST_GAIN_DB = 60.0  # noise that needs more is little but the noise floor of its recording


class Sampler(Protocol):
    """Anything with a `sample` that draws from torch's global generator."""

    def sample(self) -> torch.Tensor: ...


class SnrSampler:
    """Draws SNRs in dB from a distribution, with a generator that is passed.

    The distributions of torch draw from its global generator only. Where one knows its inverse
    cumulative distribution function, that is applied to a uniform draw of the passed generator.
    From any other, a sample is taken after seeding torch's CPU generator by the passed one,
    whose state is put back afterwards. Either way nothing depends on what was drawn elsewhere.

    Args:
        sampler: a distribution of single numbers, or anything else with `sample()`; `{low, high}`
            is uniform between the two, in dB.

    Raises:
        ConfigError: of another kind, or not a distribution of single numbers.
    """

    def __init__(self, sampler: Sampler | Mapping[str, float]) -> None:
        if isinstance(sampler, Mapping):
            sampler = _uniform(sampler)
        if not callable(getattr(sampler, "sample", None)):
            raise ConfigError(f"snr_sampler: {sampler!r} has no sample() and is not {{low, high}}")
        shape = getattr(sampler, "batch_shape", ()) + getattr(sampler, "event_shape", ())
        if shape:
            raise ConfigError(f"snr_sampler: {sampler!r} draws {tuple(shape)} numbers, wanted one")
        self.sampler = sampler

    def draw(self, rng: np.random.Generator) -> float:
        """An SNR in dB.

        Raises:
            ConfigError: the distribution gave a number that is not finite.
        """
        snr = float(self._draw(rng))
        if not math.isfinite(snr):
            raise ConfigError(f"snr_sampler: {self.sampler!r} drew {snr}, wanted a finite number")
        return snr

    def _draw(self, rng: np.random.Generator) -> torch.Tensor:
        if isinstance(self.sampler, Distribution):
            try:
                # Neither 0 nor 1, which most distributions map to infinity.
                share = (int(rng.integers(1 << 52)) + 0.5) / (1 << 52)
                return self.sampler.icdf(torch.tensor(share, dtype=torch.float64))
            except NotImplementedError:
                pass
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(1 << 63)))
            return self.sampler.sample()


def noise_gain(
    speech: NDArray[np.float32], noise: NDArray[np.float32], snr_db: float
) -> np.float32:
    """The gain of the noise for which 10 log10(speech power / noise power) is the SNR.

    Args:
        speech: (channels, samples); power is the mean square over all of them.
        noise: the same shape.
        snr_db: wanted, in dB.

    Returns:
        A linear gain, at most 60 dB; 1 if either is silent, where there is no such ratio.
    """
    speech_power, noise_power = (np.mean(np.square(x), dtype=np.float64) for x in (speech, noise))
    if min(speech_power, noise_power) < _SILENCE:
        return np.float32(1)
    gain_db = 10 * math.log10(speech_power / noise_power) - snr_db
    return np.float32(10 ** (min(gain_db, _MOST_GAIN_DB) / 20))


def _uniform(limits: Mapping[str, float]) -> Uniform:
    if set(limits) != {"low", "high"}:
        raise ConfigError(f"snr_sampler: has the keys {sorted(limits)}, wanted low and high")
    low, high = limits["low"], limits["high"]
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"snr_sampler: low {low} and high {high} are not finite and in order")
    # Uniform itself refuses equal limits, with which every draw is the same
    return Uniform(low, high, validate_args=False)
