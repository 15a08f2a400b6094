"""Effects on the training device against those of the data loader, with the same settings.

Ranges of one value make both forms draw the same. The tolerances are of the largest sample:
linear effects and envelopes agree to rounding; where a twin is pedalboard, its sine is a table
whose phase is added up in single precision, so that only a still one agrees closely.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import aimless.augment
import data.augment
from aimless.augment.lazy import LazyStems
from aimless.draws import generator
from data.loudness import integrated_loudness

RATE = 44100


def music(seconds: float = 3.0, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Noise that falls with frequency, in bursts with silence between them."""
    rng = generator("music", seed)
    samples = int(seconds * RATE)
    noise = rng.standard_normal((channels, samples)).astype(np.float32)
    noise[:, 1:] += 0.9 * noise[:, :-1]
    swell = np.maximum(0, np.sin(np.arange(samples) / 3000)) ** 3
    return (0.1 * noise * swell).astype(np.float32)


def decibels(ours: np.ndarray, twin: np.ndarray) -> float:
    """The largest difference over the largest sample."""
    difference = np.abs(ours.astype(np.float64) - twin).max()
    return 20 * np.log10(max(difference, 1e-12) / np.abs(twin).max())


def on_device(effect, audio: np.ndarray) -> np.ndarray:
    """One stem (channels, samples) through an effect of the device."""
    stems = torch.from_numpy(audio)[None, None]
    return effect(stems, generator("twin"))[0, 0].numpy()


@dataclass
class Pair:
    """Names of twins, settings of both, and how far apart they may be in dB."""

    ours: str
    twin: str
    settings: dict
    tolerance: float = -100.0

    def constant(self) -> dict:
        """Every range as one value; what is no range as it is."""
        names = inspect.signature(getattr(aimless.augment, self.ours)).parameters
        words = {}
        for name, value in self.settings.items():
            ranged = f"min_{name}" in names
            words |= {f"{e}_{name}": value for e in ("min", "max")} if ranged else {name: value}
        return words


def compressor(*values):
    return dict(zip(("threshold_db", "ratio", "attack_ms", "release_ms"), values))


def reverb(*values):
    return dict(zip(("room_size", "damping", "wet_level", "width"), values))


def delay(*values):
    return dict(zip(("delay_seconds", "feedback", "mix"), values))


PAIRS = [
    Pair("Gain", "RandomGain", {"low": 0.7, "high": 0.7}, -140),
    Pair("FlipPhase", "RandomFlipPhase", {}, -140),
    Pair("SwapLR", "RandomSwapLR", {}, -140),
    *(Pair("Pan", "RandomPan", {"pan": pan}, -130) for pan in (-1, -0.3, 0, 1)),
    *(Pair("StereoWidener", "RandomStereoWidener", {"width": w}, -130) for w in (0, 0.3, 1)),
    *(
        Pair("Delay", "RandomPedalboardDelay", delay(*values))
        for values in (
            (0.13, 0.6, 0.7),
            (1, 0.05, 0.3),
            (0.1, 0, 1),
            (0.0002, 0.999, 0.5),
            (9, 0.5, 0.5),
        )
    ),
    *(
        Pair("Reverb", "RandomPedalboardReverb", reverb(*values))
        for values in ((0.8, 0.3, 0.5, 0.6), (1, 0, 1, 1), (0, 1, 0.3, 0), (0.5, 0.5, 0, 0.5))
    ),
    *(Pair("Distortion", "RandomPedalboardDistortion", {"drive_db": d}, -130) for d in (-20, 12)),
    *(Pair("LoudnessNormalize", "LoudnessNormalize", {"target_lufs_db": t}) for t in (-40, -14)),
    *(
        Pair("Compressor", "RandomPedalboardCompressor", compressor(*values), -95)
        for values in (
            (-30, 4, 5, 200),
            (-42, 4, 1, 250),
            (-42, 1.5, 50, 10),
            (-20, 4, 50, 250),
            (-42, 4, 0, 250),
            (-30, 2, 1, 0),
        )
    ),
    *(
        Pair("Limiter", "RandomPedalboardLimiter", {"threshold_db": t, "release_ms": r}, -85)
        for t, r in ((-20, 200), (-32, 300), (-6, 10))
    ),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.ours}-{pair.settings}")
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_same_settings_same_sound(pair, channels):
    audio = music(channels=channels, seconds=3 if channels == 2 else 0.7)
    settings = pair.constant()
    twin = getattr(data.augment, pair.twin)(p=1.0, **settings)
    _, (expected,) = twin(None, audio[None], generator("twin"))
    actual = on_device(getattr(aimless.augment, pair.ours)(p=1.0, **settings), audio)
    assert decibels(actual, expected) < pair.tolerance


