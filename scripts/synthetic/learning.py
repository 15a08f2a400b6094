"""What an experiment left behind, scores and logged values, as a table and as learning curves.

The folder of an experiment has a folder per model with `curves/metrics.csv`, and beside it the
scores of each model and of the mixture on each set of songs, `scores/<set>/<model>.json`, as
`aimless evaluate --json` writes them.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aimless.errors import DataError
from aimless.plot import png_bytes
from aimless.sources import MDX_SOURCES

__all__ = [
    "BASELINE",
    "SETS",
    "Curve",
    "Scores",
    "draw",
    "insert",
    "means",
    "read_curves",
    "read_scores",
    "table",
]

#: Set of songs -> what it is.
SETS = {"synthetic": "unseen synthetic songs", "recorded": "recorded song"}
BASELINE = "mixture"
_ALL = "all"
_COLUMNS = {"sdr": "mean", "bss_sdr": "median"}  # and the usual figure over songs
_SMOOTHING = 20  # steps over which the training loss is averaged for the eye

#: set -> model or baseline -> source or `all` -> column -> dB
Scores = dict[str, dict[str, dict[str, dict[str, float]]]]


class Curve(NamedTuple):
    """A value by step: `steps` and `values` have the same length."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


def read_scores(folder: Path, models: Sequence[str]) -> Scores:
    """The scores of the models and the baseline, on all sets.

    Raises:
        DataError: a file is missing or is not what `aimless evaluate` writes.
    """
    return {
        name: {model: _read(folder / name / f"{model}.json") for model in (BASELINE, *models)}
        for name in SETS
    }


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        summary = json.loads(path.read_text())["summary"]
        return {
            source: {column: cells[column][usual] for column, usual in _COLUMNS.items()}
            for source, cells in summary.items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no scores: {error}") from None


def means(scores: Scores) -> dict[str, float]:
    """Mean SDR over sources of the baseline and of each model on the synthetic songs, dB."""
    return {name: sources[_ALL]["sdr"] for name, sources in scores["synthetic"].items()}


def table(scores: Scores, titles: Mapping[str, str]) -> str:
    """Markdown, a table for each set of songs: SDR by source, and the mean of both measures.

    Args:
        scores: as `read_scores` gives them.
        titles: model -> what to call it.
    """
    parts = []
    for name, rows in scores.items():
        baseline = rows[BASELINE][_ALL]["sdr"]
        lines = [
            f"| {SETS[name]} | {' | '.join(MDX_SOURCES)} | mean SDR | gain | BSSEval SDR |",
            "| --- |" + " --- |" * (len(MDX_SOURCES) + 3),
        ]
        for model, sources in rows.items():
            cells = [_number(sources[source]["sdr"]) for source in (*MDX_SOURCES, _ALL)]
            mean = sources[_ALL]["sdr"]
            gain = "" if model == BASELINE else f"{mean - baseline:+.2f}"
            title = titles.get(model, "the mixture itself")
            cells += [gain, _number(sources[_ALL]["bss_sdr"])]
            lines.append(f"| {title} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def read_curves(path: Path) -> dict[str, Curve]:
    """The values that a run logged, by name.

    Args:
        path: `metrics.csv` of Lightning's CSVLogger.

    Raises:
        DataError: it cannot be read.
    """
    logged: dict[str, list[tuple[int, float]]] = {}
    try:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                step = int(row["step"])
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        logged.setdefault(name, []).append((step, float(value)))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: no logged values: {error}") from None
    return {
        name: Curve(np.array([s for s, _ in pairs]), np.array([v for _, v in pairs]))
        for name, pairs in logged.items()
    }


def draw(curves: Mapping[str, Mapping[str, Curve]], titles: Mapping[str, str]) -> bytes:
    """PNG: the training loss of each model, and its validation SDR by source.

    Args:
        curves: model -> name -> curve.
        titles: model -> what to call it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(curves), 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, len(curves), squeeze=False, sharex="col")
    for (above, below), (model, named) in zip(axes.T, curves.items()):
        loss = named["train/loss"]
        above.plot(loss.steps, loss.values, alpha=0.25, linewidth=0.7)
        above.plot(*_smooth(loss), color="tab:blue")
        above.set_title(titles[model])
        for source in MDX_SOURCES:
            if f"val/sdr_{source}" in named:
                below.plot(*named[f"val/sdr_{source}"], marker=".", label=source)
        below.set_xlabel("step")
        for axis in (above, below):
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("validation SDR (dB)")
    axes[1, 0].legend(fontsize=8)
    return png_bytes(figure, dpi=80)


def _smooth(curve: Curve) -> Curve:
    """Moving average over whole windows."""
    width = min(_SMOOTHING, len(curve.values))
    return Curve(
        curve.steps[width - 1 :], np.convolve(curve.values, np.full(width, 1 / width), "valid")
    )


def insert(text: str, name: str, content: str) -> str:
    """A Markdown text with what is between `<!-- name -->` and `<!-- /name -->` replaced.

    Raises:
        DataError: it has no such pair of marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise DataError(f"the text has no {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text, count=1)
