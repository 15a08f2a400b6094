"""Where stems are drawn from, and what is drawn again because it is too quiet."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from aimless.errors import ConfigError, DataError
from aimless.sources import MDX_SOURCES
from data import audio, tracks
from data.audio import AudioFile
from data.dataset import SegmentDataset
from data.dataset.base import AlignedPool, Excerpt, Pool
from data.dataset.excerpts import level_db
from data.sampling import Key
from data.tracks import Rules, Track

RATE = 8000
SOURCES = ("speech", "noise")
LENGTH = 800


class FixedPool:
    """Draws the same excerpts each time, from places that are drawn."""

    def __init__(self, *files: AudioFile, gain: float = 1.0, frames: int = LENGTH) -> None:
        self.files = files
        self.gain = gain
        self.frames = frames

    def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
        assert length == LENGTH
        return [
            Excerpt(file, int(rng.integers(file.frames - length)), self.frames, self.gain)
            for file in self.files
        ]


class TogetherPool:
    """Draws one place for all sources but the last, which is silent."""

    def __init__(self, file: AudioFile) -> None:
        self.file = file

    def draw(self, length: int, rng: np.random.Generator) -> Mapping[str, list[Excerpt]]:
        return {"speech": [Excerpt(self.file, int(rng.integers(100)), length)]}


def write(path: Path, samples: np.ndarray) -> AudioFile:
    soundfile.write(path, samples.T, RATE, subtype="FLOAT")
    return audio.info(path)


@pytest.fixture
def files(tmp_path: Path) -> list[AudioFile]:
    rng = np.random.default_rng(0)
    return [write(tmp_path / f"{n}.wav", rng.uniform(-0.2, 0.2, (2, RATE))) for n in range(3)]


def pooled(pools: Mapping[str, Pool], **settings: object) -> SegmentDataset:
    defaults = {"samples": 6, "rate": RATE, "channels": 2, **settings}
    return SegmentDataset(
        [], SOURCES, LENGTH / RATE, random=True, random_track_mix=True, pools=pools, **defaults
    )


def samples_of(excerpt: Excerpt) -> np.ndarray:
    """An excerpt, padded to the segment, read another way."""
    file, start, frames, gain = excerpt
    samples, _ = soundfile.read(file.path, frames, start, always_2d=True)
    return np.pad(gain * samples.T, ((0, 0), (0, LENGTH - frames)))


def test_pools_are_read_summed_and_described(files: list[AudioFile]) -> None:
    several = FixedPool(*files, gain=0.5, frames=LENGTH // 2)
    dataset = pooled({"speech": several, "noise": FixedPool(files[2], gain=2.0)})
    assert len(dataset) == 6
    for index in range(6):
        item, plan = dataset[Key(1, index)], dataset.describe(Key(1, index))
        assert [len(plan[source]) for source in SOURCES] == [3, 1]
        for source, stem in zip(SOURCES, item.stems):
            expected = sum(map(samples_of, plan[source]))
            np.testing.assert_allclose(stem, expected, atol=1e-7)
        np.testing.assert_allclose(item.mixture, item.stems.sum(0), atol=1e-7)
    starts = {dataset.describe(Key(e, i))["noise"][0].start for e in range(2) for i in range(6)}
    assert len(starts) == 12


def test_excerpts_of_different_lengths_are_summed_from_the_beginning(
    files: list[AudioFile],
) -> None:
    class Uneven:
        def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
            return [Excerpt(files[0], 7, 300), Excerpt(files[1], 9, 700, 0.25)]

    item = pooled({"speech": Uneven(), "noise": FixedPool(files[0])})[0]
    expected = samples_of(Excerpt(files[0], 7, 300)) + samples_of(Excerpt(files[1], 9, 700, 0.25))
    np.testing.assert_allclose(item.stems[0], expected, atol=1e-7)


def test_no_excerpt_is_silence_in_used_memory_too(files: list[AudioFile]) -> None:
    dataset = pooled({"speech": FixedPool(), "noise": FixedPool(files[0])}, min_loudness_db=-60.0)
    for index in range(6):  # buffers are filled again
        item = dataset[index]
        assert not item.stems[0].any()
        assert item.stems[1].any()
        assert torch.equal(item.mixture, item.stems[1])
        assert dataset.describe(index)["speech"] == []


def test_a_source_draws_without_regard_to_the_others(files: list[AudioFile]) -> None:
    one = pooled({"speech": FixedPool(files[0]), "noise": FixedPool(files[1])})
    other = pooled({"speech": FixedPool(*files), "noise": FixedPool(files[1])})
    for index in range(6):
        assert one.describe(index)["noise"] == other.describe(index)["noise"]
        assert one.describe(index)["noise"][0].start != one.describe(index)["speech"][0].start


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 80, 160), (1.0, 400, 400)])
def test_a_share_of_items_is_drawn_together(
    files: list[AudioFile], share: float, low: int, high: int
) -> None:
    apart = {"speech": FixedPool(files[1]), "noise": FixedPool(files[2])}
    together: AlignedPool = TogetherPool(files[0])
    dataset = pooled(apart, samples=400, aligned=together, aligned_p=share)
    count = 0
    for index in range(400):
        plan = dataset.describe(index)
        if not plan["noise"]:
            count += 1
            assert plan["speech"][0].file == files[0]
            if count == 1:
                item = dataset[index]
                np.testing.assert_allclose(item.stems[0], samples_of(plan["speech"][0]), atol=1e-7)
                assert torch.equal(item.mixture, item.stems[0])
        else:
            assert plan["speech"][0].file == files[1]
    assert low <= count <= high


def test_pools_travel_to_loader_processes(files: list[AudioFile]) -> None:
    dataset = pooled({"speech": FixedPool(*files), "noise": FixedPool(files[1])})
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[Key(2, 3)].stems, dataset[Key(2, 3)].stems)


def test_pools_that_make_no_sense(files: list[AudioFile]) -> None:
    pools = {"speech": FixedPool(files[0]), "noise": FixedPool(files[1])}
    with pytest.raises(ConfigError, match="samples: with pools"):
        pooled(pools, samples=None)
    with pytest.raises(ConfigError, match="need random_track_mix: true"):
        SegmentDataset([], SOURCES, 0.1, random=True, pools=pools, samples=3)
    with pytest.raises(DataError, match="sample rate, channels"):
        pooled(pools, rate=None)


def test_a_stem_that_a_track_lacks_is_silent(
    tmp_path: Path, write_song: Callable[..., Path]
) -> None:
    write_song(tmp_path / "a", 0.5)
    (found,) = tracks.scan(tmp_path, Rules(MDX_SOURCES))
    stems = {name: file for name, file in found.stems.items() if name != "bass"}
    track = Track(**{**vars(found), "stems": stems})
    for settings in ({}, {"random": True}, {"random": True, "random_track_mix": True}):
        dataset = SegmentDataset([track], MDX_SOURCES, 0.1, 5, **settings)
        assert dataset.describe(1)["bass"] == []
        assert [bool(stem.any()) for stem in dataset[1].stems] == [True, False, True, True]


@pytest.fixture
def mostly_quiet(tmp_path: Path) -> AudioFile:
    """-80 dB, and -20 dB in the second half."""
    samples = np.full((2, 2 * RATE), 1e-4)
    samples[:, RATE:] = 0.1
    return write(tmp_path / "quiet.wav", samples)


def test_quiet_stems_are_drawn_again(mostly_quiet: AudioFile, files: list[AudioFile]) -> None:
    pools = {"speech": FixedPool(mostly_quiet), "noise": FixedPool(files[0])}
    plain = pooled(pools, samples=100)
    gated = pooled(pools, samples=100, min_loudness_db=-40.0)
    quiet = [level_db(plain[index].stems[0].numpy()) < -40 for index in range(100)]
    assert 30 < sum(quiet) < 70
    for index in range(100):
        item, plan = gated[index], gated.describe(index)
        assert level_db(item.stems[0].numpy()) >= -40
        np.testing.assert_allclose(item.stems[0], samples_of(plan["speech"][0]), atol=1e-7)
        assert plan["noise"] == plain.describe(index)["noise"]
        assert (plan["speech"] == plain.describe(index)["speech"]) == (not quiet[index])
        assert torch.equal(gated[index].stems, item.stems)
    assert gated.rejects.count(0) == 0


def test_the_loudest_of_ten_draws_is_kept(tmp_path: Path, files: list[AudioFile]) -> None:
    ramp = write(tmp_path / "ramp.wav", np.linspace(0, 1e-3, 2 * RATE) * np.ones((2, 1)))
    drawn: list[int] = []

    class Noting(FixedPool):
        def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
            excerpts = super().draw(length, rng)
            drawn.append(excerpts[0].start)
            return excerpts

    dataset = pooled({"speech": Noting(ramp), "noise": FixedPool(files[0])}, min_loudness_db=-20.0)
    for index in range(6):
        drawn.clear()
        (kept,) = dataset.describe(index)["speech"]
        assert len(drawn) == len(set(drawn)) == 10
        assert kept.start == max(drawn)
        np.testing.assert_allclose(dataset[index].stems[0], samples_of(kept), atol=1e-9)


def test_the_gate_listens_to_the_mixture_where_stems_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "song"
    folder.mkdir()
    half = np.arange(2 * RATE) >= RATE
    stems = {"speech": 0.1 * half, "noise": 1e-5 * np.ones(2 * RATE)}
    for name, samples in {**stems, "mixture": stems["speech"] + stems["noise"]}.items():
        write(folder / f"{name}.wav", np.stack([samples, samples]))
    found = tracks.scan(tmp_path, Rules(SOURCES, sample_rate=RATE))
    dataset = SegmentDataset(found, SOURCES, 0.1, 60, random=True, min_loudness_db=-40.0)
    items = [dataset[index] for index in range(60)]
    assert min(level_db(item.mixture.numpy()) for item in items) >= -40
    starts = [dataset.describe(index)["noise"][0].start for index in range(60)]
    assert min(starts) > RATE - LENGTH


def test_level_is_the_rms_over_all_channels_in_db() -> None:
    samples = np.zeros((2, 300_001), np.float32)
    assert level_db(samples) == -math.inf
    samples[0] = 1.0
    assert level_db(samples) == pytest.approx(-10 * math.log10(2), abs=1e-6)
    noise = np.random.default_rng(1).standard_normal((2, 300_001)).astype(np.float32)
    plain = 10 * math.log10(np.mean(noise.astype(np.float64) ** 2))
    assert level_db(noise[:, ::-1]) == pytest.approx(plain, abs=1e-5)
