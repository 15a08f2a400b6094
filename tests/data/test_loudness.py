"""Loudness against the standard's own figures and an independent meter."""

from __future__ import annotations

import numpy as np
import pytest

from aimless.draws import generator
from data.loudness import integrated_loudness, k_weighting


def music_like(rate: int, channels: int, seconds: float = 6.0) -> np.ndarray:
    """Noise that falls by 3 dB per octave and swells slowly, (channels, samples) float32."""
    frames = round(rate * seconds)
    rng = generator("loudness", rate, channels)
    spectrum = np.fft.rfft(rng.standard_normal((channels, frames)))
    spectrum /= np.sqrt(np.arange(1, spectrum.shape[1] + 1))
    swell = 0.02 + np.abs(np.sin(1.3 * np.arange(frames) / rate))
    audio = np.fft.irfft(spectrum, frames) * swell
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_equals_pyloudnorm(rate: int, channels: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    audio = music_like(rate, channels)
    exact = pyloudnorm.Meter(rate, filter_class="DeMan")
    got = integrated_loudness(audio, rate)
    assert abs(got - exact.integrated_loudness(audio.T.astype(float))) < 1e-4
    if rate >= 44100:  # its default filter is a rough fit below
        usual = pyloudnorm.Meter(rate)
        assert abs(got - usual.integrated_loudness(audio.T.astype(float))) < 0.05


def test_calibration_tone() -> None:
    """A full-scale 997 Hz sine in one channel reads -3.01 LUFS (BS.1770-4, annex 1)."""
    time = np.arange(5 * 48000) / 48000
    tone = np.sin(2 * np.pi * 997 * time).astype(np.float32)
    assert integrated_loudness(tone[None], 48000) == pytest.approx(-3.01, abs=0.01)
    both = integrated_loudness(np.stack([tone, tone]), 48000)
    assert both == pytest.approx(0.0, abs=0.01)


def test_response_is_that_of_the_standard_at_48_khz() -> None:
    """Tables 1 and 2 of BS.1770-4."""
    signal = pytest.importorskip("scipy.signal")
    frequency = np.linspace(20, 20000, 200)
    shelf_b = (1.53512485958697, -2.69169618940638, 1.19839281085285)
    shelf_a = (1.0, -1.69065929318241, 0.73248077421585)
    high_pass_b, high_pass_a = (1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)
    _, shelf = signal.freqz(shelf_b, shelf_a, frequency, fs=48000)
    _, high_pass = signal.freqz(high_pass_b, high_pass_a, frequency, fs=48000)
    np.testing.assert_allclose(k_weighting(frequency, 48000), shelf * high_pass, rtol=1e-6)


def test_gating_leaves_out_silence_and_quiet_parts() -> None:
    loud = music_like(44100, 2, 4.0)
    alone = integrated_loudness(loud, 44100)
    silence = np.zeros_like(loud)
    quiet = loud * np.float32(0.01)
    for tail in (silence, quiet):
        together = integrated_loudness(np.concatenate([loud, tail], axis=1), 44100)
        assert abs(together - alone) < 0.4  # three blocks reach across the joint
    assert integrated_loudness(silence, 44100) == -np.inf


@pytest.mark.parametrize("rate", [100, 11025, 44099, 44100])
def test_short_signals_have_no_loudness(rate: int) -> None:
    audio = generator("short").standard_normal((2, rate)).astype(np.float32)
    for frames in (1, int(0.399 * rate)):
        assert integrated_loudness(audio[:, :frames], rate) == -np.inf
    assert np.isfinite(integrated_loudness(audio[:, : int(0.4 * rate) + 1], rate))


def test_gain_moves_loudness_by_its_decibels() -> None:
    audio = music_like(44100, 2)
    difference = integrated_loudness(audio * np.float32(0.5), 44100) - integrated_loudness(
        audio, 44100
    )
    assert difference == pytest.approx(20 * np.log10(0.5), abs=1e-4)
