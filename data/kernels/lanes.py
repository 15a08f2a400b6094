r"""Recursive filters on many stretches of a signal at once.

A recursion over samples cannot be vectorised along time. But all filters here forget: after
enough samples the state does not depend on where it began. So each channel is cut into 8
stretches that run side by side in the lanes of the processor's vector registers, each from
`warm` samples before its beginning, with a state of zero:

    channel 0   |-------|-------|-------|-------|
    lane 0  ....|=======|                           .... warm-up, thrown away
    lane 1          ....|=======|                   ==== kept
    lane 2                  ....|=======|

Tiles of 128 samples of all lanes are turned (samples, lanes) and back.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from data.kernels.jit import jit

__all__ = ["biquads", "compress"]

Audio = NDArray[np.float32]

_STRETCHES = 8  # per channel
_TILE = 128  # samples

# What the warm-up leaves of a state: -160 dB for filters, -120 dB for envelopes.
_FILTER_RESIDUE = 1e-8
_ENVELOPE_RESIDUE = 1e-6

# States below this are set to zero: they would decay into subnormal numbers, which are slow.
_TINY = 1e-30
# The same for envelopes, added to what they follow.
_FLOOR = np.float32(1e-18)

_ONE = np.float32(1)
_HALF = np.float32(0.5)


def biquads(audio: Audio, sections: NDArray[np.float64]) -> Audio:
    """Filter by second-order sections in series; state and products are in float64.

    Args:
        audio: (channels, samples).
        sections: (sections, 5), each b0, b1, b2, a1, a2 for a0 = 1, all poles inside the unit
            circle.

    Returns:
        (channels, samples), a new array.
    """
    padded, out, tile, warm = _prepare(audio, _settling_time(sections))
    _run_biquads(padded, out, tile, sections, warm)
    return out[:, : audio.shape[1]]


def compress(
    audio: Audio, threshold: float, slope: float, attack: float, release: float, makeup: float
) -> Audio:
    r"""Turn down what is louder than a threshold, each channel by itself.

    An envelope e follows the magnitude with one coefficient while it rises and one while it
    falls, e[n] = |x[n]| + c (e[n-1] - |x[n]|). The gain is (e / threshold)^slope where the
    envelope is above the threshold, and 1 elsewhere.

    Args:
        audio: (channels, samples).
        threshold: linear, greater than 0.
        slope: 1 / ratio - 1, from -1 to 0.
        attack: c while the magnitude is above the envelope, from 0 to below 1.
        release: c otherwise.
        makeup: linear gain of the result.

    Returns:
        (channels, samples), a new array.
    """
    decay = max(attack, release, 0.5)
    padded, out, tile, warm = _prepare(audio, math.log(_ENVELOPE_RESIDUE) / math.log(decay))
    numbers = np.array([threshold, slope, attack, release, makeup], np.float32)
    _run_compressor(padded, out, tile, numbers, warm)
    return out[:, : audio.shape[1]]


def _settling_time(sections: NDArray[np.float64]) -> float:
    """Samples after which sections in series have forgotten their state.

    That of the slowest section; the others, should their poles be near, make the decay less
    than exponential at first, for which four time constants of each are added.
    """
    radii = [np.abs(np.roots([1, *section[3:]])).max() for section in sections]
    constants = [-1 / math.log(max(radius, 0.1)) for radius in radii]
    return 4 * sum(constants) - math.log(_FILTER_RESIDUE) * max(constants)


def _prepare(audio: Audio, settling_time: float) -> tuple[Audio, Audio, Audio, int]:
    """The signal between zeros, space for the result and for a tile, samples of warm-up."""
    channels, samples = audio.shape
    spacing = _TILE * math.ceil(samples / (_TILE * _STRETCHES))
    warm = _TILE * math.ceil(min(settling_time, samples) / _TILE)
    padded = np.zeros((channels, warm + _STRETCHES * spacing), np.float32)
    padded[:, warm : warm + samples] = audio
    out = np.empty((channels, _STRETCHES * spacing), np.float32)
    return padded, out, np.empty((_TILE, channels * _STRETCHES), np.float32), warm


@jit
def _run_biquads(
    padded: Audio, out: Audio, tile: Audio, sections: NDArray[np.float64], warm: int
) -> None:
    spacing = out.shape[1] // _STRETCHES
    state = np.zeros((len(sections), 2, tile.shape[1]))
    for first in range(0, warm + spacing, _TILE):
        _read(padded, first, spacing, tile)
        for number in range(len(sections)):
            section = sections[number]
            _flush(state[number])
            _filter(tile, state[number], section)
        if first >= warm:
            _write(tile, first - warm, spacing, out)


@jit
def _run_compressor(padded: Audio, out: Audio, tile: Audio, numbers: Audio, warm: int) -> None:
    threshold, slope, attack, release, makeup = numbers
    spacing = out.shape[1] // _STRETCHES
    envelope = np.zeros(tile.shape[1], np.float32)
    levels = np.empty_like(tile)
    for first in range(0, warm + spacing, _TILE):
        _read(padded, first, spacing, tile)
        _follow(tile, envelope, levels, attack, release)
        if first >= warm:
            _turn_down(tile, levels, _ONE / threshold, slope, makeup)
            _write(tile, first - warm, spacing, out)


@jit
def _read(padded: Audio, first: int, spacing: int, tile: Audio) -> None:
    lane = 0
    for channel in range(len(padded)):
        for stretch in range(_STRETCHES):
            begin = first + stretch * spacing
            part = padded[channel, begin : begin + _TILE]
            for step in range(_TILE):
                tile[step, lane] = part[step]
            lane += 1


@jit
def _write(tile: Audio, first: int, spacing: int, out: Audio) -> None:
    lane = 0
    for channel in range(len(out)):
        for stretch in range(_STRETCHES):
            begin = first + stretch * spacing
            part = out[channel, begin : begin + _TILE]
            for step in range(_TILE):
                part[step] = tile[step, lane]
            lane += 1


@jit
def _flush(state: NDArray[np.float64]) -> None:
    for row in state:
        for lane in range(len(row)):
            row[lane] = row[lane] if abs(row[lane]) > _TINY else 0.0


@jit
def _filter(tile: Audio, state: NDArray[np.float64], section: NDArray[np.float64]) -> None:
    """One section, in place. Four samples a turn, since loading the state takes longest."""
    b0, b1, b2, a1, a2 = section
    first, second = state[0], state[1]
    # With the constant _TILE the compiler asks once whether tile and tile overlap, finds that they
    # do, and does not vectorise; with the length it asks for each set of rows.
    for step in range(0, len(tile) - 3, 4):
        for lane in range(tile.shape[1]):
            p, q = first[lane], second[lane]
            y0, p, q = _step(tile[step, lane], p, q, b0, b1, b2, a1, a2)
            y1, p, q = _step(tile[step + 1, lane], p, q, b0, b1, b2, a1, a2)
            y2, p, q = _step(tile[step + 2, lane], p, q, b0, b1, b2, a1, a2)
            y3, p, q = _step(tile[step + 3, lane], p, q, b0, b1, b2, a1, a2)
            first[lane], second[lane] = p, q
            tile[step, lane], tile[step + 1, lane] = y0, y1
            tile[step + 2, lane], tile[step + 3, lane] = y2, y3


@jit
def _step(
    x: float, p: float, q: float, b0: float, b1: float, b2: float, a1: float, a2: float
) -> tuple[float, float, float]:
    """A sample of a section in transposed direct form II: output and the two states."""
    y = b0 * x + p
    return y, b1 * x - a1 * y + q, b2 * x - a2 * y


@jit
def _follow(
    tile: Audio, envelope: Audio, levels: Audio, attack: np.float32, release: np.float32
) -> None:
    for step in range(0, len(tile) - 3, 4):
        for lane in range(tile.shape[1]):
            e0 = _ballistics(tile[step, lane], envelope[lane], attack, release)
            e1 = _ballistics(tile[step + 1, lane], e0, attack, release)
            e2 = _ballistics(tile[step + 2, lane], e1, attack, release)
            e3 = _ballistics(tile[step + 3, lane], e2, attack, release)
            envelope[lane] = e3
            levels[step, lane], levels[step + 1, lane] = e0, e1
            levels[step + 2, lane], levels[step + 3, lane] = e2, e3


@jit
def _ballistics(
    x: np.float32, envelope: np.float32, attack: np.float32, release: np.float32
) -> np.float32:
    level = abs(x) + _FLOOR
    coefficient = attack if level > envelope else release
    return level + coefficient * (envelope - level)


@jit
def _turn_down(
    tile: Audio, levels: Audio, scale: np.float32, slope: np.float32, makeup: np.float32
) -> None:
    for step in range(_TILE):
        for lane in range(tile.shape[1]):
            excess = max(levels[step, lane] * scale, _ONE)
            tile[step, lane] *= makeup * _exp2(slope * _log2(excess))


# Series instead of the C library's functions, which are not vectorised; float32 throughout,
# since a literal would make numba go on in float64.
_LOG_ODD = tuple(np.float32(2 / math.log(2) / k) for k in (9, 7, 5, 3, 1))
_EXP = tuple(np.float32(math.log(2) ** k / math.factorial(k)) for k in (7, 6, 5, 4, 3, 2, 1))
_ROOT_HALF_BITS = np.int32(np.float32(math.sqrt(0.5)).view(np.int32))
_MANTISSA_BITS = np.int32(23)
_BIAS = np.int32(127)


@jit
def _log2(x: np.float32) -> np.float32:
    """Binary logarithm of a positive float32, to 1e-7."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _ROOT_HALF_BITS) >> _MANTISSA_BITS)
    mantissa = np.int32(bits - np.int32(exponent << _MANTISSA_BITS)).view(np.float32)
    ratio = (mantissa - _ONE) / (mantissa + _ONE)
    square = ratio * ratio
    total = _LOG_ODD[0]
    total = total * square + _LOG_ODD[1]
    total = total * square + _LOG_ODD[2]
    total = total * square + _LOG_ODD[3]
    total = total * square + _LOG_ODD[4]
    return np.float32(exponent) + ratio * total


@jit
def _exp2(x: np.float32) -> np.float32:
    """Power of two of a float32 from -126 to 0, relative error 1e-7."""
    whole = np.int32(x - _HALF)  # towards zero, so this rounds
    rest = x - np.float32(whole)
    total = _EXP[0]
    total = total * rest + _EXP[1]
    total = total * rest + _EXP[2]
    total = total * rest + _EXP[3]
    total = total * rest + _EXP[4]
    total = total * rest + _EXP[5]
    total = total * rest + _EXP[6]
    power = np.int32((whole + _BIAS) << _MANTISSA_BITS).view(np.float32)
    return power * (total * rest + _ONE)