def same_names() -> list[tuple[str, str]]:
    names = {(pair.ours, pair.twin) for pair in PAIRS}
    names |= {(n, f"RandomPedalboard{n}") for n in ("Chorus", "Phaser")}
    return sorted(names | {(n, f"Random{n}") for n in ("ParametricEQ", "VolumeAutomation")})


@pytest.mark.parametrize(("ours", "twin"), same_names())
def test_same_parameters_with_the_same_defaults(ours, twin):
    ours = dict(inspect.signature(getattr(aimless.augment, ours)).parameters)
    twin = dict(inspect.signature(getattr(data.augment, twin)).parameters)
    twin.pop("max_delay_sconds", None)  # an old spelling
    if "drive_db" in str(ours):
        twin.pop("sample_rate")  # makes no difference
    assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in twin.items()}


@pytest.mark.parametrize("low", [20.0, 1000.0])
@pytest.mark.parametrize("bands", [0, 3, 6])
def test_equalizer_is_its_sections_one_after_the_other(bands, low):
    """The twin's recursion, in double precision, on the sections that ours drew."""
    pytest.importorskip("numba")
    from data.kernels.lanes import biquads

    effect = aimless.augment.ParametricEQ(num_bands=bands, min_cutoff_freq=low, p=1.0)
    audio = np.stack([music(seed=seed) for seed in range(4)])
    uniform = generator("eq", bands).random((4, effect.numbers(0)))
    stems = LazyStems(torch.from_numpy(audio)[None])
    effect.change(stems, np.arange(4), uniform)
    sections = effect.sections(uniform)
    for ours, own, stem in zip(stems.result()[0].numpy(), sections, audio):
        assert decibels(ours, biquads(stem, own)) < -110


