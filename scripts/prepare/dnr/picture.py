"""The statistics of a data set as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aimless.errors import ConfigError
from prepare.dnr.settings import KINDS, Settings
from prepare.dnr.statistics import Described

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_COLOURS = {"music": "#3b6fb6", "sfx": "#d9822b", "speech": "#3f9c5a", "mix": "#555555"}


def draw(settings: Settings, mixes: Sequence[Described]) -> bytes:
    """A PNG: number, length and loudness of the segments, and how many kinds sound at once.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: pip install 'aimless[train]'") from error

    figure = Figure(figsize=(10, 7.5))
    FigureCanvasAgg(figure)
    figure.suptitle(f"{len(mixes)} mixes of {settings.seconds:g} s")
    spacing = {
        "left": 0.08,
        "right": 0.98,
        "bottom": 0.1,
        "top": 0.91,
        "hspace": 0.32,
        "wspace": 0.2,
    }
    (counts, lengths), (loudness, together) = figure.subplots(2, 2, gridspec_kw=spacing)
    _draw_counts(counts, settings, mixes)
    _draw_lengths(lengths, mixes)
    _draw_loudness(loudness, mixes)
    _draw_together(together, mixes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _draw_counts(axes: Axes, settings: Settings, mixes: Sequence[Described]) -> None:
    """Segments per mix as points, the distribution that they are drawn from as lines."""
    for kind in KINDS:
        drawn = np.bincount([len(mix.lengths[kind]) for mix in mixes])
        axes.plot(drawn / len(mixes), "o", color=_COLOURS[kind], label=kind)
        mean = settings.kinds[kind].count
        number = np.arange(1, max(len(drawn), math.ceil(2 * mean)) + 1)
        log_factorial = np.array([math.lgamma(n + 1) for n in number])
        chance = np.exp(number * math.log(mean) - mean - log_factorial) / -math.expm1(-mean)
        axes.plot(number, chance, color=_COLOURS[kind], alpha=0.6)
    axes.set(title="segments in a mix (lines: expected)", xlabel="number", ylabel="share of mixes")
    axes.legend()


def _draw_lengths(axes: Axes, mixes: Sequence[Described]) -> None:
    lengths = [[length for mix in mixes for length in mix.lengths[kind]] for kind in KINDS]
    colours = [_COLOURS[kind] for kind in KINDS]
    axes.hist(lengths, bins=20, color=colours, label=list(KINDS))
    axes.set(title="length of segments", xlabel="seconds", ylabel="segments")
    axes.legend()


def _draw_loudness(axes: Axes, mixes: Sequence[Described]) -> None:
    names = (*KINDS, "mix")
    levels = [[v for mix in mixes if (v := mix.levels[n]["lufs"]) is not None] for n in names]
    axes.hist(levels, bins=20, color=[_COLOURS[name] for name in names], label=list(names))
    axes.set(title="loudness of stems and mixes", xlabel="LUFS", ylabel="mixes")
    axes.legend()


def _draw_together(axes: Axes, mixes: Sequence[Described]) -> None:
    """Share of the time that each kind sounds, and that so many of them sound."""
    sounding: Any = np.concatenate([mix.sounding for mix in mixes], 1)
    together = np.bincount(sounding.sum(0), minlength=len(KINDS) + 1) / sounding.shape[1]
    names = [*KINDS, *(f"{number} at once" for number in range(len(together)))]
    colours = [*(_COLOURS[kind] for kind in KINDS), *["#999999"] * len(together)]
    axes.bar(names, [*sounding.mean(1), *together], color=colours)
    axes.tick_params(axis="x", labelrotation=30)
    axes.set(title="share of the time", ylim=(0, 1))
