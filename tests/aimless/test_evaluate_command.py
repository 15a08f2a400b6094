"""`aimless evaluate` from the command line: files, exit status, one line for a mistake."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys

import numpy as np
import pytest
import soundfile
import torch

from aimless.checkpoint import export
from aimless.cli import main
from aimless.evaluate import evaluate
from aimless.evaluation.tables import museval_json, table_text
from aimless.models import DemucsSplit
from aimless.network import WaveformNetwork
from aimless.sources import MDX_SOURCES

SONGS = ("First <Song>", "Zweites Stück")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_song):
    """References, and two sets of estimates, of which the first is better."""
    root = tmp_path_factory.mktemp("evaluation")
    for seed, name in enumerate(SONGS):
        write_song(root / "songs" / name, seconds=2.2, seed=seed)
        rng = np.random.default_rng(seed)
        for folder, level in (("new", 0.01), ("old", 0.05)):
            (root / folder / name).mkdir(parents=True)
            for source in MDX_SOURCES:
                audio, rate = soundfile.read(root / "songs" / name / f"{source}.wav")
                noisy = audio + level * rng.standard_normal(audio.shape)
                soundfile.write(root / folder / name / f"{source}.wav", noisy, rate)
    return root


@pytest.fixture
def copies(folders, tmp_path):
    """The folders, to damage."""
    return shutil.copytree(folders, tmp_path / "copies")


def run(*words):
    return main(["evaluate", *(str(word) for word in words)])


def test_table_json_and_csv_say_the_same(folders, tmp_path, capsys):
    paths = tmp_path / "deep" / "a.json", tmp_path / "a.csv"
    done = run(folders / "songs", folders / "new", "--json", paths[0], "--csv", paths[1])
    result = evaluate(folders / "songs", folders / "new")
    assert done == 0
    assert capsys.readouterr().out.strip() == table_text(result)
    tree = json.loads(paths[0].read_text())
    rows = list(csv.DictReader(paths[1].open()))
    assert len(rows) == 8
    for row in rows:
        expected = result.songs[row["song"]].values[row["source"]]["sdr"]
        assert float(row["sdr"]) == pytest.approx(expected, abs=1e-5)
        assert tree["songs"][row["song"]]["scores"][row["source"]]["sdr"] == expected
    assert tree["summary"]["all"]["sdr"]["mean"] == result.summary()["all"]["sdr"].mean
    assert not list(tmp_path.rglob(".*"))


def test_a_table_is_aligned(folders):
    lines = table_text(evaluate(folders / "songs", folders / "new")).splitlines()[1:]
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[2].startswith("bass")
    assert lines[-1].startswith("all")


def test_two_sets_of_estimates(folders, tmp_path, capsys):
    words = folders / "songs", folders / "new", "--compare", folders / "old"
    assert run(*words, "--json", tmp_path / "a.json", "--seed", 3) == 0
    cell = json.loads((tmp_path / "a.json").read_text())["difference"]["all"]["sdr"]
    assert cell["low"] <= cell["mean"] <= cell["high"]
    assert cell["mean"] == pytest.approx(20 * math.log10(5), abs=0.5)
    assert "95 % bootstrap" in capsys.readouterr().out


def test_museval_reads_what_is_written_for_it(folders, tmp_path):
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("museval imports a package that needs ffmpeg")
    museval = pytest.importorskip("museval")
    words = (
        folders / "songs",
        folders / "new",
        "--metrics",
        "bss_eval",
        "--sources",
        "drums",
        "bass",
    )
    assert run(*words, "--museval-json", tmp_path / "scores", "--json", tmp_path / "a.json") == 0
    store = museval.EvalStore()
    store.add_eval_dir(str(tmp_path / "scores"))
    theirs = store.agg_frames_scores()
    ours = json.loads((tmp_path / "a.json").read_text())["songs"]
    for song in SONGS:
        for source in ("bass", "drums"):
            for metric in ("sdr", "isr", "sir", "sar"):
                mine = ours[song]["scores"][source][f"bss_{metric}"]
                assert theirs[song, source, metric.upper()] == pytest.approx(mine, abs=1e-4)

    track = museval.TrackStore(SONGS[0])
    scores = evaluate(folders / "songs", folders / "new", metrics=["bss_eval"]).songs[SONGS[0]]
    for source, frames in scores.frames.items():
        track.add_target(source, dict(zip(("SDR", "ISR", "SIR", "SAR"), frames.tolist())))
    track.validate()
    written = json.loads(museval_json(scores))
    assert written["targets"] == json.loads(track.json)["targets"]


def test_both_engines_agree(folders, capsys):
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("museval imports a package that needs ffmpeg")
    pytest.importorskip("museval")
    tables = []
    for engine in ("aimless", "museval"):
        words = "--metrics", "bss_eval", "--sources", "drums", "--engine", engine
        assert run(folders / "songs", folders / "new", *words) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("error", "words"),
    [(ImportError("No module named 'museval'"), "aimless[eval]"), (RuntimeError(), "ffmpeg")],
)
def test_without_museval_one_line_says_what_to_install(folders, monkeypatch, capsys, error, words):
    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name == "museval":
                raise error

    monkeypatch.delitem(sys.modules, "museval", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    assert run(folders / "songs", folders / "new", "--engine", "museval") == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_song_that_fails_is_listed_after_everything_is_written(copies, tmp_path, capsys):
    shutil.rmtree(copies / "new" / SONGS[0])
    (copies / "new" / "Unknown").mkdir()
    shutil.copy(copies / "new" / SONGS[1] / "bass.wav", copies / "new" / "Unknown" / "bass.wav")
    page = tmp_path / "a.html"
    assert run(copies / "songs", copies / "new", "--json", tmp_path / "a.json", "--html", page) == 3
    said = capsys.readouterr()
    assert f"error: 1 of 2 songs not scored: {SONGS[0]}" in said.err
    assert "no references of Unknown" in said.err
    assert "bass" in said.out
    assert list(json.loads((tmp_path / "a.json").read_text())["failed"]) == [SONGS[0]]
    assert "First &lt;Song&gt;</strong> was not scored" in page.read_text()


def test_a_network_from_a_file(folders, tmp_path, capsys):
    torch.manual_seed(0)
    sizes = {"channels": 4, "depth": 2, "nb_sources": 2}
    path = "aimless.models.demucs_split.DemucsSplit"
    network = WaveformNetwork(
        DemucsSplit(**sizes), ["drums", "vocals"], class_path=path, init_args=sizes
    )
    export(network.eval(), tmp_path / "model.safetensors")
    words = folders / "songs", "-m", tmp_path / "model.safetensors", "--device", "cpu"
    assert run(*words, "--segment", 1, "--overlap", 0) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:]] == [
        "drums",
        "vocals",
        "all",
    ]


def test_baselines_by_name(folders, capsys):
    assert run(folders / "songs", "--baseline", "mixture") == 0
    assert run(folders / "songs", "--baseline", "irm", "--alpha", 2) == 0
    said = capsys.readouterr().out
    assert said.startswith("mixture\n")
    assert "\nideal ratio mask, alpha 2\n" in said


def test_settings_that_are_refused_before_any_work(folders, tmp_path, capsys):
    songs, new = folders / "songs", folders / "new"
    there = tmp_path / "there.json"
    there.write_text("{}")
    for words, status, expected in (
        ((songs,), 2, "one of ESTIMATES, --model and --baseline"),
        ((songs, new, "--baseline", "irm"), 2, "one of ESTIMATES"),
        ((songs, new, "--museval-json", tmp_path), 2, "bss_eval"),
        ((songs, new, "--worst", -1), 2, "worst: -1"),
        ((songs, new, "--seed", -1), 2, "seed: -1"),
        ((songs, "--baseline", "irm", "--alpha", 3), 2, "alpha: 3"),
        ((songs, new, "--json", there), 3, "exists"),
        ((songs / "nowhere", new), 3, "no such folder"),
        ((songs, "-m", tmp_path / "no.ckpt"), 3, "no.ckpt"),
    ):
        assert run(*words) == status
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert expected in message
        assert message.count("\n") == 1
    assert there.read_text() == "{}"
    assert run(songs, new, "--json", there, "--overwrite") == 0
    assert json.loads(there.read_text())["songs"]


def test_a_folder_that_cannot_be_written_to(folders, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(folders / "songs", folders / "new", "--csv", tmp_path / "file" / "a.csv") == 3
    assert "cannot be written" in capsys.readouterr().err
