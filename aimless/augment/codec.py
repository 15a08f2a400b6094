r"""What lossy coding leaves of music.

Not an encoder, but what its two losses do, in the spectrum of the MDCT that MP3 works with:
nothing is left above a cut-off that depends on the bit rate, and what is left is rounded so
coarsely that it fits the bit rate. The noise goes where a listener would notice it least: in
each band it is allowed to grow with the band's energy to the power 0.6, and is coarser by a
common factor until the bits of all bands,

    \sum_{lines} max(0, 1/2 log_2(energy / noise)),

are those of the frame (reverse water-filling). Rounding itself is MP3's, |x|^{3/4} to whole
numbers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimless.augment.base import DeviceEffect
from aimless.augment.lazy import LazyStems, on_device
from aimless.augment.mdct import inverse_mdct, mdct
from aimless.draws import Range, Ranges, require

__all__ = ["Codec"]

_LINES = 576  # of a granule

# Cut-offs in Hz that encoders choose for bit rates in kbit/s of stereo.
_RATES = (32, 64, 96, 128, 160, 192, 256, 320)
_CUTOFFS = (5500, 11000, 15100, 17000, 17500, 18600, 19700, 20500)

# Widths in Hz grow as those of critical bands do: 100 Hz below 500 Hz, a fifth above.
_NARROWEST_HZ, _WIDTH = 100.0, 0.2

_SHAPING = 0.6
_POWER, _ROUNDING = 0.75, 0.4054
_SEARCH_DB, _SEARCH_STEPS = 150.0, 14
_SMALLEST = 1e-20  # energy of a line that counts as silence
# Rounding of x^{3/4} to whole numbers at the scale d leaves about this part of d^2 as noise.
_NOISE = 12.0


class Codec(DeviceEffect):
    """Code a stem as MP3 does and decode it: band limit and quantisation noise.

    Args:
        sample_rate: in Hz.
        min_bitrate_kbps: lowest bit rate of two channels, from 8 kbit/s.
        max_bitrate_kbps: highest bit rate, to 640 kbit/s; log-uniform between the two. A channel
            gets half of it, whatever the number of channels.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same; nothing is late.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(
        self,
        sample_rate: int = 44100,
        min_bitrate_kbps: float = 64.0,
        max_bitrate_kbps: float = 320.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require(self, "sample_rate", sample_rate, 1000)
        self.sample_rate = sample_rate
        self.range = Range(min_bitrate_kbps, max_bitrate_kbps, 8, 640, log=True)
        Ranges(self, bitrate_kbps=self.range)

    def numbers(self, samples: int) -> int:
        """One."""
        return 1

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """A bit rate for each chosen stem."""
        bitrate = self.range.at(uniform[:, 0])
        stems.replace(chosen, lambda x: self._code(x, bitrate))

    def _code(self, x: Tensor, bitrate: NDArray[np.float64]) -> Tensor:
        spectra = mdct(x, _LINES)
        frequency = (np.arange(_LINES) + 0.5) * self.sample_rate / 2 / _LINES
        kept = frequency < np.interp(bitrate, _RATES, _CUTOFFS)[:, None]
        spectra = spectra * on_device(1.0 * kept, x)[:, None, None]
        bits = on_device(bitrate * 1000 / 2 * _LINES / self.sample_rate, x)
        with torch.no_grad():
            step = _step_sizes(spectra, bits[:, None, None], self.sample_rate)
            noise = _rounded(spectra, step) - spectra
        # gradients go straight through the rounding, which has none
        return inverse_mdct(spectra + noise, x.shape[-1])


def _step_sizes(spectra: Tensor, bits: Tensor, rate: int) -> Tensor:
    """Scale at which each line is rounded, (stems, channels, frames, lines).

    Args:
        spectra: (stems, channels, frames, lines).
        bits: of a frame of a channel, (stems, 1, 1).
        rate: in Hz.
    """
    band, width = (on_device(values, spectra) for values in _bands(rate))
    energy = spectra.new_zeros(*spectra.shape[:-1], len(width))
    energy = energy.index_add(-1, band, spectra.square()) / width
    energy = energy.clamp(min=_SMALLEST).log2()
    # in octaves of energy: noise = shaping * energy + level, as loud as the bits allow
    low = energy.amax(-1, keepdim=True) * (1 - _SHAPING) - _SEARCH_DB / 3.01
    high = energy.amax(-1, keepdim=True) * (1 - _SHAPING)
    for _ in range(_SEARCH_STEPS):
        level = (low + high) / 2
        needed = (energy * (1 - _SHAPING) - level).clamp(min=0) / 2
        too_many = (needed * width).sum(-1) > bits
        low = torch.where(too_many[..., None], level, low)
        high = torch.where(too_many[..., None], high, level)
    noise = energy * _SHAPING + high
    return ((noise / 2).exp2() * _NOISE**0.5).index_select(-1, band)


def _rounded(spectra: Tensor, step: Tensor) -> Tensor:
    """Lines as they are decoded: the sign times step * round((|x| / step)^{3/4})^{4/3}."""
    whole = ((spectra.abs() / step).pow(_POWER) + _ROUNDING).floor()
    return spectra.sign() * step * whole.pow(1 / _POWER)


@lru_cache(maxsize=8)
def _bands(rate: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The band of each line (lines), and how many lines each band has (bands)."""
    frequency = (np.arange(_LINES) + 0.5) * rate / 2 / _LINES
    edges = [0.0]
    while edges[-1] < rate / 2:
        edges.append(edges[-1] + max(_NARROWEST_HZ, _WIDTH * edges[-1]))
    band = np.searchsorted(edges, frequency, side="right") - 1
    # bands narrower than a line hold none
    _, band = np.unique(band, return_inverse=True)
    return band.astype(np.int64), np.bincount(band).astype(np.float64)
