"""The command `python -m data.check`: what it finds by itself, how it prints, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aimless.sources import SDX_SOURCES
from data.check.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*args: object, status: int) -> None:
    assert main([*map(str, args), "--workers", "1"]) == status


def test_the_known_layouts(
    tmp_path: Path, write_song: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for number, split in enumerate(("tr", "cv", "tt")):
        folder = tmp_path / "dnr" / split / "1"
        write_song(folder, 0.5, channels=1, sources=SDX_SOURCES, mixture="mix", seed=number)
    for number, split in enumerate(("train", "valid")):
        write_song(tmp_path / "sdx" / split / "1", 0.5, seed=number)
    run(tmp_path / "dnr", status=0)
    assert "3 tracks (tr 1, cv 1, tt 1)" in capsys.readouterr().out
    run(tmp_path / "sdx", status=0)
    assert "2 tracks (train 1, valid 1)" in capsys.readouterr().out
    run(tmp_path / "sdx" / "train", status=0)
    assert "train: 1 tracks, 0.0 minutes" in capsys.readouterr().out


def test_tracks_that_are_named_like_splits(
    tmp_path: Path, write_song: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("train", "test")):
        write_song(tmp_path / name, 0.5, seed=number)
    run(tmp_path, status=0)
    assert f"{tmp_path}: 2 tracks, " in capsys.readouterr().out


def test_other_sources_and_no_mixture(
    tmp_path: Path, write_song: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--sources", "music,speech", "--mixture", "none", "--channels", 1)
    for number in range(2):
        sources = SDX_SOURCES[: 1 + 2 * number]
        folder = tmp_path / str(number)
        write_song(folder, 0.5, channels=1, sources=sources, mixture=None, seed=number)
    run(tmp_path, *options, status=3)
    assert "1 error: missing 1" in capsys.readouterr().out
    run(tmp_path, *options, "--missing", "silence", status=0)


def test_an_empty_split_is_an_error(musdb_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (musdb_copy / "valid").mkdir()
    run(musdb_copy, status=3)
    output = capsys.readouterr().out
    assert "5 tracks (train 3, test 2)" in output
    assert "1 error: no tracks 1" in output


@pytest.mark.parametrize("kind", ["nothing", "empty", "file"])
def test_a_wrong_root_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    root = tmp_path / "root"
    if kind == "empty":
        root.mkdir()
    elif kind == "file":
        root.touch()
    run(root, status=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert str(root) in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--sources", "drums,drums"],
        ["--sources", "drums,,bass"],
        ["--sample-rate", "0"],
        ["--channels", "stereo"],
        ["--segment", "-1"],
        ["--segment", "nan"],
        ["--missing", "zeros"],
        ["--workers", "0"],
    ],
)
def test_wrong_usage(musdb_root: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(musdb_root), *options])
    assert stop.value.code == 2


def test_json_is_written_whole_or_not(
    musdb_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report.json"
    run(musdb_copy, "--quick", "--json", target, status=0)
    assert json.loads(target.read_text())["version"] == 1
    assert "nothing found" in capsys.readouterr().out
    run(musdb_copy, "--quick", "--json", tmp_path / "nowhere" / "report.json", status=2)
    assert "--json: " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["musdb", "report.json"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_stays_within_the_width(
    musdb_copy: Path,
    write_song: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    song = write_song(musdb_copy / "train" / ("a very long name " * 10).strip(), 0.5, rate=48000)
    (song / "bass.wav").unlink()
    (song / "mixture.wav").write_bytes((song / "mixture.wav").read_bytes()[:-1000])
    run(musdb_copy, "--quick", status=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["SEVERITY", "KIND", "WHERE", "WHAT"]
    table = lines[1:-1]
    assert all(len(line) <= width for line in table)
    starts = [lines[1].index(head) for head in ("KIND", "WHERE", "WHAT")]
    for line in table:
        assert all(line[start - 2 : start] == "  " for start in starts)
    assert lines[-1] == "5 errors: cut off 1, missing 1, sample rate 3"


def test_names_cannot_write_to_the_terminal(
    tmp_path: Path, write_song: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    song = write_song(tmp_path / "set" / "a\x1b[31m\nb", 0.5)
    (song / "bass.wav").unlink()
    run(tmp_path / "set", "--quick", status=3)
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert r"a\x1b[31m\nb/bass.wav" in output


def test_the_command_in_a_process_of_its_own(musdb_copy: Path) -> None:
    """With worker processes, and no progress bar where there is no terminal."""
    (musdb_copy / "train" / "Synthetic - First Song" / "bass.wav").unlink()
    command = [sys.executable, "-m", "data.check", str(musdb_copy), "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 3
    assert done.stderr == ""
    assert "1 error: missing 1" in done.stdout
    helped = subprocess.run(
        [*command[:3], "--help"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert helped.returncode == 0
    assert "python -m data.check data/musdb18hq" in helped.stdout
