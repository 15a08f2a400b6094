"""Reverbs, echo and distortion against plain forms in float64 and against pedalboard."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from aimless.draws import generator
from aimless.errors import ConfigError
from data.augment import (
    RandomPedalboardDelay,
    RandomPedalboardDistortion,
    RandomPedalboardReverb,
    RandomSoxReverb,
)
from data.kernels.freeverb import reverberate


def noise(channels: int, frames: int, amplitude: float = 0.2) -> np.ndarray:
    rng = generator("rooms", channels, frames)
    return (amplitude * rng.standard_normal((channels, frames))).astype(np.float32)


def plain_reverb(
    signal: np.ndarray, feedback: float, damping: float, combs: list[int], passes: list[int]
) -> np.ndarray:
    """Sample by sample, as the networks are drawn in Moorer's paper."""
    out = np.zeros(len(signal))
    for delay in combs:
        line, low = np.zeros(len(signal) + delay), 0.0
        for n, x in enumerate(signal):
            low = (1 - damping) * line[n] + damping * low
            line[n + delay] = x + feedback * low
            out[n] += line[n]
    for delay in passes:
        line = np.zeros(len(signal) + delay)
        for n, x in enumerate(out):
            line[n + delay] = x + 0.5 * line[n]
            out[n] = line[n] - x
    return out


@pytest.mark.parametrize("damping", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("spread", "scale"), [(0, 1.0), (23, 1.0), (5, 0.145)])
def test_reverberator_equals_the_plain_form(damping: float, spread: int, scale: float) -> None:
    """At 22.05 kHz, where all delays are halved; longer than a chunk of 4096."""
    signal = noise(1, 9000)[0]
    tuning = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
    combs = [int(scale * (delay + spread) / 2) for delay in tuning]
    passes = [(delay + spread) // 2 for delay in (556, 441, 341, 225)]
    got = reverberate(signal, 22050, 0.9, damping, spread, scale)
    exact = plain_reverb(signal, 0.9, damping, combs, passes)
    assert np.abs(exact).max() > 0.1
    assert np.abs(got - exact).max() < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_reverb_equals_pedalboard(channels: int, rate: int) -> None:
    pedalboard = pytest.importorskip("pedalboard")
    audio = noise(channels, 50000)
    effect = RandomPedalboardReverb(sample_rate=rate)
    for seed in range(6):
        got = effect.transform(audio, generator("reverb", seed))
        drawn = effect.ranges.draw(generator("reverb", seed))
        exact = pedalboard.Reverb(**drawn, dry_level=1 - drawn["wet_level"]).process(audio, rate)
        assert np.abs(got - exact).max() < 2e-5 * np.abs(exact).max()


def test_reverb_takes_more_channels_in_pairs() -> None:
    audio = noise(5, 5000)
    effect = RandomPedalboardReverb()
    got = effect.transform(audio, generator("pairs"))
    for first in (0, 2, 4):
        pair = effect.transform(audio[first : first + 2], generator("pairs"))
        np.testing.assert_allclose(got[first : first + 2], pair, atol=1e-6)


def impulse_response(**settings: float) -> np.ndarray:
    """Of RandomSoxReverb with constant settings, (2, 2 s)."""
    given = {"reverberance": 50, "damping": 50, "room_scale": 50, "stereo_depth": 50}
    given |= {"pre_delay": 0, "wet_dry": 1} | settings
    ends = {f"{end}_{name}": value for name, value in given.items() for end in ("min", "max")}
    audio = np.zeros((2, 2 * 44100), np.float32)
    audio[:, 0] = 1
    return RandomSoxReverb(**ends).transform(audio, generator("impulse"))


def energy_time(response: np.ndarray) -> float:
    """Centre of the energy, in samples."""
    power = (response.astype(np.float64) ** 2).sum(0)
    return float(power @ np.arange(len(power)) / power.sum())


def brightness(response: np.ndarray) -> float:
    """Power of the difference over power, half a second after the first reflections."""
    late = response[:, 22050:]
    return float((np.diff(late) ** 2).sum() / (late**2).sum())


def test_sox_parameters_do_what_their_names_say() -> None:
    usual = impulse_response()
    assert energy_time(impulse_response(reverberance=20)) < energy_time(usual)
    assert energy_time(impulse_response(reverberance=90)) > energy_time(usual)
    assert energy_time(impulse_response(room_scale=10)) < energy_time(usual)
    assert brightness(impulse_response(damping=0)) > brightness(usual)
    assert brightness(impulse_response(damping=100)) < brightness(usual)
    np.testing.assert_array_equal(*impulse_response(stereo_depth=0))
    assert np.abs(np.subtract(*usual)).max() > 1e-3
    later = impulse_response(pre_delay=100)
    assert not later[:, :4410].any()
    np.testing.assert_allclose(later[:, 4410:], usual[:, :-4410], atol=1e-7)


def test_sox_wet_dry_goes_from_the_stem_to_the_room() -> None:
    dry, wet, both = (impulse_response(wet_dry=ratio) for ratio in (0, 1, 0.25))
    assert dry[0, 0] == 1
    assert not dry[:, 1:].any()
    assert not wet[:, :500].any()
    np.testing.assert_allclose(both, 0.75 * dry + 0.25 * wet, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 4409, 4411, 30000])
