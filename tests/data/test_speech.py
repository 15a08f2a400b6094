"""Speech in noise: places, levels, resampling, and the split into training and validation."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.distributions import Gamma, Normal, Uniform

from aimless.draws import generator
from aimless.errors import ConfigError, DataError
from data import audio
from data.augment import RandomGain
from data.dataset.speech import SpeechNoiseDataset, place
from data.files.resampling import frames_at, read_at
from data.sampling import Key
from data.snr import SnrSampler, noise_gain

RATE = 44100


def write(
    path: Path, seconds: float, rate: int = RATE, channels: int = 1, level: float = 0.1
) -> audio.AudioFile:
    """White noise of that RMS, another for each path, in float so that nothing is rounded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = generator(path.name)
    samples = level * rng.standard_normal((round(seconds * rate), channels))
    if not path.exists():  # a file that is written again counts as changed
        soundfile.write(path, samples.astype(np.float32), rate, subtype="FLOAT")
    return audio.info(path)


def dataset(folder: Path, **settings: Any) -> SpeechNoiseDataset:
    """Long and short files at three rates, one of them in stereo."""
    speech = [
        write(folder / "speech" / "long.wav", 3.0, 48000),
        write(folder / "speech" / "short.wav", 0.3),
        write(folder / "speech" / "wide.wav", 1.5, 22050, channels=2, level=0.02),
    ]
    noise = [
        write(folder / "noise" / "long.wav", 4.0, 16000, level=0.3),
        write(folder / "noise" / "short.wav", 0.2, level=0.01),
    ]
    defaults = {"segment": 1.0, "samples_per_file": 20}
    return SpeechNoiseDataset(speech, noise, RATE, **{**defaults, **settings})


def measured_snr(speech: np.ndarray, noise: np.ndarray, region: slice) -> float:
    powers = [np.square(x[:, region], dtype=np.float64).mean() for x in (speech, noise)]
    return float(10 * np.log10(powers[0] / powers[1]))


@pytest.mark.parametrize("snr", [None, {"low": -10.0, "high": -10.0}, Normal(5.0, 10.0)])
def test_the_drawn_ratio_is_the_measured_one(tmp_path: Path, snr: Any) -> None:
    items = dataset(tmp_path, snr=None if snr is None else SnrSampler(snr))
    for index in range(len(items)):
        scene = items.scene(Key(0, index))
        speech, noise = items[index].stems.numpy()
        region = slice(scene.offset, scene.offset + scene.frames)
        assert measured_snr(speech, noise, region) == pytest.approx(scene.snr_db, abs=0.1)


def test_items_hold_speech_where_it_was_placed_and_noise_everywhere(tmp_path: Path) -> None:
    items = dataset(tmp_path)
    for index in range(len(items)):
        scene, item = items.scene(Key(0, index)), items[index]
        assert item.stems.shape == (2, 1, RATE)
        assert torch.equal(item.mixture, item.stems.sum(0))
        speech, noise = item.stems.numpy()
        region = slice(scene.offset, scene.offset + scene.frames)
        part = read_at(scene.speech, scene.start, scene.frames, RATE).mean(0)
        assert np.array_equal(speech[0, region], part)
        assert not speech[0, : scene.offset].any()
        assert not speech[0, region.stop :].any()
        assert np.abs(noise).reshape(100, -1).max(1).min() > 0


def test_short_noise_is_repeated(tmp_path: Path) -> None:
    items = dataset(tmp_path)
    short = [index for index in range(60) if items.scene(Key(0, index)).noise.frames < RATE]
    assert short
    for index in short:
        noise = items[index].stems[1, 0]
        period = round(0.2 * RATE)
        assert torch.equal(noise[period:], noise[:-period])


