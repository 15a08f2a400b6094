"""Items: what they hold, where it comes from, and that nothing but the key decides it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader, default_collate

from aimless.errors import ConfigError, DataError
from aimless.sources import MDX_SOURCES
from data import tracks
from data.audio import AudioReadError
from data.augment import LimitAug, RandomGain, RandomSwapLR
from data.dataset import Item, SegmentDataset, collate
from data.dataset.base import Excerpt
from data.sampling import Key
from data.tracks import Rules, Track

RATE = 44100
RULES = Rules(MDX_SOURCES)


@pytest.fixture(scope="module")
def train(musdb_root: Path) -> list[Track]:
    return tracks.scan(musdb_root / "train", RULES)


def from_file(path: Path, start: int = 0, frames: int = -1) -> np.ndarray:
    return soundfile.read(path, frames, start, dtype="float32", always_2d=True)[0].T


def heard(excerpts: list[Excerpt]) -> np.ndarray:
    """The excerpts of a plan, read another way."""
    return sum(from_file(file.path, start, frames) * gain for file, start, frames, gain in excerpts)


def equal(a: Item, b: Item) -> bool:
    return torch.equal(a.mixture, b.mixture) and torch.equal(a.stems, b.stems) and a[2:] == b[2:]


@pytest.mark.parametrize("segment", [1.0, 0.7, 3.0, 5.0])
def test_consecutive_segments_lose_nothing(train: list[Track], segment: float) -> None:
    dataset = SegmentDataset(train, MDX_SOURCES, segment)
    length = round(segment * RATE)
    per_track = -(-3 * RATE // length)
    assert len(dataset) == 3 * per_track
    items = [dataset[index] for index in range(per_track, 2 * per_track)]
    song = torch.cat([item.mixture for item in items], dim=1).numpy()
    assert song.shape == (2, per_track * length)
    np.testing.assert_array_equal(song[:, : 3 * RATE], from_file(train[1].folder / "mixture.wav"))
    assert not song[:, 3 * RATE :].any()
    stems = torch.cat([item.stems for item in items], dim=2).numpy()
    for name, stem in zip(MDX_SOURCES, stems):
        np.testing.assert_array_equal(stem[:, : 3 * RATE], from_file(train[1].stems[name]))


def test_whole_tracks(train: list[Track]) -> None:
    dataset = SegmentDataset(train, MDX_SOURCES, None)
    assert len(dataset) == 3
    item = dataset[2]
    assert item.stems.shape == (4, 2, 3 * RATE)
    assert item.stems.dtype == item.mixture.dtype == torch.float32
    np.testing.assert_array_equal(item.mixture, from_file(train[2].folder / "mixture.wav"))


def test_random_segments_are_where_describe_says(train: list[Track]) -> None:
    dataset = SegmentDataset(train, MDX_SOURCES, 0.5, samples_per_track=10, random=True)
    assert len(dataset) == 30
    starts = set()
    for index in range(30):
        key = Key(2, index)
        item, excerpts = dataset[key], dataset.describe(key)
        assert list(excerpts) == [*MDX_SOURCES, "mixture"]
        assert {e.file.path.parent for (e,) in excerpts.values()} == {train[index // 10].folder}
        assert len({excerpt.start for (excerpt,) in excerpts.values()}) == 1
        np.testing.assert_array_equal(item.mixture, heard(excerpts["mixture"]))
        for name, stem in zip(MDX_SOURCES, item.stems):
            np.testing.assert_array_equal(stem, heard(excerpts[name]))
        starts.add(excerpts["mixture"][0].start)
    assert len(starts) == 30


def test_track_mix_draws_each_source_by_itself(train: list[Track]) -> None:
    dataset = SegmentDataset(train, MDX_SOURCES, 0.5, 50, random=True, random_track_mix=True)
    plans = [dataset.describe(Key(0, index)) for index in range(len(dataset))]
    assert all(list(plan) == list(MDX_SOURCES) for plan in plans)
    picks = np.array(
        [[plan[name][0].file.path.parent.name for name in MDX_SOURCES] for plan in plans]
    )
    for column in picks.T:
        _, counts = np.unique(column, return_counts=True)
        assert counts.min() > 30  # 50 expected, standard deviation 5.8
    assert (picks[:, 0] != picks[:, 1]).mean() == pytest.approx(2 / 3, abs=0.15)
    starts = np.array([[plan[name][0].start for name in MDX_SOURCES] for plan in plans])
    assert abs(np.corrcoef(starts[:, 0], starts[:, 1])[0, 1]) < 0.3
    assert starts.min() < 0.1 * RATE
    assert starts.max() > 2.4 * RATE
    item = dataset[Key(0, 7)]
    for name, stem in zip(MDX_SOURCES, item.stems):
        np.testing.assert_array_equal(stem, heard(plans[7][name]))
    np.testing.assert_allclose(item.mixture, item.stems.sum(0), atol=1e-7)


def test_an_item_depends_on_seed_epoch_and_index_alone(train: list[Track]) -> None:
    def make(seed: int) -> SegmentDataset:
        effects = [RandomGain()]
        return SegmentDataset(train, MDX_SOURCES, 0.1, 8, True, True, effects, seed)

    dataset = make(1)
    first = dataset[Key(3, 5)]
    for index in (4, 0, 20):
        _ = dataset[Key(1, index)]
    assert equal(dataset[Key(3, 5)], first)
    assert equal(pickle.loads(pickle.dumps(dataset))[Key(3, 5)], first)
    for other in (dataset[Key(4, 5)], dataset[Key(3, 6)], make(2)[Key(3, 5)]):
        assert not torch.equal(other.stems, first.stems)


def test_effects_change_stems_and_mixture(train: list[Track]) -> None:
    plain = SegmentDataset(train, MDX_SOURCES, 0.5, 4, random=True)
    louder = SegmentDataset(train, MDX_SOURCES, 0.5, 4, random=True, transforms=[RandomGain(2, 2)])
    assert plain.describe(3) == louder.describe(3)
    torch.testing.assert_close(louder[3].stems, 2 * plain[3].stems)
    torch.testing.assert_close(louder[3].mixture, louder[3].stems.sum(0))


def test_keys_mark_items(train: list[Track]) -> None:
    dataset = SegmentDataset(train, MDX_SOURCES, 1.0)
    assert dataset[Key(4, 2, valid=False)][2:] == (False, 4, 2)
    assert dataset[2][2:] == (True, 0, 2)
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError):
            dataset[index]


def test_a_plain_loader_makes_batches_of_the_same_type(train: list[Track]) -> None:
    loader = DataLoader(SegmentDataset(train, MDX_SOURCES, 1.0), batch_size=4)
    batch = next(iter(loader))
    assert isinstance(batch, Item)
    assert batch.mixture.shape == (4, 2, RATE)
    assert batch.stems.shape == (4, 4, 2, RATE)
    assert torch.as_tensor(batch.valid).tolist() == [True] * 4
    assert torch.as_tensor(batch.index).tolist() == [0, 1, 2, 3]


def test_collate_gives_the_default_batch_without_a_copy(train: list[Track]) -> None:
    effects = [RandomGain(p=0.5), RandomSwapLR(), LimitAug(p=0.5)]
    dataset = SegmentDataset(train, MDX_SOURCES, 0.5, 4, True, True, effects)
    keys = [Key(1, index, index < 5) for index in range(6)]
    items = dataset.__getitems__(keys)
    batch, usual = collate(items), default_collate(list(items))
    assert type(batch) is type(usual) is Item
    for ours, theirs in zip(batch, usual):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert batch.stems.data_ptr() == items[0].stems.data_ptr()
    assert all(equal(item, dataset[key]) for item, key in zip(items, keys))
    apart = collate([dataset[key] for key in keys])
    assert torch.equal(apart.stems, batch.stems)


def test_whole_tracks_of_different_lengths_are_no_batch(
    tmp_path: Path, write_song: Callable[..., Path]
) -> None:
    for seconds in (0.1, 0.2):
        write_song(tmp_path / str(seconds), seconds)
    dataset = SegmentDataset(tracks.scan(tmp_path, RULES), MDX_SOURCES, None)
    with pytest.raises(ConfigError, match=r"\[4410, 8820\] frames"):
        next(iter(DataLoader(dataset, batch_size=2)))


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("frames", [1, 999, 1000, 1001])
def test_tracks_around_the_segment_length(
    tmp_path: Path,
    write_song: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    frames: int,
    random: bool,
) -> None:
    write_song(tmp_path / "song", frames / RATE)
    (track,) = tracks.scan(tmp_path, RULES)
    assert track.frames == frames
    dataset = SegmentDataset([track], MDX_SOURCES, 1000 / RATE, 5, random=random)
    assert ("1 of 1 tracks are shorter" in caplog.text) == (frames < 1000)
    mixture = from_file(track.folder / "mixture.wav")
    for index in range(len(dataset)):
        item, start = dataset[index], dataset.describe(index)["mixture"][0].start
        assert item.mixture.shape == (2, 1000)
        expected = np.zeros((2, 1000), np.float32)
        part = mixture[:, start : start + 1000]
        expected[:, : part.shape[1]] = part
        np.testing.assert_array_equal(item.mixture, expected)


def test_mono_stems_fill_all_channels(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    write_song(tmp_path / "a", 0.2)
    write_song(tmp_path / "b", 0.2, channels=1)
    left = from_file(tmp_path / "a" / "bass.wav")[0]
    soundfile.write(tmp_path / "a" / "bass.wav", left, RATE)
    dataset = SegmentDataset(tracks.scan(tmp_path, RULES), MDX_SOURCES, 0.1)
    assert {item.stems.shape for item in map(dataset.__getitem__, range(4))} == {(4, 2, 4410)}
    np.testing.assert_array_equal(dataset[0].stems[1], np.stack([left, left])[:, :4410])
    assert torch.equal(dataset[2].mixture[0], dataset[2].mixture[1])


def test_10000_reads_where_a_stem_is_one_sample_short(
    tmp_path: Path, write_song: Callable[..., Path]
) -> None:
    folder = write_song(tmp_path / "a", 0.1)
    vocals = from_file(folder / "vocals.wav")
    soundfile.write(folder / "vocals.wav", vocals[:, :-1].T, RATE)
    found = tracks.scan(tmp_path, RULES)
    dataset = SegmentDataset(found, MDX_SOURCES, 4400 / RATE, 10_000, random=True)
    starts = set()
    for index in range(2500):  # four stems each
        assert dataset[index].stems.shape == (4, 2, 4400)
        starts.add(dataset.describe(index)["vocals"][0].start)
    assert starts == set(range(10))


def test_flac_gives_the_same_bits(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    for suffix in (".wav", ".flac"):
        write_song(tmp_path / suffix[1:] / "song", 0.5, seed=4, suffix=suffix)
    items = []
    for name in ("wav", "flac"):
        found = tracks.scan(tmp_path / name, RULES)
        items.append(SegmentDataset(found, MDX_SOURCES, 0.2, 3, random=True)[Key(1, 2)])
    assert equal(*items)


def test_other_sources_rates_and_channels(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    sources = ("speech", "noise")
    write_song(tmp_path / "a", 0.5, rate=16000, channels=1, sources=sources)
    found = tracks.scan(tmp_path, Rules(sources, sample_rate=16000, channels=1))
    item = SegmentDataset(found, sources, 0.25)[1]
    assert item.stems.shape == (2, 1, 4000)


def test_a_track_that_vanishes_is_named(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    folder = write_song(tmp_path / "a", 0.2)
    dataset = SegmentDataset(tracks.scan(tmp_path, RULES), MDX_SOURCES, 0.1)
    (folder / "other.wav").unlink()
    with pytest.raises(AudioReadError, match=r"other\.wav: no such file"):
        dataset[0]


def test_settings_that_exclude_each_other(train: list[Track]) -> None:
    for random, segment in ((False, 1.0), (True, None)):
        with pytest.raises(ConfigError, match="random_track_mix"):
            SegmentDataset(train, MDX_SOURCES, segment, random=random, random_track_mix=True)


def test_tracks_that_do_not_fit_together(musdb_root: Path, train: list[Track]) -> None:
    without = tracks.scan(musdb_root / "train", Rules(MDX_SOURCES, mixture=None))
    with pytest.raises(DataError, match="recorded mixture"):
        SegmentDataset(without, MDX_SOURCES, 1.0)
    mono = Track("m", train[0].folder, train[0].stems, train[0].mixture, 10, 1, RATE)
    with pytest.raises(DataError, match="sample rate, channels"):
        SegmentDataset([*train, mono], MDX_SOURCES, 1.0)
    with pytest.raises(DataError, match="found"):
        SegmentDataset([], MDX_SOURCES, 1.0)


def test_short_tracks_are_counted_in_one_warning(
    train: list[Track], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    dataset = SegmentDataset(train, MDX_SOURCES, 100.0, 2, random=True)
    assert len(caplog.records) == 1
    assert "3 of 3 tracks are shorter than 100 s" in caplog.text
    assert dataset[0].mixture.shape == (2, 100 * RATE)
