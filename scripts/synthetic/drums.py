"""Drum parts: grooves of a bar, fills, crashes."""

from __future__ import annotations

import numpy as np

from synthetic.form import Section
from synthetic.theory import BEATS_PER_BAR, Note

__all__ = ["DRUMS", "GROOVES", "write_drums"]

#: Keys of General MIDI's percussion.
DRUMS = {
    "kick": 36,
    "rim": 37,
    "snare": 38,
    "clap": 39,
    "brush": 38,
    "low tom": 43,
    "mid tom": 47,
    "high tom": 50,
    "closed hat": 42,
    "pedal hat": 44,
    "open hat": 46,
    "crash": 49,
    "ride": 51,
    "tambourine": 54,
    "cowbell": 56,
    "high conga": 62,
    "open conga": 63,
    "low conga": 64,
    "shaker": 70,
}

_STEPS = 16  # per bar
#: X loud, x normal, o soft, ? soft and only now and then.
_VELOCITIES = {"X": 112, "x": 94, "o": 58, "?": 48}
_NOW_AND_THEN = 0.4

GROOVES: dict[str, dict[str, str]] = {
    "rock": {
        "kick": "X.......x.x....?",
        "snare": "....X..?....X...",
        "closed hat": "x.o.x.o.x.o.x.o.",
    },
    "half time": {
        "kick": "X.....?...x....?",
        "snare": "........X.......",
        "closed hat": "x.o.x.o.x.o.x.o.",
    },
    "driving": {
        "kick": "X.x.....X.x...?.",
        "snare": "....X.......X..?",
        "open hat": "x...x...x...x...",
    },
    "four on the floor": {
        "kick": "X...X...X...X...",
        "clap": "....X.......X...",
        "closed hat": "o.x.o.x.o.x.o.x.",
        "shaker": "oooooooooooooooo",
    },
    "disco": {
        "kick": "X...X...X...X...",
        "snare": "....X.......X...",
        "open hat": "..x...x...x...x.",
        "closed hat": "x...x...x...x...",
        "tambourine": "....o.......o...",
    },
    "hip-hop": {
        "kick": "X..?..x...x.....",
        "snare": "....X.......X..?",
        "closed hat": "x.x.x.xox.x.x.x?",
    },
    "funk": {
        "kick": "X..x......x..?..",
        "snare": "....X..o.o..X..o",
        "closed hat": "x.xxx.xxx.xxx.xx",
        "open hat": "..............?.",
    },
    "breakbeat": {
        "kick": "X.x.......xx....",
        "snare": "....X..o.o..X..o",
        "ride": "x.o.x.o.x.o.x.o.",
    },
    "swing": {
        "kick": "o.......?.......",
        "pedal hat": "....x.......x...",
        "ride": "x...x.o.x...x.o.",
        "snare": "......?.......?.",
    },
    "brushes": {
        "kick": "x.........o.....",
        "brush": "o...x..?o...x..?",
        "pedal hat": "....o.......o...",
    },
    "ballad": {
        "kick": "X.........x.....",
        "rim": "....x.......x...",
        "closed hat": "o.o.o.o.o.o.o.o.",
    },
    "bossa": {
        "kick": "x..xx..xx..xx..x",
        "rim": "x..x..x...x..x..",
        "shaker": "xoooxoooxoooxooo",
    },
    "latin": {
        "kick": "x..x....x..x....",
        "cowbell": "x...x...x...x...",
        "high conga": "..o...x...o...x.",
        "open conga": "......?x......xx",
        "low conga": "......x.........",
        "snare": "............o..?",
    },
}

_FILLS = (
    ("snare", "snare", "high tom", "high tom", "mid tom", "mid tom", "low tom", "low tom"),
    ("high tom", "high tom", "high tom", "mid tom", "mid tom", "low tom", "low tom", "kick"),
    ("snare",) * 8,
    ("snare", "", "snare", "high tom", "", "mid tom", "low tom", "low tom"),
)


def write_drums(rng: np.random.Generator, groove: str, sections: list[Section]) -> list[Note]:
    """A groove with fills in the last bars of sections and crashes at their beginnings."""
    notes: list[Note] = []
    for section in sections:
        if rng.random() < 0.8:
            notes.append(_hit("crash", section.start, 100 * section.intensity))
        for bar in section.bars:
            steps = _STEPS
            if bar == section.bars[-1] and len(section.bars) > 1 and rng.random() < 0.75:
                steps -= 8 if rng.random() < 0.5 else 4
                notes += _write_fill(rng, bar, steps, section.intensity)
            notes += _write_bar(rng, groove, bar, steps, section.intensity)
    return notes


def _write_bar(
    rng: np.random.Generator, groove: str, bar: int, steps: int, intensity: float
) -> list[Note]:
    notes = []
    for drum, pattern in GROOVES[groove].items():
        for step, sign in enumerate(pattern[:steps]):
            if sign == "." or (sign == "?" and rng.random() > _NOW_AND_THEN):
                continue
            velocity = _VELOCITIES[sign] * intensity + 6 * rng.standard_normal()
            notes.append(_hit(drum, _beat(bar, step), velocity))
    return notes


def _write_fill(rng: np.random.Generator, bar: int, first: int, intensity: float) -> list[Note]:
    """Sixteenths from a step of a bar to its end, growing louder."""
    drums = _FILLS[rng.integers(len(_FILLS))][first - 8 :]
    return [
        _hit(drum, _beat(bar, step), intensity * (70 + 40 * (step - first) / (_STEPS - first)))
        for step, drum in enumerate(drums, first)
        if drum
    ]


def _beat(bar: int, step: int) -> float:
    return BEATS_PER_BAR * (bar + step / _STEPS)


def _hit(drum: str, beat: float, velocity: float) -> Note:
    return Note(beat, 0.2, DRUMS[drum], int(np.clip(velocity, 1, 127)))
