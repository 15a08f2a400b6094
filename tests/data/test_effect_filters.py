"""Second-order sections and the equaliser against SciPy in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aimless.draws import generator
from aimless.errors import ConfigError
from data.augment import RandomParametricEQ
from data.augment.equalizer import peaking, shelf
from data.kernels.lanes import biquads

signal = pytest.importorskip("scipy.signal")


def noise(channels: int, frames: int) -> np.ndarray:
    return generator("noise", frames).standard_normal((channels, frames)).astype(np.float32)


def plain(audio: np.ndarray, sections: np.ndarray) -> np.ndarray:
    out = audio.astype(np.float64)
    for b0, b1, b2, a1, a2 in sections:
        out = signal.lfilter((b0, b1, b2), (1, a1, a2), out)
    return out


def error_db(got: np.ndarray, exact: np.ndarray) -> float:
    return float(20 * np.log10(np.abs(got - exact).max() / np.abs(exact).max()))


@pytest.mark.parametrize("frames", [1, 63, 64, 65, 1024, 1025, 50000])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_sections_equal_scipy(channels: int, frames: int) -> None:
    sections = np.array(
        [shelf(0.01, 5, 0.7, high=False), peaking(0.2, -6, 4.0), shelf(1.5, 3, 0.5, high=True)]
    )
    audio = noise(channels, frames)
    got = biquads(audio, sections)
    assert got.shape == audio.shape
    assert error_db(got, plain(audio, sections)) < -120


def test_slow_and_equal_poles_are_no_worse() -> None:
    """5 Hz, and the same section five times over, so that the decay is not exponential."""
    for sections in (
        np.array([shelf(2 * math.pi * 5 / 44100, 6, 0.5, high=False)] * 2),
        np.array([peaking(2 * math.pi * 100 / 44100, 6, 4.0)] * 5),
    ):
        audio = noise(2, 200000)
        assert error_db(biquads(audio, sections), plain(audio, sections)) < -100


def test_sections_after_silence_are_as_exact_as_before() -> None:
    """States that decayed beyond what floats can hold are cleared."""
    sections = np.array([peaking(0.3, 6, 2.0)] * 2)
    audio = noise(1, 60000)
    audio[:, 2000:50000] = 0
    got = biquads(audio, sections)
    assert error_db(got, plain(audio, sections)) < -120
    assert not got[:, 30000:50000].any()


def analogue(kind: str, angle: float, gain_db: float, quality: float) -> np.ndarray:
    """The cookbook's analogue prototypes through SciPy's bilinear transform."""
    a, warped = 10 ** (gain_db / 40), 0.5 / math.tan(angle / 2)
    root = math.sqrt(a) / quality
    prototypes = {
        "peak": ((1, a / quality, 1), (1, 1 / (a * quality), 1)),
        "low": ((a, a * root, a * a), (a, root, 1)),
        "high": ((a * a, a * root, a), (1, root, a)),
    }
    b, a_ = signal.bilinear(*prototypes[kind], fs=warped)
    return np.concatenate([b, a_[1:]])


@pytest.mark.parametrize("gain_db", [-6.0, -0.5, 0.0, 6.0])
@pytest.mark.parametrize("quality", [0.1, 0.7, 4.0])
@pytest.mark.parametrize("angle", [0.003, 0.15, 1.4, 2.5])
def test_coefficients_are_those_of_the_analogue_filters(
    angle: float, quality: float, gain_db: float
) -> None:
    for kind, got in {
        "peak": peaking(angle, gain_db, quality),
        "low": shelf(angle, gain_db, quality, high=False),
        "high": shelf(angle, gain_db, quality, high=True),
    }.items():
        exact = analogue(kind, angle, gain_db, quality)
        np.testing.assert_allclose(got, exact, rtol=1e-9, atol=1e-9)


def test_equaliser_equals_passes_of_lfilter() -> None:
    effect = RandomParametricEQ()
    audio = noise(2, 3 * 44100)
    for seed in range(25):
        got = effect.transform(audio, generator("eq", seed))
        sections = effect.draw(generator("eq", seed))
        assert len(sections) == 5
        assert error_db(got, plain(audio, sections)) < -100


def test_equaliser_gains_frequencies_and_number_of_bands() -> None:
    """With one gain and a narrow band, the response is that gain at the drawn frequency."""
    effect = RandomParametricEQ(
        num_bands=1, min_gain_db=6, max_gain_db=6, min_q_factor=4, max_q_factor=4
    )
    centres = []
    for seed in range(400):
        low, band, high = effect.draw(generator("bands", seed))
        frequency, response = signal.freqz(band[:3], [1, *band[3:]], 1 << 13, fs=44100)
        assert 20 * np.log10(np.abs(response).max()) == pytest.approx(6, abs=0.01)
        centres.append(frequency[np.abs(response).argmax()])
        for section, end in ((low, 1), (high, -1)):  # gain at 0 Hz and at half the rate
            b = section[:3] @ np.array([1, end, 1])
            a = np.array([1, *section[3:]]) @ np.array([1, end, 1])
            assert 20 * math.log10(b / a) == pytest.approx(6, abs=1e-6)
    assert 990 < min(centres) < 1100
    assert 9000 < max(centres) < 10010
    counts, _ = np.histogram(np.log10(centres), bins=5, range=(3, 4))
    assert np.abs(counts - 80).max() < 45  # log-uniform, over five standard deviations
    assert len(RandomParametricEQ(num_bands=7).draw(generator("n"))) == 9


@pytest.mark.parametrize("rate", [8000, 16000, 96000])
def test_equaliser_is_stable_at_other_rates(rate: int) -> None:
    effect = RandomParametricEQ(sample_rate=rate)
    for seed in range(200):
        for section in effect.draw(generator("rate", seed)):
            assert np.abs(np.roots([1, *section[3:]])).max() < 1


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match=r"RandomParametricEQ\.num_bands: -1"):
        RandomParametricEQ(num_bands=-1)
    with pytest.raises(ConfigError, match=r"RandomParametricEQ\.max_q_factor: 0\.05 is below min"):
        RandomParametricEQ(max_q_factor=0.05)
    with pytest.raises(ConfigError, match=r"RandomParametricEQ\.min_cutoff_freq: 0 is not"):
        RandomParametricEQ(min_cutoff_freq=0)
