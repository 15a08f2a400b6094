"""Means over songs, and the bootstrap interval of a difference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aimless.evaluate import SongScores, bootstrap_mean, compare
from aimless.evaluation.song_bss import medians
from aimless.evaluation.statistics import paired, summarise


def songs(values):
    """source -> dB of each song, as scores; the same for two columns."""
    count = len(next(iter(values.values())))
    return {
        f"song {index}": SongScores(
            f"song {index}",
            60.0,
            {source: {"sdr": v[index], "si_sdr": -v[index]} for source, v in values.items()},
        )
        for index in range(count)
    }


def test_means_and_medians_leave_out_what_has_no_score():
    scores = songs({"a": [1.0, 2.0, 6.0, math.nan], "b": [math.nan] * 4, "c": [0.0] * 4})
    table = summarise(scores.values(), ["a", "b", "c"], ["sdr", "si_sdr"])
    assert (table["a"]["sdr"].mean, table["a"]["sdr"].median, table["a"]["sdr"].songs) == (3, 2, 3)
    assert math.isnan(table["b"]["sdr"].mean)
    assert table["b"]["sdr"].songs == 0
    assert table["all"]["sdr"].mean == 1.5
    assert table["all"]["si_sdr"].median == -1
    assert list(table) == ["a", "b", "c", "all"]


def test_median_over_frames_leaves_out_nan_and_infinity():
    frames = np.array([[1, math.nan, 3, math.inf, 10]] * 3 + [[math.nan] * 5])
    found = medians(frames)
    assert found["SDR"] == 3
    assert math.isnan(found["SAR"])


def test_differences_are_of_the_same_songs():
    first = songs({"a": [5.0, 7.0, 9.0], "b": [1.0, math.nan, 1.0]})
    second = songs({"a": [4.0, 5.0], "b": [0.0, 0.0]})
    assert paired(first, second, ["a", "b"], "a", "sdr") == {"song 0": 1, "song 1": 2}
    assert paired(first, second, ["a", "b"], "b", "sdr") == {"song 0": 1}
    assert paired(first, second, ["a", "b"], "all", "sdr") == {"song 0": 1, "song 1": 2}
    table = compare(first, second, ["a", "b"], ["sdr"])
    assert (table["a"]["sdr"].mean, table["a"]["sdr"].songs) == (1.5, 2)
    assert math.isnan(table["b"]["sdr"].low)
    assert table["b"]["sdr"].mean == 1


def test_the_interval_is_about_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(2, 3, 400)
    low, high = bootstrap_mean(values.tolist())
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.05)
    assert high == pytest.approx(values.mean() + half, abs=0.05)
    assert bootstrap_mean(values.tolist()) == (low, high)
    assert bootstrap_mean(values.tolist(), seed=1) != (low, high)


def test_a_planted_difference_is_covered_as_often_as_promised():
    rng = np.random.default_rng(0)
    covered = 0
    for repeat in range(60):
        level = rng.normal(5, 4, 30)  # hard and easy songs, which pairing takes out
        first = songs({"a": (level + 0.5 + rng.normal(0, 1, 30)).tolist()})
        second = songs({"a": level.tolist()})
        cell = compare(first, second, ["a"], ["sdr"], seed=repeat)["a"]["sdr"]
        assert cell.high - cell.low < 1
        covered += cell.low <= 0.5 <= cell.high
    assert 51 <= covered <= 60  # 95 % of 60 are 57


def test_intervals_of_too_few_and_of_equal_songs():
    assert all(math.isnan(bound) for bound in bootstrap_mean([1.0]))
    assert all(math.isnan(bound) for bound in bootstrap_mean([]))
    assert bootstrap_mean([2.0, 2.0, 2.0]) == (2.0, 2.0)