def test_delay_equals_the_recursion_and_pedalboard(frames: int) -> None:
    audio = noise(2, frames)
    effect = RandomPedalboardDelay(max_delay_seconds=0.2)
    for seed in range(5):
        got = effect.transform(audio, generator("delay", seed))
        drawn = effect.ranges.draw(generator("delay", seed))
        delay = int(drawn["delay_seconds"] * 44100)
        assert 4410 <= delay <= 8820
        line = np.zeros((2, frames + delay))
        exact = np.zeros((2, frames))
        for n in range(frames):
            line[:, n + delay] = audio[:, n] + drawn["feedback"] * line[:, n]
            exact[:, n] = (1 - drawn["mix"]) * audio[:, n] + drawn["mix"] * line[:, n]
        np.testing.assert_allclose(got, exact, atol=1e-6)
        if frames > 2:
            pedalboard = pytest.importorskip("pedalboard")
            plugin = pedalboard.Delay(**drawn)
            np.testing.assert_allclose(got, plugin.process(audio, 44100), atol=1e-6)


def test_delay_takes_the_old_spelling_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        effect = RandomPedalboardDelay(max_delay_sconds=0.15)
    assert "max_delay_sconds is now max_delay_seconds" in caplog.text
    rng = generator("old")
    times = [effect.ranges.draw(rng)["delay_seconds"] for _ in range(300)]
    assert 0.1 <= min(times) < max(times) <= 0.15


def test_delay_times_are_log_uniform() -> None:
    rng = generator("log-uniform")
    ranges = RandomPedalboardDelay().ranges
    times = np.log10([ranges.draw(rng)["delay_seconds"] for _ in range(2000)])
    counts, _ = np.histogram(times, bins=10, range=(-1, 0))
    assert counts.sum() == 2000
    assert np.abs(counts - 200).max() < 75


def test_distortion_equals_its_formula_and_pedalboard() -> None:
    pedalboard = pytest.importorskip("pedalboard")
    audio = noise(2, 5000)
    effect = RandomPedalboardDistortion()
    for seed in range(5):
        got = effect.transform(audio, generator("drive", seed))
        drive_db = effect.ranges.draw(generator("drive", seed))["drive_db"]
        np.testing.assert_allclose(got, np.tanh(audio * 10 ** (drive_db / 20)), atol=1e-6)
        plugin = pedalboard.Distortion(drive_db)
        np.testing.assert_allclose(got, plugin.process(audio, 44100), atol=1e-6)


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match=r"RandomPedalboardReverb\.max_wet_level: 1\.5 is not"):
        RandomPedalboardReverb(max_wet_level=1.5)
    with pytest.raises(ConfigError, match=r"RandomPedalboardDelay\.max_feedback: 1 is not"):
        RandomPedalboardDelay(max_feedback=1)
    with pytest.raises(ConfigError, match=r"RandomSoxReverb\.min_room_scale: -1 is not"):
        RandomSoxReverb(min_room_scale=-1)