def test_equalizer_draws_the_twins_filters():
    """The same uniform numbers, one after the other, give the same coefficients."""
    pytest.importorskip("numba")
    effect, twin = aimless.augment.ParametricEQ(), data.augment.RandomParametricEQ()
    for seed in range(20):
        uniform = generator("filters", seed).random((1, effect.numbers(0)))

        class Scripted:
            """Numbers in the twin's order: it draws the shelves' frequencies once more."""

            def __init__(self, numbers):
                self.numbers = numbers.reshape(-1, 3)
                self.row, self.column = 0, 0

            def random(self):
                if self.column == 3:
                    self.column = 0
                    if self.row in (0, len(self.numbers) - 1):
                        self.row += 1
                        return self.numbers[self.row - 1, 2]
                    self.row += 1
                self.column += 1
                return self.numbers[self.row, self.column - 1]

        expected = twin.draw(Scripted(uniform[0]))
        np.testing.assert_allclose(effect.sections(uniform)[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seconds", [0.5, 7.0, 20.0])
def test_automation_is_the_twins_curve(seconds):
    effect, twin = aimless.augment.VolumeAutomation(p=1.0), data.augment.RandomVolumeAutomation()
    samples = int(seconds * RATE)
    for seed in range(5):
        uniform = generator("fader", seed).random(effect.numbers(samples))
        curve = effect.curve(uniform, samples)
        lines = len(curve.ends) - 1
        spare = max(samples - lines * twin.shortest, 1e-9)
        shares = (np.diff(curve.ends) - min(twin.shortest, samples / lines)) / spare

        class Scripted:
            def __init__(self, levels):
                self.levels = iter((levels + 6) / 12)

            def integers(self, low, high):
                return lines  # noqa: B023

            def dirichlet(self, ones):
                return shares  # noqa: B023

            def random(self):
                return next(self.levels)

        expected = twin.gain(1, samples, Scripted(curve.levels)).curve
        stems = LazyStems(torch.ones(1, 1, 1, samples))
        effect.change(stems, np.array([0]), uniform[None])
        assert decibels(stems.result()[0, 0, 0].numpy(), expected) < -90


def test_automation_draws_lines_of_the_shortest_length_and_more():
    effect = aimless.augment.VolumeAutomation(min_segment_seconds=1.0, sample_rate=1000)
    uniform = generator("lines").random((300, effect.numbers(5000)))
    curves = [effect.curve(u, 5000) for u in uniform]
    counts = np.bincount([len(curve.levels) - 1 for curve in curves], minlength=6)
    assert counts[0] == 0
    assert (counts[1:] > 30).all()
    for curve in curves:
        assert curve.ends[0] == 0
        assert curve.ends[-1] == 5000
        assert np.diff(curve.ends).min() >= 999
        assert np.abs(curve.levels).max() <= 6


def reference_chorus(x, rate_hz, depth, centre_delay_ms, feedback, mix):
    """Sample by sample in double precision."""
    out, line, last = np.zeros(len(x)), np.zeros(len(x) + 1), 0.0
    for n in range(len(x)):
        line[n] = x[n] - last
        swing = -depth / 2 * np.sin(2 * np.pi * rate_hz * n / RATE)
        late = max(1.0, 20 * swing + centre_delay_ms) * RATE / 1000
        whole = int(late)
        taps = [line[n - whole - k] if n - whole - k >= 0 else 0.0 for k in (0, 1)]
        out[n] = taps[0] + (late - whole) * (taps[1] - taps[0])
        last = feedback * out[n]
    return (1 - mix) * x + mix * out


def reference_phaser(x, rate_hz, depth, centre_frequency_hz, feedback, mix):
    """Sample by sample in double precision."""
    out, state, last = np.zeros(len(x)), np.zeros(6), 0.0
    octaves = np.log(20000 / 20)
    for n in range(len(x)):
        swing = -depth / 2 * np.sin(2 * np.pi * rate_hz * (n // 4 * 4) / RATE)
        place = np.clip(swing + np.log(centre_frequency_hz / 20) / octaves, 0, 1)
        tangent = np.tan(np.pi * 20 * np.exp(place * octaves) / RATE)
        u = x[n] - last
        for stage in range(6):
            step = tangent / (1 + tangent) * (u - state[stage])
            low = step + state[stage]
            state[stage], u = low + step, 2 * low - u
        out[n], last = u, feedback * u
    return (1 - mix) * x + mix * out


CHORUS = {"rate_hz": 1.3, "depth": 0.4, "centre_delay_ms": 7, "feedback": 0.5, "mix": 0.5}
PHASER = {"rate_hz": 1.3, "depth": 0.4, "centre_frequency_hz": 400, "feedback": 0.5, "mix": 0.5}
MODULATIONS = pytest.mark.parametrize(
    ("name", "settings", "reference"),
    [("Chorus", CHORUS, reference_chorus), ("Phaser", PHASER, reference_phaser)],
)


@MODULATIONS
@pytest.mark.parametrize("change", [{}, {"depth": 1, "feedback": -0.99, "rate_hz": 5}])
def test_modulation_by_its_definition(name, settings, reference, change):
    settings = {**settings, **change}
    words = Pair(name, "", settings).constant()
    audio = music(0.2, channels=1)
    actual = on_device(getattr(aimless.augment, name)(p=1.0, **words), audio)
    # the delay in samples is a number of single precision, and feedback of 0.99 adds up
    assert decibels(actual[0], reference(audio[0], **settings)) < (-50 if change else -80)


@MODULATIONS
def test_modulation_beside_pedalboard(name, settings, reference):
    pytest.importorskip("pedalboard")
    time = np.arange(RATE) / RATE
    tone = np.stack([np.sin(2 * np.pi * f * time) for f in (220, 330)]).astype(np.float32)
    for depth, tolerance in ((0.0, -80), (0.4, -30)):
        words = Pair(name, "", {**settings, "depth": depth}).constant()
        twin = getattr(data.augment, f"RandomPedalboard{name}")(p=1.0, **words)
        _, (expected,) = twin(None, tone[None], generator(0))
        actual = on_device(getattr(aimless.augment, name)(p=1.0, **words), tone)
        assert decibels(actual, expected) < tolerance


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_loudness_is_the_twins(rate, channels):
    from aimless.augment.loudness import integrated_loudness as ours

    pytest.importorskip("numba")
    audio = np.stack([music(1.7, channels, seed) * 10.0**-seed for seed in range(3)])
    audio = np.concatenate([audio, 1e-6 * audio[:1]]).astype(np.float32)
    expected = [integrated_loudness(item, rate) for item in audio]
    assert np.isinf(expected[-1])
    np.testing.assert_allclose(ours(torch.from_numpy(audio), rate), expected, atol=1e-3)
