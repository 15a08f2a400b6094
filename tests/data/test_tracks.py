"""The scan of a data set: what is accepted, and one report for everything that is not."""

from __future__ import annotations

import builtins
import logging
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from aimless.errors import ConfigError, DataError
from aimless.sources import MDX_SOURCES
from data import tracks
from data.listing import folders
from data.tracks import Rules

RULES = Rules(MDX_SOURCES)
RATE = 44100


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMLESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def train(musdb_copy: Path) -> Path:
    return musdb_copy / "train"


def songs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def scan_error(folder: Path, rules: Rules = RULES) -> str:
    with pytest.raises(DataError) as error:
        tracks.scan(folder, rules)
    assert error.value.exit_code == 3
    return str(error.value)


def rewrite(path: Path, frames: int | None = None, rate: int = RATE, channels: int = 2) -> None:
    """Write a file again with another length, rate or number of channels."""
    samples, _ = soundfile.read(path, always_2d=True)
    frames = len(samples) if frames is None else frames
    padded = np.zeros((frames, channels))
    count = min(frames, len(samples))
    padded[:count] = samples[:count, [c % samples.shape[1] for c in range(channels)]]
    soundfile.write(path, padded, rate)


def test_a_good_tree(musdb_root: Path) -> None:
    found = tracks.scan(musdb_root / "train", RULES)
    assert [track.name for track in found] == sorted(
        ["Meaxic - Take A Step", "Synthetic - First Song", "Synthetic - Second Song"]
    )
    for track in found:
        assert (track.frames, track.channels, track.rate) == (3 * RATE, 2, RATE)
        assert track.mixture.path == track.folder / "mixture.wav"
        assert list(track.stems) == list(MDX_SOURCES)
        assert all(track.stems[name].path == track.folder / f"{name}.wav" for name in MDX_SOURCES)


def test_missing_stems_are_all_in_one_report(train: Path) -> None:
    first, second, _ = songs(train)
    gone = [first / "vocals.wav", first / "drums.wav", second / "bass.wav"]
    for path in gone:
        path.unlink()
    head, *lines = scan_error(train).splitlines()
    assert head == f"3 bad files in 2 of 3 tracks under {train}:"
    assert sorted(line.strip() for line in lines) == sorted(f"{path}: missing" for path in gone)


def test_missing_mixture_counts_only_where_it_is_needed(train: Path) -> None:
    mixture = songs(train)[0] / "mixture.wav"
    mixture.unlink()
    assert f"{mixture}: missing" in scan_error(train)
    found = tracks.scan(train, Rules(MDX_SOURCES, mixture=None))
    assert len(found) == 3
    assert all(track.mixture is None for track in found)


@pytest.mark.parametrize("kept", [0, 0.01, 0.5, 0.99, "all but a byte"])
def test_cut_files_are_found(train: Path, kept: float | str) -> None:
    path = songs(train)[1] / "other.wav"
    content = path.read_bytes()
    length = len(content) - 1 if kept == "all but a byte" else int(float(kept) * len(content))
    path.write_bytes(content[: max(length, 44)])
    report = scan_error(train)
    assert report.startswith("1 bad file in 1 of 3 tracks")
    assert str(path) in report
    assert f"promises {3 * RATE * 4} bytes" in report


@pytest.mark.parametrize("kind", ["empty", "text", "folder", "link"])
def test_what_is_no_audio_is_reported(train: Path, kind: str) -> None:
    path = songs(train)[0] / "vocals.wav"
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no audio")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere.wav")
    report = scan_error(train)
    assert report.startswith("1 bad file in 1 of 3 tracks")
    assert str(path) in report


def test_a_folder_named_like_a_stem_is_no_track(train: Path) -> None:
    (train / "vocals.wav").mkdir()
    assert len(tracks.scan(train, RULES)) == 3


@pytest.mark.parametrize("rate", [22050, 48000])
@pytest.mark.parametrize("name", [*MDX_SOURCES, "mixture"])
def test_wrong_rates_are_rejected(train: Path, name: str, rate: int) -> None:
    path = songs(train)[2] / f"{name}.wav"
    rewrite(path, rate=rate)
    assert f"{path}: sample rate {rate} Hz, wanted 44100 Hz" in scan_error(train)


