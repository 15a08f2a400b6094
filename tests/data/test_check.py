"""The report on a data set: every planted fault is in it, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from aimless.sources import MDX_SOURCES
from data import audio
from data.check.__main__ import main
from data.check.measure import measure

RATE = 44100
Report = dict[str, Any]


@pytest.fixture
def song(musdb_copy: Path) -> Path:
    return musdb_copy / "train" / "Synthetic - First Song"


def check(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Report:
    """The report, once its exit status was compared."""
    status = main([str(root), "--json", "-", "--workers", "1", *options])
    report = json.loads(capsys.readouterr().out)
    assert report["exit_status"] == status
    return report


def found(report: Report) -> list[tuple[str, str, str]]:
    return [(f["severity"], f["kind"], os.path.basename(f["path"])) for f in report["findings"]]


def rewrite(
    path: Path,
    change: Callable[[np.ndarray], np.ndarray] = lambda samples: samples,
    rate: int = RATE,
    subtype: str = "PCM_16",
) -> None:
    samples, _ = soundfile.read(path, always_2d=True)
    soundfile.write(path, change(samples), rate, subtype)


def rebalance(song: Path, names: tuple[str, ...], change: Callable[[np.ndarray], Any]) -> None:
    """Change stems, and make the mixture their sum again, so that nothing else is wrong."""
    total: Any = 0
    for name in MDX_SOURCES:
        samples, _ = soundfile.read(song / f"{name}.wav")
        total = total + (change(samples) if name in names else samples)
        if name in names:
            soundfile.write(song / f"{name}.wav", change(samples), RATE)
    soundfile.write(song / "mixture.wav", total, RATE)


def test_a_clean_set_has_no_findings(musdb_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check(musdb_root, capsys)
    assert report["findings"] == []
    assert report["counts"] == {}
    assert report["exit_status"] == 0
    assert main([str(musdb_root), "--workers", "1"]) == 0
    assert "nothing found" in capsys.readouterr().out


def remove(song: Path) -> None:
    (song / "bass.wav").unlink()


def cut(song: Path) -> None:
    path = song / "bass.wav"
    path.write_bytes(path.read_bytes()[:-1000])


def write_text(song: Path) -> None:
    (song / "bass.wav").write_text("no audio")


def resample(song: Path) -> None:
    rewrite(song / "bass.wav", rate=48000)


def add_channel(song: Path) -> None:
    rewrite(song / "bass.wav", lambda samples: samples[:, [0, 1, 0]])


def shorten(song: Path) -> None:
    rewrite(song / "bass.wav", lambda samples: samples[: -RATE // 5])


def shorten_a_little(song: Path) -> None:
    rewrite(song / "bass.wav", lambda samples: samples[: -RATE // 50])


def add_nan(song: Path) -> None:
    def spoil(samples: np.ndarray) -> np.ndarray:
        samples[100_000, 1] = np.nan
        return samples

    rewrite(song / "bass.wav", spoil, subtype="FLOAT")


def clip(song: Path) -> None:
    amplify_a_part(song, 2000, "PCM_16")


def go_beyond_full_scale(song: Path) -> None:
    """D12: such files are read as they are, so that the mixture is still the sum."""
    amplify_a_part(song, 2000, "FLOAT")


def amplify_a_part(song: Path, frames: int, subtype: str) -> None:
    def amplify(samples: np.ndarray) -> np.ndarray:
        samples[:frames] *= 20
        return samples

    rewrite(song / "bass.wav", amplify, subtype=subtype)
    total = sum(soundfile.read(song / f"{name}.wav")[0] for name in MDX_SOURCES)
    soundfile.write(song / "mixture.wav", total, RATE, "FLOAT")


def silence(song: Path) -> None:
    rebalance(song, ("bass",), lambda samples: 0 * samples)


def silence_most(song: Path) -> None:
    rebalance(song, ("bass",), lambda samples: samples * (np.arange(len(samples)) < 4000)[:, None])


def copy_stem(song: Path) -> None:
    shutil.copy(song / "bass.wav", song / "other.wav")
    rebalance(song, (), lambda samples: samples)


def copy_foreign_stem(song: Path) -> None:
    shutil.copy(song.parent / "Synthetic - Second Song" / "other.wav", song / "other.wav")
    rebalance(song, (), lambda samples: samples)


def copy_track(song: Path) -> None:
    shutil.copytree(song, song.parent / "twin")


def leak(song: Path) -> None:
    shutil.copytree(song, song.parent.parent / "test" / "twin")


def detune_mixture(song: Path) -> None:
    rewrite(song / "mixture.wav", lambda samples: samples * 0.99)


def make_mono(song: Path) -> None:
    for path in song.iterdir():
        rewrite(path, lambda samples: samples[:, :1])


def soften(song: Path) -> None:
    rebalance(song, MDX_SOURCES, lambda samples: samples / 16)


PLANTED = [
    (remove, "error", "missing", "bass.wav"),
    (cut, "error", "cut off", "bass.wav"),
    (write_text, "error", "unreadable", "bass.wav"),
    (resample, "error", "sample rate", "bass.wav"),
    (add_channel, "error", "channels", "bass.wav"),
    (shorten, "error", "length", "bass.wav"),
    (shorten_a_little, "warning", "length", "Synthetic - First Song"),
    (add_nan, "error", "not finite", "bass.wav"),
    (clip, "warning", "clipping", "bass.wav"),
    (go_beyond_full_scale, "note", "above full scale", "bass.wav"),
    (silence, "warning", "silent", "bass.wav"),
    (silence_most, "note", "mostly silent", "bass.wav"),
    (copy_stem, "warning", "duplicate", "other.wav"),
    (copy_foreign_stem, "warning", "duplicate", "other.wav"),
    (copy_track, "warning", "duplicate", "twin"),
    (leak, "error", "in two splits", "twin"),
    (detune_mixture, "warning", "mixture", "mixture.wav"),
    (make_mono, "note", "mono", "Synthetic - First Song"),
    (soften, "note", "level", "Synthetic - First Song"),
]
# What a fault has for a consequence: the sum of the stems is then another one.
ALSO = {
    shorten: {("warning", "mixture", "mixture.wav")},
    clip: {("note", "above full scale", "mixture.wav")},
    go_beyond_full_scale: {("note", "above full scale", "mixture.wav")},
}


@pytest.mark.parametrize(
    ("plant", "severity", "kind", "name"), PLANTED, ids=[plant.__name__ for plant, *_ in PLANTED]
)
def test_a_planted_fault_is_found_and_no_other(
    song: Path,
    capsys: pytest.CaptureFixture[str],
    plant: Callable[[Path], None],
    severity: str,
    kind: str,
    name: str,
) -> None:
    plant(song)
    report = check(song.parent.parent, capsys)
    findings = found(report)
    assert (severity, kind, name) in findings
    assert set(findings) - {(severity, kind, name)} <= ALSO.get(plant, set())
    worst = min(findings, key=lambda finding: ("error", "warning", "note").index(finding[0]))
    assert report["exit_status"] == {"error": 3, "warning": 1, "note": 0}[worst[0]]
    assert findings[0] == worst


def test_all_faults_are_in_one_report(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = song.parent / "Synthetic - Second Song"
    remove(song)
    add_nan(other)
    detune_mixture(song.parent.parent / "test" / "Synthetic - Third Song")
    assert found(check(song.parent.parent, capsys)) == [
        ("error", "missing", "bass.wav"),
        ("error", "not finite", "bass.wav"),
        ("warning", "mixture", "mixture.wav"),
    ]


def test_short_tracks_are_noted_where_a_segment_is_given(
    musdb_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(musdb_root, capsys, "--segment", "3")["findings"] == []
    report = check(musdb_root, capsys, "--segment", "3.1")
    assert [finding["kind"] for finding in report["findings"]] == ["short"] * 5
    assert report["exit_status"] == 0


def test_quick_looks_at_headers_only(
    song: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("data.files.reader.read")
    monkeypatch.delattr("data.audio.read")
    resample(song)
    (song.parent / "linked").symlink_to(song.parent / "Synthetic - Second Song")
    report = check(song.parent.parent, capsys, "--quick")
    assert found(report) == [
        ("error", "sample rate", "bass.wav"),
        ("warning", "duplicate", "linked"),
    ]
    assert "peak_db" not in report["tracks"][0]["files"]["drums"]


def test_the_figures_in_the_report(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against plain NumPy on the whole files."""
    silence_most(song)
    rewrite(song / "mixture.wav", lambda samples: samples * 0.9)
    report = check(song.parent.parent, capsys)
    (track,) = [track for track in report["tracks"] if track["name"] == song.name]
    bass, mixture = (soundfile.read(song / f"{name}.wav")[0] for name in ("bass", "mixture"))
    total = sum(soundfile.read(song / f"{name}.wav")[0] for name in MDX_SOURCES)
    figures = track["files"]["bass"]
    assert figures["frames"] == 3 * RATE
    assert figures["peak_db"] == pytest.approx(20 * np.log10(np.abs(bass).max()), abs=0.01)
    assert figures["level_db"] == pytest.approx(10 * np.log10(np.square(bass).mean()), abs=0.01)
    assert figures["silence"] == pytest.approx(1 - 4410 / (3 * RATE), abs=1e-6)
    error = np.sqrt(np.square(mixture - total).mean() / np.square(mixture).mean())
    assert track["mixture_error_db"] == pytest.approx(20 * np.log10(error), abs=0.01)


