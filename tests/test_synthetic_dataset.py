"""`make_synthetic_dataset.py`: layouts that our data modules read, the same bytes every time."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless.sources import MDX_SOURCES, SDX_SOURCES
from data.check.__main__ import main as check
from data.lightning import MUSDB, DnR, LabelNoise
from tests.helpers import REPOSITORY
from tests.synthetic_parts import make, script, tree

SHORT = ("--seconds", "4", "6")


@pytest.fixture(scope="module")
def musdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "musdb"
    return make(root, "--train", 2, "--validation", 1, "--test", 2, *SHORT)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "noisy"
    words = ("--layout", "label_noise", "--seconds", 3, "--errors", 0.6)
    return make(root, *words, "--train", 8, "--validation", 1, "--test", 1)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16", always_2d=True)[0].astype(int)


def test_songs_are_what_musdb_has(musdb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    songs = sorted(path for split in ("train", "test") for path in (musdb / split).iterdir())
    assert len(songs) == 5
    for song in songs:
        assert {path.name for path in song.iterdir()} == {
            f"{name}.wav" for name in ("mixture", *MDX_SOURCES)
        }
        info = soundfile.info(song / "mixture.wav")
        assert (info.samplerate, info.channels, info.subtype) == (44100, 2, "PCM_16")
        assert 4 <= info.duration <= 6
        stems = [read(song / f"{stem}.wav") for stem in MDX_SOURCES]
        mixture = read(song / "mixture.wav")
        np.testing.assert_array_equal(sum(stems), mixture)
        assert 0.1 < np.abs(mixture).max() / 32768 < 1
        assert all(np.abs(stem).max() > 300 for stem in stems)
    assert check([str(musdb), "--workers", "1"]) == 0


def test_the_musdb_module_trains_on_some_and_validates_on_others(musdb: Path) -> None:
    data = MUSDB(str(musdb), seq_duration=1.0, batch_size=2, random=True, random_track_mix=True)
    data.setup()
    assert len({track.name for track in data.datasets["train"].tracks}) == 2
    assert len({track.name for track in data.datasets["val"].tracks}) == 1
    assert len({track.name for track in data.datasets["test"].tracks}) == 2
    mixture, stems = next(iter(data.train_dataloader()))[:2]
    assert stems.shape == (2, 4, 2, 44100)
    assert (stems.sum(1) - mixture).abs().max() < 1e-6


def test_scenes_are_what_dnr_has(tmp_path: Path) -> None:
    words = ("--layout", "dnr", "--train", 2, "--validation", 1, "--test", 1, *SHORT)
    root = make(tmp_path / "scenes", *words)
    for scene in sorted(path for split in ("tr", "cv", "tt") for path in (root / split).iterdir()):
        stems = [read(scene / f"{stem}.wav") for stem in SDX_SOURCES]
        np.testing.assert_array_equal(sum(stems), read(scene / "mix.wav"))
        assert all(stem.shape[1] == 1 and np.abs(stem).max() > 100 for stem in stems)
        assert np.abs(read(scene / "mix.wav")).max() <= 32768 * 10 ** (-0.5 / 20)
    data = DnR(str(root), seq_duration=1.0, batch_size=2, random=True)
    data.setup()
    assert next(iter(data.train_dataloader()))[1].shape == (2, 3, 1, 44100)
    assert check([str(root), "--workers", "1"]) == 0


def test_planted_errors_are_listed_and_the_clean_songs_are_trained_on(noisy: Path) -> None:
    planted = {row["ID"]: row for row in rows(noisy / "planted.csv")}
    labels = {row["ID"]: row for row in rows(noisy / "labels.csv")}
    assert set(labels) == {path.name for path in (noisy / "train").iterdir()}
    assert {name for name, row in labels.items() if row["Clean"] != "Y"} == set(planted)
    assert 1 <= len(planted) <= 7
    data = LabelNoise(
        str(noisy), labels=str(noisy / "labels.csv"), seq_duration=1.0, batch_size=1, random=True
    )
    data.setup()
    assert {track.name for track in data.datasets["train"].tracks} == set(labels) - set(planted)
    assert len({track.name for track in data.datasets["test"].tracks}) == 2
    assert check([str(noisy), "--workers", "1"]) == 0


def test_errors_are_the_only_difference_to_the_clean_songs(noisy: Path, tmp_path: Path) -> None:
    words = ("--layout", "label_noise", "--seconds", 3, "--errors", 0)
    clean = make(tmp_path / "clean", *words, "--train", 8, "--validation", 0, "--test", 0)
    assert rows(clean / "planted.csv") == []
    planted = {row["ID"]: row for row in rows(noisy / "planted.csv")}
    assert {row["kind"] for row in planted.values()} == {"swap", "misplaced"}
    for song in sorted((clean / "train").iterdir()):
        right = {stem: read(song / f"{stem}.wav") for stem in MDX_SOURCES}
        found = {stem: read(noisy / "train" / song.name / f"{stem}.wav") for stem in MDX_SOURCES}
        changed = {stem for stem in MDX_SOURCES if np.abs(right[stem] - found[stem]).max() > 1}
        row = planted.get(song.name)
        assert changed == ({row["stem"], row["other"]} if row else set())
        if row and row["kind"] == "swap":
            assert np.abs(right[row["stem"]] - found[row["other"]]).max() <= 1
            assert np.abs(right[row["other"]] - found[row["stem"]]).max() <= 1


def test_the_same_bytes_with_two_processes_and_other_songs_beside_them(
    musdb: Path, tmp_path: Path
) -> None:
    words = ["--train", "2", "--validation", "0", "--test", "1", *SHORT, "--workers", "2"]
    command = [sys.executable, "scripts/make_synthetic_dataset.py", tmp_path / "again", "--plain"]
    subprocess.run([*command, *words], cwd=REPOSITORY, check=True, capture_output=True, timeout=200)
    again = {path: digest for path, digest in tree(tmp_path / "again").items() if "/" in path}
    assert len(again) == 15
    assert again.items() <= tree(musdb).items()


def test_another_seed_makes_other_songs(musdb: Path, tmp_path: Path) -> None:
    words = ("--train", 1, "--validation", 0, "--test", 0, *SHORT)
    other = tree(make(tmp_path / "other", *words, "--seed", 1))
    assert not set(other.values()) & set(tree(musdb).values())


def test_a_stopped_run_is_gone_on_with(
    musdb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(musdb, tmp_path / "copy"))
    lost, kept = root / "test" / "Synthetic - Test Song 0001", root / "train"
    shutil.rmtree(lost)
    (root / "test" / ".prepare-0123456789abcdef.part").mkdir()
    (root / "test" / ".prepare-0123456789abcdef.part" / "drums.wav").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*.wav")}
    make(root, "--train", 2, "--validation", 1, "--test", 2, *SHORT)
    assert "4 of them there already" in capsys.readouterr().out
    assert tree(root) == tree(musdb)
    assert before == {path: path.stat().st_mtime_ns for path in kept.rglob("*.wav")}


def test_other_settings_in_the_same_folder_are_refused(
    musdb: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(musdb)
    words = ("--train", 2, "--validation", 1, "--test", 2, *SHORT)
    make(musdb, *words, "--seed", 5, status=2)
    error = capsys.readouterr().err
    assert error.startswith("error: seed: 5")
    assert error.count("\n") == 1
    assert tree(musdb) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_songs_only(tmp_path: Path, number: signal.Signals) -> None:
    root = tmp_path / "killed"
    words = ["--train", "40", "--validation", "0", "--test", "0", "--seconds", "4", "--plain"]
    command = [sys.executable, "scripts/make_synthetic_dataset.py", str(root), *words]
    process = subprocess.Popen(
        [*command, "--workers", "1"],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not any((root / "train").glob("Synthetic*")):
        signal.sigtimedwait([], 0.05)
    os.kill(process.pid, number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in error
    songs = list((root / "train").iterdir())
    assert 1 <= len(songs) < 40
    assert all(len(list(song.iterdir())) == 5 for song in songs)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seconds", "1"], "from 2 to 7200"),
        (["--seconds", "9", "4"], "neither one length nor a range"),
        (["--errors", "2"], "from 0 to 1"),
        (["--train", "-1"], "not a whole number"),
        (["--train", "0", "--validation", "0", "--test", "0"], "nothing to make"),
        (["--layout", "other"], "invalid choice"),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main([str(tmp_path / "new"), *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_more_validation_songs_than_musdb_names_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "new", "--validation", 15, status=2)
    assert "--validation: 15" in capsys.readouterr().err


def test_a_missing_font_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fluidsynth", exc_type=ImportError)
    make(tmp_path / "new", "--soundfont", tmp_path / "none.sf2", status=3, plain=False)
    assert "none.sf2: cannot be read" in capsys.readouterr().err


def test_the_plan_says_what_was_played(musdb: Path) -> None:
    plan = json.loads((musdb / "plan.json").read_text())
    assert plan["settings"]["instruments"] == "none"
    for track in plan["tracks"].values():
        assert {"style", "key", "tempo", "form", "programs", "errors", "seconds"} <= set(track)
