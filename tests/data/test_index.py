"""What is remembered of a data set's files between scans, and when it is not believed."""

from __future__ import annotations

import gzip
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from aimless.errors import DataError
from aimless.sources import MDX_SOURCES
from data import audio, tracks
from data.listing import cache, index, recordings
from data.tracks import Rules

RULES = Rules(MDX_SOURCES)
FILES = 3 * 5  # in the training split
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache is kept."""
    monkeypatch.setenv("AIMLESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "index"


@pytest.fixture
def train(musdb_copy: Path, store: Path) -> Path:
    return musdb_copy / "train"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files whose header is read."""
    calls: list[str] = []
    real_info = audio.info

    def info(path: Any) -> audio.AudioFile:
        calls.append(os.fspath(path))
        return real_info(path)

    monkeypatch.setattr(audio, "info", info)
    return calls


def songs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def test_a_second_scan_opens_no_file(train: Path, opened: list[str]) -> None:
    """D24: neither the scan nor anything below it opens a file of the data set again."""
    first = tracks.scan(train, RULES)
    assert len(opened) == FILES
    names = set(os.listdir(songs(train)[0]))
    events: list[str] = []
    watching = True

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if watching and event == "open" and os.path.basename(str(args[0])) in names:
            events.append(str(args[0]))

    sys.addaudithook(watch)  # it cannot be taken away again
    assert tracks.scan(train, RULES) == first
    watching = False
    assert len(opened) == FILES
    assert events == []


def test_the_same_with_and_without_the_cache(train: Path, store: Path, opened: list[str]) -> None:
    without = tracks.scan(train, RULES, cache=False)
    assert not store.exists()
    tracks.scan(train, RULES)
    assert tracks.scan(train, RULES) == without
    assert len(opened) == 2 * FILES


@pytest.mark.parametrize("change", ["time", "size", "content and time"])
def test_only_changed_files_are_opened_again(train: Path, opened: list[str], change: str) -> None:
    before = tracks.scan(train, RULES)
    path = songs(train)[1] / "bass.wav"
    status = path.stat()
    samples, rate = soundfile.read(path)
    if change != "time":
        soundfile.write(path, samples[: -400 if change == "size" else None] / 2, rate)
    time = status.st_mtime_ns + (0 if change == "size" else 1_000_000)
    os.utime(path, ns=(time, time))
    opened.clear()
    after = tracks.scan(train, RULES)
    assert opened == [str(path)]
    assert after[1].stems["bass"].mtime_ns == time
    assert after[1].frames == before[1].frames - (400 if change == "size" else 0)
    assert [after[0], after[2]] == [before[0], before[2]]


def test_new_tracks_are_added_and_what_is_gone_is_forgotten(
    train: Path, store: Path, opened: list[str], write_song: Callable[..., Path]
) -> None:
    tracks.scan(train, RULES)
    opened.clear()
    new = write_song(train / "New", seconds=0.1)
    gone = songs(train)[0]
    for path in gone.iterdir():
        path.unlink()
    assert len(tracks.scan(train, RULES)) == 3
    assert {Path(path).parent for path in opened} == {new}
    names = cache.Table(train, index._KINDS, index._VERSION).load().names
    assert len(names) == FILES
    assert not [name for name in names if Path(name).parent == gone]


def test_parts_of_a_folder_share_one_cache(train: Path, opened: list[str]) -> None:
    """Training and validation of MUSDB are tracks of one folder; other rules need fewer files."""
    name = songs(train)[0].name
    tracks.scan(train, RULES, select=lambda found: found == name)
    tracks.scan(train, RULES, select=lambda found: found != name)
    assert len(opened) == FILES
    tracks.scan(train, replace(RULES, mixture=None))
    tracks.scan(train, RULES)
    assert len(opened) == FILES


