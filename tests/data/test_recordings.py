"""Files below a folder, their check, and what is held out of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless.errors import DataError
from data.listing import recordings
from data.listing.holdout import held_out
from data.listing.recordings import FileRules


def write(path: Path, rate: int = 44100, channels: int = 1, frames: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full((frames, channels), 0.1), rate)
    return path


def paths(folder: Path) -> list[Path]:
    return [Path(file.path) for file in recordings.find(folder)]


def check(folder: Path, files: list[Path], rules: FileRules, *origins: str) -> list[Path]:
    listed = recordings.look_up(map(str, files))
    return [file.path for file in recordings.check(folder, listed, rules, origins or None)]


def test_files_are_found_at_any_depth_but_hidden_ones_are_not(tmp_path: Path) -> None:
    wanted = [write(tmp_path / name) for name in ("a.wav", "b/c/d.WAV", "b/e.flac")]
    for name in (".h.wav", "._a.wav", ".git/x.wav", "__MACOSX/y.wav", "b/.z/w.wav"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no audio")
    assert paths(tmp_path) == wanted


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    write(tmp_path / "far" / "a.wav")
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "root" / "in" / "circle").symlink_to(tmp_path / "root")
    assert paths(tmp_path / "root") == [tmp_path / "root" / "link" / "a.wav"]


def test_folders_without_audio(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope: No such file or directory; wanted a folder"):
        recordings.find(tmp_path / "nope")
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(DataError, match=r"no \.wav or \.flac files"):
        recordings.find(tmp_path)
    with pytest.raises(DataError, match=r"Not a directory"):
        recordings.find(tmp_path / "notes.txt")


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav")
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.array([0.0, np.nan]), 44100, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no audio")
    bad = {
        write(tmp_path / "slow.wav", rate=22050): "sample rate 22050 Hz, wanted 44100 Hz",
        write(tmp_path / "wide.wav", channels=3): "3 channels, wanted 2",
        nan: "frame 1 is not finite",
        tmp_path / "text.wav": "not readable audio",
        tmp_path / "gone.wav": "no such file",
    }
    rules = FileRules(44100, 2)
    with pytest.raises(DataError) as error:
        check(tmp_path, [good, *bad], rules, "list, line 2", *[""] * 4, "list, line 7")
    head, *lines = str(error.value).split("\n")
    assert head == f"5 of 6 files under {tmp_path} cannot be used:"
    for line, (path, reason) in zip(lines, bad.items()):
        assert f"{path}: {reason}" in line
    assert lines[-1].startswith("  list, line 7: ")

    skipping = FileRules(44100, 2, on_bad="skip")
    assert check(tmp_path, [good, *bad], skipping) == [good]
    with pytest.raises(DataError, match="5 of 5"):
        check(tmp_path, list(bad), skipping)


def test_any_rate_and_channels_pass_where_none_are_asked_for(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.wav", 8000, 3), write(tmp_path / "b.flac", 96000, 1)]
    assert check(tmp_path, files, FileRules()) == files


def test_links_are_resolved_and_name_what_they_lead_to(tmp_path: Path) -> None:
    target = write(tmp_path / "far" / "a.wav")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "b.wav").symlink_to(target)
    (linked,) = recordings.find(tmp_path / "near")
    (direct,) = recordings.find(tmp_path / "far")
    assert linked.real == direct.real
    assert linked[2:] == direct[2:] == (target.stat().st_size, target.stat().st_mtime_ns)


def test_held_out_names_do_not_depend_on_order_and_never_take_all() -> None:
    names = [f"p{index}" for index in range(200)]
    chosen = held_out(names, 0.1)
    assert len(chosen) == 20
    assert held_out(reversed(names), 0.1) == chosen
    assert held_out(names, 0.1, seed=1) != chosen
    assert len(held_out(names, 0.001)) == 1
    assert len(held_out(names, 0.9999)) == 199
    assert held_out(["alone"], 0.5) == frozenset()


def test_held_out_names_hardly_change_when_one_is_added() -> None:
    names = [f"p{index}" for index in range(200)]
    assert len(held_out(names, 0.1) ^ held_out([*names, "new"], 0.1)) <= 2


def test_names_of_any_bytes_can_be_held_out() -> None:
    assert len(held_out([os.fsdecode(b"\xff\xfe"), "b"], 0.5)) == 1
