"""The form of a song: sections, and what plays in each."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from synthetic.theory import BEATS_PER_BAR, PROGRESSIONS, Key

__all__ = ["Section", "draw_form", "playing"]

# What follows what; a song that is longer goes on with the part in brackets.
_OPENING = ("intro", "verse", "chorus")
_REPEATED = ("verse", "chorus", "bridge", "chorus")

#: Probability by section that a part plays in it, by role.
_PLAYS = {
    "intro": {"drums": 0.4, "bass": 0.4, "chords": 0.9, "lead": 0.5, "vocals": 0.0},
    "verse": {"drums": 0.95, "bass": 0.95, "chords": 0.7, "lead": 0.15, "vocals": 1.0},
    "chorus": {"drums": 1.0, "bass": 1.0, "chords": 0.95, "lead": 0.4, "vocals": 1.0},
    "bridge": {"drums": 0.5, "bass": 0.7, "chords": 0.8, "lead": 0.9, "vocals": 0.15},
}
#: How loudly a section is played, as a factor of velocities.
_INTENSITY = {"intro": 0.85, "verse": 0.9, "chorus": 1.0, "bridge": 0.85}


class Section(NamedTuple):
    """A stretch of bars.

    Attributes:
        kind: intro, verse, chorus or bridge.
        first: its first bar, counted from 0.
        chords: degree of the scale of each of its bars.
        intensity: factor of velocities.
    """

    kind: str
    first: int
    chords: tuple[int, ...]
    intensity: float

    @property
    def bars(self) -> range:
        """Its bars."""
        return range(self.first, self.first + len(self.chords))

    @property
    def start(self) -> float:
        """In beats."""
        return float(BEATS_PER_BAR * self.first)


def draw_form(rng: np.random.Generator, key: Key, bars: int) -> list[Section]:
    """Sections that fill a number of bars, the last one cut where the song ends.

    Sections are of 8 bars, of 4 or 2 in songs that would otherwise not get beyond the verse.
    All sections of a kind have the same chords.
    """
    unit = 8 if bars >= 40 else 4 if bars >= 12 else 2
    progressions = PROGRESSIONS[key.mode]
    chords = {kind: progressions[rng.integers(len(progressions))] for kind in _PLAYS}
    kinds = [*_OPENING]
    while _length(kinds, unit) < bars:
        kinds += _REPEATED
    sections: list[Section] = []
    first = 0
    for kind in kinds:
        count = min(_length([kind], unit), bars - first)
        if count <= 0:
            break
        degrees = tuple(chords[kind][bar % 4] for bar in range(count))
        sections.append(Section(kind, first, degrees, _INTENSITY[kind]))
        first += count
    return sections


def _length(kinds: list[str], unit: int) -> int:
    """Bars of sections; introductions are half as long as the others."""
    return sum(math.ceil(unit / 2) if kind == "intro" else unit for kind in kinds)


def playing(rng: np.random.Generator, sections: list[Section], role: str) -> list[Section]:
    """The sections that a part plays in; at least one, and the same choice for a kind.

    A part that would be silent throughout plays in its likeliest sections.
    """
    chosen = {kind for kind, roles in _PLAYS.items() if rng.random() < roles[role]}
    found = [section for section in sections if section.kind in chosen]
    if found:
        return found
    best = max((section.kind for section in sections), key=lambda kind: _PLAYS[kind][role])
    return [section for section in sections if section.kind == best]
