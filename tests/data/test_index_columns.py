"""The table of an index by columns: lookups, what is kept, and the short way of a later scan."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless.errors import DataError
from aimless.sources import MDX_SOURCES
from data import tracks
from data.listing import cache, folders, index, recordings
from data.listing.columns import Columns
from data.tracks import Rules

RULES = Rules(MDX_SOURCES)
KINDS = {"size": int, "finite": bool, "text": str}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMLESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def train(musdb_copy: Path) -> Path:
    return musdb_copy / "train"


def songs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def rows(columns: Columns) -> dict[str, tuple]:
    return dict(zip(columns.names, zip(*(columns[name].tolist() for name in columns.kinds))))


def test_columns_are_a_dictionary_of_rows() -> None:
    """Against plain dictionaries, over random updates and selections."""
    rng = np.random.default_rng(0)
    columns, plain = Columns(KINDS), {}
    for _ in range(30):
        names = {f"name {number}" for number in rng.integers(40, size=rng.integers(8))}
        fresh = {name: (int(rng.integers(2**62)), bool(rng.random() < 0.5), name) for name in names}
        columns, plain = columns.updated(fresh), plain | fresh
        assert rows(columns) == plain
        wanted = [f"name {number}" for number in rng.permutation(50)[:20]]
        found = columns.find(wanted)
        assert [None if row < 0 else columns.names[row] for row in found] == [
            name if name in plain else None for name in wanted
        ]
        part = columns.select(wanted)
        assert part.names == [name for name in wanted if name in plain]
        assert rows(part) == {name: plain[name] for name in part.names}
        if rng.random() < 0.3:
            columns, plain = part, rows(part)
    assert columns.find(columns.names).tolist() == list(range(len(columns)))


@pytest.mark.parametrize(
    "names", [[], [""], ["a", "b\n", "ü", "\udce4 not UTF-8", "x" * 5000]], ids=["0", "1", "5"]
)
def test_a_table_comes_back_as_it_was_saved(tmp_path: Path, names: list[str]) -> None:
    values = [np.arange(len(names)) - 2**40, np.arange(len(names)) % 2 == 0, names[::-1]]
    table = cache.Table(tmp_path, KINDS, 1)
    table.save(Columns(KINDS, names, values))
    loaded = table.load()
    assert rows(loaded) == rows(Columns(KINDS, names, values))
    assert {name: column.dtype for name, column in loaded.values.items()} == {
        "size": np.int64,
        "finite": np.bool_,
        "text": np.object_,
    }
    for kinds, version in (({**KINDS, "more": int}, 1), ({**KINDS, "size": bool}, 1), (KINDS, 2)):
        assert len(cache.Table(tmp_path, kinds, version).load()) == 0


def test_no_damage_to_a_table_is_an_error(tmp_path: Path) -> None:
    table = cache.Table(tmp_path, KINDS, 1)
    columns = Columns(KINDS, ["a", "b"], [[1, 2], [True, False], ["x", "y"]])
    table.save(columns)
    assert table.path is not None
    whole = table.path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole), size=200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        table.path.write_bytes(damaged)
        assert rows(table.load()) in ({}, rows(columns))  # some bytes in gzip mean nothing


def test_nothing_is_recalled_until_all_is_known(train: Path) -> None:
    found = folders.find(train, RULES.files)
    files = [file for track in found for file in track.listed]
    assert index.recall(train, found) is None
    headers = index.headers(train, files)
    recalled = index.recall(train, found)
    assert recalled == [headers[file.path] for file in files]
    assert index.recall(train, found[1:]) == recalled[5:]
    os.utime(songs(train)[0] / "bass.wav", ns=(0, 0))
    assert index.recall(train, folders.find(train, RULES.files)) is None


def test_float_files_are_recalled_once_their_samples_are_checked(
    train: Path, write_song: Callable[..., Path]
) -> None:
    write_song(train / "float", seconds=0.1, subtype="FLOAT")
    found = folders.find(train, RULES.files)
    tracks.scan(train, replace(RULES, check_samples=False))
    assert index.recall(train, found) is not None
    assert index.recall(train, found, check_samples=True) is None
    tracks.scan(train, RULES)
    assert index.recall(train, found, check_samples=True) is not None


def test_a_later_scan_judges_as_the_first_did(
    train: Path, write_song: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Tracks in all shapes that pass: other formats, both formats, mono, uneven, links."""
    caplog.set_level(logging.INFO)
    write_song(train / "flac", seconds=0.1, suffix=".flac")
    write_song(train / "both", seconds=0.1)
    write_song(train / "both", seconds=0.1, suffix=".flac")
    write_song(train / "mono", seconds=0.1, channels=1)
    uneven = write_song(train / "uneven", seconds=0.1)
    soundfile.write(uneven / "bass.wav", np.zeros((4300, 2)), 44100)
    linked = write_song(train / "linked", seconds=0.1)
    shutil.move(linked / "other.wav", train.parent / "elsewhere.wav")
    (linked / "other.wav").symlink_to(train.parent / "elsewhere.wav")
    messages = []
    for cached in (False, True, True):
        caplog.clear()
        messages.append((tracks.scan(train, RULES, cache=cached), caplog.messages[:]))
    (plain, said), (first, _), (later, said_later) = messages
    assert plain == first == later
    assert len(later) == 8
    assert said == said_later
    assert any("different lengths" in line for line in said)


@pytest.mark.parametrize("fault", ["missing", "rate", "channels", "length", "duplicate", "format"])
def test_a_later_scan_finds_the_same_faults(
    train: Path, write_song: Callable[..., Path], fault: str
) -> None:
    """Faults of files that can be read, and so are remembered."""
    song = write_song(train / "A", seconds=0.1, rate=48000 if fault == "rate" else 44100)
    if fault == "missing":
        (song / "drums.wav").unlink()
    elif fault == "duplicate":
        (train / "B").symlink_to(song)
    elif fault == "format":
        soundfile.write(song / "drums.flac", np.zeros((44, 2)), 44100)
    elif fault != "rate":
        shape = (4410, 3) if fault == "channels" else (44100, 2)
        soundfile.write(song / "other.wav", np.zeros(shape), 44100)
    reports = []
    for cached in (False, True, True):
        with pytest.raises(DataError) as error:
            tracks.scan(train, RULES, cache=cached)
        reports.append(str(error.value))
    assert reports[0] == reports[1] == reports[2]


def test_the_files_of_a_folder_are_listed_with_their_times(tmp_path: Path) -> None:
    """`find` asks the folders, `look_up` each path; the order is that of the paths."""
    for name in ("b/2.wav", "b/10.WAV", "a/x.flac", "c.wav", "b/.hidden.wav", "__x/y.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(10), 8000, format="FLAC" if "flac" in name else "WAV")
    (tmp_path / "a" / "link.wav").symlink_to(tmp_path / "b" / "2.wav")
    (tmp_path / "a" / "nowhere.wav").symlink_to("nothing")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "folder.wav").mkdir()
    found = recordings.find(tmp_path)
    names = ["a/link.wav", "a/nowhere.wav", "a/x.flac", "b/10.WAV", "b/2.wav", "c.wav"]
    assert [file.path for file in found] == [str(tmp_path / name) for name in names]
    assert found == recordings.look_up(file.path for file in found)
