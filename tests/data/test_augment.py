"""The base of all effects, level, polarity, swap, and the mastering limiter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aimless.draws import generator
from aimless.errors import ConfigError
from data.augment import (
    Compose,
    CPUBase,
    LimitAug,
    RandomFlipPhase,
    RandomGain,
    RandomSwapLR,
)
from data.augment.base import Mix
from data.augment.limiter import limiter_gain
from data.loudness import integrated_loudness

EFFECTS: dict[str, Callable[[float], CPUBase]] = {
    "gain": lambda p: RandomGain(p=p),
    "flip": lambda p: RandomFlipPhase(p=p),
    "swap": lambda p: RandomSwapLR(p=p),
}


def stems(
    sources: int = 4, channels: int = 2, frames: int = 30000, amplitude: float = 0.2
) -> np.ndarray:
    rng = generator("stems", sources, channels, frames)
    return (amplitude * rng.standard_normal((sources, channels, frames))).astype(np.float32)


def beats() -> np.ndarray:
    """Two seconds of stems with high peaks, as drums have."""
    frames = 88200
    envelope = np.exp(-(np.arange(frames) % 22050) / 1500, dtype=np.float32)
    return stems(frames=frames) * (0.05 + envelope)


@pytest.mark.parametrize("name", EFFECTS)
def test_each_stem_is_drawn_by_itself(name: str) -> None:
    effect = EFFECTS[name](0.3)
    given = stems(sources=4, frames=50)
    rng = generator("independent", name)
    changed = np.array(
        [[(a != b).any() for a, b in zip(effect(None, given, rng)[1], given)] for _ in range(3000)]
    )
    # Standard error of the frequencies is 0.008, of the correlations 0.018.
    assert np.abs(changed.mean(0) - 0.3).max() < 0.04
    correlation = np.corrcoef(changed.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.09


@pytest.mark.parametrize("name", EFFECTS)
def test_untouched_stems_are_bit_equal(name: str) -> None:
    given = stems()
    for seed in range(20):
        _, changed = EFFECTS[name](0.5)(None, given, generator("untouched", seed))
        touched = [(a != b).any() for a, b in zip(changed, given)]
        if any(touched) and not all(touched):
            break
    else:
        pytest.fail("no draw changed some stems and left others")


def test_a_recorded_mixture_stays_while_no_stem_changes() -> None:
    """It need not be the sum of the stems."""
    given = stems()
    recorded = given.sum(0) + np.float32(0.1)
    mixture, _ = RandomGain(p=0.0)(recorded, given, generator("r"))
    assert mixture is recorded
    mixture, changed = RandomGain(p=1.0)(recorded, given, generator("r"))
    np.testing.assert_allclose(mixture, changed.sum(0), atol=1e-6)


def test_gain_is_uniform_between_its_limits() -> None:
    ones = np.ones((4, 1, 1), np.float32)
    rng = generator("gain")
    effect = RandomGain(0.25, 1.25)
    gains = np.array([effect(None, ones, rng)[1] for _ in range(2500)]).ravel()
    assert 0.25 <= gains.min() < 0.26
    assert 1.24 < gains.max() <= 1.25
    counts, _ = np.histogram(gains, bins=10, range=(0.25, 1.25))
    assert np.abs(counts - 1000).max() < 150  # five standard deviations


def test_gain_is_one_factor_per_stem() -> None:
    given = stems()
    _, changed = RandomGain()(None, given, generator("factor"))
    ratio = (changed / given).reshape(4, -1)
    assert np.ptp(ratio, axis=1).max() < 1e-6
    assert len(set(ratio[:, 0])) == 4


def test_flip_negates_and_swap_exchanges_channels() -> None:
    given = stems()
    np.testing.assert_array_equal(RandomFlipPhase(p=1)(None, given, generator("f"))[1], -given)
    swapped = RandomSwapLR(p=1)(None, given, generator("s"))[1]
    np.testing.assert_array_equal(swapped[:, 0], given[:, 1])
    np.testing.assert_array_equal(swapped[:, 1], given[:, 0])
    mono = stems(channels=1)
    np.testing.assert_array_equal(RandomSwapLR(p=1)(None, mono, generator("s"))[1], mono)


def test_compose_equals_one_after_the_other() -> None:
    given = stems()
    effects = [RandomGain(), RandomFlipPhase(), RandomSwapLR(), LimitAug(), RandomGain()]
    together = Compose(effects)(given.sum(0), given, generator("compose"))
    rng = generator("compose")
    apart = given.sum(0), given
    for effect in effects:
        apart = effect(*apart, rng)
    np.testing.assert_allclose(together[0], apart[0], atol=1e-6)
    np.testing.assert_allclose(together[1], apart[1], atol=1e-6)


def test_compose_sums_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stem-wise effects do not need the mixture; it is summed at the end."""
    asked = []

    class Watched(Mix):
        @property
        def mixture(self) -> np.ndarray:
            asked.append(self)
            return super().mixture

    monkeypatch.setattr("data.augment.base.Mix", Watched)
    Compose([RandomGain()] * 5)(None, stems(), generator("once"))
    assert len(asked) == 1


