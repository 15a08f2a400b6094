"""From songs to sources: means, medians, and the difference between two models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aimless.draws import generator
from aimless.evaluation.scores import SongScores

__all__ = ["OVERALL", "Difference", "Summary", "bootstrap_mean", "compare", "summarise"]

#: The row over all sources: the mean of theirs.
OVERALL = "all"
RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Mean and median over songs in dB, and how many songs have the score."""

    mean: float
    median: float
    songs: int


@dataclass(frozen=True)
class Difference:
    """Mean over songs of the paired differences in dB, its interval, and how many songs."""

    mean: float
    low: float
    high: float
    songs: int


Table = dict[str, dict[str, Summary]]


def summarise(songs: Iterable[SongScores], sources: Sequence[str], columns: Sequence[str]) -> Table:
    """Mean and median over songs of each source and column.

    Songs without a score (silent references) are left out. The row `OVERALL` is the mean
    over sources of the rows above it, over sources that have any score.

    Returns:
        source -> column -> summary, `OVERALL` last.
    """
    songs = list(songs)
    table: Table = {}
    for source in sources:
        table[source] = {}
        for column in columns:
            found = _finite(song.values[source][column] for song in songs if source in song.values)
            table[source][column] = Summary(_mean(found), _median(found), len(found))
    table[OVERALL] = {
        column: Summary(
            _mean(_finite(table[source][column].mean for source in sources)),
            _mean(_finite(table[source][column].median for source in sources)),
            max((table[source][column].songs for source in sources), default=0),
        )
        for column in columns
    }
    return table


def compare(
    first: Mapping[str, SongScores],
    second: Mapping[str, SongScores],
    sources: Sequence[str],
    columns: Sequence[str],
    seed: int = 0,
) -> dict[str, dict[str, Difference]]:
    """Paired differences, first minus second, over the songs that both have a score of.

    The row `OVERALL` pairs the songs' means over sources.

    Returns:
        source -> column -> difference with a 95 % bootstrap interval, `OVERALL` last.
    """
    table: dict[str, dict[str, Difference]] = {}
    for row in (*sources, OVERALL):
        table[row] = {}
        for column in columns:
            values = list(paired(first, second, sources, row, column).values())
            low, high = bootstrap_mean(values, seed)
            table[row][column] = Difference(_mean(values), low, high, len(values))
    return table


def paired(
    first: Mapping[str, SongScores],
    second: Mapping[str, SongScores],
    sources: Sequence[str],
    row: str,
    column: str,
) -> dict[str, float]:
    """Song -> difference in dB of a source, or of the mean over `sources` for `OVERALL`."""
    differences = {}
    for name in first:
        if name in second:
            names = sources if row == OVERALL else [row]
            apart = [
                first[name].values[source][column] - second[name].values[source][column]
                for source in names
            ]
            differences[name] = _mean(_finite(apart))
    return {name: value for name, value in differences.items() if math.isfinite(value)}


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, from 10 000 resamples with replacement.

    B. Efron, "Bootstrap methods: another look at the jackknife" (1979). Of a few values it is
    too narrow, by a factor of about sqrt((n - 1) / n).

    Args:
        values: one per song.
        seed: same seed, same interval.

    Returns:
        (low, high); NaN for fewer than two values.
    """
    if len(values) < 2:
        return math.nan, math.nan
    data = np.asarray(values, dtype=np.float64)
    rng = generator("bootstrap", seed)
    # a hundred at a time, so that memory does not grow with 10 000 times the songs
    draws = (rng.integers(len(data), size=(100, len(data))) for _ in range(RESAMPLES // 100))
    means = np.concatenate([data[draw].mean(1) for draw in draws])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan
