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

# The high-pass rings on longest: its poles at 38 Hz take it below -90 dB in this time, seconds.
_TAIL = 0.06


def integrated_loudness(audio: NDArray[np.float32], rate: int) -> float:
    """Loudness of a whole signal.

    Args:
        audio: (channels, samples). Channels are in the order left, right, centre, and then
            surround, which counts 1.5 dB more; one channel counts as left.
        rate: sample rate in Hz.

    Returns:
        LUFS; -inf if the signal is shorter than a block of 400 ms, or nowhere louder than the
        absolute gate of -70 LUFS.
    """
    power = _block_power(_filter(audio, rate), rate)
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
    return _shelf(z, rate) * _high_pass(z, rate)


def _shelf(z: NDArray[np.complex128], rate: int) -> NDArray[np.complex128]:
    centre, gain_db, quality = 1681.974450955533, 3.999843853973347, 0.7071752369554196
    k = np.tan(np.pi * min(centre / rate, 0.499))
    high = 10 ** (gain_db / 20)
    middle = high**0.4996667741545416
    b = (
        high + middle * k / quality + k * k,
        2 * (k * k - high),
        high - middle * k / quality + k * k,
    )
    return _biquad(z, b, k, quality)


def _high_pass(z: NDArray[np.complex128], rate: int) -> NDArray[np.complex128]:
    centre, quality = 38.13547087602444, 0.5003270373238773
    k = np.tan(np.pi * min(centre / rate, 0.499))
    # The standard leaves the numerator unscaled: 1, -2, 1.
    scale = 1 + k / quality + k * k
    return _biquad(z, (scale, -2 * scale, scale), k, quality)


def _biquad(
    z: NDArray[np.complex128], b: tuple[float, float, float], k: float, quality: float
) -> NDArray[np.complex128]:
    a = (1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k)
    return (b[0] + z * (b[1] + z * b[2])) / (a[0] + z * (a[1] + z * a[2]))


@lru_cache(maxsize=8)
def _kernel(rate: int) -> tuple[NDArray[np.complex64], int]:
    """Response for overlap-save blocks, and how many samples of each block are of no use."""
    tail = round(_TAIL * rate)
    n_fft = 1 << (4 * tail).bit_length()
    return k_weighting(np.fft.rfftfreq(n_fft, 1 / rate), rate).astype(np.complex64), tail


def _filter(audio: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """K-weighted signal (channels, samples), by overlap-save.

    Blocks stay in the cache, which a transform of the whole signal does not.
    """
    response, tail = _kernel(rate)
    n_fft = 2 * (len(response) - 1)
    hop = n_fft - tail
    channels, samples = audio.shape
    blocks = -(-samples // hop)
    padded = np.zeros((channels, tail + blocks * hop), np.float32)
    padded[:, tail : tail + samples] = audio
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=1)[:, ::hop]
    out = np.empty((channels, blocks, hop), np.float32)
    for block in range(blocks):
        spectrum = np.fft.rfft(windows[:, block]) * response
        out[:, block] = np.fft.irfft(spectrum, n_fft)[:, tail:]
    return out.reshape(channels, -1)[:, :samples]


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