@pytest.mark.parametrize("least", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("total", [1, 30, 100, 101, 1000])
def test_places_keep_the_overlap_and_use_all_that_is_allowed(total: int, least: float) -> None:
    rng = generator("places", total)
    found = [place(total, 100, least, rng) for _ in range(3000)]
    wanted = min(total, max(1, math.ceil(100 * least)))
    for start, offset, frames in found:
        assert frames >= wanted
        assert 0 <= start <= start + frames <= total
        assert 0 <= offset <= offset + frames <= 100
        assert start == 0 or offset == 0
    allowed = (100 - wanted) + (total - wanted) + 1
    assert len({(start, offset) for start, offset, _ in found}) > 0.9 * min(allowed, 1000)
    assert {frames for *_, frames in found} >= {wanted, min(total, 100)}


@pytest.mark.parametrize("silent", ["speech", "noise", "both"])
def test_silence_has_no_ratio(tmp_path: Path, silent: str) -> None:
    quiet, loud = (
        write(tmp_path / name, 2.0, level=level)
        for name, level in (("quiet.wav", 0.0), ("loud.wav", 0.1))
    )
    speech = loud if silent == "noise" else quiet
    noise = loud if silent == "speech" else quiet
    item = SpeechNoiseDataset([speech], [noise], RATE, 1.0, 4)[0]
    assert item.stems.isfinite().all()
    assert float(item.stems[1].abs().max()) <= 1


def test_the_gain_of_noise_is_limited() -> None:
    speech = np.full((1, 100), 0.5, np.float32)
    noise = np.full((1, 100), 1e-4, np.float32)
    assert noise_gain(speech, noise, 0.0) == pytest.approx(1000)
    assert noise_gain(speech, noise, -1e9) == pytest.approx(1000)
    assert noise_gain(speech, noise, 1e9) == 0
    assert noise_gain(speech, 1e-6 * noise, 0.0) == 1


def test_items_depend_on_seed_epoch_and_index_only(tmp_path: Path) -> None:
    transforms = [RandomGain()]
    items, again = (dataset(tmp_path, transforms=transforms, seed=7) for _ in range(2))
    torch.manual_seed(1)
    first = [items[Key(2, index)].stems for index in range(10)]
    torch.manual_seed(2)
    copy = pickle.loads(pickle.dumps(again))
    for index in reversed(range(10)):
        assert torch.equal(copy[Key(2, index)].stems, first[index])
    assert not torch.equal(items[Key(3, 0)].stems, first[0])
    assert not torch.equal(dataset(tmp_path, seed=8)[Key(2, 0)].stems, first[0])


def test_all_files_take_part(tmp_path: Path) -> None:
    items = dataset(tmp_path)
    scenes = [items.scene(Key(0, index)) for index in range(len(items))]
    assert set(Counter(scene.speech.path.name for scene in scenes).values()) == {20}
    assert min(Counter(scene.noise.path.name for scene in scenes).values()) > 10


def test_description_names_the_files_at_their_own_rates(tmp_path: Path) -> None:
    items = dataset(tmp_path)
    for index in range(len(items)):
        scene, described = items.scene(Key(0, index)), items.describe(index)
        (speech,), (noise,) = described["speech"], described["noise"]
        assert (speech.file, noise.file) == (scene.speech, scene.noise)
        assert speech.start / speech.file.rate == pytest.approx(scene.start / RATE, abs=1e-4)
        for excerpt in (speech, noise):
            assert 0 <= excerpt.start < excerpt.start + excerpt.frames <= excerpt.file.frames


def test_whole_files_have_their_own_lengths(tmp_path: Path) -> None:
    items = dataset(tmp_path, segment=None, samples_per_file=1)
    lengths = [items[index].mixture.shape[-1] for index in range(3)]
    assert lengths == [frames_at(file, RATE) for file in items.speech]
    assert torch.equal(
        items[1].stems[0, 0], torch.from_numpy(audio.read(items.speech[1], 0, 13230)[0])
    )


def test_stereo_keeps_its_channels_and_doubles_mono(tmp_path: Path) -> None:
    items = dataset(tmp_path, channels=2, least_overlap_ratio=1.0)
    long, wide = items[0].stems[0], items[40].stems[0]
    assert torch.equal(long[0], long[1])
    assert not torch.allclose(wide[0], wide[1])


def test_a_damaged_excerpt_is_replaced(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", 2.0)
    soundfile.write(tmp_path / "bad.wav", np.full(2 * RATE, np.nan), RATE, subtype="FLOAT")
    bad = audio.info(tmp_path / "bad.wav")
    items = SpeechNoiseDataset([bad, good], [good], RATE, 1.0, 2)
    assert items[0].stems.isfinite().all()
    assert items.rejects.count(0) >= 1


def test_too_quiet_speech_is_drawn_again(tmp_path: Path) -> None:
    quiet, loud = (write(tmp_path / f"{level}.wav", 2.0, level=level) for level in (0.001, 0.1))
    items = SpeechNoiseDataset([quiet, loud], [loud], RATE, 1.0, 10, min_loudness_db=-40)
    levels = [float(items[index].stems[0].square().mean()) for index in range(10)]
    assert min(levels) > 1e-4


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    good, tiny = write(tmp_path / "good.wav", 1.0), write(tmp_path / "tiny.wav", 1e-5, 96000)
    with pytest.raises(DataError, match="1 and 0 files"):
        SpeechNoiseDataset([good], [], RATE)
    with pytest.raises(DataError, match=r"tiny\.wav: shorter than one sample at 44100 Hz"):
        SpeechNoiseDataset([good], [tiny], RATE)


@pytest.mark.parametrize(
    "given", [Uniform(0.0, 20.0), Gamma(2.0, 0.5), Normal(3.0, 1.0), {"low": 0, "high": 20}]
)
def test_samplers_draw_their_distribution_without_touching_torch(given: Any) -> None:
    sampler, before = SnrSampler(given), torch.get_rng_state()
    drawn = [sampler.draw(generator("snr", index)) for index in range(2000)]
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn[:3] == [sampler.draw(generator("snr", index)) for index in range(3)]
    expected = given if not isinstance(given, dict) else Uniform(0.0, 20.0)
    assert np.mean(drawn) == pytest.approx(float(expected.mean), abs=0.6)
    assert np.std(drawn) == pytest.approx(float(expected.stddev), rel=0.1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"low": 0}, "wanted low and high"),
        ({"low": 20, "high": 0}, "in order"),
        ({"low": 0, "high": math.inf}, "finite"),
        ("loud", "has no sample"),
        (Uniform(torch.zeros(2), torch.ones(2)), "draws"),
    ],
)
def test_samplers_that_make_no_sense(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"snr_sampler: .*{said}"):
        SnrSampler(given)
