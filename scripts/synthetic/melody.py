"""Melodies: motifs that come back, in phrases with rests between them."""

from __future__ import annotations

import numpy as np

from synthetic.form import Section
from synthetic.theory import BEATS_PER_BAR, Key, Note

__all__ = ["write_melody", "write_rhythm"]

_PHRASE = 2  # bars

# Rhythms of a phrase of two bars: (beat, length) of each note; the rest of it is a rest.
_RHYTHMS: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0, 1), (1, 0.5), (1.5, 0.5), (2, 1.5), (4, 1), (5, 1.8)),
    ((0.5, 0.5), (1, 0.5), (1.5, 0.5), (2, 1), (3, 1), (4, 2.6)),
    ((0, 1.5), (1.5, 0.5), (2, 1), (3, 0.5), (3.5, 0.5), (4, 0.5), (4.5, 2)),
    ((0, 2), (2, 2), (4, 2.8)),
    ((0.5, 0.5), (1, 0.5), (1.5, 1), (3, 0.5), (3.5, 0.5), (4, 1), (5, 0.5), (5.5, 1.5)),
    ((1, 1), (2, 0.5), (2.5, 1.5), (4, 0.75), (4.75, 0.25), (5, 2)),
)
_STEPS = (-3, -2, -1, 0, 1, 2, 3)
_STEP_WEIGHTS = (0.04, 0.14, 0.26, 0.12, 0.26, 0.14, 0.04)


def write_melody(
    rng: np.random.Generator, key: Key, sections: list[Section], low: int, high: int
) -> list[Note]:
    """Phrases of two bars, most of them variants of two motifs per kind of section.

    Tones on the beat of a chord belong to it, other tones to the scale; the melody moves by
    small steps. A few phrases are left out.

    Args:
        rng: to draw from.
        key: of the song.
        sections: with a melody.
        low: lowest MIDI key.
        high: highest MIDI key; choruses lie in the upper half of the range.
    """
    kinds = dict.fromkeys(section.kind for section in sections)
    motifs = {kind: [_draw_motif(rng) for _ in range(2)] for kind in kinds}
    scale = key.scale(low, high)
    notes: list[Note] = []
    for section in sections:
        middle = len(scale) * (0.6 if section.kind == "chorus" else 0.4)
        for number, first in enumerate(section.bars[::_PHRASE]):
            if number and rng.random() < 0.1:
                continue
            rhythm, contour = motifs[section.kind][number % 2]
            if rng.random() < 0.25:
                contour = np.roll(contour, 1)
            chords = [key.chord(degree) for degree in section.chords]
            position = middle
            for (beat, length), step in zip(rhythm, contour):
                bar = first + int(beat // BEATS_PER_BAR)
                if bar not in section.bars:
                    break
                position = float(np.clip(position + step, 0, len(scale) - 1))
                allowed = chords[bar - section.first] if beat % 2 == 0 else None
                pitch = _fit(scale, position, allowed)
                velocity = section.intensity * (92 + 6 * rng.standard_normal())
                start = BEATS_PER_BAR * first + beat
                notes.append(Note(start, 0.95 * length, pitch, int(np.clip(velocity, 1, 127))))
    return notes


def write_rhythm(rng: np.random.Generator, sections: list[Section], pitch: int) -> list[Note]:
    """Syllables in sixteenths and eighths around a pitch, with a rest after each two bars."""
    notes: list[Note] = []
    for section in sections:
        for first in section.bars[::_PHRASE]:
            start = BEATS_PER_BAR * first
            end = BEATS_PER_BAR * min(first + _PHRASE, section.bars[-1] + 1) - rng.choice((0.5, 1))
            beat = float(start + rng.choice((0, 0.5)))
            while beat < end:
                length = float(rng.choice((0.25, 0.5, 0.5, 0.75)))
                accent = 10 if beat % 1 == 0 else 0
                shift = int(rng.integers(-2, 3)) + (2 if accent else 0)
                velocity = section.intensity * (84 + accent)
                notes.append(Note(beat, 0.9 * length, pitch + shift, int(velocity)))
                beat += length
    return notes


def _draw_motif(
    rng: np.random.Generator,
) -> tuple[tuple[tuple[float, float], ...], np.ndarray]:
    """A rhythm, and a step on the scale for each of its notes."""
    rhythm = _RHYTHMS[rng.integers(len(_RHYTHMS))]
    return rhythm, rng.choice(_STEPS, len(rhythm), p=_STEP_WEIGHTS)


def _fit(scale: list[int], position: float, chord: tuple[int, ...] | None) -> int:
    """The tone of the scale, and of the chord if there is one, nearest to a position on it."""
    candidates = [
        index for index, pitch in enumerate(scale) if chord is None or pitch % 12 in chord
    ]
    return scale[min(candidates, key=lambda index: (abs(index - position), index))]
