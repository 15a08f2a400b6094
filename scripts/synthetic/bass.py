"""Bass lines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synthetic.form import Section
from synthetic.theory import BEATS_PER_BAR, Key, Note, nearest

__all__ = ["LINES", "write_bass"]

_CENTRE = 36.0  # MIDI key around which roots lie
_VELOCITY = 98

# (beat of the bar, length in beats, tone of the chord from the root, octaves above)
Pattern = tuple[tuple[float, float, int, int], ...]

_PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "roots": (
        ((0, 3.8, 0, 0),),
        ((0, 1.9, 0, 0), (2, 1.9, 0, 0)),
        ((0, 2.4, 0, 0), (2.5, 0.4, 0, 0), (3, 0.9, 2, 0)),
    ),
    "eighths": (
        tuple((step / 2, 0.42, 0, 0) for step in range(8)),
        (*((step / 2, 0.42, 0, 0) for step in range(6)), (3, 0.42, 2, 0), (3.5, 0.42, 1, 0)),
    ),
    "syncopated": (
        ((0, 0.7, 0, 0), (0.75, 0.2, 0, 0), (1.5, 0.9, 0, 0), (2.75, 0.2, 2, 0), (3, 0.8, 0, 1)),
        ((0, 0.45, 0, 0), (1.75, 0.2, 0, 1), (2, 0.4, 2, 0), (2.5, 0.9, 0, 0), (3.75, 0.2, 0, 0)),
        ((0, 1.4, 0, 0), (1.5, 1.4, 0, 0), (3, 0.4, 2, 0), (3.5, 0.4, 0, 1)),
    ),
    "octaves": (tuple((step / 2, 0.35, 0, step % 2) for step in range(8)),),
    "off-beat": (tuple((beat + 0.5, 0.4, 0, 0) for beat in range(4)),),
    "tumbao": (
        ((0, 1.4, 0, 0), (1.5, 1.4, 2, 0), (3, 0.9, 0, 1)),
        ((1.5, 1.4, 2, 0), (3, 0.95, 0, 1)),
    ),
}


def write_bass(
    rng: np.random.Generator, line: str, key: Key, sections: list[Section]
) -> list[Note]:
    """A line under the chords; a pattern per kind of section, varied now and then.

    Args:
        rng: to draw from.
        line: a name in `LINES`.
        key: of the song.
        sections: that the bass plays in.
    """
    return LINES[line](rng, line, key, sections)


def _write_pattern(
    rng: np.random.Generator, line: str, key: Key, sections: list[Section]
) -> list[Note]:
    patterns = _PATTERNS[line]
    kinds = dict.fromkeys(section.kind for section in sections)
    usual = {kind: patterns[rng.integers(len(patterns))] for kind in kinds}
    notes = []
    for section in sections:
        for bar, degree in zip(section.bars, section.chords):
            varied = rng.random() < 0.15
            pattern = patterns[rng.integers(len(patterns))] if varied else usual[section.kind]
            chord = key.chord(degree)
            root = nearest(chord[0], _CENTRE)
            for beat, length, tone, octave in pattern:
                pitch = root + (chord[tone] - chord[0]) % 12 + 12 * octave
                notes.append(_note(rng, bar, beat, length, pitch, section.intensity))
    return notes


def _write_walking(
    rng: np.random.Generator, line: str, key: Key, sections: list[Section]
) -> list[Note]:
    """Root, two tones of the chord or scale, and a neighbour of the next root."""
    notes = []
    for section in sections:
        following = (*section.chords[1:], section.chords[0])
        for bar, degree, after in zip(section.bars, section.chords, following):
            chord = key.chord(degree, 4)
            root = nearest(chord[0], _CENTRE)
            target = nearest(key.chord(after)[0], _CENTRE)
            inner = [root + (tone - chord[0]) % 12 for tone in rng.permutation(chord[1:])[:2]]
            approach = target + int(rng.choice((-1, 1, 2)))
            for beat, pitch in enumerate((root, *inner, approach)):
                notes.append(_note(rng, bar, beat, 0.92, pitch, section.intensity))
    return notes


def _note(
    rng: np.random.Generator, bar: int, beat: float, length: float, pitch: int, intensity: float
) -> Note:
    accent = 8 if beat == 0 else 0
    velocity = intensity * (_VELOCITY + accent) + 5 * rng.standard_normal()
    return Note(BEATS_PER_BAR * bar + beat, length, pitch, int(np.clip(velocity, 1, 127)))


Writer = Callable[[np.random.Generator, str, Key, list[Section]], list[Note]]
LINES: dict[str, Writer] = {
    **dict.fromkeys(_PATTERNS, _write_pattern),
    "walking": _write_walking,
}
