"""Scores as a table on the terminal, as JSON, as CSV, and as museval's JSON files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimless.errors import DataError
from aimless.evaluation.song_bss import BSS_METRICS
from aimless.evaluation.statistics import Difference
from aimless.version import __version__

if TYPE_CHECKING:
    from aimless.evaluate import Evaluation
    from aimless.evaluation.scores import SongScores

__all__ = [
    "TITLES",
    "comparison_text",
    "csv_text",
    "json_text",
    "museval_json",
    "table_text",
    "write_museval",
    "write_text",
]

#: Columns as they are printed.
TITLES = {
    "sdr": "SDR",
    "si_sdr": "SI-SDR",
    "bss_sdr": "BSS SDR",
    "bss_isr": "BSS ISR",
    "bss_sir": "BSS SIR",
    "bss_sar": "BSS SAR",
}

Comparison = Mapping[str, Mapping[str, Difference]]


def table_text(evaluation: Evaluation) -> str:
    """Mean and median over songs, in dB, a line per source."""
    summary = evaluation.summary()
    widest = max(len("source"), *(len(source) for source in summary))
    above = " " * widest + "".join(f"  {TITLES[c]:>15}" for c in evaluation.columns)
    heads = f"{'source':<{widest}}" + f"  {'mean':>7} {'median':>7}" * len(evaluation.columns)
    lines = [evaluation.label, above, f"{heads}  songs"]
    for source, cells in summary.items():
        values = "".join(f"  {_cell(s.mean)} {_cell(s.median)}" for s in cells.values())
        count = max(cell.songs for cell in cells.values())
        lines.append(f"{source:<{widest}}{values}  {count:>5}")
    return "\n".join(lines)


def comparison_text(comparison: Comparison, first: str, second: str) -> str:
    """Paired differences with their intervals, in dB, a line per source and column."""
    widest = max(len("source"), *(len(source) for source in comparison))
    lines = [
        f"{first} minus {second}, mean over songs with a 95 % bootstrap interval",
        f"{'source':<{widest}}  {'':<8} {'mean':>7}  {'interval':>18}  songs",
    ]
    for source, cells in comparison.items():
        for column, cell in cells.items():
            interval = f"{_cell(cell.low)} to {_cell(cell.high)}"
            lines.append(
                f"{source:<{widest}}  {TITLES[column]:<8} {_cell(cell.mean)}  "
                f"{interval:>18}  {cell.songs:>5}"
            )
    return "\n".join(lines)


def _cell(value: float) -> str:
    return f"{value:7.2f}" if math.isfinite(value) else f"{'-':>7}"


def json_text(
    evaluation: Evaluation, other: Evaluation | None = None, comparison: Comparison | None = None
) -> str:
    """Everything but BSSEval's frames, as JSON; a score that is not there is null."""
    tree = _tree(evaluation)
    if other is not None and comparison is not None:
        tree["other"] = _tree(other)
        tree["difference"] = {
            source: {column: asdict(cell) for column, cell in cells.items()}
            for source, cells in comparison.items()
        }
    return json.dumps(_plain(tree), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _tree(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "version": __version__,
        "estimates": evaluation.label,
        "sources": evaluation.sources,
        "unit": "dB",
        "summary": {
            source: {column: asdict(cell) for column, cell in cells.items()}
            for source, cells in evaluation.summary().items()
        },
        "songs": {
            name: {"seconds": song.seconds, "scores": song.values}
            for name, song in evaluation.songs.items()
        },
        "failed": evaluation.failed,
        "notes": evaluation.notes,
    }


def _plain(value: Any) -> Any:
    """The tree with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def csv_text(evaluation: Evaluation, other: Evaluation | None = None) -> str:
    """One row per estimates, song and source; a score that is not there is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["estimates", "song", "source", *evaluation.columns])
    for each in (evaluation, other):
        for name, song in each.songs.items() if each else ():
            for source, values in song.values.items():
                cells = [values[column] for column in evaluation.columns]
                row = [f"{cell:.5f}" if math.isfinite(cell) else "" for cell in cells]
                writer.writerow([each.label if each else "", name, source, *row])
    return file.getvalue()


def museval_json(song: SongScores) -> str:
    """BSSEval's frames of a song as museval's `TrackStore` writes them.

    Five decimals; NaN stands for a frame without a score, and for infinity.
    """
    targets = []
    for source, frames in song.frames.items():
        seconds = [
            {
                "time": float(index),
                "duration": 1.0,
                "metrics": {
                    name: round(float(value), 5) if math.isfinite(value) else math.nan
                    for name, value in zip(BSS_METRICS, frame)
                },
            }
            for index, frame in enumerate(frames.T)
        ]
        targets.append({"name": source, "frames": seconds})
    tree = {"targets": targets, "museval_version": f"aimless {__version__}"}
    return json.dumps(tree, indent=2, ensure_ascii=False)


def write_museval(folder: Path, evaluation: Evaluation) -> None:
    """Write `<folder>/test/<song>.json`, where museval's stores look for them.

    Raises:
        DataError: they cannot be written.
    """
    for name, song in evaluation.songs.items():
        write_text(folder / "test" / f"{name}.json", museval_json(song))


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, and rename it when it is whole.

    Raises:
        DataError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
