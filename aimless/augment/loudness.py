"""Loudness after ITU-R BS.1770-4 (EBU R 128), of batches and without waiting for them."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimless.augment.base import DeviceEffect
from aimless.augment.lazy import LazyStems, on_device
from aimless.augment.spectral import biquad_response, filtered, settling_time, tail_class
from aimless.draws import require

__all__ = ["LoudnessNormalize", "block_power", "integrated_loudness"]

_LOWEST_GAIN_DB, _HIGHEST_GAIN_DB = -120.0, 40.0

_BLOCK = 0.4  # seconds; gating blocks overlap by three quarters
_HOPS_PER_BLOCK = 4
_OFFSET = -0.691  # dB; a full-scale 997 Hz sine in one channel reads -3.01 LUFS
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU below the mean of what passes the absolute gate

_FRONT_CHANNELS = 3
_SURROUND_WEIGHT = 1.41
_RESIDUE = 1e-6  # -120 dB


class LoudnessNormalize(DeviceEffect):
    """Bring a stem to a loudness, by a gain between -120 and 40 dB.

    A stem that is silent or shorter than 400 ms has no loudness and stays as it is.

    Args:
        target_lufs_db: loudness in LUFS.
        sample_rate: in Hz.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self, target_lufs_db: float = -32.0, sample_rate: int = 44100, p: float = 1.0
    ) -> None:
        super().__init__(p)
        require(self, "target_lufs_db", target_lufs_db, -120, 20)
        require(self, "sample_rate", sample_rate, 1)
        self.target_lufs_db = target_lufs_db
        self.sample_rate = sample_rate

    def numbers(self, samples: int) -> int:
        """None: it is what it is applied to that decides."""
        return 0

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """Measure the chosen stems and scale them."""
        stems.replace(chosen, self._normalize)

    def _normalize(self, x: Tensor) -> Tensor:
        loudness = integrated_loudness(x, self.sample_rate)
        gain_db = (self.target_lufs_db - loudness).clamp(_LOWEST_GAIN_DB, _HIGHEST_GAIN_DB)
        gain_db = torch.where(loudness.isfinite(), gain_db, 0.0)
        return x * (gain_db * (math.log(10) / 20)).exp()[:, None, None]


def integrated_loudness(x: Tensor, rate: int) -> Tensor:
    """Loudness of whole signals.

    Args:
        x: (signals, channels, samples). Channels are in the order left, right, centre, and then
            surround, which counts 1.5 dB more; one channel counts as left.
        rate: sample rate in Hz.

    Returns:
        LUFS (signals); -inf where a signal is shorter than a block of 400 ms, or nowhere louder
        than the absolute gate of -70 LUFS.
    """
    hop = _BLOCK / _HOPS_PER_BLOCK * rate
    if int(x.shape[-1] / hop + 1e-9) < _HOPS_PER_BLOCK:
        return x.new_full(x.shape[:1], -math.inf)
    sections = _k_weighting(rate)[None]
    tail = tail_class(int(settling_time(sections, _RESIDUE)[0]))
    weighted = filtered(
        x, tail, lambda spectra, n_fft: spectra * biquad_response(sections, n_fft, spectra)
    )
    power = block_power(weighted, hop)
    power = power * (_lufs(power) > _ABSOLUTE_GATE)
    gate = _lufs(_mean_of_positive(power)) + _RELATIVE_GATE
    return _lufs(_mean_of_positive(power * (_lufs(power) > gate[:, None])))


def block_power(x: Tensor, hop: float) -> Tensor:
    """Mean square of gating blocks, summed over the channels with their weights.

    Args:
        x: K-weighted (signals, channels, samples).
        hop: samples between blocks, which need not be a whole number.

    Returns:
        (signals, blocks)
    """
    hops = int(x.shape[-1] / hop + 1e-9)
    edges = np.round(np.arange(hops + 1) * hop).astype(np.int64)
    weights = np.where(np.arange(x.shape[1]) < _FRONT_CHANNELS, 1, _SURROUND_WEIGHT)
    square = (x.square() * on_device(weights[:, None], x)).sum(1)[:, : edges[-1]]
    lengths = np.diff(edges)
    if (lengths == lengths[0]).all():
        energy = square.view(len(x), hops, -1).sum(-1)
    else:
        within = np.arange(lengths.max())
        index = np.minimum(edges[:-1, None] + within, edges[-1] - 1)
        parts = square[:, on_device(index, x)]
        energy = (parts * on_device(1.0 * (within < lengths[:, None]), x)).sum(-1)
    blocks = energy.unfold(-1, _HOPS_PER_BLOCK, 1).sum(-1)
    return blocks / on_device(1.0 * (edges[_HOPS_PER_BLOCK:] - edges[:-_HOPS_PER_BLOCK]), x)


def _mean_of_positive(power: Tensor) -> Tensor:
    """Mean of what is greater than 0 along the last axis; 0 where nothing is."""
    return power.sum(-1) / (power > 0).sum(-1).clamp(min=1)


def _lufs(power: Tensor) -> Tensor:
    return _OFFSET + 10 * power.log10()


@lru_cache(maxsize=8)
def _k_weighting(rate: int) -> NDArray[np.float64]:
    """A high shelf of 4 dB for the head and a second-order high-pass, (2, 5).

    BS.1770 gives coefficients for 48 kHz. They are bilinear transforms of two analogue
    sections, whose parameters follow from the coefficients (Brecht De Man, "Evaluation of
    implementations of the EBU R128 loudness measurement", AES 145, 2018).
    """
    shelf_hz, gain_db, quality = 1681.974450955533, 3.999843853973347, 0.7071752369554196
    k = math.tan(math.pi * min(shelf_hz / rate, 0.499))
    high = 10 ** (gain_db / 20)
    middle = high**0.4996667741545416
    a0 = 1 + k / quality + k * k
    b0, b2 = ((high + sign * middle * k / quality + k * k) / a0 for sign in (1, -1))
    shelf = [b0, 2 * (k * k - high) / a0, b2, *_poles(k, quality)]
    pass_hz, quality = 38.13547087602444, 0.5003270373238773
    k = math.tan(math.pi * min(pass_hz / rate, 0.499))
    return np.array([shelf, [1.0, -2.0, 1.0, *_poles(k, quality)]])


def _poles(k: float, quality: float) -> tuple[float, float]:
    a0 = 1 + k / quality + k * k
    return 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0
