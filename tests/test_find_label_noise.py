"""Planted label errors are found, with a separator that splits its input at fixed frequencies."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from aimless.checkpoint import export
from aimless.draws import generator
from aimless.network import WaveformNetwork
from aimless.sources import MDX_SOURCES
from data.lightning.sdx23 import read_clean
from tests.helpers import REPOSITORY

sys.path.insert(1, str(REPOSITORY / "scripts"))
import find_label_noise
from label_noise import measure as measuring
from label_noise import survey as surveying

RATE = 16000
BANDS = {"drums": (4000, 8000), "bass": (20, 200), "other": (300, 1000), "vocals": (1200, 3500)}
SECONDS = 9.5
#: (song, stem) -> verdict, and what the separator should hear
PLANTED = {
    ("c", "drums"): ("wrong label", "bass"),
    ("c", "bass"): ("wrong label", "drums"),
    ("d", "vocals"): ("bleeding", "other"),
    ("e", "other"): ("bleeding", "drums"),
}


class BandSplit(nn.Module):
    """An ideal separator of sources that share no frequencies.

    Args:
        edges: (low, high) in Hz of each source.
        rate: of the audio in Hz.
    """

    def __init__(self, edges: list[list[float]], rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("edges", torch.tensor(edges, dtype=torch.float32))

    def forward(self, mixture: Tensor) -> Tensor:
        """(batch, channels, samples) -> (batch, sources, channels, samples)."""
        spectrum = torch.fft.rfft(mixture)[:, None]
        place = torch.fft.rfftfreq(mixture.shape[-1], 1 / self.rate)
        masks = [(place >= low - 20) & (place <= high + 20) for low, high in self.edges]
        return torch.fft.irfft(spectrum * torch.stack(masks)[:, None], mixture.shape[-1])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "bands.safetensors"
    arguments = {"edges": [list(BANDS[name]) for name in MDX_SOURCES], "rate": RATE}
    network = WaveformNetwork(
        BandSplit(**arguments),
        MDX_SOURCES,
        RATE,
        "tests.test_find_label_noise.BandSplit",
        arguments,
    )
    export(network, path)
    return str(path)


def in_band(name: str, seed: int, seconds: float = SECONDS) -> np.ndarray:
    """Noise (samples, 2) in the band of a source, with rests."""
    rng = generator("label noise", name, seed)
    samples = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal((samples, 2)), axis=0)
    place = np.fft.rfftfreq(samples, 1 / RATE)[:, None]
    low, high = BANDS[name]
    audio = np.fft.irfft(np.where((place > low) & (place < high), spectrum, 0), samples, axis=0)
    if seed % 2:
        audio[: 2 * RATE] = 0
    return 0.1 * audio / audio.std()


def make_set(root: Path) -> Path:
    """Songs a to g: two clean, c with two stems swapped, d and e with bleeding, two clean."""
    for seed, song in enumerate("abcdefg"):
        stems = {name: in_band(name, seed) for name in MDX_SOURCES}
        mixture = sum(stems.values())
        if song == "c":
            stems["drums"], stems["bass"] = stems["bass"], stems["drums"]
        if song == "d":
            stems["vocals"] = stems["vocals"] + 0.6 * stems["other"]
        if song == "e":
            stems["other"] = stems["other"] + 0.7 * stems["drums"]
        if song == "f":
            stems["vocals"] = 0 * stems["vocals"]
        (root / song).mkdir(parents=True)
        for name, audio in {**stems, "mixture": mixture}.items():
            soundfile.write(root / song / f"{name}.wav", audio, RATE, subtype="PCM_24")
    return root


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("set") / "train")


def find(songs: Path, model: str, output: Path, *words: str) -> int:
    trust = ["--trust", "tests", "--device", "cpu"]
    return find_label_noise.main([str(songs), "-m", model, "-o", str(output), *trust, *words])


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def verdicts(output: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """What is bad in scores.csv."""
    return {
        (row["song"], row["stem"]): (row["verdict"], row["other"])
        for row in rows(output / "scores.csv")
        if row["verdict"] not in ("clean", "silent")
    }


@pytest.mark.parametrize(
    "words",
    [[], ["--hear", "stem"], ["--hear", "mixture"], ["--from-training"]],
    ids=["both", "stem", "mixture", "training"],
)
def test_every_planted_error_is_found_and_no_other(songs, model, tmp_path, words):
    assert find(songs, model, tmp_path / "out", *words, "--listen", "0") == 0
    assert verdicts(tmp_path / "out") == PLANTED


def test_the_labels_are_those_that_the_data_module_reads(songs, model, tmp_path):
    assert find(songs, model, tmp_path, "--hear", "mixture", "--listen", "0") == 0
    assert read_clean(tmp_path / "label_noise.csv") == set("abfg")
    notes = {row["ID"]: row["Notes"] for row in rows(tmp_path / "label_noise.csv")}
    assert notes["c"] == "bass: wrong label (drums); drums: wrong label (bass)"
    assert notes["a"] == ""
    tree = json.loads((tmp_path / "scores.json").read_text())
    assert [(s["song"], s["stem"]) for s in tree["stems"]] == [
        (row["song"], row["stem"]) for row in rows(tmp_path / "scores.csv")
    ]
    worst = tree["stems"][0]
    assert worst["song"] == "c"
    assert len(worst["curve"]) == 10
    assert sum(worst["shares"].values()) == pytest.approx(1, abs=1e-3)


def test_silent_seconds_do_not_count(songs, model, tmp_path):
    find(songs, model, tmp_path, "--hear", "stem", "--listen", "0")
    active = {(row["song"], row["stem"]): row["active"] for row in rows(tmp_path / "scores.csv")}
    assert (active["a", "bass"], active["b", "bass"]) == ("10.0000", "8.0000")
    assert active["f", "vocals"] == "0.0000"
    curves = {
        (stem["song"], stem["stem"]): stem["curve"]
        for stem in json.loads((tmp_path / "scores.json").read_text())["stems"]
    }
    assert [value is None for value in curves["b", "bass"]] == [True, True] + 8 * [False]


def test_how_much_bleeds_in_is_measured(songs, model, tmp_path):
    """What is 0.6 times as loud is 0.36 of 1.36 of the energy of the stem by itself.

    In the mixture it is also there by itself, so that its 0.6 is found without being squared.
    """
    for heard, share in (("stem", 0.36 / 1.36), ("mixture", 0.6 / 1.6)):
        find(songs, model, tmp_path / heard, "--hear", heard, "--listen", "0")
        score = next(
            row
            for row in rows(tmp_path / heard / "scores.csv")
            if (row["song"], row["stem"]) == ("d", "vocals")
        )
        assert float(score["other_share"]) == pytest.approx(share, abs=0.01)
        assert float(score["share_other"]) == float(score["other_share"])
        assert float(score["suspicion"]) == pytest.approx(share, abs=0.01)


def test_a_second_run_measures_only_what_changed(songs, model, tmp_path, monkeypatch):
    measured = []

    def count(song, *arguments):
        measured.append(song.name)
        return measuring.measure(song, *arguments)

    monkeypatch.setattr(surveying, "measure", count)
    copy = Path(shutil.copytree(songs, tmp_path / "set"))
    words = (copy, model, tmp_path / "out", "--hear", "mixture", "--listen", "0")
    find(*words)
    assert measured == list("abcdefg")
    first = (tmp_path / "out" / "scores.csv").read_bytes()
    find(*words)
    assert measured == list("abcdefg")
    assert (tmp_path / "out" / "scores.csv").read_bytes() == first

    find(*words, "--bleeding", "0.4")
    assert verdicts(tmp_path / "out").keys() == {("c", "drums"), ("c", "bass"), ("e", "other")}
    assert len(measured) == 7

    shutil.copy(copy / "b" / "bass.wav", copy / "a" / "bass.wav")
    find(*words)
    assert measured[7:] == ["a"]
    (tmp_path / "out" / "measured" / "g.npz").write_bytes(b"damaged")
    find(*words)
    assert measured[8:] == ["g"]
    find(*words, "--overlap", "0.5")
    assert measured[9:] == list("abcdefg")


@pytest.mark.slow
def test_the_result_does_not_depend_on_workers_or_pieces(songs, model, tmp_path, monkeypatch):
    words = ("--hear", "mixture", "--listen", "0")
    find(songs, model, tmp_path / "one", *words)
    find(songs, model, tmp_path / "two", *words, "--workers", "2")
    name = "scores.csv"
    assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    monkeypatch.setattr(measuring, "_PIECE", 3)
    find(songs, model, tmp_path / "pieces", *words)
    whole, pieces = (
        {(row["song"], row["stem"]): float(row["share"] or -1) for row in rows(folder / name)}
        for folder in (tmp_path / "one", tmp_path / "pieces")
    )
    assert pieces == pytest.approx(whole, abs=0.01)


def test_a_set_without_mixtures_is_heard_as_the_sum_of_its_stems(model, tmp_path):
    root = make_set(tmp_path / "root" / "train")
    for path in root.rglob("mixture.wav"):
        path.unlink()
    assert find(root.parent, model, tmp_path / "out", "--listen", "0") == 0
    assert verdicts(tmp_path / "out") == PLANTED


def test_labels_that_were_decided_on_are_kept(tmp_path, capsys):
    labels, suggested = tmp_path / "label_noise.csv", tmp_path / "suggested.csv"
    for text in ("first", "second"):  # which nobody has changed in between
        find_label_noise._write_labels(tmp_path, text)
        assert labels.read_text() == suggested.read_text() == text
    labels.write_text("mine")
    assert not capsys.readouterr().out
    find_label_noise._write_labels(tmp_path, "third")
    assert (labels.read_text(), suggested.read_text()) == ("mine", "third")
    assert "label_noise.csv was changed and is kept" in capsys.readouterr().out
    labels.write_text("third")  # as suggested, after all
    find_label_noise._write_labels(tmp_path, "fourth")
    assert labels.read_text() == "fourth"


def test_a_damaged_measurement_is_made_again(songs, model, tmp_path):
    out = tmp_path / "out"
    words = ["--hear", "mixture", "--listen", "0"]
    assert find(songs, model, out, *words) == 0
    first = (out / "scores.csv").read_bytes()
    whole, flipped = sorted((out / "measured").iterdir())[:2]
    whole.write_bytes(whole.read_bytes()[:-40])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 255
    flipped.write_bytes(content)
    assert find(songs, model, out, *words) == 0
    assert (out / "scores.csv").read_bytes() == first


def test_bad_songs_are_named_and_left_out(songs, model, tmp_path, capsys):
    copy = Path(shutil.copytree(songs, tmp_path / "set"))
    (copy / "a" / "bass.wav").write_text("no audio")
    short = copy / "b" / "drums.wav"
    soundfile.write(short, np.zeros((RATE, 2)), RATE)
    assert find(copy, model, tmp_path / "out", "--hear", "mixture", "--listen", "0") == 3
    message = capsys.readouterr().err
    assert "2 left out" in message
    assert "a/bass.wav: cannot be read" in message
    assert "b/drums.wav: 16000 samples" in message
    assert verdicts(tmp_path / "out") == PLANTED
    labels = {row["ID"]: row for row in rows(tmp_path / "out" / "label_noise.csv")}
    assert labels["a"]["Clean"] == ""
    assert "cannot be read" in labels["a"]["Notes"]
    assert read_clean(tmp_path / "out" / "label_noise.csv") == {"f", "g"}


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--bleeding", "2"], 2, "bleeding: 2.0; must be between 0 and 1"),
        (["--outlier", "0"], 2, "outlier: 0.0; must be above 0"),
        (["--overlap", "1"], 2, "overlap_add.overlap: 1.0; must be from 0 to below 1"),
        (["-o", "SET/out"], 2, "which is only read; choose another folder"),
        (["-m", "missing.ckpt"], 3, "missing.ckpt: no such file"),
    ],
)
def test_mistakes_end_in_one_line(songs, model, tmp_path, capsys, words, status, message):
    words = [word.replace("SET", str(songs)) for word in words]
    assert find(songs, model, tmp_path, *words) == status
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in songs.iterdir()) == list("abcdefg")


def test_a_set_that_the_separator_does_not_know(model, tmp_path, capsys):
    folder = tmp_path / "set" / "song"
    folder.mkdir(parents=True)
    soundfile.write(folder / "speech.wav", np.zeros((RATE, 2)), RATE)
    assert find(tmp_path / "set", model, tmp_path / "out") == 3
    assert (
        "none of 1 songs could be measured; song: song: has no stem of" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_killed_run_goes_on(songs, model, tmp_path):
    """Killed when a song is measured, the next run measures the others and ends alike."""
    output = tmp_path / "out"
    script = str(REPOSITORY / "scripts" / "find_label_noise.py")
    words = [str(songs), "-m", model, "-o", str(output), "--trust", "tests", "--device", "cpu"]
    slow = ["--segment", "0.06", "--hear", "mixture"]
    process = subprocess.Popen(
        [sys.executable, script, *words, *slow],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.DEVNULL,
    )
    while not list(output.glob("measured/*.npz")):
        assert process.poll() is None
    process.kill()
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in output.glob("measured/*.npz")}
    assert 1 <= len(done) < 7
    (output / "measured" / ".prepare-0123456789abcdef.part").write_bytes(b"half")
    assert find(songs, model, output, *slow, "--listen", "0") == 0
    assert {name: (output / "measured" / name).stat().st_mtime_ns for name in done} == done
    assert len(list(output.glob("measured/*"))) == 7
    assert verdicts(output).keys() == PLANTED.keys()
