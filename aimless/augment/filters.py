"""Time-invariant filters: equaliser, echo, recorded rooms. Neighbours share one FFT."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aimless.augment.base import DeviceEffect
from aimless.augment.lazy import LazyStems, Settings, on_device
from aimless.augment.spectral import biquad_response, delayed, settling_time
from aimless.draws import Range, Ranges, require
from aimless.errors import ConfigError

__all__ = ["Delay", "ParametricEQ"]

# Frequencies of the shelves in Hz.
_LOW_SHELF = Range(20.0, 200.0, log=True)
_HIGH_SHELF = Range(8000.0, 16000.0, log=True)

# No frequency is drawn above this part of the sample rate.
_HIGHEST = 0.45

# What is left of an impulse response where it is taken to be over: -120 dB.
_RESIDUE = 1e-6


class ParametricEQ(DeviceEffect):
    """A low shelf, some peaking bands and a high shelf, all drawn anew for each stem.

    The shelves lie at 20 to 200 Hz and 8 to 16 kHz, log-uniformly. Frequencies end at 45 % of
    the sample rate. Formulas: Robert Bristow-Johnson, "Cookbook formulae for audio equalizer
    biquad filter coefficients".

    Args:
        sample_rate: in Hz.
        num_bands: number of peaking bands.
        min_gain_db: lowest gain of a band or shelf in dB.
        max_gain_db: highest gain; drawn uniformly between the two.
        min_cutoff_freq: lowest centre of a band in Hz.
        max_cutoff_freq: highest centre; log-uniform between the two.
        min_q_factor: lowest quality of a band or shelf, greater than 0.
        max_q_factor: highest quality; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        num_bands: int = 3,
        min_gain_db: float = -6.0,
        max_gain_db: float = 6.0,
        min_cutoff_freq: float = 1000.0,
        max_cutoff_freq: float = 10000.0,
        min_q_factor: float = 0.1,
        max_q_factor: float = 4.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require(self, "sample_rate", sample_rate, 100)
        if num_bands < 0 or num_bands != int(num_bands):
            name = type(self).__name__
            raise ConfigError(f"{name}.num_bands: {num_bands} is not a whole number from 0 on")
        self.sample_rate = sample_rate
        self.num_bands = num_bands
        self.cutoff = Range(min_cutoff_freq, max_cutoff_freq, 1, log=True)
        self.ranges = Ranges(
            self,
            gain_db=Range(min_gain_db, max_gain_db, -60, 60),
            q_factor=Range(min_q_factor, max_q_factor, 0.01, 100),
            cutoff_freq=self.cutoff,
        )

    def numbers(self, samples: int) -> int:
        """Those of each section."""
        return len(self.ranges) * (self.num_bands + 2)

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """An equaliser for each chosen stem."""
        sections = self.sections(uniform)
        tails = settling_time(sections, _RESIDUE)
        stems.filter(chosen, _equalize, {"sections": sections}, tails)

    def sections(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Equalisers (n, sections, 5), each b0, b1, b2, a1, a2 for a0 = 1, of (n, `numbers`)."""
        # (n, sections) of each parameter
        uniform = uniform.reshape(len(uniform), self.num_bands + 2, len(self.ranges))
        drawn = self.ranges.at(uniform)
        frequency = drawn["cutoff_freq"]
        frequency[:, 0] = _LOW_SHELF.at(uniform[:, 0, -1])
        frequency[:, -1] = _HIGH_SHELF.at(uniform[:, -1, -1])
        angle = 2 * math.pi * np.minimum(frequency / self.sample_rate, _HIGHEST)
        amplitude = 10 ** (drawn["gain_db"] / 40)
        alpha = np.sin(angle) / (2 * drawn["q_factor"])
        sections = _peaking(np.cos(angle), alpha, amplitude)
        for number, sign in ((0, 1), (-1, -1)):
            cosine = sign * np.cos(angle[:, number])
            sections[:, number] = _shelf(cosine, alpha[:, number], amplitude[:, number], sign)
        return sections


def _peaking(
    cosine: NDArray[np.float64], alpha: NDArray[np.float64], amplitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sections (..., 5) that have their gain at one frequency, 0 dB far from it."""
    boost, cut = alpha * amplitude, alpha / amplitude
    b = (1 + boost, -2 * cosine, 1 - boost)
    return np.stack([*b, -2 * cosine, 1 - cut], axis=-1) / (1 + cut)[..., None]


def _shelf(
    cosine: NDArray[np.float64],
    alpha: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    sign: int,
) -> NDArray[np.float64]:
    """Sections (..., 5) that have their gain below (sign 1) or above (-1, mirrored) a frequency."""
    slope = 2 * np.sqrt(amplitude) * alpha
    up, down = amplitude + 1, amplitude - 1
    b0, b2 = (amplitude * (up - down * cosine + s) for s in (slope, -slope))
    b1 = sign * 2 * amplitude * (down - up * cosine)
    a0, a2 = (up + down * cosine + s for s in (slope, -slope))
    a1 = sign * -2 * (down + up * cosine)
    return np.stack([b0, b1, b2, a1, a2], axis=-1) / a0[..., None]


def _equalize(spectra: Tensor, settings: Settings, n_fft: int) -> Tensor:
    return spectra * biquad_response(settings["sections"], n_fft, spectra)[:, None, None]


class Delay(DeviceEffect):
    """Add a decaying series of echoes to a stem.

    Args:
        sample_rate: in Hz.
        min_delay_seconds: shortest time between echoes.
        max_delay_seconds: longest time; log-uniform between the two.
        min_feedback: smallest ratio of an echo to the one before, from 0 to below 1.
        max_feedback: largest ratio; drawn uniformly between the two.
        min_mix: least part of echoes in the result, from 0 to 1.
        max_mix: largest part; drawn uniformly between the two.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_delay_seconds: float = 0.1,
        max_delay_seconds: float = 1.0,
        min_feedback: float = 0.05,
        max_feedback: float = 0.6,
        min_mix: float = 0.0,
        max_mix: float = 0.7,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require(self, "sample_rate", sample_rate, 1)
        self.sample_rate = sample_rate
        shortest = 1 / sample_rate
        self.ranges = Ranges(
            self,
            delay_seconds=Range(min_delay_seconds, max_delay_seconds, shortest, log=True),
            feedback=Range(min_feedback, max_feedback, 0, 0.999),
            mix=Range(min_mix, max_mix, 0, 1),
        )

    def numbers(self, samples: int) -> int:
        """One for each parameter."""
        return len(self.ranges)

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """Echoes for each chosen stem, as many as begin before its end and can be heard."""
        drawn = self.ranges.at(uniform)
        delay = np.maximum(1, (drawn["delay_seconds"] * self.sample_rate).astype(np.int64))
        audible = np.log(_RESIDUE) / np.log(np.maximum(drawn["feedback"], _RESIDUE)) + 1
        echoes = np.minimum((stems.samples - 1) // delay, np.ceil(audible)).astype(np.int64)
        settings = {**drawn, "delay": delay, "echoes": echoes}
        stems.filter(chosen, _echo, settings, delay * echoes)


def _echo(spectra: Tensor, settings: Settings, n_fft: int) -> Tensor:
    r"""1 - m + m z^{-D} \sum_{k < K} (f z^{-D})^k, by the sum of a geometric series."""
    feedback, mix = (on_device(settings[name][:, None], spectra) for name in ("feedback", "mix"))
    delay, echoes = settings["delay"][:, None], settings["echoes"][:, None]
    last = on_device(settings["feedback"][:, None] ** echoes, spectra)
    once = delayed(on_device(delay, spectra), n_fft, spectra)
    rest = 1 - last * delayed(on_device(delay * echoes, spectra), n_fft, spectra)
    response = 1 - mix + mix * once * rest * (1 - feedback * once).reciprocal()
    return spectra * response[:, None, None]
