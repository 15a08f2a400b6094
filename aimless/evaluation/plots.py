"""Plots as SVG text for an HTML page, whose style sheet gives the colours."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from aimless.evaluation.statistics import Difference

__all__ = ["distribution_plot"]

_WIDTH, _LEFT, _RIGHT, _ROW, _AXIS = 720, 110, 20, 36, 34
_GOLDEN = (math.sqrt(5) - 1) / 2  # spreads dots evenly, the same way every time

Values = Mapping[str, float]


def distribution_plot(
    rows: Mapping[str, Values], intervals: Mapping[str, Difference] | None = None
) -> str:
    """One line per row: a dot per song, and a box from the first to the third quartile.

    The bar in the box is the median. With `intervals`, a bar from low to high with the mean
    takes the place of the box, and zero is marked.

    Args:
        rows: row's name -> song -> dB; values that are not finite are left out.
        intervals: row's name -> difference.
    """
    finite = {
        name: {song: value for song, value in values.items() if math.isfinite(value)}
        for name, values in rows.items()
    }
    shown = [value for values in finite.values() for value in values.values()]
    if intervals:
        shown += [0.0, *(v for d in intervals.values() for v in (d.low, d.high))]
    ticks = _ticks([value for value in shown if math.isfinite(value)])
    height = _ROW * len(rows) + _AXIS
    label = html.escape("Scores in dB of " + ", ".join(rows), quote=True)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">']
    parts += _axis(ticks, _ROW * len(rows), bool(intervals))
    for index, (name, values) in enumerate(finite.items()):
        middle = _ROW * (index + 0.5)
        parts.append(
            f'<text class="name" x="{_LEFT - 12}" y="{middle + 4:.1f}">{html.escape(name)}</text>'
        )
        parts += _dots(values, middle, ticks)
        if intervals:
            parts += _interval(intervals[name], middle, ticks)
        else:
            parts += _box(list(values.values()), middle, ticks)
    return "\n".join([*parts, "</svg>"])


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers, at most about eight, from below the smallest value to above the largest."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    rough = max(high - low, 0.1) / 7
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _x(value: float, ticks: Sequence[float]) -> float:
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _axis(ticks: Sequence[float], bottom: float, zero: bool) -> list[str]:
    parts = []
    for tick in ticks:
        x = _x(tick, ticks)
        style = "zero" if zero and tick == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}">{tick:.6g}</text>')
    unit = f'<text class="unit" x="{_LEFT - 30}" y="{bottom + 16}">dB</text>'
    return [*parts, unit]


def _dots(values: Values, middle: float, ticks: Sequence[float]) -> list[str]:
    return [
        f'<circle class="dot" cx="{_x(value, ticks):.1f}" '
        f'cy="{middle + 18 * ((index * _GOLDEN) % 1 - 0.5):.1f}" r="3.5">'
        f"<title>{html.escape(song)}: {value:.2f} dB</title></circle>"
        for index, (song, value) in enumerate(values.items())
    ]


def _box(values: Sequence[float], middle: float, ticks: Sequence[float]) -> list[str]:
    if not values:
        return []
    first, median, third = (_x(float(q), ticks) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    top, height = middle - 13, 26
    return [
        f'<rect class="box" x="{first:.1f}" y="{top:.1f}" width="{third - first:.1f}" '
        f'height="{height}"/>',
        f'<line class="mark" x1="{median:.1f}" x2="{median:.1f}" '
        f'y1="{top:.1f}" y2="{top + height:.1f}"/>',
    ]


def _interval(difference: Difference, middle: float, ticks: Sequence[float]) -> list[str]:
    parts = []
    if math.isfinite(difference.low):
        low, high = _x(difference.low, ticks), _x(difference.high, ticks)
        parts.append(
            f'<line class="mark" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
        )
    if math.isfinite(difference.mean):
        mean = _x(difference.mean, ticks)
        parts.append(
            f'<line class="mark" x1="{mean:.1f}" x2="{mean:.1f}" '
            f'y1="{middle - 9}" y2="{middle + 9}"/>'
        )
    return parts
