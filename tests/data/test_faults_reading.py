"""Files that go bad while a run reads them: what is replaced, what stops it, what is said."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import get_worker_info

from aimless.draws import generator
from aimless.errors import DataError
from aimless.sources import MDX_SOURCES
from data import tracks
from data.audio import AudioReadError
from data.dataset import Item, SegmentDataset
from data.files import reader
from data.lightning import MUSDB
from data.sampling import Key
from data.tracks import Rules

RATE = 44100
TRACKS = 10
LENGTH = 4410
RULES = Rules(MDX_SOURCES, mixture=None, check_samples=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten tracks of half a second, as float files; the split `published` needs a test track."""
    for number in range(TRACKS + 1):
        folder = tmp_path / ("test" if number == TRACKS else "train") / f"Track {number}"
        folder.mkdir(parents=True)
        for name in (*MDX_SOURCES, "mixture"):
            noise = generator("faults", number, name).uniform(-0.2, 0.2, (RATE // 2, 2))
            soundfile.write(folder / f"{name}.wav", noise, RATE, subtype="FLOAT")
    return tmp_path


def plant_nan(path: Path, frame: int) -> None:
    samples, _ = soundfile.read(path, always_2d=True)
    samples[frame, 1] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def module(root: Path, **settings: Any) -> MUSDB:
    defaults = {
        "split": "published",
        "seq_duration": 0.1,
        "samples_per_track": 8,
        "random": True,
        "random_track_mix": True,
        "batch_size": 4,
        "num_workers": 0,
        "check_samples": False,
    }
    made = MUSDB(str(root), **{**defaults, **settings})
    made.setup("fit")
    return made


def epoch(made: MUSDB) -> Iterator[Item]:
    return iter(made.train_dataloader())


def rejected(made: MUSDB, number: int = 0) -> int:
    return made.datasets["train"].rejects.count(number)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("track_mix", [True, False])
def test_one_nan_in_one_file_is_drawn_around(
    root: Path, caplog: pytest.LogCaptureFixture, workers: int, track_mix: bool
) -> None:
    bad = root / "train" / "Track 3" / "bass.wav"
    made = module(root, num_workers=0, random_track_mix=track_mix)
    before = [batch.stems.clone() for batch in epoch(made)]
    plant_nan(bad, RATE // 4)
    made = module(root, num_workers=workers, random_track_mix=track_mix)
    after = [batch.stems.clone() for batch in epoch(made)]
    assert all(stems.isfinite().all() for stems in after)
    changed = sum(int((old != new).flatten(1).any(1).sum()) for old, new in zip(before, after))
    assert 0 < rejected(made) <= 10
    assert changed == rejected(made)
    if workers == 0:
        assert len(caplog.records) == rejected(made)
        assert f"{bad}: wanted" in caplog.text
        assert f"({rejected(made)} in epoch 0, at most 10)" in caplog.messages[-1]


def test_what_replaces_a_bad_excerpt_is_drawn_from_the_key(root: Path) -> None:
    plant_nan(root / "train" / "Track 3" / "bass.wav", RATE // 4)
    first, second = (module(root, num_workers=workers) for workers in (0, 2))
    for one, other in zip(epoch(first), epoch(second)):
        assert torch.equal(one.stems, other.stems)
    assert rejected(first) == rejected(second)


def test_describe_says_what_took_the_place(root: Path) -> None:
    bad = root / "train" / "Track 3" / "bass.wav"
    plant_nan(bad, RATE // 4)
    dataset = module(root).datasets["train"]
    items = [dataset[Key(0, index)] for index in range(len(dataset))]
    counted = dataset.rejects.count(0)
    for index, item in enumerate(items):
        plan = dataset.describe(Key(0, index))
        for stem, ((file, start, frames, _),) in zip(item.stems, plan.values()):
            assert not (file.path == bad and start <= RATE // 4 < start + frames)
            samples, _ = soundfile.read(file.path, frames, start, dtype="float32")
            np.testing.assert_array_equal(stem, samples.T)
    assert dataset.rejects.count(0) == counted > 0  # to describe is not to count again


def test_more_bad_excerpts_than_allowed_stop_the_run(root: Path) -> None:
    for path in root.glob("train/Track [0-4]/bass.wav"):
        plant_nan(path, RATE // 4)
    with pytest.raises(AudioReadError) as error:
        list(epoch(module(root, max_bad_excerpts=2)))
    message = str(error.value)
    assert message.startswith("max_bad_excerpts: 3 were met in epoch 0, allowed are 2; the last: ")
    assert "bass.wav: wanted 4410 frames from frame " in message
    assert "\n" not in message


def test_the_count_begins_anew_with_each_epoch_and_worker_counts_add_up(root: Path) -> None:
    plant_nan(root / "train" / "Track 3" / "bass.wav", RATE // 4)
    made = module(root, num_workers=2, samples_per_track=16)
    loader = made.train_dataloader()
    counts = []
    for number in range(3):
        loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
        list(loader)
        counts.append(rejected(made, number))
    alone = module(root, samples_per_track=16)
    loader = alone.train_dataloader()
    for number in range(3):
        loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
        list(loader)
        assert rejected(alone, number) == counts[number]
    assert sum(counts) > 0


def test_consecutive_segments_have_no_replacement(root: Path) -> None:
    bad = root / "train" / "Track 0" / "bass.wav"
    plant_nan(bad, RATE // 4)
    rules = Rules(MDX_SOURCES, check_samples=False)
    dataset = SegmentDataset(
        tracks.scan(root / "train", rules), MDX_SOURCES, 0.1, on_bad_track="skip"
    )
    with pytest.raises(AudioReadError, match=r"Track 0/bass\.wav: .*frame 11025 is not finite"):
        list(map(dataset.__getitem__, range(5)))


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_track_deleted_in_mid_epoch_is_named_within_five_seconds(
    root: Path, workers: int
) -> None:
    before = set(multiprocessing.active_children())
    batches = epoch(module(root, num_workers=workers))
    next(batches)
    remove(root / "train" / "Track 7")
    began = time.monotonic()
    with pytest.raises(AudioReadError, match=r"Track 7/\w+\.wav: no such file$"):
        list(batches)
    del batches
    gc.collect()
    assert set(multiprocessing.active_children()) <= before
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("track_mix", [True, False])
def test_with_skip_the_epoch_completes_without_a_deleted_track(
    root: Path, workers: int, track_mix: bool
) -> None:
    settings = {"num_workers": workers, "random_track_mix": track_mix}
    made = module(root, on_bad_track="skip", max_bad_excerpts=100, **settings)
    batches = epoch(made)
    seen = [next(batches).index.clone()]
    remove(root / "train" / "Track 7")
    seen += [batch.index.clone() for batch in batches]
    assert sorted(torch.cat(seen).tolist()) == list(range(80))
    assert 0 < rejected(made) <= 100


def test_with_skip_too_many_unreadable_excerpts_stop_the_run(root: Path) -> None:
    made = module(root, on_bad_track="skip")
    batches = epoch(made)
    for number in range(5):
        remove(root / "train" / f"Track {number}")
    with pytest.raises(AudioReadError, match="max_bad_excerpts: 11 were met in epoch 0"):
        list(batches)


def test_an_item_for_which_nothing_can_be_read_is_an_error(root: Path) -> None:
    made = module(root, on_bad_track="skip", max_bad_excerpts=10**9)
    for number in range(TRACKS):
        remove(root / "train" / f"Track {number}")
    with pytest.raises(AudioReadError, match=r"\w+\.wav: no such file$"):
        made.datasets["train"][0]


def test_a_rewritten_file_is_named(root: Path) -> None:
    made = module(root)
    for path in root.glob("train/*/vocals.wav"):
        os.utime(path, (1, 1))
    with pytest.raises(AudioReadError, match=r"vocals\.wav: changed since it was checked"):
        list(epoch(made))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_with_one_percent_of_failing_reads_completes(
    root: Path, monkeypatch: pytest.MonkeyPatch, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = [batch.stems.clone() for batch in epoch(module(root))]
    real: Callable[..., int] = reader._read_into
    dice = random.Random(1)
    failures = []

    def stumble(file: Any, view: memoryview) -> int:
        if dice.random() < 0.01:
            failures.append(1)
            raise OSError(errno.EIO, "Input/output error")
        return real(file, view)

    monkeypatch.setattr(reader, "_read_into", stumble)
    monkeypatch.setattr(reader, "_DELAYS", (0, 0, 0))
    made = module(root, num_workers=workers, samples_per_track=8)
    got = [batch.stems.clone() for batch in epoch(made)]
    assert all(map(torch.equal, expected, got))
    assert len(got) == len(expected) == 20
    assert rejected(made) == 0
    if workers == 0:
        assert len(failures) > 0


class Dying(SegmentDataset):
    """Its loader processes are killed at the second batch."""

    def fill(self, key: Key, mixture: Any, stems: Any) -> None:
        super().fill(key, mixture, stems)
        if get_worker_info() and key.index >= 4:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_loader_process_ends_in_one_line(root: Path) -> None:
    made = module(root, num_workers=1)
    found = tracks.scan(root / "train", RULES)
    made.datasets["train"] = Dying(found, MDX_SOURCES, 0.1, 8, True, True)
    began = time.monotonic()
    with pytest.raises(DataError, match="a loader process died") as error:
        list(epoch(made))
    assert time.monotonic() - began < 10
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)


def test_float_samples_above_full_scale_are_kept(tmp_path: Path) -> None:
    samples = np.full((LENGTH, 2), [2.0, -2.0])
    for name in (*MDX_SOURCES, "mixture"):
        (tmp_path / "Loud").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "Loud" / f"{name}.wav", samples, RATE, subtype="FLOAT")
    found = tracks.scan(tmp_path, RULES)
    item = SegmentDataset(found, MDX_SOURCES, 0.1, 1, True, True)[0]
    np.testing.assert_array_equal(item.stems, np.broadcast_to(samples.T, (4, 2, LENGTH)))
    np.testing.assert_array_equal(item.mixture, 4 * samples.T)
