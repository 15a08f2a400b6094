"""Errors in the labels of stems, as they occur in real collections, and where they are.

Steinmetz et al. and the Sound Demixing Challenge 2023 call it label noise: what a file holds is
not, or not only, what its name says. The mixture is right all the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aimless.sources import MDX_SOURCES
from synthetic.song import Song

__all__ = ["Error", "apply_errors", "draw_errors", "labels_csv", "planted_csv"]

Audio = NDArray[np.float32]

_SWAPPED = 0.4  # share of errors that are swapped stems


class Error(NamedTuple):
    """What is wrong with a song.

    Attributes:
        kind: `swap`: the files of two stems are exchanged; `misplaced`: a part is in the file
            of another stem.
        stem: that it concerns.
        other: the stem that it is swapped with, or that the part is in.
        part: name of the part; empty for a swap.
    """

    kind: Literal["swap", "misplaced"]
    stem: str
    other: str
    part: str = ""

    def describe(self) -> str:
        """In words."""
        if self.kind == "swap":
            return f"{self.stem} and {self.other} are swapped"
        return f"{self.part} of {self.stem} is in {self.other}"


def draw_errors(rng: np.random.Generator, song: Song, share: float) -> list[Error]:
    """No error, or with a probability of `share` one.

    Only parts of stems that have another part are misplaced, so that no stem falls silent.
    """
    if rng.random() >= share:
        return []
    stems = [stem for stem in MDX_SOURCES if song.of_stem(stem)]
    movable = [
        (stem, part.name)
        for stem in stems
        for part in song.of_stem(stem)
        if len(song.of_stem(stem)) > 1
    ]
    if not movable or rng.random() < _SWAPPED:
        first, second = sorted(rng.permutation(len(stems))[:2])
        return [Error("swap", stems[first], stems[second])]
    stem, part = movable[rng.integers(len(movable))]
    others = [other for other in stems if other != stem]
    return [Error("misplaced", stem, others[rng.integers(len(others))], part)]


def apply_errors(
    parts: Mapping[str, Mapping[str, Audio]], errors: Iterable[Error]
) -> dict[str, dict[str, Audio]]:
    """Stem -> part -> audio, with the errors."""
    wrong = {stem: dict(named) for stem, named in parts.items()}
    for error in errors:
        if error.kind == "swap":
            wrong[error.stem], wrong[error.other] = wrong[error.other], wrong[error.stem]
        else:
            wrong[error.other][error.part] = wrong[error.stem].pop(error.part)
    return wrong


def planted_csv(songs: Mapping[str, Iterable[Error]]) -> str:
    """A row for each error."""
    rows = [(name, *error) for name, errors in songs.items() for error in errors]
    return _csv([("ID", *Error._fields), *rows])


def labels_csv(songs: Mapping[str, Iterable[Error]]) -> str:
    """The table that `data.lightning.LabelNoise` reads: ID, Clean (Y or empty), Notes."""
    rows = []
    for name, errors in songs.items():
        notes = "; ".join(error.describe() for error in errors)
        rows.append((name, "" if notes else "Y", notes))
    return _csv([("ID", "Clean", "Notes"), *rows])


def _csv(rows: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
