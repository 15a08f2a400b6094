"""What the mixes of a data set are like, counted from their annotations."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prepare.dnr.render import ANNOTATIONS, LEVELS
from prepare.dnr.settings import KINDS, Settings

__all__ = ["Described", "describe_mix", "summarise"]

_STEPS = 100  # per second, in which it is looked at whether a kind sounds


@dataclass(frozen=True)
class Described:
    """A mix by its annotations.

    Attributes:
        lengths: of its segments in seconds, by kind.
        files: of its segments, by kind.
        sounding: (kinds, time) whether a segment is there, each hundredth of a second.
        levels: as its file says.
    """

    lengths: dict[str, list[float]]
    files: dict[str, list[str]]
    sounding: NDArray[np.bool_]
    levels: dict[str, dict[str, float | None]]


def describe_mix(folder: Path, seconds: float) -> Described:
    """Read the annotations and levels of a mix.

    Args:
        folder: of the mix.
        seconds: its length.
    """
    lengths: dict[str, list[float]] = {kind: [] for kind in KINDS}
    files: dict[str, list[str]] = {kind: [] for kind in KINDS}
    sounding = np.zeros((len(KINDS), round(seconds * _STEPS)), bool)
    path = folder / ANNOTATIONS
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as table:
        for row in csv.DictReader(table):
            start, end, kind = float(row["start"]), float(row["end"]), row["class"]
            lengths[kind].append(end - start)
            files[kind].append(row["file"])
            sounding[KINDS.index(kind), round(start * _STEPS) : round(end * _STEPS)] = True
    return Described(lengths, files, sounding, json.loads((folder / LEVELS).read_text()))


def summarise(settings: Settings, splits: Mapping[str, Sequence[Described]]) -> dict[str, Any]:
    """Numbers of each split and of all.

    Args:
        settings: of the data set.
        splits: its mixes.

    Returns:
        By split, and `all`: `mixes`, `hours`; `simultaneous`: share of the time in which 0, 1, 2
        and 3 kinds sound; and by kind and `mix` what `_summarise_kind` says.
    """
    everything = [mix for mixes in splits.values() for mix in mixes]
    return {
        name: _summarise_split(settings, mixes)
        for name, mixes in {**splits, "all": everything}.items()
        if mixes
    }


def _summarise_split(settings: Settings, mixes: Sequence[Described]) -> dict[str, Any]:
    at_once = np.concatenate([mix.sounding.sum(0) for mix in mixes])
    shares = np.bincount(at_once, minlength=len(KINDS) + 1) / len(at_once)
    return {
        "mixes": len(mixes),
        "hours": round(len(mixes) * settings.seconds / 3600, 3),
        "simultaneous": [round(float(share), 4) for share in shares],
        **{kind: _summarise_kind(kind, mixes) for kind in KINDS},
        "mix": _summarise_levels("mix", mixes),
    }


def _summarise_kind(kind: str, mixes: Sequence[Described]) -> dict[str, Any]:
    """Segments per mix, their lengths, share of the time that they sound, files used, levels."""
    counts = Counter(len(mix.lengths[kind]) for mix in mixes)
    lengths = np.array([length for mix in mixes for length in mix.lengths[kind]])
    files = Counter(file for mix in mixes for file in mix.files[kind])
    return {
        "segments": {str(count): counts[count] for count in sorted(counts)},
        "mean_segments": round(len(lengths) / len(mixes), 3),
        "seconds": {
            "mean": round(float(lengths.mean()), 3) if len(lengths) else None,
            "shortest": round(float(lengths.min()), 3) if len(lengths) else None,
            "longest": round(float(lengths.max()), 3) if len(lengths) else None,
        },
        "sounding": round(float(np.mean([mix.sounding[KINDS.index(kind)] for mix in mixes])), 4),
        "files": len(files),
        "most_used": max(files.values(), default=0),
        **_summarise_levels(kind, mixes),
    }


def _summarise_levels(name: str, mixes: Sequence[Described]) -> dict[str, Any]:
    """Mean and standard deviation of the loudness in LUFS, and the highest peak in dB."""
    loudness = [v for mix in mixes if (v := mix.levels[name]["lufs"]) is not None]
    peaks = [v for mix in mixes if (v := mix.levels[name]["peak_db"]) is not None]
    return {
        "lufs": {
            "mean": round(float(np.mean(loudness)), 3) if loudness else None,
            "deviation": round(float(np.std(loudness)), 3) if loudness else None,
        },
        "peak_db": max(peaks, default=None),
    }
