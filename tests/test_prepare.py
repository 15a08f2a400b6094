"""What the scripts that prepare data refuse, and the parts that they share."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless.draws import generator
from data.audio import AudioReadError
from tests.prepare_parts import (
    SCRIPTS,
    dnr,
    dnr_words,
    read,
    split,
    tree,
    voiceless,
    write_collections,
    write_raw,
    write_stems,
)

from prepare.dnr.arrange import Segment, draw_count, place, shorten  # isort: skip
from prepare.dnr.catalogue import divide  # isort: skip
from prepare.dnr.settings import Settings  # isort: skip
from prepare.sounds import write_sound  # isort: skip
from prepare.work import do_all  # isort: skip


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ")
    return lines


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three songs, of which two are bad, each in its own way."""
    root = write_raw(tmp_path / "raw", 5)
    (root / "song 1" / "bass.wav").write_bytes(b"no audio at all")
    cut = root / "song 3" / "other.wav"
    os.truncate(cut, cut.stat().st_size // 2)
    return root


@pytest.mark.parametrize("script", [split, voiceless])
def test_bad_files_stop_before_anything_is_written(
    raw: Path, tmp_path: Path, script: object, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(raw), str(tmp_path / "out"), "--workers", "1"]
    assert script.main(words) == 3
    head, *lines = errors(capsys)
    assert head.startswith(f"error: bad files in 2 of 5 tracks under {raw}; --on-bad skip")
    assert lines[0].strip().startswith(f"{raw / 'song 1' / 'bass.wav'}: not readable audio")
    assert lines[1].strip().startswith(f"{raw / 'song 3' / 'other.wav'}: cut off: ")
    assert len(lines) == 2
    assert not (tmp_path / "out").exists()
    assert script.main([*words, "--on-bad", "skip"]) == 3
    head, *lines = errors(capsys)
    assert head == "error: 2 left out:"
    assert len(lines) == 2
    made = {p.stem if script is voiceless else p.parent.name for p in tmp_path.glob("out/**/*.wav")}
    assert made == {"song 0", "song 2", "song 4"}
    before = tree(tmp_path / "out")
    assert script.main([*words, "--on-bad", "skip"]) == 3
    assert tree(tmp_path / "out") == before


def test_a_bad_file_of_a_collection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roots = write_collections(tmp_path / "source", ("mp3", "wav"))
    bad = [roots["sfx"] / "bad.wav", roots["speech"] / "bad.mp3"]
    for path in bad:
        path.write_bytes(bytes(100))
    assert dnr.main(dnr_words(roots, tmp_path / "dnr")) == 3
    text = "\n".join(errors(capsys))
    assert all(text.count(f"  {path}: not readable audio") == 1 for path in bad)
    assert not (tmp_path / "dnr").exists()
    assert dnr.main(dnr_words(roots, tmp_path / "dnr", "--on-bad", "skip")) == 3
    assert len(errors(capsys)) == 3
    tables = "".join(path.read_text() for path in tmp_path.glob("dnr/*/*/annots.csv"))
    assert "music 0.mp3" in tables
    assert "bad" not in tables


def test_silent_files_are_left_out_of_mixes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = write_collections(tmp_path / "source")
    silent = [*roots["sfx"].glob("*/sfx [0-2].*")]
    for number, path in enumerate(silent):
        soundfile.write(path, np.zeros(20_000 + 100 * number), 44100)
    assert dnr.main(dnr_words(roots, tmp_path / "dnr", "--shares", 1, 0, 0)) == 0
    said = capsys.readouterr().out
    tables = [path.read_text() for path in tmp_path.glob("dnr/tr/*/annots.csv")]
    assert len(tables) == 6
    for path in silent:
        assert f"{path}: too quiet, left out of tr/" in said
        assert not any(path.name in table for table in tables)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            (split, "{raw}", "{raw}/inner"),
            2,
            "{raw}/inner: lies in the source {raw}, which is only",
        ),
        ((split, "{raw}", "{raw}"), 2, "{raw}: lies in the source"),
        ((voiceless, "{raw}", "{raw}/x"), 2, "{raw}/x: lies in the source"),
        ((split, "{tmp}/none", "{out}"), 3, "found 0 tracks under {tmp}/none; expected folders"),
        ((voiceless, "{tmp}/none", "{out}"), 3, "{tmp}/none: No such file or directory"),
        ((split, "{raw}", "{tmp}/file"), 3, "{tmp}/file"),
        ((split, "{raw}", "{tmp}/other"), 2, "{tmp}/other/train/mine: is there, but no plan.json"),
        ((split, "{raw}", "{tmp}/damaged"), 2, "{tmp}/damaged/plan.json: not a plan: "),
        ((voiceless, "{raw}", "{tmp}/planned"), 2, "{tmp}/planned/plan.json: not a plan of musdb"),
        ((split, "{raw}", "{tmp}/planned", "--seed", "1"), 2, "seed: 1, but what is in {tmp}/"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple,
    status: int,
    said: str,
) -> None:
    raw = write_raw(tmp_path / "raw", 3)
    (tmp_path / "file").write_text("")
    (tmp_path / "other" / "train" / "mine").mkdir(parents=True)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "plan.json").write_text("{")
    assert split.main([str(raw), str(tmp_path / "planned"), "--workers", "1"]) == 0
    before = tree(tmp_path)
    capsys.readouterr()
    fill = partial(str.format, raw=raw, tmp=tmp_path, out=tmp_path / "out")
    script, *given = words
    assert script.main([*map(fill, given), "--workers", "1"]) == status
    (line,) = errors(capsys)
    assert fill(said) in line
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "words",
    [("--valid", "0"), ("--valid", "x"), ("--seed", "-1"), ("--workers", "0"), ("--how", "x")],
)
def test_options_out_of_range(
    words: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        split.main(["raw", "out", *words])
    assert stopped.value.code == 2
    assert f"argument {words[0]}: " in capsys.readouterr().err


def test_settings_that_contradict_one_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = write_collections(tmp_path / "source")
    cases = {
        "music-fill: 0.9 0.1": ("--music-fill", 0.9, 0.1),
        "mixes: 2": ("--mixes", 2),
        "shares: ": ("--shares", 0, 0, 0),
    }
    for said, words in cases.items():
        assert dnr.main(dnr_words(roots, tmp_path / "dnr", *words)) == 2
        (line,) = errors(capsys)
        assert said in line


def test_too_few_folders_to_divide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roots = write_collections(tmp_path / "source")
    shutil.rmtree(roots["music"] / "part 0")
    assert dnr.main(dnr_words(roots, tmp_path / "dnr", "--group", "folder")) == 3
    (line,) = errors(capsys)
    assert line == "error: music: 2 folders cannot be divided into 3 splits"


def test_a_source_that_changed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_raw(tmp_path / "raw", 3)
    words = [str(raw), str(tmp_path / "out"), "--workers", "1"]
    assert split.main(words) == 0
    shutil.rmtree(next(tmp_path.glob("out/*/song 1")))
    shutil.rmtree(raw / "song 1")
    write_stems(raw / "song 1", 0.2)
    capsys.readouterr()
    assert split.main(words) == 3
    assert errors(capsys) == [f"error: {raw}/song 1/bass.wav: changed since the plan was made"]
    assert split.main([*words, "--on-bad", "skip"]) == 3
    assert not list(tmp_path.glob("out/*/song 1"))


def test_names_that_are_not_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = os.fsdecode(b"odd \xff")
    raw = write_raw(tmp_path / "raw", 2)
    os.rename(raw / "song 0", raw / odd)
    for script in (split, voiceless):
        assert script.main([str(raw), str(tmp_path / script.COMMAND), "--workers", "1"]) == 0
        assert len([name for name in tree(tmp_path / script.COMMAND) if odd in name]) > 0
    os.truncate(raw / odd / "bass.wav", 10)
    assert split.main([str(raw), str(tmp_path / "out"), "--workers", "1"]) == 3
    assert "odd \\xff/bass.wav: " in capsys.readouterr().err


@pytest.mark.parametrize("script", [split, voiceless, dnr])
def test_help_shows_examples(
    script: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stopped:
        script.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"  python scripts/{script.COMMAND}.py " in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


@pytest.mark.parametrize("script", [split, voiceless, dnr])
def test_a_dry_run_writes_nothing(
    script: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if script is dnr:
        words = dnr_words(write_collections(tmp_path / "source"), tmp_path / "out")
    else:
        words = [str(write_raw(tmp_path / "source")), str(tmp_path / "out")]
    before = tree(tmp_path)
    assert script.main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/out, not made: ")
    assert tree(tmp_path) == before


def test_a_script_runs_from_any_folder_and_with_processes(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    command = [sys.executable, str(SCRIPTS / "dataset_split_and_mix.py"), "raw"]
    done = subprocess.run(
        [*command, "out", "--workers", "2"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == f"{tmp_path}/out: 4 songs (train 3, valid 1)\n", done.stderr
    assert split.main([str(raw), str(tmp_path / "one"), "--workers", "1"]) == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "out")


@pytest.mark.parametrize(("bits", "step"), [("16", 2.0**-15), ("24", 2.0**-23)])
def test_integers_are_written_as_they_are(tmp_path: Path, bits: str, step: float) -> None:
    numbers = np.array([[-1, -1 + step, -step, 0, step, 0.5, 1 - step], [0.6 * step] * 7])
    path = tmp_path / "sound"
    extremes = write_sound(path, [numbers[:, :3], numbers[:, 3:]], 44100, 2, 7, bits)
    np.testing.assert_array_equal(read(path), [numbers[0], [step] * 7])
    assert extremes.fit(bits)
    assert extremes == (-1, 1 - step)
    beyond = write_sound(path, [numbers + step], 44100, 2, 7, bits)
    assert not beyond.fit(bits)
    assert beyond.fit("float")
    assert read(path)[0, -1] == 1 - step  # clipped, not wrapped


def test_what_is_written_does_not_depend_on_the_time(tmp_path: Path) -> None:
    for name, seconds in (("a", 0), ("b", 1_000_000_000)):
        write_sound(tmp_path / name, [np.ones((1, 10))], 44100, 1, 10, "float")
        header = (tmp_path / name).read_bytes()
        assert b"PEAK" in header
        os.utime(tmp_path / name, (seconds, seconds))
        time_of_peak = header[header.index(b"PEAK") + 12 :][:4]
        assert time_of_peak == bytes(4)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def _refuse_odd(number: int) -> int:
    if number % 2:
        raise AudioReadError(f"{number}: odd")
    return number


def test_jobs_that_fail_are_named_in_order() -> None:
    assert do_all([4, 3, 2, 1], _refuse_odd, on_bad="skip") == ([4, 2], ["3: odd", "1: odd"])
    with pytest.raises(AudioReadError, match="3: odd"):
        do_all([4, 3, 2, 1], _refuse_odd)


def test_shortening_keeps_what_is_short() -> None:
    assert shorten([5, 100, 20, 60], 100) == [5, 37, 20, 37]
    assert shorten([5, 6], 100) == [5, 6]
    assert shorten([9], 4) == [4]
    assert shorten([3, 3, 3], 1) == [1, 1, 1]


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_places_are_in_order_within_the_mix(overlap: float) -> None:
    rng = generator("places")
    common = 0
    for _ in range(200):
        lengths = rng.integers(1, 30, rng.integers(1, 6)).tolist()
        total = sum(lengths) + int(rng.integers(0, 20))
        starts = place(rng, lengths, total, overlap)
        ends = np.add(starts, lengths)
        assert min(starts) >= 0
        assert ends[-1] <= total
        for before, after, *sizes in zip(ends, starts[1:], lengths, lengths[1:]):
            assert before - after <= overlap * min(sizes)
            common += before > after
        assert all(first <= third for first, third in zip(ends, starts[2:]))
    assert bool(common) == bool(overlap)


def test_counts_are_poisson_without_zero() -> None:
    rng = generator("counts")
    drawn = np.array([draw_count(rng, 1.5) for _ in range(4000)])
    assert drawn.min() == 1
    expected = 1.5 / -math.expm1(-1.5)
    assert drawn.mean() == pytest.approx(expected, abs=5 * drawn.std() / math.sqrt(4000))


def test_fades_are_where_a_file_is_cut() -> None:
    whole = Segment(0, 10, 0, 0, 0).moved(0, 10, 4)
    assert (whole.envelope() == 1).all()
    middle = Segment(0, 10, 0, 0, 0).moved(3, 20, 40)
    assert (middle.fade_in, middle.fade_out) == (5, 5)
    gain = middle.envelope()
    assert 0 < gain[0] < gain[4] < 1
    np.testing.assert_allclose(gain, gain[::-1])
    np.testing.assert_allclose(gain[:5] + gain[4::-1], 1)  # sin² and cos²


def test_mixes_and_files_are_divided_by_the_shares() -> None:
    assert Settings(mixes=4866).splits == {"tr": 3406, "cv": 487, "tt": 973}
    assert Settings(mixes=10, shares=(1, 0, 1)).splits == {"tr": 5, "tt": 5}
    files = [{"file": f"{n % 7}/{n}"} for n in range(1000)]
    parts = divide(files, (70, 10, 20), "file", seed=3)
    assert {split: len(part) for split, part in parts.items()} == {"tr": 700, "cv": 100, "tt": 200}
    fewer = divide(files[:-1], (70, 10, 20), "file", seed=3)
    same = sum(file in fewer["tr"] for file in parts["tr"])
    assert same > 690  # a new file moves hardly any other
