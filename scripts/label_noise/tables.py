"""Scores as CSV and JSON, and as the labels that `data.lightning.LabelNoise` reads."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aimless.version import __version__
from label_noise.scores import StemScore, Thresholds

__all__ = ["COLUMNS", "by_song", "json_text", "labels_csv", "note", "scores_csv", "summary_text"]

#: Columns of the scores' CSV, which also has `share_<source>` for each source.
COLUMNS = (
    *("song", "stem", "verdict", "suspicion", "share", "share_alone", "share_mixture", "other"),
    *("other_share", "other_time", "sdr", "improvement", "active", "seconds", "start"),
)
_BAD = ("bleeding", "wrong label")


def scores_csv(scores: Sequence[StemScore], sources: Iterable[str]) -> str:
    """One row per stem, in the order given; a score that is not there is empty."""
    names = list(sources)
    rows = [
        [*(_cell(getattr(s, c)) for c in COLUMNS), *(_cell(s.shares.get(n)) for n in names)]
        for s in scores
    ]
    return _csv([*COLUMNS, *(f"share_{name}" for name in names)], rows)


def labels_csv(scores: Sequence[StemScore], failed: Mapping[str, str]) -> str:
    """One row per song, by name: ID, Clean (`Y` if no stem is suspicious), Notes.

    A song that could not be measured is not clean.
    """
    songs = by_song(scores)
    rows = [
        [
            song,
            "" if song in failed or any(s.verdict in _BAD for s in songs[song]) else "Y",
            failed.get(song) or "; ".join(note(s) for s in songs[song] if s.verdict in _BAD),
        ]
        for song in sorted({*songs, *failed})
    ]
    return _csv(["ID", "Clean", "Notes"], rows)


def note(score: StemScore) -> str:
    """What is wrong with a stem, in a few words."""
    return f"{score.stem}: {score.verdict} ({score.other})"


def by_song(scores: Iterable[StemScore]) -> dict[str, list[StemScore]]:
    """Song -> its stems, by name of song and stem."""
    songs: dict[str, list[StemScore]] = {}
    for score in sorted(scores, key=lambda s: (s.song, s.stem)):
        songs.setdefault(score.song, []).append(score)
    return songs


def json_text(
    scores: Sequence[StemScore],
    failed: Mapping[str, str],
    mode: str,
    thresholds: Thresholds,
    settings: Mapping[str, Any],
) -> str:
    """Everything, with the curve of each stem over time; a score that is not there is null."""
    tree = {
        "version": __version__,
        "mode": mode,
        "thresholds": asdict(thresholds),
        "settings": dict(settings),
        "failed": dict(failed),
        "stems": [asdict(score) for score in scores],
    }
    return json.dumps(_plain(tree), ensure_ascii=False, allow_nan=False) + "\n"


def summary_text(scores: Sequence[StemScore]) -> str:
    """How many stems of each label got which verdict, as a table."""
    labels = sorted({score.stem for score in scores})
    verdicts = sorted({score.verdict for score in scores})
    width = max(len(label) for label in [*labels, "stem"])
    lines = [f"{'stem':<{width}}" + "".join(f"  {verdict:>11}" for verdict in verdicts)]
    for label in labels:
        counts = [
            sum(s.stem == label and s.verdict == verdict for s in scores) for verdict in verdicts
        ]
        lines.append(f"{label:<{width}}" + "".join(f"  {count:>11}" for count in counts))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if math.isfinite(value) else ""
    return "" if value is None else str(value)


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return file.getvalue()


def _plain(value: Any) -> Any:
    """The tree with null for what JSON does not have, and four digits after the point."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
