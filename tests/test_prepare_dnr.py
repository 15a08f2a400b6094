"""`convert_to_dnr.py`: its mixes, and that they are what their annotations say."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from aimless.sources import SDX_SOURCES
from data.check.__main__ import main as check
from data.lightning import DnR
from data.loudness import integrated_loudness
from tests.prepare_parts import dnr, dnr_words, read, tree, write_collections

RATE = 44100


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    formats = ("wav", "flac", "aiff", "ogg", "mp3")
    return write_collections(tmp_path_factory.mktemp("collections"), formats)


@pytest.fixture(scope="module")
def made(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only to be read."""
    before = [tree(root) for root in roots.values()]
    root = tmp_path_factory.mktemp("made") / "dnr"
    assert dnr.main(dnr_words(roots, root)) == 0
    assert [tree(root) for root in roots.values()] == before
    return root


def mixes(root: Path) -> list[Path]:
    found = [path.parent for path in sorted(root.glob("*/*/mix.wav"))]
    assert len(found) == 6
    return found


def annotations(folder: Path) -> list[dict[str, str]]:
    with open(folder / "annots.csv", newline="") as file:
        return list(csv.DictReader(file))


def decibels(part: np.ndarray, whole: np.ndarray) -> float:
    return 10 * np.log10(np.mean(part**2) / np.mean(whole**2) + 1e-20)


def test_the_result_is_read_and_found_faultless(made: Path) -> None:
    assert check([str(made), "--workers", "1"]) == 0
    module = DnR(str(made), seq_duration=1, batch_size=1, num_workers=0)
    module.setup()
    splits = {name: len(dataset.tracks) for name, dataset in module.datasets.items()}
    assert splits == {"train": 4, "val": 1, "test": 1}
    assert {track.frames for track in module.datasets["train"].tracks} == {3 * RATE}


@pytest.mark.parametrize("bits", ["float", "16"])
def test_stems_sum_to_the_mix(
    roots: dict[str, Path], made: Path, tmp_path: Path, bits: str
) -> None:
    root = made
    if bits != "float":
        root = tmp_path / "dnr"
        assert dnr.main(dnr_words(roots, root, "--bits", bits)) == 0
    for folder in mixes(root):
        mix = read(folder / "mix.wav")
        total = sum(read(folder / f"{kind}.wav") for kind in SDX_SOURCES)
        assert decibels(mix - total, mix) < -100
        assert mix.shape == (1, 3 * RATE)
        assert soundfile.info(folder / "mix.wav").subtype in ("FLOAT", f"PCM_{bits}")


def test_annotations_reproduce_the_stems(made: Path, roots: dict[str, Path]) -> None:
    """Each whole file, resampled and cut, times its gain, at its place."""
    for folder in mixes(made):
        stems = {kind: np.zeros(3 * RATE) for kind in SDX_SOURCES}
        for row in annotations(folder):
            sound, rate = soundfile.read(roots[row["class"]] / row["file"], always_2d=True)
            clip = soxr.resample(sound.mean(1), rate, RATE)
            first, last = int(row["clip_start_sample"]), int(row["clip_end_sample"])
            part = np.pad(clip, (0, 1))[first:last] * float(row["gain"])
            for name, order in (("fade_in", 1), ("fade_out", -1)):
                frames = int(row[f"{name}_samples"])
                ramp = np.sin(np.pi / 2 * (np.arange(frames) + 0.5) / max(frames, 1)) ** 2
                part[::order][:frames] *= ramp
            start, end = int(row["start_sample"]), int(row["end_sample"])
            stems[row["class"]][start:end] += part
            assert float(row["start"]) == pytest.approx(start / RATE, abs=1e-6)
            assert float(row["gain_db"]) == pytest.approx(
                20 * np.log10(float(row["gain"])), abs=1e-3
            )
        for kind, stem in stems.items():
            written = read(folder / f"{kind}.wav")[0]
            assert decibels(written - stem, written) < -90  # of a whole file, resampled


def test_files_at_the_rate_of_the_mix_are_reproduced_exactly(tmp_path: Path) -> None:
    roots = write_collections(tmp_path)
    for path in tmp_path.rglob("*.*"):
        sound, _ = soundfile.read(path)
        soundfile.write(path, sound, RATE)
    words = dnr_words(roots, tmp_path / "dnr", "--speech-fade", 0, "--sfx-fade", 0)
    assert dnr.main([*words, "--music-fade", "0"]) == 0
    for folder in mixes(tmp_path / "dnr"):
        stems = {kind: np.zeros(3 * RATE) for kind in SDX_SOURCES}
        for row in annotations(folder):
            clip = read(roots[row["class"]] / row["file"]).mean(0)
            part = clip[int(row["clip_start_sample"]) : int(row["clip_end_sample"])]
            place = slice(int(row["start_sample"]), int(row["end_sample"]))
            stems[row["class"]][place] += float(row["gain"]) * part
        for kind, stem in stems.items():
            written = read(folder / f"{kind}.wav")[0]
            assert decibels(written - stem, written) < -100


def test_no_file_is_in_two_splits(made: Path, roots: dict[str, Path]) -> None:
    used: dict[str, set[str]] = {split: set() for split in ("tr", "cv", "tt")}
    for folder in mixes(made):
        for row in annotations(folder):
            used[folder.parent.name].add(f"{row['class']}/{row['file']}")
    assert all(used.values())
    assert not used["tr"] & used["cv"]
    assert not (used["tr"] | used["cv"]) & used["tt"]
    files = json.loads((made / "plan.json").read_text())["files"]
    for kind, root in roots.items():
        names = [file["file"] for split in files[kind].values() for file in split]
        assert sorted(names) == sorted(str(p.relative_to(root)) for p in root.rglob("*.*"))


