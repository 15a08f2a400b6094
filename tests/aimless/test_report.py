"""The HTML report: whole, self-contained, and safe whatever songs are called."""

from __future__ import annotations

import base64
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from aimless.evaluate import Difference, Evaluation, SongScores, compare, evaluate
from aimless.evaluation.plots import distribution_plot
from aimless.evaluation.report import html_text

EVIL = "</title><script>alert('x')</script> & \"quoted\""
VOID = {"meta"}


class Page(HTMLParser):
    """Tags with attributes, text, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def evaluation(label, shift=0.0):
    rng = np.random.default_rng(0)
    songs = {}
    for name in (EVIL, "Plain", "Silent"):
        values = {
            source: {"sdr": rng.normal(5, 2) + shift, "si_sdr": rng.normal(5, 2) + shift}
            for source in ("drums", f"a{EVIL}")
        }
        songs[name] = SongScores(name, 60.0, values)
    songs["Silent"].values["drums"] = {"sdr": math.nan, "si_sdr": math.nan}
    return Evaluation(
        label,
        ["drums", f"a{EVIL}"],
        ["sdr", "si_sdr"],
        songs,
        failed={f"bad {EVIL}": f"why {EVIL}"},
        notes=[f"note {EVIL}"],
    )


@pytest.fixture
def page():
    first, second = evaluation(f"new {EVIL}"), evaluation(f"old {EVIL}", shift=-1)
    comparison = compare(first.songs, second.songs, first.sources, first.columns)
    return html_text(first, second, comparison)


def test_names_are_escaped_everywhere(page):
    assert "<script" not in page
    assert "alert('x')" not in page
    tree = Page(page)
    assert any(f"bad {EVIL}" in text for text in tree.text)
    assert {tag for tag, _ in tree.tags} & {"script", "link", "iframe", "object"} == set()


def test_nothing_is_fetched(page):
    for tag, attributes in Page(page).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:"), tag
    assert "//" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "@import" not in page
    assert "url(" not in page


def test_every_score_is_in_the_page(page):
    tree = Page(page)
    scores = evaluation("").songs["Plain"].values["drums"]["sdr"]
    assert f"{scores:.2f}" in tree.text
    assert "+1.00" in tree.text  # the planted difference
    dots = sum(tag == "circle" for tag, _ in tree.tags)
    # 5 finite scores in 2 columns; differences of 5 and of 3 means in 2 columns
    assert dots == 2 * 5 + 2 * (5 + 3)


def test_both_colour_schemes_and_a_language(page):
    assert "prefers-color-scheme: dark" in page
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')


def write_song_pair(folder, write_song, name, level, seed):
    write_song(folder / "songs" / name, seconds=23.4, seed=seed, sources=("drums", "bass"))
    (folder / "estimates" / name).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for source in ("drums", "bass"):
        audio, rate = soundfile.read(folder / "songs" / name / f"{source}.wav")
        noise = level * rng.standard_normal(audio.shape)
        noise[12 * rate : 22 * rate] *= 10
        path = folder / "estimates" / name / f"{source}.wav"
        soundfile.write(path, audio + noise, rate, subtype="FLOAT")


def test_the_worst_ten_seconds_can_be_heard(tmp_path, write_song):
    write_song_pair(tmp_path, write_song, "Good", 0.001, 0)
    write_song_pair(tmp_path, write_song, "Bad", 0.2, 1)
    result = evaluate(tmp_path / "songs", tmp_path / "estimates", excerpts=True)
    tree = Page(html_text(result, worst=1))
    headings = [text for text in tree.text if text in ("drums: Bad", "bass: Bad")]
    assert len(headings) == 2
    assert not any("Good" in text and ":" in text and "dB" not in text for text in tree.text)
    players = [attributes["src"] for tag, attributes in tree.tags if tag == "audio"]
    assert len(players) == 4

    reference, estimate = (
        soundfile.read(io.BytesIO(base64.b64decode(src.partition(",")[2])))[0]
        for src in players[:2]
    )
    excerpt = result.songs["Bad"].excerpts["bass"]
    assert excerpt.start == 12
    assert excerpt.gain < 1  # the noise would clip
    whole, rate = soundfile.read(tmp_path / "songs" / "Bad" / "bass.wav")
    heard = whole[12 * rate : 22 * rate]
    np.testing.assert_allclose(reference, excerpt.gain * heard, atol=1e-4)
    whole, _ = soundfile.read(tmp_path / "estimates" / "Bad" / "bass.wav")
    np.testing.assert_allclose(estimate, excerpt.gain * whole[12 * rate : 22 * rate], atol=1e-4)


def test_plots_of_nothing_of_one_song_and_of_equal_songs():
    for rows in ({"a": {}}, {"a": {"s": 3.0}}, {"a": {"s": 3.0, "t": 3.0}}, {"a": {"s": math.nan}}):
        svg = distribution_plot(rows)
        assert "nan" not in svg
        Page(svg)
    difference = Difference(math.nan, math.nan, math.nan, 0)
    assert "nan" not in distribution_plot({"a": {}}, {"a": difference})


def test_dots_stand_where_their_values_are():
    svg = distribution_plot({"a": {"low": -10.0, "middle": 0.0, "high": 10.0}})
    x = [float(value) for value in re.findall(r'cx="([\d.]+)"', svg)]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.15)
    assert x[0] < x[1] < x[2] <= 720
