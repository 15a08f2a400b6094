"""Faults of a data set that the scan finds: missing stems, bad samples, copies in two splits."""

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

from aimless.errors import ConfigError, DataError
from aimless.sources import MDX_SOURCES
from data import audio, tracks
from data.listing import copies, folders
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
    return str(error.value)


def check_disjoint(root: Path, cache: bool = True) -> None:
    training, test = (folders.find(root / name, MDX_SOURCES) for name in ("train", "test"))
    copies.check_disjoint(training, test, cache)


def silence_beginnings(folder: Path, frames: int) -> None:
    for path in folder.iterdir():
        samples, rate = soundfile.read(path)
        samples[:frames] = 0
        soundfile.write(path, samples, rate)


def test_three_missing_stems_make_one_error(train: Path) -> None:
    """D1: one error with three paths, exit status 3."""
    first, second, _ = songs(train)
    gone = [first / "vocals.wav", first / "drums.wav", second / "bass.wav"]
    for path in gone:
        path.unlink()
    with pytest.raises(DataError) as error:
        tracks.scan(train, RULES)
    assert error.value.exit_code == 3
    assert all(f"{path}: missing" in str(error.value) for path in gone)


def test_every_fault_of_a_track_is_in_the_report(train: Path) -> None:
    """R1: a missing stem does not hide a wrong rate, nor that a length."""
    first = songs(train)[0]
    (first / "vocals.wav").unlink()
    samples, _ = soundfile.read(first / "bass.wav")
    soundfile.write(first / "bass.wav", samples, 48000)
    soundfile.write(first / "other.wav", samples[: 2 * RATE], RATE)
    head, *lines = scan_error(train).splitlines()
    assert head.startswith("3 bad files in 1 of 3 tracks")
    assert [line.strip().split(": ")[1][:12] for line in lines] == [
        "missing",
        "sample rate ",
        "88200 frames",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("frame", [0, 100_000, 132_299])
def test_samples_that_are_not_finite_are_found_wherever_they_are(
    train: Path, value: float, frame: int
) -> None:
    """D11: one such sample would end a run; the other float files are fine."""
    for name in MDX_SOURCES:
        path = train / "Synthetic - First Song" / f"{name}.wav"
        samples, rate = soundfile.read(path, dtype="float32")
        if name == "bass":
            samples[frame, 1] = value
        soundfile.write(path, samples, rate, subtype="FLOAT")
    with pytest.raises(DataError) as error:
        tracks.scan(train, RULES)
    report = str(error.value)
    assert report.startswith("1 bad file in 1 of 3 tracks")
    assert report.endswith(f"bass.wav: frame {frame} is not finite (NaN or infinite)")
    assert len(tracks.scan(train, replace(RULES, check_samples=False))) == 3


def test_float_files_are_read_whole_once(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(audio, "check_samples", lambda path: read.append(os.fspath(path)))
    path = songs(train)[0] / "bass.wav"
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    tracks.scan(train, replace(RULES, check_samples=False))
    assert read == []
    for _ in range(2):
        tracks.scan(train, RULES)
    assert read == [str(path)]


def test_stems_without_a_file_may_be_silent(train: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first, second, _ = songs(train)
    for path in (first / "vocals.wav", second / "vocals.wav", second / "bass.wav"):
        path.unlink()
    rules = replace(RULES, missing="silence")
    found = tracks.scan(train, rules)
    assert [list(track.stems) for track in found] == [
        ["drums", "bass", "other"],
        ["drums", "other"],
        list(MDX_SOURCES),
    ]
    assert [track.frames for track in found] == [3 * RATE] * 3
    lines = [line for line in caplog.messages if "silent" in line]
    assert lines == [
        f"{train}: stems without a file are silent: bass in 1, vocals in 2 of 3 tracks"
    ]


def test_a_track_has_one_stem_at_least_and_its_mixture(train: Path) -> None:
    first, second, _ = songs(train)
    for name in MDX_SOURCES:
        (first / f"{name}.wav").unlink()
    (second / "mixture.wav").unlink()
    rules = replace(RULES, missing="silence")
    report = scan_error(train, rules)
    assert f"{first}: no stem; expected one at least of drums.wav, bass.wav" in report
    assert f"{second / 'mixture.wav'}: missing" in report
    # Without its mixture, a folder with no stem is none of ours.
    assert len(tracks.scan(train, replace(rules, mixture=None))) == 2


def test_any_source_names(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    song = write_song(tmp_path / "set" / "1", seconds=0.1, mixture=None)
    for old, new in (("drums", "kick"), ("bass", "snare"), ("other", "rest")):
        (song / f"{old}.wav").rename(song / f"{new}.wav")
    (track,) = tracks.scan(tmp_path / "set", Rules(("kick", "snare", "rest"), mixture=None))
    assert list(track.stems) == ["kick", "snare", "rest"]


def test_unknown_policy_for_missing_stems() -> None:
    with pytest.raises(ConfigError, match="missing: 'zeros' is not one of error, silence"):
        Rules(MDX_SOURCES, missing="zeros")  # type: ignore[arg-type]


@pytest.mark.parametrize("cache", [True, False])
def test_a_copy_in_the_test_split_is_found(musdb_copy: Path, cache: bool) -> None:
    """D15: real copies under another name, not links."""
    check_disjoint(musdb_copy, cache)
    original = songs(musdb_copy / "train")[1]
    twin = musdb_copy / "test" / "another name"
    shutil.copytree(original, twin)
    with pytest.raises(DataError) as error:
        check_disjoint(musdb_copy, cache)
    assert str(error.value) == (
        f"1 track is in two splits: {twin} and {original} sound the same; remove one of each pair"
    )


def test_links_are_found_too(musdb_copy: Path) -> None:
    (musdb_copy / "test" / "another name").symlink_to(songs(musdb_copy / "train")[0])
    with pytest.raises(DataError, match="are the same files"):
        check_disjoint(musdb_copy)


@pytest.mark.parametrize("encoding", [("FLAC", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT")])
def test_copies_in_another_lossless_encoding_are_found(
    musdb_copy: Path, encoding: tuple[str, str]
) -> None:
    format, subtype = encoding
    twin = musdb_copy / "test" / "another name"
    twin.mkdir()
    for path in songs(musdb_copy / "train")[0].iterdir():
        samples, rate = soundfile.read(path)
        target = twin / f"{path.stem}.{format.lower()}"
        soundfile.write(target, samples, rate, subtype, format=format)
    with pytest.raises(DataError, match=r"another name and .* sound the same"):
        check_disjoint(musdb_copy)


def test_silent_beginnings_are_no_copies(musdb_copy: Path) -> None:
    """A quarter of a second of zeros is more than the 64 kB that are hashed."""
    for split in ("train", "test"):
        for song in songs(musdb_copy / split):
            silence_beginnings(song, RATE)
    check_disjoint(musdb_copy)
    shutil.copytree(songs(musdb_copy / "train")[2], musdb_copy / "test" / "copy")
    with pytest.raises(DataError, match=r"copy and .* sound the same"):
        check_disjoint(musdb_copy)


def test_silent_tracks_are_no_copies(musdb_copy: Path) -> None:
    for split in ("train", "test"):
        silence_beginnings(songs(musdb_copy / split)[0], 3 * RATE)
    check_disjoint(musdb_copy)


def test_one_shared_stem_makes_no_copy(musdb_copy: Path) -> None:
    """The same drum loop may be in two songs, and silent vocals in many."""
    trained, held_out = songs(musdb_copy / "train")[0], songs(musdb_copy / "test")[0]
    shutil.copy(trained / "drums.wav", held_out / "drums.wav")
    for song in (trained, held_out):
        soundfile.write(song / "vocals.wav", np.zeros((3 * RATE, 2)), RATE)
    check_disjoint(musdb_copy)


def test_the_same_beginning_in_another_length_is_no_copy(musdb_copy: Path) -> None:
    trained, held_out = songs(musdb_copy / "train"), songs(musdb_copy / "test")
    shutil.copytree(trained[0], held_out[0], dirs_exist_ok=True)
    for folder in (held_out[0], trained[1]):  # so that this length is in both splits
        for path in folder.iterdir():
            samples, rate = soundfile.read(path)
            soundfile.write(path, samples[: 2 * RATE], rate)
    check_disjoint(musdb_copy)


def test_tracks_that_cannot_be_read_are_left_to_their_scan(musdb_copy: Path) -> None:
    shutil.copytree(songs(musdb_copy / "train")[1], musdb_copy / "test" / "copy")
    (musdb_copy / "test" / "copy" / "bass.wav").write_bytes(b"")
    check_disjoint(musdb_copy)


def test_hashes_are_remembered_and_made_only_where_lengths_agree(
    musdb_copy: Path, monkeypatch: pytest.MonkeyPatch, write_song: Callable[..., Path]
) -> None:
    write_song(musdb_copy / "train" / "of another length", seconds=0.5)
    read: list[str] = []
    real_read = audio.read

    def count(path: audio.AudioFile, *args: int) -> np.ndarray:
        read.append(os.fspath(path))
        return real_read(path, *args)

    monkeypatch.setattr(audio, "read", count)
    check_disjoint(musdb_copy)
    assert len(set(read)) == (3 + 2) * 4
    assert not [path for path in read if "of another length" in path]
    read.clear()
    check_disjoint(musdb_copy)
    assert read == []
    # The hashes did not push out the headers, nor the scan the hashes.
    tracks.scan(musdb_copy / "train", RULES)
    check_disjoint(musdb_copy)
    assert read == []
