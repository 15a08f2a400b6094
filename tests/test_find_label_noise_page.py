"""The page to listen and decide, and what a browser makes of it."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from tests.helpers import REPOSITORY

sys.path.insert(1, str(REPOSITORY / "scripts"))
import find_label_noise
import prepare.command  # noqa: F401
from label_noise import excerpts as cutting
from label_noise.measure import Measurement
from label_noise.page import html_text
from label_noise.page_parts import curve_plot
from label_noise.scores import Thresholds, score_set
from label_noise.tables import labels_csv

from aimless.errors import ConfigError
from aimless.evaluation.songs import find_songs

RATE = 16000
SOURCES = ("bass", "vocals", "residual")
NASTY = '</script><b>A & B, "live"</b>'
CHROMIUM = shutil.which("chromium")


def measured(shares: dict[str, list[float]]) -> Measurement:
    """A measurement of 12 windows in which sources get constant shares of each stem's energy."""
    alone = np.tile([shares["bass"], shares["vocals"]], (12, 1, 1)).astype(float)
    ones = np.ones((12, 2))
    nothing = np.full((12, 2, 3), np.nan)
    return Measurement(
        ("bass", "vocals"),
        SOURCES,
        np.ones(12),
        ones,
        np.ones(12),
        ones,
        alone,
        nothing[:, 0],
        nothing,
    )


CLEAN = {"bass": [0.9, 0.1, 0], "vocals": [0.1, 0.9, 0]}
SWAPPED = {"bass": [0.2, 0.8, 0], "vocals": [0.7, 0.3, 0]}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of three songs, one of them with a name that is not harmless, and their scores."""
    tmp_path = tmp_path_factory.mktemp("page")
    songs = {"one": CLEAN, "two": CLEAN, NASTY.replace("/", "-"): SWAPPED}
    root = tmp_path / "set"
    for name in songs:
        (root / name).mkdir(parents=True)
        time = np.arange(12 * RATE) / RATE
        for stem, tone in (("bass", 100), ("vocals", 1000)):
            audio = 0.01 * np.sin(2 * np.pi * tone * time)
            soundfile.write(root / name / f"{stem}.wav", np.stack([audio, audio], 1), RATE)
    scores = score_set({name: measured(shares) for name, shares in songs.items()})
    failed = {"broken": 'bass.wav: cannot be read, "so far"'}
    (tmp_path / "a & b").mkdir()
    excerpts = cutting.cut_excerpts(scores[:3], find_songs(root), tmp_path / "a & b")
    text = html_text(scores, excerpts, failed, "hearing", Thresholds(), "a & b", "set <1>")
    path = tmp_path / "index.html"
    path.write_text(text)
    return path, labels_csv(scores, failed), scores


def test_the_worst_come_first_with_players_and_pictures(page):
    text = page[0].read_text()
    heads = re.findall(r"<h4>(.*?)</h4>", text)
    assert len(heads) == 3
    assert heads[0] == html.escape("bass: " + NASTY.replace("/", "-"), quote=True)
    assert "Suggested: <strong>wrong label</strong>; suspicion 0.70; 20 % bass; 80 % vocals" in text
    files = [unquote(name) for name in re.findall(r'src="([^"]+)"', text)]
    assert len(files) == 9
    for name in files:
        path = page[0].parent / name
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            audio, rate = soundfile.read(path)
            assert abs(len(audio) / rate - 8) < 0.1
            assert 0.25 < np.abs(audio).max() <= 1  # made louder, by at most 30 dB
    assert not re.search(r"https?://(?!www\.w3\.org)", text)


def test_names_cannot_leave_their_place(page):
    text = page[0].read_text()
    assert "<b>A" not in text
    assert text.count("</script>") == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert [song["id"] for song in data["songs"]] == sorted(
        ["one", "two", "broken", NASTY.replace("/", "-")]
    )


def test_excerpts_that_are_there_are_kept_and_old_ones_go(page, tmp_path):
    here, scores = page[0].parent, page[2]
    folder = Path(shutil.copytree(here / "a & b", tmp_path / "excerpts"))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "notes.txt").write_text("mine")
    cutting.cut_excerpts(scores[:2], find_songs(here / "set"), folder)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert after.pop("notes.txt")
    assert len(before) == 9
    assert len(after) == 6
    assert after.items() <= before.items()


def dump(path: Path, script: str = "") -> str:
    """The page's table of labels after a script has run in a browser."""
    copy = path.with_name("copy.html")
    copy.write_text(path.read_text().replace("</body>", f"<script>{script}</script></body>"))
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", copy.as_uri()]
    profile = f"--user-data-dir={path.parent / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, profile, *words], capture_output=True, text=True, timeout=120, check=True
    )
    return html.unescape(re.search(r'<pre id="preview">(.*?)</pre>', done.stdout, re.DOTALL)[1])


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_writes_the_same_labels_and_obeys_the_buttons(page):
    path, labels, scores = page
    assert dump(path) == labels
    assert [score.stem for score in scores[:2]] == ["bass", "vocals"]
    press = """
    for (const index of [0, 1])
      document.querySelector(`#stem-${index} input[value=clean]`).click();
    document.querySelector("#stem-2 input[value='wrong label']").click();
    """
    chosen = {row["ID"]: row for row in csv.DictReader(dump(path, press).splitlines())}
    marked = {name: row["Clean"] for name, row in chosen.items()}
    third = scores[2].song
    other = {"one": "two", "two": "one"}[third]
    assert marked == {"broken": "", NASTY.replace("/", "-"): "Y", third: "", other: "Y"}
    assert chosen[third]["Notes"].startswith(f"{scores[2].stem}: wrong label")


def test_a_page_without_listening_has_no_section(page):
    text = html_text(page[2], {}, {}, "training", Thresholds(), "excerpts", "set")
    assert "<section" not in text
    assert "from a suspicion of 2.5" in text


def test_the_curve_leaves_silence_out():
    text = curve_plot((0.5, float("nan"), 1.0), "hearing", 1.0, 8)
    bars = re.findall(r'class="share" x="(\d+)" y="([\d.]+)".*?height="([\d.]+)"', text)
    assert bars == [("0", "20.0", "20.0"), ("2", "0.0", "40.0")]
    assert 'x="1" y="0" width="3"' in text


def test_the_usual_leak_of_a_label_is_no_bleeding():
    """A separator that takes a third of all vocals for something else accuses nobody."""
    leaky = {"bass": [1.0, 0, 0], "vocals": [0.2, 0.66, 0.14]}
    odd = {"bass": [1.0, 0, 0], "vocals": [0.35, 0.5, 0.15]}
    songs = {name: measured(leaky) for name in "abcd"} | {"e": measured(odd)}
    verdicts = {(s.song, s.stem): s.verdict for s in score_set(songs)}
    assert {key for key, verdict in verdicts.items() if verdict != "clean"} == {("e", "vocals")}
    assert verdicts["e", "vocals"] == "bleeding"
    assert next(s for s in score_set(songs) if s.song == "e").suspicion == pytest.approx(0.16)
    with pytest.raises(ConfigError, match="mode: 'listening'; known: hearing, training"):
        score_set(songs, "listening")


def test_help_needs_no_torch():
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import find_label_noise\n"
        "try: find_label_noise.main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--from-training" in done.stdout
    assert find_label_noise.__doc__.splitlines()[0] in done.stdout