def test_links_and_other_paths_lead_to_the_same_cache(
    train: Path, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks.scan(train, RULES)
    link = tmp_path / "link"
    link.symlink_to(train)
    assert [track.folder.parent for track in tracks.scan(link, RULES)] == [link] * 3
    monkeypatch.chdir(train.parent)
    assert tracks.scan("train", RULES)[0].mixture.path.parts[0] == "train"
    assert len(opened) == FILES


def test_a_linked_track_is_remembered_where_it_really_is(
    train: Path, opened: list[str], tmp_path: Path
) -> None:
    moved = songs(train)[0].rename(tmp_path / "elsewhere")
    (train / "a link").symlink_to(moved)
    found = tracks.scan(train, RULES)
    assert found == tracks.scan(train, RULES)
    assert len(opened) == FILES
    assert train / "a link" in [track.folder for track in found]


def test_bad_files_are_looked_at_again(train: Path, opened: list[str]) -> None:
    path = songs(train)[0] / "vocals.wav"
    good = path.read_bytes()
    path.write_bytes(good[:1000])
    for _ in range(2):
        with pytest.raises(DataError, match="cut off"):
            tracks.scan(train, RULES)
    assert len(opened) == FILES + 1
    path.write_bytes(good)
    assert len(tracks.scan(train, RULES)) == 3


def _packed(content):
    """Without the time, which would make other names of tests in other processes."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        _packed(b"no archive"),
        _packed(b"PK\3\4 no archive either"),
        _packed(pickle.dumps({"names": []})),
        _packed(
            b"\x93NUMPY\1\0F\0"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (0,)}".ljust(69)
            + b"\n"
        ),
        "half",
        "a bit",
        "longer names",
        "no names",
        "a folder",
    ],
)
def test_a_damaged_or_foreign_cache_is_made_anew(
    train: Path, store: Path, opened: list[str], content: bytes | str
) -> None:
    before = tracks.scan(train, RULES)
    (table,) = store.glob("*.gz")
    whole = table.read_bytes()
    if content == "half":
        table.write_bytes(whole[: len(whole) // 2])
    elif content == "a bit":
        # in the checksum: elsewhere the same bytes may come out, as of a match in a run of zeros
        table.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    elif content in ("longer names", "no names"):
        arrays = dict(np.load(io.BytesIO(gzip.decompress(whole))))
        names = arrays.pop("arr_1")
        if content == "longer names":
            arrays["arr_1"] = np.append(names, np.frombuffer(b"another\0", np.uint8))
        changed = io.BytesIO()
        np.savez(changed, **arrays)
        table.write_bytes(gzip.compress(changed.getvalue()))
    elif content == "a folder":
        table.unlink()
        table.mkdir()
    else:
        assert isinstance(content, bytes)
        table.write_bytes(content)
    assert tracks.scan(train, RULES) == before
    assert len(opened) == 2 * FILES
    if content != "a folder":
        assert tracks.scan(train, RULES) == before
        assert len(opened) == 2 * FILES


def test_another_version_is_made_anew(
    train: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks.scan(train, RULES)
    monkeypatch.setattr(index, "_VERSION", index._VERSION + 1)
    tracks.scan(train, RULES)
    tracks.scan(train, RULES)
    assert len(opened) == 2 * FILES


def test_a_cache_that_cannot_be_written_is_no_error(
    train: Path, store: Path, opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    store.parent.write_text("a file where the folder should be")
    assert len(tracks.scan(train, RULES)) == 3
    assert len(tracks.scan(train, RULES)) == 3
    assert len(opened) == 2 * FILES
    assert "cannot be written (" in caplog.text


def test_a_full_disk_leaves_the_cache_as_it_was(
    train: Path, store: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks.scan(train, RULES)
    before = {path: path.read_bytes() for path in store.glob("*")}
    os.utime(songs(train)[0] / "bass.wav")

    def refuse(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        assert len(tracks.scan(train, RULES)) == 3
    assert {path: path.read_bytes() for path in store.glob("*")} == before


def test_without_a_home_there_is_no_cache(
    train: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIMLESS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(train)
    assert cache.cache_folder() is None
    assert len(tracks.scan(train, RULES)) == 3
    assert not (train / "~").exists()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("AIMLESS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative paths are to be ignored")
    assert cache.cache_folder() == Path("/home/someone/.cache/aimless")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache.cache_folder() == Path("/var/cache/aimless")
    monkeypatch.setenv("AIMLESS_CACHE", "/scratch")
    assert cache.cache_folder() == Path("/scratch")


def test_processes_that_start_together_open_each_file_once(train: Path, store: Path) -> None:
    """As the ranks of a run do: one builds, the others wait for it."""
    script = (
        "import sys\n"
        "from data import audio, tracks\n"
        "calls, info = [], audio.info\n"
        "audio.info = lambda path: calls.append(path) or info(path)\n"
        "found = tracks.scan(sys.argv[1], tracks.Rules(('drums', 'bass', 'other', 'vocals')))\n"
        "print(len(found), len(calls))\n"
    )
    command = [sys.executable, "-c", script, str(train)]
    ranks = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    lines = sorted(rank.communicate(timeout=60)[0].split() for rank in ranks)
    assert lines == [["3", "0"], ["3", str(FILES)]]


def test_whoever_comes_second_waits(
    train: Path, store: Path, opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table = cache.Table(train, index._KINDS, index._VERSION)
    waiting = threading.Thread(target=tracks.scan, args=(train, RULES))
    with table.lock():
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert opened == []
    waiting.join(60)
    assert len(opened) == FILES
    assert f"waiting for another process that opens the files of {train}" in caplog.text


@pytest.mark.parametrize("kind", ["refused", "not there"])
def test_without_locks_everyone_builds(
    train: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(37, "No locks available")

    if kind == "refused":
        monkeypatch.setattr(cache.fcntl, "flock", refuse)
    else:
        monkeypatch.setattr(cache, "fcntl", None)
    assert len(tracks.scan(train, RULES)) == 3
    assert len(tracks.scan(train, RULES)) == 3
    assert len(opened) == FILES


def test_files_listed_by_path(train: Path, opened: list[str], tmp_path: Path) -> None:
    """Files that are no tracks, for instance those of a speech corpus."""
    link = tmp_path / "link.wav"
    link.symlink_to(songs(train)[0] / "bass.wav")
    paths = [*sorted(train.rglob("*.wav")), link, tmp_path / "nowhere.wav"]
    listed = recordings.look_up(map(str, paths))
    known = index.headers(train, listed)
    again = index.headers(train, listed)
    assert [known[str(path)] for path in paths[:-1]] == [again[str(path)] for path in paths[:-1]]
    assert [known[str(path)].path for path in paths[:-1]] == paths[:-1]
    assert "no such file" in str(known[str(paths[-1])])
    # The link is the same file, but both were opened before that was known; then only the last.
    assert opened[FILES + 1 :] == [str(paths[-1])] * 2
