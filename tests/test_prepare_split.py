"""`dataset_split_and_mix.py` and `musdb_to_voiceless.py`: what they make, and of what."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless.sources import MDX_SOURCES
from data.check.__main__ import main as check
from data.lightning import Bleed, LabelNoise, SpeechNoise
from tests.prepare_parts import read, split, tree, voiceless, write_raw, write_stems


def run(script, *words: object, status: int = 0) -> None:
    assert script.main([*map(str, words), "--workers", "1"]) == status


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw", songs=5)


def songs(root: Path) -> dict[str, list[str]]:
    return {name: sorted(path.name for path in (root / name).iterdir()) for name in split.SPLITS}


def test_the_stems_are_copied_and_summed(raw: Path, tmp_path: Path) -> None:
    before = tree(raw)
    run(split, raw, tmp_path / "out")
    assert tree(raw) == before
    found = songs(tmp_path / "out")
    assert sorted(found["train"] + found["valid"]) == [f"song {number}" for number in range(5)]
    assert len(found["valid"]) == 1  # 10 %, but one at least
    for place in (*(tmp_path / "out").glob("*/song*"),):
        stems = [read(place / f"{name}.wav") for name in MDX_SOURCES]
        np.testing.assert_array_equal(read(place / "mixture.wav"), sum(stems))
        assert soundfile.info(place / "mixture.wav").subtype == "PCM_16"
        for name in MDX_SOURCES:
            copy, original = place / f"{name}.wav", raw / place.name / f"{name}.wav"
            assert copy.read_bytes() == original.read_bytes()
            assert not copy.samefile(original)


def test_the_result_is_read_and_found_faultless(raw: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "out")
    run(split, raw, root, "--valid", 0.4)
    assert check([root, "--workers", "1"]) == 0
    found = songs(tmp_path / "out")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"ID,Clean,Notes\n{found['train'][0]},Y,\n")
    settings = {"seq_duration": 0.1, "batch_size": 1, "num_workers": 0}
    bleed, noisy = Bleed(root, **settings), LabelNoise(root, labels=str(labels), **settings)
    assert names(bleed, "train") == found["train"]
    assert names(bleed, "val") == found["valid"]
    assert names(noisy, "train") == found["train"][:1]


def names(module: Bleed | LabelNoise, split: str) -> list[str]:
    module.setup("fit")
    return [track.name for track in module.datasets[split].tracks]


def test_the_split_depends_on_names_and_seed_alone(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "elsewhere")
    run(split, raw, tmp_path / "a", "--valid", 0.4)
    run(split, tmp_path / "elsewhere", tmp_path / "b", "--valid", 0.4)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    others = []
    for seed in range(1, 4):
        run(split, raw, tmp_path / f"seed {seed}", "--valid", 0.4, "--seed", seed)
        others.append(songs(tmp_path / f"seed {seed}")["valid"])
    assert any(names != songs(tmp_path / "a")["valid"] for names in others)
    assert all(len(names) == 2 for names in others)


def test_a_sum_beyond_full_scale_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw(tmp_path / "raw", 2, gain=4.5)
    run(split, raw, tmp_path / "auto")
    said = capsys.readouterr().out
    run(split, raw, tmp_path / "16", "--bits", "16")
    for place in (tmp_path / "auto").glob("*/song*"):
        total = sum(read(place / f"{name}.wav") for name in MDX_SOURCES)
        assert abs(total).max() > 1
        assert soundfile.info(place / "mixture.wav").subtype == "FLOAT"
        np.testing.assert_array_equal(read(place / "mixture.wav"), total)
        level = 20 * np.log10(abs(total).max())
        assert f"{place / 'mixture.wav'}: {level:+.1f} dB of full scale" in said
    compared = [
        path.relative_to(tmp_path / "auto") for path in (tmp_path / "auto").glob("*/*/*.wav")
    ]
    for path in compared:
        assert (tmp_path / "auto" / path).read_bytes() == (tmp_path / "16" / path).read_bytes()


@pytest.mark.parametrize(
    ("suffix", "subtype", "expected"),
    [(".flac", "PCM_16", "PCM_16"), (".wav", "PCM_24", "PCM_24"), (".wav", "FLOAT", "FLOAT")],
)
def test_other_encodings(tmp_path: Path, suffix: str, subtype: str, expected: str) -> None:
    raw = write_raw(tmp_path / "raw", 2, suffix=suffix, subtype=subtype)
    run(split, raw, tmp_path / "out")
    for place in (tmp_path / "out").glob("*/song*"):
        total = sum(read(place / (name + suffix)) for name in MDX_SOURCES)
        assert soundfile.info(place / "mixture.wav").subtype == expected
        np.testing.assert_allclose(read(place / "mixture.wav"), total, atol=2e-8)
    assert check([str(tmp_path / "out"), "--workers", "1"]) == 0


def test_stems_of_unequal_length_and_channels(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", 2)
    short = read(raw / "song 0" / "bass.wav")[:1, :-100]
    soundfile.write(raw / "song 0" / "bass.wav", short.T, 44100, subtype="PCM_16")
    run(split, raw, tmp_path / "out")
    place = next((tmp_path / "out").glob("*/song 0"))
    total = sum(read(raw / "song 0" / f"{name}.wav") for name in ("drums", "other", "vocals"))
    total[:, :-100] += read(place / "bass.wav")
    np.testing.assert_array_equal(read(place / "mixture.wav"), total)


@pytest.mark.parametrize("how", ["hardlink", "symlink"])
def test_links_save_the_space(raw: Path, tmp_path: Path, how: str) -> None:
    before = tree(raw)
    run(split, raw, tmp_path / "out", "--how", how)
    for stem in (tmp_path / "out").glob("*/song*/drums.wav"):
        assert stem.samefile(raw / stem.parent.name / "drums.wav")
        assert stem.is_symlink() == (how == "symlink")
    assert tree(raw) == before
    assert check([str(tmp_path / "out"), "--workers", "1"]) == 0


def test_moving_leaves_what_is_not_a_stem(raw: Path, tmp_path: Path) -> None:
    (raw / "song 3" / "notes.txt").write_text("mine")
    run(split, raw, tmp_path / "copied")
    run(split, raw, tmp_path / "moved", "--how", "move")
    copied, moved = tree(tmp_path / "copied"), tree(tmp_path / "moved")
    assert {**copied, "plan.json": ""} == {**moved, "plan.json": ""}
    assert sorted(os.listdir(raw)) == [".hidden", "__MACOSX", "empty", "readme.txt", "song 3"]
    assert os.listdir(raw / "song 3") == ["notes.txt"]
    run(split, raw, tmp_path / "moved", "--how", "move")
    assert tree(tmp_path / "moved") == moved


def test_a_raw_stem_that_changed_after_the_move_is_kept(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(split, raw, tmp_path / "out", "--how", "move")
    write_stems(raw / "song 1", seed=9)
    run(split, raw, tmp_path / "out", "--how", "move", status=3)
    error = capsys.readouterr().err
    assert error.startswith(f"error: {raw / 'song 1' / 'bass.wav'}: is not the same as ")
    assert len(os.listdir(raw / "song 1")) == 4


def test_songs_without_vocals_are_noise(tmp_path: Path, musdb_root: Path) -> None:
    before = tree(musdb_root)
    run(voiceless, musdb_root, tmp_path / "out")
    assert tree(musdb_root) == before
    written = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.wav"))
    assert len(written) == 5
    for path in written:
        stems = [musdb_root / path.with_suffix("") / f"{name}.wav" for name in MDX_SOURCES[:3]]
        np.testing.assert_array_equal(read(tmp_path / "out" / path), sum(map(read, stems)))
    speech = tmp_path / "speech"
    for number in range(2):
        shutil.copytree(next(musdb_root.glob("test/*")), speech / f"speaker {number}")
    module = SpeechNoise(
        str(speech),
        str(tmp_path / "out" / "train"),
        seq_duration=0.5,
        val_noise_root=str(tmp_path / "out" / "test"),
        num_workers=0,
    )
    module.setup("fit")
    train = {file.path for file in module.datasets["train"].noise}
    assert train == set((tmp_path / "out" / "train").iterdir())


def test_another_stem_can_be_left_out_of_one_split(tmp_path: Path, musdb_root: Path) -> None:
    run(voiceless, musdb_root, tmp_path / "out", "--without", "drums", "--splits", "test")
    assert sorted(os.listdir(tmp_path / "out")) == ["plan.json", "test"]
    path = next((tmp_path / "out" / "test").iterdir())
    stems = [musdb_root / "test" / path.stem / f"{name}.wav" for name in MDX_SOURCES[1:]]
    np.testing.assert_array_equal(read(path), sum(map(read, stems)))
    run(voiceless, musdb_root, tmp_path / "none", "--splits", "valid", status=2)