def test_compose_of_nothing_returns_the_inputs() -> None:
    given = stems()
    mixture = given.sum(0)
    assert Compose([])(mixture, given, generator("none")) == (mixture, given)


def test_own_effects_need_only_transform() -> None:
    class Reverse(CPUBase):
        def transform(self, stem: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return stem[:, ::-1]

    given = stems()
    mixture, changed = Reverse()(None, given, generator("own"))
    np.testing.assert_array_equal(changed, given[..., ::-1])
    np.testing.assert_allclose(mixture, changed.sum(0), atol=1e-6)
    with pytest.raises(NotImplementedError, match="CPUBase"):
        CPUBase()(None, given, generator("own"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomGain(p=1.1), "RandomGain.p: 1.1"),
        (lambda: RandomFlipPhase(p=-0.1), "RandomFlipPhase.p: -0.1"),
        (lambda: RandomSwapLR(p=float("nan")), "RandomSwapLR.p: nan"),
        (lambda: RandomGain(low=-1), "RandomGain.low: -1"),
        (lambda: RandomGain(low=1, high=0.5), "RandomGain.high: 0.5"),
        (lambda: LimitAug(min_release_ms=0), "LimitAug.min_release_ms: 0"),
        (lambda: LimitAug(max_release_ms=10), "LimitAug.max_release_ms: 10"),
        (lambda: LimitAug(target_lufs_std=-1), "LimitAug.target_lufs_std: -1"),
        (lambda: LimitAug(sample_rate=0), "LimitAug.sample_rate: 0"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], CPUBase], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def plain_limiter_gain(audio: np.ndarray, release: float, threshold: float) -> np.ndarray:
    """The recursion as it is usually written, sample by sample in float64."""
    envelope, gains = 0.0, []
    for peak in np.abs(audio.astype(np.float64)).max(0):
        envelope = max(peak, envelope * np.exp(-1 / release))
        gains.append(min(1.0, threshold / envelope) if envelope > 0 else 1.0)
    return np.array(gains)


@pytest.mark.parametrize("amplitude", [0.1, 0.5, 2.0, 50.0])
@pytest.mark.parametrize("release", [1.0, 300.0, 8820.0])
@pytest.mark.parametrize("threshold", [1.0, 0.25])
def test_limiter_equals_the_recursion(amplitude: float, release: float, threshold: float) -> None:
    rng = generator("limiter")
    audio = (amplitude * rng.standard_normal((2, 20000))).astype(np.float32)
    audio[:, 5000:12000] *= 0.01
    got = limiter_gain(audio, release, threshold)
    np.testing.assert_allclose(got, plain_limiter_gain(audio, release, threshold), rtol=1e-6)
    assert np.abs(audio * got).max() <= threshold * (1 + 1e-6)


def test_limiter_is_accurate_at_the_end_of_a_long_song() -> None:
    frames = 10 * 60 * 44100
    audio = np.zeros((1, frames), np.float32)
    audio[0, -10000:] = 2 * generator("long").standard_normal(10000)
    got = limiter_gain(audio, 1323.0)[-10000:]
    np.testing.assert_allclose(got, plain_limiter_gain(audio[:, -10000:], 1323.0, 1.0), rtol=1e-6)


def test_limitaug_reaches_its_loudness_with_one_gain_for_all() -> None:
    given = beats()
    mixture, changed = LimitAug()(None, given, generator("limitaug"))
    assert integrated_loudness(mixture, 44100) == pytest.approx(-14, abs=0.01)
    # Very small samples are left out, since their quotient is all rounding.
    gain = changed / np.where(np.abs(given) > 1e-3, given, np.nan)
    shared = np.nanmedian(gain, axis=(0, 1))
    assert np.nanmax(np.abs(gain / shared - 1)) < 1e-5
    assert np.nanmin(shared) < 0.8 * np.nanmax(shared)  # it did limit


def test_limitaug_limits_harder_for_louder_targets() -> None:
    given = beats()

    def crest(target: float) -> float:
        effect = LimitAug(target_lufs_mean=target, target_lufs_std=0)
        mixture, _ = effect(None, given, generator("crest"))
        return float(np.abs(mixture).max() / np.sqrt(np.mean(mixture**2)))

    assert crest(-5) < crest(-11) < 0.99 * crest(-40)


@pytest.mark.parametrize("frames", [1, 17639])
def test_limitaug_leaves_what_has_no_loudness(frames: int) -> None:
    given = stems(frames=frames)
    mixture = given.sum(0)
    assert LimitAug()(mixture, given, generator("short")) == (mixture, given)
