"""A part of a file at another rate is a cut out of the whole file at that rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from data import audio
from data.files.resampling import frames_at, read_at

RATES = [(48000, 44100), (22050, 44100), (96000, 44100), (44100, 48000), (8000, 44100)]


def write_noise(path: Path, rate: int, frames: int, channels: int = 1) -> np.ndarray:
    """A file of white noise, which has content up to the last bin; returns (channels, frames)."""
    rng = np.random.default_rng(rate + frames)
    samples = 0.1 * rng.standard_normal((frames, channels)).astype(np.float32)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return samples.T


def decibels(error: np.ndarray, reference: np.ndarray) -> float:
    power = np.square(error, dtype=np.float64).mean() / np.square(reference).mean()
    return float(10 * np.log10(power + 1e-30))


@pytest.mark.parametrize(("rate", "wanted"), RATES)
def test_parts_equal_cuts_of_the_whole(tmp_path: Path, rate: int, wanted: int) -> None:
    samples = write_noise(tmp_path / "a.wav", rate, rate + 12345, channels=2)
    header = audio.info(tmp_path / "a.wav")
    whole = soxr.resample(samples.T, rate, wanted).T
    total = frames_at(header, wanted)
    assert total == whole.shape[1]
    for start, frames in [(0, 5000), (1, 1), (17777, 5000), (total - 3000, 3000), (0, total)]:
        part = read_at(header, start, frames, wanted)
        assert part.shape == (2, frames)
        assert part.dtype == np.float32
        cut = whole[:, start : start + frames]
        assert decibels(part - cut, whole) < -110, (start, frames)


def test_only_what_is_needed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(tmp_path / "a.wav", 48000, 480000)
    header = audio.info(tmp_path / "a.wav")
    asked = []
    read = audio.read
    monkeypatch.setattr(
        audio, "read", lambda file, start, frames: asked.append(frames) or read(file, start, frames)
    )
    read_at(header, 200000, 44100, 44100)
    assert asked[0] <= 48000 + 1000


def test_equal_rates_are_never_resampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = write_noise(tmp_path / "a.wav", 44100, 10000)
    monkeypatch.delattr(soxr, "resample")
    part = read_at(audio.info(tmp_path / "a.wav"), 123, 4567, 44100)
    assert np.array_equal(part, samples[:, 123:4690])


@pytest.mark.parametrize("frames", [1, 2, 3, 146, 147, 148, 1001, 44099])
@pytest.mark.parametrize(("rate", "wanted"), RATES)
def test_lengths_are_those_of_the_resampler(
    tmp_path: Path, rate: int, wanted: int, frames: int
) -> None:
    samples = write_noise(tmp_path / "a.wav", rate, frames)
    expected = soxr.resample(samples.T, rate, wanted).shape[0]
    assert frames_at(audio.info(tmp_path / "a.wav"), wanted) == expected
