"""What every effect promises for any input."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Callable

import numpy as np
import pytest

import data.augment
from aimless.draws import generator
from aimless.errors import ConfigError
from data.augment import Compose, CPUBase, GainEffect, LimitAug, Mono2Stereo

NEED_PEDALBOARD = ("RandomPedalboardChorus", "RandomPedalboardPhaser")
BASES = (CPUBase, GainEffect, Compose)

Make = Callable[[float], CPUBase]


def effects() -> list[pytest.param]:
    """All exported effects with a probability."""
    classes = [getattr(data.augment, name) for name in data.augment.__all__]
    return [
        pytest.param(lambda p, cls=cls: cls(p=p), id=cls.__name__)
        for cls in classes
        if cls not in (*BASES, Mono2Stereo)
    ]


@pytest.fixture(params=effects())
def make(request: pytest.FixtureRequest) -> Make:
    if any(name in request.node.name for name in NEED_PEDALBOARD):
        pytest.importorskip("pedalboard")
    return request.param


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def stems(sources: int = 4, channels: int = 2, frames: int = 20000) -> np.ndarray:
    rng = generator("stems", sources, channels, frames)
    return (0.2 * rng.standard_normal((sources, channels, frames))).astype(np.float32)


def test_any_input(make: Make) -> None:
    """500 random inputs: finite, same shape, sums to the mixture, nothing written in place."""
    effect = make(0.5)
    rng = generator("any input", type(effect).__name__)
    noise = rng.standard_normal((4, 3, 17640)).astype(np.float32)
    for _ in range(500):
        frames = int(rng.choice([1, 2, 3, 10, 441, 4410, 17639, 17640], p=[0.15] * 6 + [0.05] * 2))
        sources, channels = int(rng.integers(1, 5)), int(rng.choice([1, 2, 3]))
        amplitude = np.float32(rng.choice([0, 1e-9, 1e-3, 0.3, 1, 10]))
        given = amplitude * noise[:sources, :channels, :frames]
        total = given.sum(0)
        before = digest(given, total)
        mixture, changed = effect(total, given, rng)
        assert digest(given, total) == before
        assert changed.shape == given.shape
        assert mixture.shape == total.shape
        assert changed.dtype == mixture.dtype == np.float32
        assert np.isfinite(changed).all()
        scale = max(float(np.abs(changed).max()), 1.0)
        assert np.abs(mixture - changed.sum(0, dtype=np.float64)).max() <= 1e-5 * scale


def test_it_does_something_to_stereo(make: Make) -> None:
    given = 5 * np.concatenate([stems()] * 2, axis=2)
    _, changed = make(1.0)(None, given, generator("something"))
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(changed, given))


def test_silence_stays_silent(make: Make) -> None:
    given = np.zeros((2, 2, 20000), np.float32)
    _, changed = make(1.0)(None, given, generator("silence"))
    assert np.abs(changed).max() < 1e-9


def test_channels_do_not_depend_on_their_layout(make: Make) -> None:
    """As many samples as channels, or fewer, must not be taken for the other axis."""
    for frames in (1, 2, 3):
        given = stems(channels=2, frames=frames)
        longer = np.concatenate([given, np.zeros((4, 2, 64), np.float32)], axis=2)
        if isinstance(make(1.0), LimitAug) or "VolumeAutomation" in type(make(1.0)).__name__:
            continue  # these look ahead, by design
        _, short = make(1.0)(None, given, generator("layout"))
        _, long = make(1.0)(None, longer, generator("layout"))
        np.testing.assert_allclose(short, long[..., :frames], atol=2e-6)


def test_probability_zero_returns_the_inputs(make: Make) -> None:
    given = stems(frames=100)
    mixture = given.sum(0)
    new_mixture, new_stems = make(0.0)(mixture, given, generator("p0"))
    assert new_mixture is mixture
    assert new_stems is given


def test_same_generator_same_bytes_also_after_pickling(make: Make) -> None:
    effect = make(0.5)
    given = stems()
    first = effect(None, given, generator("draw", 1))
    again = pickle.loads(pickle.dumps(effect))(None, given, generator("draw", 1))
    assert digest(*first) == digest(*again)
    others = {digest(*effect(None, given, generator("draw", seed))) for seed in range(8)}
    assert len(others) > 1


def test_a_wrong_probability_is_named(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"\.p: 1\.5 is not"):
        make(1.5)


def test_wrong_ends_of_ranges_are_named(make: Make) -> None:
    cls = type(make(1.0))
    names = [name for name in inspect.signature(cls).parameters if name[:4] in ("min_", "max_")]
    for name in names:
        known_as = name.replace("sconds", "seconds")
        for value in (float("nan"), float("inf")):
            with pytest.raises(ConfigError, match=rf"{cls.__name__}\.{known_as}: {value} is not"):
                cls(**{name: value})


def test_all_together_equal_one_after_the_other() -> None:
    pytest.importorskip("pedalboard")
    chain = [param.values[0](0.6) for param in effects()]
    given = stems()
    together = Compose(chain)(None, given, generator("all"))
    rng = generator("all")
    apart: tuple = (None, given)
    for effect in chain:
        apart = effect(*apart, rng)
    for a, b in zip(together, apart):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
