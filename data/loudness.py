"""Integrated loudness after ITU-R BS.1770-4 (EBU R 128)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["integrated_loudness", "k_weighting"]

_BLOCK = 0.4  # seconds; gating blocks overlap by three quarters
_HOPS_PER_BLOCK = 4
_OFFSET = -0.691  # dB; a full-scale 997 Hz sine in one channel reads -3.01 LUFS
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU below the mean of what passes the absolute gate

_FRONT_CHANNELS = 3
_SURROUND_WEIGHT = 1.41


def integrated_loudness(audio: NDArray[np.float32], rate: int) -> float:
    """Loudness of a whole signal.

    Args:
        audio: (channels, samples). Channels are in the order left, right, centre, and then
            surround, which counts 1.5 dB more; one channel counts as left.
        rate: sample rate in Hz.

    Returns:
        LUFS; -inf if the signal is shorter than a block of 400 ms, or nowhere louder than the
        absolute gate of -70 LUFS.

    Raises:
        ConfigError: numba is not installed.
    """
    from data.kernels.lanes import biquads

    power = _block_power(biquads(audio, _sections(rate)), rate)
    power = power[_to_lufs(power) > _ABSOLUTE_GATE]
    if not len(power):
        return -np.inf
    gate = _to_lufs(power.mean()) + _RELATIVE_GATE
    return float(_to_lufs(power[_to_lufs(power) > gate].mean()))


def k_weighting(frequency: NDArray[np.floating], rate: int) -> NDArray[np.complex128]:
    """Complex response of the K-weighting filter at frequencies in Hz.

    BS.1770 gives coefficients for 48 kHz. They are bilinear transforms of two analogue
    sections, whose parameters follow from the coefficients (Brecht De Man, "Evaluation of
    implementations of the EBU R128 loudness measurement", AES 145, 2018): a high shelf of 4 dB
    for the head, and a second-order high-pass.
    """
    z = np.exp(-2j * np.pi * frequency / rate)
    response = np.ones_like(z)
    for b0, b1, b2, a1, a2 in _sections(rate):
        response *= (b0 + z * (b1 + z * b2)) / (1 + z * (a1 + z * a2))
    return response


@lru_cache(maxsize=8)
def _sections(rate: int) -> NDArray[np.float64]:
    """The shelf and the high-pass, each b0, b1, b2, a1, a2."""
    return np.array([_shelf(rate), _high_pass(rate)])


def _shelf(rate: int) -> list[float]:
    centre, gain_db, quality = 1681.974450955533, 3.999843853973347, 0.7071752369554196
    k = np.tan(np.pi * min(centre / rate, 0.499))
    high = 10 ** (gain_db / 20)
    middle = high**0.4996667741545416
    a0 = 1 + k / quality + k * k
    b = (
        high + middle * k / quality + k * k,
        2 * (k * k - high),
        high - middle * k / quality + k * k,
    )
    return [*(value / a0 for value in b), *_poles(k, quality)]


def _high_pass(rate: int) -> list[float]:
    centre, quality = 38.13547087602444, 0.5003270373238773
    k = np.tan(np.pi * min(centre / rate, 0.499))
    return [1.0, -2.0, 1.0, *_poles(k, quality)]  # the standard leaves it unscaled


def _poles(k: float, quality: float) -> tuple[float, float]:
    a0 = 1 + k / quality + k * k
    return 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0


def _block_power(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Mean square of each gating block, summed over the channels with their weights."""
    hop = _BLOCK / _HOPS_PER_BLOCK * rate
    hops = int(audio.shape[1] / hop + 1e-9)
    if hops < _HOPS_PER_BLOCK:
        return np.empty(0)
    edges = np.round(np.arange(hops + 1) * hop).astype(int)
    weights = np.where(np.arange(len(audio)) < _FRONT_CHANNELS, 1, _SURROUND_WEIGHT)
    energy = np.array(
        [
            weights @ np.einsum("ct,ct->c", part, part)
            for part in np.split(audio[:, : edges[-1]], edges[1:-1], axis=1)
        ]
    )
    blocks = np.lib.stride_tricks.sliding_window_view(energy, _HOPS_PER_BLOCK).sum(1)
    return blocks / (edges[_HOPS_PER_BLOCK:] - edges[:-_HOPS_PER_BLOCK])


def _to_lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.asarray(_OFFSET + 10 * np.log10(power))
