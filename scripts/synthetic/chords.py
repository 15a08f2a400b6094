"""Accompaniment: chords, broken or not, in the rhythm of a pattern."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from synthetic.form import Section
from synthetic.theory import BEATS_PER_BAR, Key, Note, nearest

__all__ = ["PATTERNS", "write_chords"]


class Pattern(NamedTuple):
    """A bar of accompaniment.

    Attributes:
        hits: variants, of which a part draws one per kind of section; each has (beat of the
            bar, length in beats, velocity).
        centre: MIDI key around which the chord lies.
        tones: of the chord.
        broken: the tones come one by one, a hit each, up and down.
        spread: delay from tone to tone of a chord in beats, as of a strum.
        fifths: roots, fifths and octaves instead of chords.
    """

    hits: tuple[tuple[tuple[float, float, int], ...], ...]
    centre: float = 60.0
    tones: int = 3
    broken: bool = False
    spread: float = 0.0
    fifths: bool = False


def _even(
    count: int, length: float, strong: int, weak: int
) -> tuple[tuple[float, float, int], ...]:
    """As many hits in a bar, every second one weaker."""
    step = BEATS_PER_BAR / count
    return tuple((i * step, length * step, weak if i % 2 else strong) for i in range(count))


PATTERNS: dict[str, Pattern] = {
    "sustained": Pattern((((0, 3.95, 78),),), centre=62, tones=4),
    "block": Pattern((((0, 3.8, 88),), _even(4, 0.9, 90, 76), ((0, 1.4, 90), (1.5, 2.3, 84)))),
    "strum": Pattern(
        (
            ((0, 0.9, 96), (1, 0.9, 84), (1.5, 0.4, 70), (2.5, 0.4, 76), (3, 0.9, 88)),
            _even(8, 0.9, 94, 72),
        ),
        centre=57,
        tones=4,
        spread=0.03,
    ),
    "power": Pattern(
        (_even(8, 0.9, 100, 88), ((0, 3.8, 104),), _even(2, 0.95, 102, 96)), 45, fifths=True
    ),
    "arpeggio": Pattern((_even(8, 1.1, 86, 74), _even(16, 1.0, 80, 68)), 64, 4, broken=True),
    "off-beat": Pattern(
        (
            tuple((beat + 0.5, 0.3, 90) for beat in range(4)),
            tuple((beat + part, 0.15, 86) for beat in range(4) for part in (0.5, 0.75)),
        ),
        centre=64,
    ),
    "stabs": Pattern(
        (((0, 0.4, 104), (1.5, 0.3, 98)), ((2.5, 0.3, 100), (3.5, 0.4, 106)), ((0, 0.3, 106),)),
        centre=64,
        tones=4,
    ),
    "comping": Pattern(
        (
            ((0.5, 0.4, 84), (2, 0.8, 80)),
            ((0, 0.4, 82), (1.5, 1.2, 86)),
            ((1.5, 0.4, 88), (3, 0.9, 78)),
        ),
        centre=59,
        tones=4,
    ),
}


def write_chords(
    rng: np.random.Generator, name: str, key: Key, sections: list[Section]
) -> list[Note]:
    """An accompanying part.

    Args:
        rng: to draw from.
        name: a name in `PATTERNS`.
        key: of the song.
        sections: that the part plays in.
    """
    pattern = PATTERNS[name]
    kinds = dict.fromkeys(section.kind for section in sections)
    hits = {kind: pattern.hits[rng.integers(len(pattern.hits))] for kind in kinds}
    centre = pattern.centre + rng.integers(-3, 4)
    notes: list[Note] = []
    for section in sections:
        for bar, degree in zip(section.bars, section.chords):
            pitches = _voice(key, degree, pattern, centre)
            for number, (beat, length, velocity) in enumerate(hits[section.kind]):
                start = BEATS_PER_BAR * bar + beat
                sounding = [_broken(pitches, number)] if pattern.broken else pitches
                loud = section.intensity * velocity + 5 * rng.standard_normal()
                notes += [
                    Note(start + pattern.spread * order, length, pitch, int(np.clip(loud, 1, 127)))
                    for order, pitch in enumerate(sounding)
                ]
    return notes


def _voice(key: Key, degree: int, pattern: Pattern, centre: float) -> list[int]:
    """Every tone of the chord where it is nearest to the centre, so that voices move little."""
    if pattern.fifths:
        root = nearest(key.chord(degree)[0], centre)
        return [root, root + 7, root + 12]
    return sorted(nearest(tone, centre) for tone in key.chord(degree, pattern.tones))


def _broken(pitches: list[int], number: int) -> int:
    """Up and down again."""
    around = pitches + pitches[-2:0:-1]
    return around[number % len(around)]
