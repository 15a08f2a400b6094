"""Notes, keys and chords."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["BEATS_PER_BAR", "PROGRESSIONS", "Key", "Note", "draw_key", "nearest"]

BEATS_PER_BAR = 4

_MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
_TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

#: By mode, progressions of four chords, a bar each; degrees of the scale, counted from 0.
PROGRESSIONS: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (1, 4, 0, 0), (0, 2, 3, 4)),
    "minor": ((0, 5, 2, 6), (0, 6, 5, 6), (0, 3, 4, 0), (0, 5, 3, 4), (0, 2, 6, 3)),
    "dorian": ((0, 3, 0, 3), (0, 3, 6, 0), (0, 2, 3, 0), (0, 1, 3, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 4, 3, 0), (0, 0, 6, 3), (0, 3, 6, 3)),
}


class Note(NamedTuple):
    """A note to be played.

    Attributes:
        start: from the beginning of the song; in beats as it is written, in seconds as played.
        length: in the same unit.
        pitch: MIDI key, 60 is middle C; of a drum kit the drum.
        velocity: from 1 to 127.
    """

    start: float
    length: float
    pitch: int
    velocity: int


class Key(NamedTuple):
    """A tonic, from 0 for C, and a mode."""

    tonic: int
    mode: str

    def __str__(self) -> str:
        return f"{_TONICS[self.tonic]} {self.mode}"

    def chord(self, degree: int, tones: int = 3) -> tuple[int, ...]:
        """Pitch classes from the root upwards, in thirds."""
        scale = _MODES[self.mode]
        return tuple((self.tonic + scale[(degree + 2 * tone) % 7]) % 12 for tone in range(tones))

    def scale(self, low: int, high: int) -> list[int]:
        """The MIDI keys of the scale from `low` to `high`, both included."""
        classes = {(self.tonic + step) % 12 for step in _MODES[self.mode]}
        return [pitch for pitch in range(low, high + 1) if pitch % 12 in classes]


def draw_key(rng: np.random.Generator, modes: tuple[str, ...]) -> Key:
    """Any tonic, one of the modes."""
    return Key(int(rng.integers(12)), str(rng.choice(modes)))


def nearest(pitch_class: int, centre: float) -> int:
    """The MIDI key of a pitch class that is nearest to `centre`; of two, the lower one."""
    low = int(np.floor(centre)) - 6
    pitches = [pitch for pitch in range(low, low + 14) if pitch % 12 == pitch_class % 12]
    return min(pitches, key=lambda pitch: (abs(pitch - centre), pitch))