def test_the_form_of_the_json(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silence(song)
    report = check(song.parent.parent, capsys)
    assert list(report) == ["version", "root", "exit_status", "counts", "findings", "tracks"]
    assert report["counts"] == {"warning": {"silent": 1}}
    assert report["findings"] == [
        {
            "severity": "warning",
            "kind": "silent",
            "split": "train",
            "track": song.name,
            "path": str(song / "bass.wav"),
            "text": "all samples are zero",
        }
    ]
    assert [track["split"] for track in report["tracks"]] == ["train"] * 3 + ["test"] * 2
    for track in report["tracks"]:
        assert list(track) == ["split", "name", "level_db", "mixture_error_db", "files"]
        assert set(track["files"]) == {*MDX_SOURCES, "mixture"}
    silent = report["tracks"][1]["files"]["bass"]
    assert (silent["peak_db"], silent["silence"], silent["sample_rate"]) == (None, 1.0, RATE)


def test_blocks_meet(tmp_path: Path) -> None:
    """Lengths around the block of 1.6 s: no frame is left out or counted twice."""
    block = 16 * 4410
    rng = np.random.default_rng(0)
    for frames in (1, block - 1, block, block + 1, 2 * block + 4410):
        samples = rng.uniform(-0.5, 0.5, (frames, 2))
        samples[-1] = 0.75
        soundfile.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
        header = audio.info(tmp_path / "a.wav")
        figures = measure({"a": header}, ("a",), None, compare=True)
        assert figures.files["a"].peak == 0.75
        assert figures.rms == pytest.approx(np.sqrt(np.square(samples).mean()), rel=1e-5)