def test_wrong_channels_are_rejected(train: Path) -> None:
    path = songs(train)[2] / "bass.wav"
    rewrite(path, channels=3)
    assert f"{path}: 3 channels, wanted 2" in scan_error(train)


def test_mono_files_are_accepted_with_one_line_per_track(
    train: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second, _ = songs(train)
    rewrite(first / "bass.wav", channels=1)
    for name in (*MDX_SOURCES, "mixture"):
        rewrite(second / f"{name}.wav", channels=1)
    assert [track.channels for track in tracks.scan(train, RULES)] == [2, 2, 2]
    lines = [record.getMessage() for record in caplog.records if ": mono, " in record.getMessage()]
    assert len(lines) == 2
    assert any(str(first) in line and line.endswith(": bass") for line in lines)


@pytest.mark.parametrize(
    ("missing_ms", "outcome"), [(0.5, "silent"), (20, "warned"), (99, "warned"), (101, "error")]
)
def test_lengths_that_differ(
    train: Path, caplog: pytest.LogCaptureFixture, missing_ms: float, outcome: str
) -> None:
    path = songs(train)[0] / "other.wav"
    frames = 3 * RATE - round(missing_ms / 1000 * RATE)
    rewrite(path, frames=frames)
    if outcome == "error":
        report = scan_error(train)
        assert f"{path}: {frames} frames, but drums.wav has {3 * RATE}" in report
        allowed = Rules(MDX_SOURCES, max_length_difference=0.5)
        assert tracks.scan(train, allowed)[0].frames == frames
        return
    found = tracks.scan(train, RULES)
    assert [track.frames for track in found] == [frames, 3 * RATE, 3 * RATE]
    assert ("different lengths" in caplog.text) == (outcome == "warned")


def test_longer_files_do_not_lengthen_a_track(train: Path) -> None:
    rewrite(songs(train)[0] / "other.wav", frames=3 * RATE + 400)
    assert tracks.scan(train, RULES)[0].frames == 3 * RATE


def test_no_tracks(musdb_copy: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (tmp_path / "nope", empty, musdb_copy):
        message = scan_error(folder)
        assert message.startswith(f"found 0 tracks under {folder}; expected folders with drums.wav")
        assert "\n" not in message


def test_flac_is_accepted_and_wav_preferred(train: Path) -> None:
    first = songs(train)[0]
    for name in (*MDX_SOURCES, "mixture"):
        samples, rate = soundfile.read(first / f"{name}.wav", dtype="int16")
        soundfile.write(first / f"{name}.flac", samples, rate)
    assert tracks.scan(train, RULES)[0].stems["drums"].path.suffix == ".wav"
    for name in (*MDX_SOURCES, "mixture"):
        (first / f"{name}.wav").unlink()
    track = tracks.scan(train, RULES)[0]
    assert {file.path.suffix for file in track.stems.values()} == {".flac"}
    assert track.frames == 3 * RATE


def test_wav_and_flac_of_different_lengths_are_an_error(train: Path) -> None:
    first = songs(train)[0]
    samples, rate = soundfile.read(first / "bass.wav", dtype="int16")
    soundfile.write(first / "bass.flac", samples[:-10], rate)
    assert f"{first / 'bass.flac'}: {3 * RATE - 10} frames, but bass.wav" in scan_error(train)


@pytest.mark.parametrize("what", ["folder", "files"])
def test_the_same_track_twice_is_an_error(train: Path, what: str) -> None:
    original, twin = songs(train)[1], train / "Zwilling"
    if what == "folder":
        twin.symlink_to(original)
    else:
        twin.mkdir()
        for path in original.iterdir():
            (twin / path.name).symlink_to(path)
    assert f"{twin}: same files as {original}" in scan_error(train)


def test_splits_that_share_a_track(musdb_copy: Path) -> None:
    found = [folders.find(musdb_copy / name, MDX_SOURCES) for name in ("train", "test")]
    folders.check_disjoint(*found)
    twin = musdb_copy / "test" / "another name"
    twin.symlink_to(songs(musdb_copy / "train")[0])
    found = [folders.find(musdb_copy / name, MDX_SOURCES) for name in ("train", "test")]
    with pytest.raises(DataError, match="another name"):
        folders.check_disjoint(*found)


ODD_NAMES = [
    "Beyoncé",
    unicodedata.normalize("NFD", "Beyoncé"),
    "日本語 - 曲",
    "with # and 'quotes' \"double\" and $HOME",
    "  spaces  ",
    "x" * 255,
]


def test_odd_names(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    for seed, name in enumerate(ODD_NAMES):
        write_song(tmp_path / "set" / name, seconds=0.1, seed=seed)
    found = tracks.scan(tmp_path / "set", RULES)
    assert sorted(track.name for track in found) == sorted(ODD_NAMES)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes")
def test_names_that_are_not_utf8(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/set/caf\xe9"))
    song = write_song(tmp_path / "plain", seconds=0.1)
    shutil.copytree(song, folder)
    (track,) = tracks.scan(tmp_path / "set", RULES)
    assert track.folder == folder
    (folder / "vocals.wav").unlink()
    assert r"caf\xe9/vocals.wav: missing" in scan_error(tmp_path / "set")


def test_decoys_change_nothing(train: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = tracks.scan(train, RULES)
    first = songs(train)[0]
    for name in ("__MACOSX", ".ipynb_checkpoints", "notes", ".git", "__pycache__"):
        (train / name).mkdir()
    for hidden in ("__MACOSX", ".git"):
        shutil.copytree(first, train / hidden / first.name)
        shutil.copytree(first, train / hidden, dirs_exist_ok=True)
    shutil.copytree(songs(train)[-1], first / songs(train)[-1].name)  # a track inside a track
    for folder in (train.parent, train, first):
        for name in (".DS_Store", "Thumbs.db", "._vocals.wav", "readme.txt", "desktop.ini"):
            (folder / name).write_bytes(b"\0\1\2")
    caplog.set_level(logging.DEBUG)
    assert tracks.scan(train, RULES) == expected
    assert "no stems in notes" in caplog.text


def test_unreadable_files_are_in_the_report(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = songs(train)[0] / "bass.wav"
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything, so the refusal has to be acted
        real_open = builtins.open

        def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
            if file == str(path):
                raise PermissionError(13, "Permission denied", str(file))
            return real_open(file, *args, **kwargs)

        monkeypatch.setattr(builtins, "open", refuse)
    assert f"{path}: Permission denied" in scan_error(train)


def test_unreadable_folders_are_in_the_report(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = songs(train)[0]
    real_scandir = os.scandir

    def refuse(folder: str) -> Any:
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return real_scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"{closed}: Permission denied" in scan_error(train)


def test_skip_goes_on_without_bad_tracks(
    train: Path, write_song: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(12):
        song = write_song(train / f"bad {seed:02}", seconds=0.1, seed=seed)
        (song / "bass.wav").unlink()
    found = tracks.scan(train, RULES, on_bad_track="skip")
    assert len(found) == 3
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    message = record.getMessage()
    assert "skipped 12 of 15 tracks with 12 bad files: bad 00, bad 01" in message
    assert message.endswith("and 2 more")


def test_skip_with_nothing_left_is_an_error(train: Path) -> None:
    for song in songs(train):
        (song / "bass.wav").unlink()
    with pytest.raises(DataError, match="3 bad files in 3 of 3 tracks"):
        tracks.scan(train, RULES, on_bad_track="skip")


def test_unknown_policy(train: Path) -> None:
    with pytest.raises(ConfigError, match="on_bad_track: 'ignore' is not one of error, skip"):
        tracks.scan(train, RULES, on_bad_track="ignore")  # type: ignore[arg-type]


def test_empty_stems_are_bad(train: Path) -> None:
    rewrite(songs(train)[0] / "bass.wav", frames=0)
    assert "holds no audio (0 frames)" in scan_error(train)


def test_other_sources_and_mixture_names(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    sources = ("music", "sfx", "speech")
    write_song(tmp_path / "tr" / "1", 0.2, channels=1, sources=sources, mixture="mix")
    rules = Rules(sources, mixture="mix", channels=1)
    (track,) = tracks.scan(tmp_path / "tr", rules)
    assert track.mixture.path == track.folder / "mix.wav"
    assert track.channels == 1
