"""Division of a spectrum into bands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from aimless.errors import ConfigError

__all__ = ["MUSIC_EDGES", "band_widths"]

# 42 bands, narrow where music has its fundamentals; Luo and Yu, "Music source separation with
# band-split RNN" (IEEE/ACM TASLP 2023), call a like division V7.
MUSIC_EDGES = (
    *range(100, 1001, 100),
    *range(1250, 4001, 250),
    *range(4500, 8001, 500),
    *range(9000, 16001, 1000),
    18000,
    20000,
    22000,
)


def band_widths(edges: Sequence[float], n_fft: int, sample_rate: int) -> list[int]:
    """Bins of each band of a spectrum that is cut at some frequencies.

    Args:
        edges: in Hz, increasing, without the lowest and the highest frequency. The bin at or
            just below an edge is the first of the next band.
        n_fft: FFT length, for n_fft // 2 + 1 bins.
        sample_rate: in Hz.

    Returns:
        One number more than there are edges, all at least 1; their sum is the number of bins.

    Raises:
        ConfigError: edges do not increase or lie outside 0 to half the sample rate, or two are
            so close that no bin lies between them.

    >>> band_widths([100, 300, 600], 512, 44100)
    [1, 2, 3, 251]
    """
    bounds = [0, *(int(n_fft * edge / sample_rate) for edge in edges), n_fft // 2 + 1]
    for below, edge in zip([0, *edges], edges):
        if not below < edge:
            raise ConfigError(f"split_freqs: {edge} Hz does not lie above {below} Hz before it")
        if edge > sample_rate / 2:
            raise ConfigError(
                f"split_freqs: {edge} Hz lies above {sample_rate / 2:g} Hz, half the sample rate"
            )
    widths = [stop - start for start, stop in pairwise(bounds)]
    if 0 in widths:
        band = widths.index(0)
        names = [*(f"{edge} Hz" for edge in edges), "the end"]
        raise ConfigError(
            f"split_freqs: no bin of n_fft {n_fft} lies between "
            f"{names[band - 1] if band else 0} and {names[band]}; bins are "
            f"{sample_rate / n_fft:.3g} Hz apart"
        )
    return widths