def test_folders_stay_together_and_copies_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = write_collections(tmp_path)
    twin = tmp_path / "speech" / "part 2" / "zz.wav"
    shutil.copyfile(tmp_path / "speech" / "part 0" / "speech 0.wav", twin)
    words = dnr_words(roots, tmp_path / "dnr", "--group", "folder")
    assert dnr.main(words) == 0
    files = json.loads((tmp_path / "dnr" / "plan.json").read_text())["files"]
    for splits in files.values():
        folders = [{file["file"].split("/")[0] for file in split} for split in splits.values()]
        assert sum(map(len, folders)) == len(set.union(*folders)) == 3
    assert f"{twin}: a copy of part 0/speech 0.wav, left out" in capsys.readouterr().out


def test_loudness_and_peak(made: Path) -> None:
    for folder in mixes(made):
        levels = json.loads((folder / "levels.json").read_text())
        for name, level in levels.items():
            sound = read(folder / f"{name}.wav")
            assert 20 * np.log10(abs(sound).max()) == pytest.approx(level["peak_db"], abs=1e-3)
            loudness = integrated_loudness(sound.astype(np.float32), RATE)
            assert loudness == pytest.approx(level["lufs"], abs=1e-3)
        highest = max(level["peak_db"] for level in levels.values())
        assert highest <= -0.499
        assert levels["mix"]["lufs"] == pytest.approx(-27, abs=2.001) or (
            levels["mix"]["lufs"] < -29 and highest == pytest.approx(-0.5, abs=1e-3)
        )


def test_segments_have_the_loudness_of_their_kind(made: Path) -> None:
    """-17 (speech), -21 and -24 LUFS ± 2 in a mix, ± 1 each, and the master for all alike."""
    wanted = {"music": -24, "sfx": -21, "speech": -17}
    compared = 0
    for folder in mixes(made):
        found = {kind: segment_levels(folder, kind) for kind in SDX_SOURCES}
        found = {kind: levels for kind, levels in found.items() if levels}
        for kind, levels in found.items():
            assert max(levels) - min(levels) < 2.1
            for other in found.keys() - {kind}:
                difference = np.mean(levels) - np.mean(found[other])
                assert abs(difference - (wanted[kind] - wanted[other])) < 6.1
                compared += 1
    assert compared > 10


def segment_levels(folder: Path, kind: str) -> list[float]:
    """Loudness of the segments that no other overlaps and that are long enough."""
    rows = [row for row in annotations(folder) if row["class"] == kind]
    spans = [(int(row["start_sample"]), int(row["end_sample"])) for row in rows]
    stem = read(folder / f"{kind}.wav").astype(np.float32)
    return [
        integrated_loudness(stem[:, start:end], RATE)
        for start, end in spans
        if end - start >= 0.4 * RATE
        and all(end <= first or start >= last for first, last in spans if first != start)
    ]


def test_speech_and_music_do_not_overlap_and_effects_by_half_at_most(made: Path) -> None:
    for folder in mixes(made):
        for kind in SDX_SOURCES:
            rows = [row for row in annotations(folder) if row["class"] == kind]
            spans = [(int(row["start_sample"]), int(row["end_sample"])) for row in rows]
            assert spans == sorted(spans)
            assert spans[-1][1] <= 3 * RATE
            for (start, end), (following, last) in pairwise(spans):
                allowed = 0.5 * min(end - start, last - following) if kind == "sfx" else 0
                assert following >= end - allowed


def test_statistics_are_those_of_the_mixes(made: Path) -> None:
    statistics = json.loads((made / "statistics.json").read_text())
    assert {name: part["mixes"] for name, part in statistics.items()} == {
        **{"all": 6, "cv": 1, "tr": 4, "tt": 1}
    }
    rows = [row for folder in mixes(made) for row in annotations(folder)]
    for kind in SDX_SOURCES:
        count = sum(row["class"] == kind for row in rows)
        assert statistics["all"][kind]["mean_segments"] == pytest.approx(count / 6, abs=1e-3)
    assert sum(statistics["all"]["simultaneous"]) == pytest.approx(1, abs=1e-3)
    assert (made / "statistics.png").read_bytes().startswith(b"\x89PNG")


def test_another_seed_makes_others(made: Path, roots: dict[str, Path], tmp_path: Path) -> None:
    assert dnr.main(dnr_words(roots, tmp_path / "dnr", "--seed", 1)) == 0
    for folder in mixes(tmp_path / "dnr"):
        other = made / folder.relative_to(tmp_path / "dnr")
        assert (folder / "annots.csv").read_bytes() != (other / "annots.csv").read_bytes()


def test_stereo_of_24_bits(roots: dict[str, Path], tmp_path: Path) -> None:
    assert dnr.main(dnr_words(roots, tmp_path / "dnr", "--channels", 2, "--bits", 24)) == 0
    wide = []
    for folder in mixes(tmp_path / "dnr"):
        stems = {kind: read(folder / f"{kind}.wav") for kind in SDX_SOURCES}
        np.testing.assert_array_equal(read(folder / "mix.wav"), sum(stems.values()))
        assert {len(stem) for stem in stems.values()} == {2}
        wide.append((stems["music"][0] != stems["music"][1]).any())
    assert any(wide)
