r"""The Schroeder-Moorer reverberator known as Freeverb, a block of samples at a time.

Eight comb filters side by side, each with a one-pole low-pass in its loop, then four all-pass
filters in series (Moorer, "About this reverberation business", 1979; delays and gains are those
that Jezar at Dreampoint gave to the public domain). For a comb of delay D,

    line[n] = x[n] + g low[n],    low[n] = (1 - d) \sum_k d^k line[n - D - k],

and its output is line[n - D]. Over blocks no longer than the delay, everything on the right is
known, so that each step is a vector operation. The sum over k ends at 32 terms: d is at most
0.5, and what follows is below -190 dB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.kernels.jit import jit

__all__ = ["MAX_DAMPING", "reverberate"]

Audio = NDArray[np.float32]

MAX_DAMPING = 0.5

_COMBS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)  # samples at 44.1 kHz
_ALL_PASSES = (556, 441, 341, 225)
_TUNED_FOR = 44100

_TAPS = 32
_CHUNK = 4096  # samples that are worked on while they are in the cache

# Anything below is set to zero in the loops: subnormal numbers are slow.
_TINY = np.float32(1e-25)
_HALF = np.float32(0.5)


def reverberate(
    signal: Audio, rate: int, feedback: float, damping: float, spread: int = 0, scale: float = 1.0
) -> Audio:
    """The reverberation of one signal, without the signal itself.

    Args:
        signal: (samples,).
        rate: sample rate in Hz.
        feedback: gain of the loops, below 1.
        damping: coefficient of the low-pass in the loops, from 0 to MAX_DAMPING.
        spread: samples, at 44.1 kHz, by which all delays are longer; tells left from right.
        scale: factor of the comb filters' delays.

    Returns:
        (samples,), a new array.
    """
    combs = _delays(_COMBS, rate, spread, scale)
    all_passes = _delays(_ALL_PASSES, rate, spread, 1.0)
    comb_lines = np.zeros((len(combs), combs.max() + _TAPS + _CHUNK), np.float32)
    pass_lines = np.zeros((len(all_passes), all_passes.max() + _CHUNK), np.float32)
    scratch = np.zeros((2, _TAPS + max(combs.max(), all_passes.max())), np.float32)
    out = np.zeros(len(signal), np.float32)
    powers = np.array([damping**k for k in (1, 2, 3, 4, 8, 12, 16)], np.float32)
    gains = np.array([feedback * (1 - damping), *powers], np.float32)
    _run(
        np.ascontiguousarray(signal), out, combs, comb_lines, all_passes, pass_lines, gains, scratch
    )
    return out


def _delays(tuning: tuple[int, ...], rate: int, spread: int, scale: float) -> NDArray[np.int64]:
    return np.array([max(1, int(scale * (delay + spread) * rate / _TUNED_FOR)) for delay in tuning])


@jit
def _run(
    signal: Audio,
    out: Audio,
    combs: NDArray[np.int64],
    comb_lines: Audio,
    all_passes: NDArray[np.int64],
    pass_lines: Audio,
    gains: Audio,
    scratch: Audio,
) -> None:
    """Lines hold what was written to them last, then space for a chunk."""
    for begin in range(0, len(signal), _CHUNK):
        x = signal[begin : begin + _CHUNK]
        y = out[begin : begin + _CHUNK]
        for number in range(len(combs)):
            history = combs[number] + _TAPS
            _comb(comb_lines[number], combs[number], x, y, gains, scratch)
            _forget(comb_lines[number], history, len(x))
        for number in range(len(all_passes)):
            _all_pass(pass_lines[number], all_passes[number], y, scratch[0])
            _forget(pass_lines[number], all_passes[number], len(x))


@jit
def _comb(line: Audio, delay: int, x: Audio, y: Audio, gains: Audio, scratch: Audio) -> None:
    """Add the output of a comb for input x to y."""
    gain, d1, d2, d3, d4, d8, d12, d16 = gains
    for begin in range(0, len(x), delay):
        size = min(delay, len(x) - begin)
        past = line[begin : begin + _TAPS + size]  # ends with line[n - D]
        # Sums of 4, then 16 powers of d.
        _sum_taps(past, 1, d1, d2, d3, scratch[0])
        _sum_taps(scratch[0, : len(past)], 4, d4, d8, d12, scratch[1])
        late, early = scratch[1, _TAPS:], scratch[1, _TAPS // 2 :]
        new = line[begin + delay + _TAPS :]
        given, summed, delayed = x[begin:], y[begin:], past[_TAPS:]
        for i in range(size):
            new[i] = _flush(given[i] + gain * (late[i] + d16 * early[i]))
        for i in range(size):
            summed[i] += delayed[i]


@jit
def _sum_taps(x: Audio, step: int, g1: float, g2: float, g3: float, out: Audio) -> None:
    """out[i] = x[i] + g1 x[i - step] + g2 x[i - 2 step] + g3 x[i - 3 step], where there are all."""
    x0, x1, x2 = x[3 * step :], x[2 * step :], x[step:]
    y = out[3 * step :]
    for i in range(len(x0)):
        y[i] = x0[i] + g1 * x1[i] + (g2 * x2[i] + g3 * x[i])


@jit
def _all_pass(line: Audio, delay: int, y: Audio, scratch: Audio) -> None:
    """Replace y by the output of an all-pass with a gain of a half."""
    for begin in range(0, len(y), delay):
        size = min(delay, len(y) - begin)
        past, new, signal = line[begin:], line[begin + delay :], y[begin:]
        for i in range(size):
            scratch[i] = past[i]
        for i in range(size):
            new[i] = _flush(signal[i] + _HALF * scratch[i])
            signal[i] = scratch[i] - signal[i]


@jit
def _forget(line: Audio, keep: int, written: int) -> None:
    last = line[written:]
    for i in range(keep):
        line[i] = last[i]


@jit
def _flush(x: np.float32) -> np.float32:
    return x if abs(x) > _TINY else np.float32(0)
