"""Sound effects: what is neither music nor speech, from noise, sines and a few resonances.

Every maker draws one sound of its kind, (samples,) of any level.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["EFFECTS", "draw_effect"]

Audio = NDArray[np.float64]
Maker = Callable[[np.random.Generator, int], Audio]


def draw_effect(rng: np.random.Generator, rate: int) -> tuple[str, NDArray[np.float32]]:
    """A sound of any kind and its name; its peak is 1."""
    name = str(rng.choice(list(EFFECTS)))
    sound = EFFECTS[name](rng, rate)
    fade = min(len(sound) // 4, rate // 50)
    sound[:fade] *= np.linspace(0, 1, fade)
    sound[len(sound) - fade :] *= np.linspace(1, 0, fade)
    return name, (sound / max(np.abs(sound).max(), 1e-9)).astype(np.float32)


def _time(seconds: float, rate: int) -> Audio:
    return np.arange(round(seconds * rate)) / rate


def _noise(
    rng: np.random.Generator, count: int, rate: int, low: float, high: float, slope: float = 0.0
) -> Audio:
    """Noise between two frequencies in Hz that falls by `slope` dB per octave."""
    size = 1 << max(count - 1, 1).bit_length()  # lengths that are quick to transform
    bins = np.fft.rfftfreq(size, 1 / rate)
    gain = np.zeros(len(bins))
    inside = (bins >= low) & (bins <= high) & (bins > 0)
    gain[inside] = (bins[inside] / low) ** (-slope / 6.02)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * gain, size)[:count]
    return noise / max(np.abs(noise).max(), 1e-9)


def _slow(rng: np.random.Generator, count: int, rate: int, points_per_second: float) -> Audio:
    """A curve from 0 to 1 that wanders."""
    points = max(2, round(count / rate * points_per_second) + 1)
    return np.interp(np.linspace(0, points - 1, count), np.arange(points), rng.random(points))


def _scatter(
    rng: np.random.Generator,
    events: NDArray[np.floating],
    count: int,
    rate: int,
    make: Callable[[], Audio],
) -> Audio:
    """A sound at each of some moments in seconds."""
    out = np.zeros(count)
    for moment in events:
        start = round(moment * rate)
        sound = make()[: count - start]
        out[start : start + len(sound)] += rng.uniform(0.5, 1) * sound
    return out


def _rain(rng: np.random.Generator, rate: int) -> Audio:
    count = round(rng.uniform(5, 15) * rate)
    drops = np.where(rng.random(count) < 40 / rate, rng.standard_normal(count), 0)
    return _noise(rng, count, rate, 800, 16000, 3) * 0.5 + np.convolve(
        drops, np.hanning(20), "same"
    )


def _wind(rng: np.random.Generator, rate: int) -> Audio:
    count = round(rng.uniform(5, 15) * rate)
    gusts = _slow(rng, count, rate, 0.7)
    return _noise(rng, count, rate, 80, 1500, 4) * (0.2 + gusts) + 0.4 * gusts**2 * _noise(
        rng, count, rate, 500, 900
    )


def _footsteps(rng: np.random.Generator, rate: int) -> Audio:
    pace = rng.uniform(0.4, 0.8)
    steps = np.arange(0.05, rng.uniform(2, 7), pace)
    steps = steps + 0.03 * rng.random(len(steps))
    low = rng.uniform(80, 300)

    def step() -> Audio:
        time = _time(0.15, rate)
        return _noise(rng, len(time), rate, low, 5000, 6) * np.exp(-time / 0.03)

    return _scatter(rng, steps, round((steps[-1] + 0.3) * rate), rate, step)


def _door(rng: np.random.Generator, rate: int) -> Audio:
    """A creak, and a slam."""
    creak = _time(rng.uniform(0.4, 1.2), rate)
    pulses = 40 + 60 * _slow(rng, len(creak), rate, 6)
    buzz = np.sin(2 * np.pi * np.cumsum(pulses) / rate) > 0.9
    slam = _time(0.6, rate)
    thump = np.sin(2 * np.pi * 70 * slam) + _noise(rng, len(slam), rate, 60, 4000, 6)
    return np.concatenate(
        [0.2 * buzz * np.sin(2 * np.pi * 900 * creak), thump * np.exp(-slam / 0.1)]
    )


def _siren(rng: np.random.Generator, rate: int) -> Audio:
    time = _time(rng.uniform(3, 8), rate)
    low, high = rng.uniform(400, 700), rng.uniform(900, 1500)
    between = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.2, 3) * time)
    phase = 2 * np.pi * np.cumsum(low + (high - low) * between) / rate
    return (np.sin(phase) + 0.4 * np.sin(3 * phase)) * (0.3 + 0.7 * np.sin(np.pi * time / time[-1]))


def _telephone(rng: np.random.Generator, rate: int) -> Audio:
    time = _time(rng.uniform(2, 6), rate)
    first, second = rng.uniform(400, 900), rng.uniform(900, 1600)
    ringing = (time % rng.uniform(1.5, 3)) < 1
    warble = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 20 * time))
    return ringing * warble * (np.sin(2 * np.pi * first * time) + np.sin(2 * np.pi * second * time))


def _engine(rng: np.random.Generator, rate: int) -> Audio:
    time = _time(rng.uniform(4, 10), rate)
    speed = rng.uniform(25, 60) * (1 + _slow(rng, len(time), rate, 0.5))
    phase = 2 * np.pi * np.cumsum(speed) / rate
    cycle = sum(np.sin(number * phase + number**2) / number for number in range(1, 12))
    return cycle + 0.5 * _noise(rng, len(time), rate, 60, 3000, 4)


def _glass(rng: np.random.Generator, rate: int) -> Audio:
    moments = np.concatenate([[0.0], rng.exponential(0.15, 14)])

    def shard() -> Audio:
        time = _time(0.4, rate)
        partials = rng.uniform(2500, 12000, 5)
        return np.sin(2 * np.pi * partials[:, None] * time).sum(0) * np.exp(-time / 0.06)

    out = _scatter(rng, moments, round((moments.max() + 0.5) * rate), rate, shard)
    crash = _time(0.1, rate)
    out[: len(crash)] += 6 * _noise(rng, len(crash), rate, 1500, 16000) * np.exp(-crash / 0.02)
    return out


def _explosion(rng: np.random.Generator, rate: int) -> Audio:
    time = _time(rng.uniform(1.5, 4), rate)
    return _noise(rng, len(time), rate, 30, 6000, 6) * np.exp(-time / rng.uniform(0.3, 0.9))


def _birds(rng: np.random.Generator, rate: int) -> Audio:
    seconds = rng.uniform(2, 6)
    moments = np.sort(rng.uniform(0, seconds - 0.3, rng.integers(4, 16)))
    base = rng.uniform(2500, 5000)

    def chirp() -> Audio:
        time = _time(rng.uniform(0.05, 0.2), rate)
        sweep = base * (1 + rng.uniform(-0.4, 0.4) * time / time[-1])
        trill = 0.05 * base * np.sin(2 * np.pi * rng.uniform(15, 40) * time)
        return np.sin(2 * np.pi * np.cumsum(sweep + trill) / rate) * np.hanning(len(time))

    return _scatter(rng, moments, round(seconds * rate), rate, chirp)


def _typing(rng: np.random.Generator, rate: int) -> Audio:
    moments = np.cumsum(rng.uniform(0.07, 0.25, rng.integers(10, 40)))

    def click() -> Audio:
        time = _time(0.04, rate)
        return _noise(rng, len(time), rate, 900, 8000) * np.exp(-time / 0.006)

    return _scatter(rng, moments, round((moments[-1] + 0.1) * rate), rate, click)


def _alarm(rng: np.random.Generator, rate: int) -> Audio:
    time = _time(rng.uniform(1.5, 5), rate)
    period = rng.uniform(0.2, 0.8)
    frequency = rng.uniform(800, 3000)
    on = (time % period) < period / 2
    return np.where(on, np.sign(np.sin(2 * np.pi * frequency * time)), 0.0)


def _water(rng: np.random.Generator, rate: int) -> Audio:
    """Bubbles: short sines that rise, in a stream."""
    seconds = rng.uniform(3, 8)
    moments = np.sort(rng.uniform(0, seconds - 0.1, round(30 * seconds)))

    def bubble() -> Audio:
        time = _time(0.05, rate)
        frequency = rng.uniform(400, 2500)
        return np.sin(2 * np.pi * frequency * (1 + 3 * time) * time) * np.exp(-time / 0.012)

    count = round(seconds * rate)
    return _scatter(rng, moments, count, rate, bubble) + 0.3 * _noise(
        rng, count, rate, 400, 6000, 4
    )


EFFECTS: dict[str, Maker] = {
    "rain": _rain,
    "wind": _wind,
    "footsteps": _footsteps,
    "door": _door,
    "siren": _siren,
    "telephone": _telephone,
    "engine": _engine,
    "glass": _glass,
    "explosion": _explosion,
    "birds": _birds,
    "typing": _typing,
    "alarm": _alarm,
    "water": _water,
}
