"""Compressor and limiter against the plain recursion and against pedalboard."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aimless.draws import generator
from aimless.errors import ConfigError
from data.augment import RandomPedalboardCompressor, RandomPedalboardLimiter
from data.kernels.lanes import compress


def bursts(channels: int, frames: int, amplitude: float = 0.5) -> np.ndarray:
    """Noise with attacks, decays and silence."""
    rng = generator("bursts", channels, frames)
    time = np.arange(frames)
    envelope = np.exp(-(time % 9000) / 1500) * (time % 27000 < 20000)
    return (amplitude * envelope * rng.standard_normal((channels, frames))).astype(np.float32)


def plain_compressor(
    audio: np.ndarray, threshold: float, slope: float, attack: float, release: float
) -> np.ndarray:
    out = audio.astype(np.float64)
    for channel in out:
        envelope = 0.0
        for n, x in enumerate(channel):
            level = abs(x)
            envelope = level + (attack if level > envelope else release) * (envelope - level)
            if envelope > threshold:
                channel[n] *= (envelope / threshold) ** slope
    return out


@pytest.mark.parametrize(("channels", "frames"), [(1, 1), (2, 100), (3, 2000), (2, 30000)])
@pytest.mark.parametrize("coefficients", [(0.0, 0.9993), (0.99, 0.999), (0.999, 0.9)])
def test_compressor_equals_the_recursion(
    channels: int, frames: int, coefficients: tuple[float, float]
) -> None:
    audio = bursts(channels, frames)
    got = compress(audio, 0.02, -0.75, *coefficients, makeup=1.0)
    exact = plain_compressor(audio, 0.02, -0.75, *coefficients)
    assert got.shape == audio.shape
    np.testing.assert_allclose(got, exact, rtol=1e-3, atol=2e-5 * np.abs(exact).max())


def test_below_the_threshold_nothing_changes() -> None:
    audio = bursts(2, 20000, 0.001)
    np.testing.assert_array_equal(compress(audio, 0.1, -0.5, 0.9, 0.99, 1.0), audio)


def test_steady_level_is_turned_down_by_the_ratio() -> None:
    """10 dB above the threshold with a ratio of 4 come out 2.5 dB above it."""
    audio = np.full((1, 5000), 0.1, np.float32)
    threshold = 0.1 * 10 ** (-10 / 20)
    last = compress(audio, threshold, 1 / 4 - 1, 0.9, 0.99, 1.0)[0, -1]
    assert 20 * math.log10(last / threshold) == pytest.approx(2.5, abs=1e-4)


@pytest.mark.parametrize("amplitude", [1e-3, 0.3, 10.0])
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_pedalboard(seed: int, amplitude: float) -> None:
    """To -90 dB of the peak, for drawn settings."""
    pedalboard = pytest.importorskip("pedalboard")
    audio = bursts(2, 80000, amplitude)
    for effect, make in (
        (RandomPedalboardCompressor(), pedalboard.Compressor),
        (RandomPedalboardLimiter(), pedalboard.Limiter),
    ):
        got = effect.transform(audio, generator("oracle", seed))
        plugin = make(**effect.ranges.draw(generator("oracle", seed)))
        exact = plugin.process(audio, effect.sample_rate)
        assert np.abs(got - exact).max() < 10 ** (-90 / 20) * np.abs(exact).max()


def test_limiter_stays_within_full_scale() -> None:
    effect = RandomPedalboardLimiter()
    for seed in range(10):
        got = effect.transform(bursts(2, 20000, 3.0), generator("full scale", seed))
        assert np.abs(got).max() <= 1


def test_draws_are_within_their_ranges_and_all_over_them() -> None:
    limits = {
        "threshold_db": (-42, -6),
        "ratio": (1.5, 4),
        "attack_ms": (1, 50),
        "release_ms": (10, 250),
    }
    rng = generator("draws")
    ranges = RandomPedalboardCompressor().ranges
    drawn = [ranges.draw(rng) for _ in range(2000)]
    assert set(drawn[0]) == set(limits)
    for name, (low, high) in limits.items():
        values = np.array([draw[name] for draw in drawn])
        assert low <= values.min()
        assert values.max() <= high
        counts, _ = np.histogram(values, bins=10, range=(low, high))
        assert np.abs(counts - 200).max() < 75  # over five standard deviations


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match=r"RandomPedalboardCompressor\.min_ratio: 0\.5 is not"):
        RandomPedalboardCompressor(min_ratio=0.5)
    with pytest.raises(ConfigError, match=r"Limiter\.max_release_ms: 5 is below min_release_ms"):
        RandomPedalboardLimiter(max_release_ms=5)
