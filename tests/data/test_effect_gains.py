"""Effects that are gains: their formulas, and that they are joined into one pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aimless.draws import generator
from aimless.errors import ConfigError
from data.augment import (
    Compose,
    LoudnessNormalize,
    Mono2Stereo,
    RandomFlipPhase,
    RandomGain,
    RandomPan,
    RandomStereoWidener,
    RandomSwapLR,
    RandomVolumeAutomation,
)
from data.augment.base import Gain, Mix


def stems(sources: int = 2, channels: int = 2, frames: int = 40000) -> np.ndarray:
    rng = generator("gains", sources, channels, frames)
    return (0.2 * rng.standard_normal((sources, channels, frames))).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_widener_scales_middle_and_side(seed: int) -> None:
    given = stems(1)
    effect = RandomStereoWidener()
    _, ((left, right),) = effect(None, given, generator("wide", seed))
    rng = generator("wide", seed)
    rng.random(1)
    width = effect.ranges.draw(rng)["width"]
    assert 0 <= width <= 1
    middle, side = (given[0, 0] + given[0, 1]) / 2, (given[0, 0] - given[0, 1]) / 2
    np.testing.assert_allclose((left + right) / 2, middle * 2 * (1 - width), atol=1e-6)
    np.testing.assert_allclose((left - right) / 2, side * 2 * width, atol=1e-6)


def test_widener_of_one_half_changes_nothing() -> None:
    given = stems()
    _, changed = RandomStereoWidener(0.5, 0.5)(None, given, generator("half"))
    np.testing.assert_allclose(changed, given, atol=1e-7)


@pytest.mark.parametrize("pan", [-1.0, -0.3, 0.0, 0.8, 1.0])
def test_pan_keeps_the_power(pan: float) -> None:
    given = stems(1)
    _, changed = RandomPan(pan, pan)(None, given, generator("pan"))
    left, right = (np.median(a / b) for a, b in zip(changed[0], given[0]))
    assert left**2 + right**2 == pytest.approx(1)
    angle = pan * math.pi / 4
    assert left == pytest.approx(math.cos(math.pi / 4 + angle), abs=1e-6)
    assert right == pytest.approx(math.sin(math.pi / 4 + angle), abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_not_stereo_is_neither_panned_nor_widened(channels: int) -> None:
    given = stems(channels=channels)
    for effect in (RandomPan(), RandomStereoWidener()):
        np.testing.assert_array_equal(effect(None, given, generator("no"))[1], given)


def fader(seed: int, frames: int, **arguments: float) -> np.ndarray:
    ones = np.ones((1, 2, frames), np.float32)
    _, changed = RandomVolumeAutomation(**arguments)(None, ones, generator("fader", seed))
    np.testing.assert_array_equal(changed[0, 0], changed[0, 1])
    return 20 * np.log10(changed[0, 0].astype(np.float64))


def test_automation_is_made_of_lines_of_at_least_the_shortest_length() -> None:
    counts = set()
    for seed in range(60):
        levels = fader(seed, 44100 * 10)
        assert levels.min() > -6.001
        assert levels.max() < 6.001
        slope = np.diff(levels.reshape(-1, 441).mean(1))  # per 10 ms
        bends = np.flatnonzero(np.abs(np.diff(slope)) > 2e-4)
        # Each corner shows in one or two neighbouring places.
        corners = bends[np.diff(bends, prepend=-9) > 2]
        lengths = np.diff([0, *(0.01 * (corners + 1)), 10])
        assert lengths.min() > 3 - 0.05
        counts.add(len(lengths))
    assert counts == {1, 2, 3}


def test_automation_goes_between_its_levels_without_steps() -> None:
    ends = np.array([fader(seed, 50000)[[0, -1]] for seed in range(300)])
    assert -6 <= ends.min() < -5.8
    assert 5.8 < ends.max() <= 6
    assert np.abs(np.corrcoef(ends.T)[0, 1]) < 0.25
    levels = fader(1, 44100 * 10, min_segment_seconds=0.5)
    assert np.abs(np.diff(levels)).max() < 12 / 22050 + 1e-4
    straight = fader(2, 2000)
    np.testing.assert_allclose(straight, np.linspace(straight[0], straight[-1], 2000), atol=1e-4)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.9])
@pytest.mark.parametrize("channels", [1, 2])
def test_loudness_reaches_the_target(channels: int, level: float) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    noise = generator("lufs").standard_normal((3, channels, 44100))
    given = (level * np.cumsum(noise * 0.02, axis=-1)).astype(np.float32)
    mixture, changed = LoudnessNormalize(-23)(None, given, generator("normalise"))
    meter = pyloudnorm.Meter(44100)
    for stem in changed:
        assert meter.integrated_loudness(stem.T.astype(float)) == pytest.approx(-23, abs=0.05)
    np.testing.assert_allclose(mixture, changed.sum(0), atol=1e-6)


def test_loudness_gain_ends_at_40_db() -> None:
    given = 0.01 * stems()
    _, changed = LoudnessNormalize(20)(None, given, generator("much"))
    np.testing.assert_allclose(changed, 100 * given, rtol=1e-6)


def test_loudness_leaves_what_has_none() -> None:
    for given in (np.zeros((2, 2, 20000), np.float32), stems(frames=17639), 1e-9 * stems()):
        np.testing.assert_array_equal(LoudnessNormalize()(None, given, generator("n"))[1], given)


def test_mono_becomes_stereo_and_stereo_stays() -> None:
    mono = stems(channels=1)
    mixture, changed = Mono2Stereo()(None, mono, generator("m"))
    assert mixture.shape == (2, 40000)
    np.testing.assert_array_equal(changed[:, 0], mono[:, 0])
    np.testing.assert_array_equal(changed[:, 1], mono[:, 0])
    given = stems()
    assert Mono2Stereo()(None, given, generator("m"))[1] is given


def test_effects_after_mono2stereo_see_two_channels() -> None:
    mono = stems(channels=1)
    _, changed = Compose([RandomGain(), Mono2Stereo(), RandomPan(1, 1)])(
        None, mono, generator("after")
    )
    np.testing.assert_allclose(changed[:, 0], 0, atol=1e-7)
    assert np.abs(changed[:, 1]).max() > 0.1


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("in_place", [False, True])
def test_joined_gains_equal_one_after_the_other(channels: int, in_place: bool) -> None:
    given = stems(channels=channels)
    copy = given.copy()
    rng = generator("joined", channels)
    expected = given[1].astype(np.float64)
    mix = Mix(None, copy, in_place=in_place)
    for _ in range(6):
        matrix = rng.standard_normal((channels, channels))
        curve = rng.random(40000).astype(np.float32)
        factor = float(rng.standard_normal())
        for gain in (Gain(matrix), Gain(factor), Gain(1.0, curve)):
            mix.multiply(1, gain)
        expected = factor * (matrix @ expected) * curve
    got = mix.stems
    np.testing.assert_allclose(got[1], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(got[0], given[0])
    assert (got is copy) == in_place
    np.testing.assert_allclose(mix.mixture, got.sum(0), atol=1e-6)


def test_gains_in_a_row_are_applied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    applied = []
    apply = Gain.apply
    monkeypatch.setattr(Gain, "apply", lambda *args: (applied.append(1), apply(*args)))
    effects = [RandomGain(), RandomFlipPhase(p=1), RandomSwapLR(p=1), RandomVolumeAutomation()]
    Compose(effects)(None, stems(4), generator("row"))
    assert len(applied) == 4


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match=r"RandomPan\.min_pan: -2 is not"):
        RandomPan(min_pan=-2)
    with pytest.raises(ConfigError, match=r"RandomStereoWidener\.max_width: 0\.2 is below min"):
        RandomStereoWidener(min_width=0.5, max_width=0.2)
    with pytest.raises(ConfigError, match=r"min_segment_seconds: 0 is not"):
        RandomVolumeAutomation(min_segment_seconds=0)
    with pytest.raises(ConfigError, match=r"LoudnessNormalize\.target_lufs_db: 50 is not"):
        LoudnessNormalize(50)
