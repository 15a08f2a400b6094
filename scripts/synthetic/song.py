"""A song as notes: what is played, by what, where and how loudly; nothing is sounding yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aimless.draws import generator
from synthetic import bass, chords, drums, melody
from synthetic.form import Section, draw_form, playing
from synthetic.styles import STYLES, Style
from synthetic.theory import BEATS_PER_BAR, Key, Note, draw_key

__all__ = ["Part", "Room", "Song", "compose"]

Player = Literal["kit", "instrument", "singer", "speaker"]

#: Standard deviation in seconds of when a note comes.
_JITTER = {"kit": 0.004, "instrument": 0.007, "singer": 0.012, "speaker": 0.012}
_CHOIRS = (52, 53, 85)  # programs of General MIDI

#: Integrated loudness of stems before mastering: mean and standard deviation in LU, about those
#: of the songs of MUSDB18 against each other.
_LEVELS = {"drums": (-1.0, 2.0), "bass": (-3.0, 2.5), "other": (0.0, 2.0), "vocals": (0.0, 2.0)}


@dataclass(frozen=True)
class Room:
    """How a part sounds in the room of its song.

    Args:
        pan: from -1, left, to 1.
        width: of the instrument's own stereo picture, from 0, mono, to 1.
        wet: share of reverberation, from 0 to 1.
        tilt_db: gain of the treble over the bass.
        drive_db: how far the part's RMS is driven into an amplifier that saturates.
    """

    pan: float
    width: float
    wet: float
    tilt_db: float
    drive_db: float


@dataclass(frozen=True)
class Part:
    """One instrument or voice.

    Args:
        name: unique in the song.
        stem: that it belongs to.
        player: `kit`, `instrument`, `singer` or `speaker`.
        program: of General MIDI, counted from 0; for voices a number that sets them apart.
        notes: in seconds, sorted.
        level: relative to the other parts of its stem in dB.
        room: where it stands.
    """

    name: str
    stem: str
    player: Player
    program: int
    notes: tuple[Note, ...]
    level: float
    room: Room


@dataclass(frozen=True)
class Song:
    """A composition.

    Args:
        seed: key of the random numbers of everything that is left to be drawn.
        seconds: its length.
        style: a name in `styles.STYLES`.
        key: as words.
        tempo: in beats per minute.
        form: the kinds of its sections.
        parts: what is played.
        levels: loudness of each stem relative to each other in LU.
        hall: size and damping of its room, both from 0 to 1.
        loudness: of the master in LUFS.
    """

    seed: tuple[int | str, ...]
    seconds: float
    style: str
    key: str
    tempo: float
    form: tuple[str, ...]
    parts: tuple[Part, ...]
    levels: dict[str, float]
    hall: tuple[float, float]
    loudness: float

    def of_stem(self, stem: str) -> list[Part]:
        """The parts of a stem."""
        return [part for part in self.parts if part.stem == stem]


def compose(seconds: float, *seed: int | str) -> Song:
    """Write a song, from its key of random numbers alone.

    Args:
        seconds: length of the recording; the music begins at once and goes on to the end.
        *seed: as of `aimless.draws.generator`.
    """
    rng = generator("compose", *seed)
    name = str(rng.choice(list(STYLES)))
    style = STYLES[name]
    tempo = float(rng.uniform(*style.tempo))
    key = draw_key(rng, style.modes)
    bars = math.ceil(seconds * tempo / 60 / BEATS_PER_BAR)
    sections = draw_form(rng, key, max(bars, 1))
    parts = [
        _drums(rng, style, sections),
        _bass(rng, style, key, sections),
        *_accompaniment(rng, style, key, sections),
        *_vocals(rng, style, key, sections),
    ]
    played = tuple(_perform(rng, part, tempo, style.swing, seconds) for part in parts)
    return Song(
        seed,
        seconds,
        name,
        str(key),
        tempo,
        tuple(section.kind for section in sections),
        tuple(part for part in played if part.notes),
        {stem: float(rng.normal(*level)) for stem, level in _LEVELS.items()},
        (float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.2, 0.9))),
        float(np.clip(rng.normal(-13, 2), -18, -9)),
    )


def _drums(rng: np.random.Generator, style: Style, sections: list[Section]) -> Part:
    groove, kit = str(rng.choice(style.grooves)), int(rng.choice(style.kits))
    notes = drums.write_drums(rng, groove, playing(rng, sections, "drums"))
    room = Room(
        0.0, rng.uniform(0.5, 1), rng.uniform(0.02, 0.2), rng.uniform(0, 5), rng.uniform(-20, -8)
    )
    return Part("drums", "drums", "kit", kit, tuple(notes), 0.0, room)


def _bass(rng: np.random.Generator, style: Style, key: Key, sections: list[Section]) -> Part:
    line, program = str(rng.choice(style.bass_lines)), int(rng.choice(style.basses))
    notes = bass.write_bass(rng, line, key, playing(rng, sections, "bass"))
    room = Room(
        rng.uniform(-0.1, 0.1), rng.uniform(0, 0.3), 0.0, rng.uniform(2, 10), rng.uniform(-12, 3)
    )
    return Part("bass", "bass", "instrument", program, tuple(notes), 0.0, room)


def _accompaniment(
    rng: np.random.Generator, style: Style, key: Key, sections: list[Section]
) -> list[Part]:
    """Two or three instruments with chords, and one with a melody where nobody sings."""
    count = min(int(rng.integers(2, 4)), len(style.chords))
    chosen = rng.permutation(len(style.chords))[:count]
    parts = []
    for number, index in enumerate(sorted(chosen)):
        pattern, programs = style.chords[index]
        program = int(rng.choice(programs))
        notes = chords.write_chords(rng, pattern, key, playing(rng, sections, "chords"))
        level = float(rng.normal(0, 2))
        name = f"chords {number + 1}"
        parts.append(Part(name, "other", "instrument", program, tuple(notes), level, _place(rng)))
    unsung = [section for section in sections if section.kind in ("intro", "bridge")]
    notes = melody.write_melody(rng, key, playing(rng, unsung, "lead"), 60, 84) if unsung else []
    program = int(rng.choice(style.leads))
    parts.append(Part("lead", "other", "instrument", program, tuple(notes), 0.0, _place(rng)))
    return parts


def _place(rng: np.random.Generator) -> Room:
    return Room(
        rng.uniform(-0.8, 0.8),
        rng.uniform(0.3, 1),
        rng.uniform(0.05, 0.35),
        rng.uniform(0, 8),
        rng.uniform(-20, -4),
    )


def _vocals(
    rng: np.random.Generator, style: Style, key: Key, sections: list[Section]
) -> list[Part]:
    """A voice that sings or speaks, often with a second one or a choir in the choruses."""
    sung = playing(rng, sections, "vocals")
    voice = int(rng.integers(1, 1000))  # even numbers are women's, odd ones men's voices
    low = int(rng.integers(55, 60)) if voice % 2 == 0 else int(rng.integers(46, 52))
    room = Room(
        rng.uniform(-0.15, 0.15),
        1.0,
        rng.uniform(0.05, 0.3),
        rng.uniform(2, 8),
        rng.uniform(-18, -6),
    )
    if rng.random() < style.spoken:
        notes = melody.write_rhythm(rng, sung, low)
        return [Part("voice", "vocals", "speaker", voice, tuple(notes), 0.0, room)]
    notes = melody.write_melody(rng, key, sung, low, low + 17)
    parts = [Part("voice", "vocals", "singer", voice, tuple(notes), 0.0, room)]
    choruses = [section for section in sung if section.kind == "chorus"]
    first = choruses[0].start if choruses else math.inf
    refrain = tuple(note for note in notes if _within(note, choruses) and note.start >= first)
    if refrain and rng.random() < 0.6:
        backing = Room(rng.uniform(-0.7, 0.7), 1.0, rng.uniform(0.2, 0.5), rng.uniform(0, 6), -18.0)
        second = tuple(_third_above(key, note) for note in refrain)
        if rng.random() < 0.5:
            other = voice + 1000
            parts.append(Part("second voice", "vocals", "singer", other, second, -6.0, backing))
        else:
            program = int(rng.choice(_CHOIRS))
            parts.append(Part("choir", "vocals", "instrument", program, second, -8.0, backing))
    return parts


def _within(note: Note, sections: list[Section]) -> bool:
    bar = int(note.start // BEATS_PER_BAR)
    return any(bar in section.bars for section in sections)


def _third_above(key: Key, note: Note) -> Note:
    above = key.scale(note.pitch + 1, note.pitch + 5)
    return note._replace(pitch=above[1] if len(above) > 1 else note.pitch + 4)


def _perform(
    rng: np.random.Generator, part: Part, tempo: float, swing: float, seconds: float
) -> Part:
    """The part in seconds: swung, not quite in time, and over when the song is."""
    beat = 60 / tempo
    jitter = _JITTER[part.player] * rng.standard_normal(len(part.notes))
    played = []
    for note, late in zip(part.notes, jitter):
        start = max(0.0, beat * _swing(note.start, swing) + late)
        if start < seconds:
            played.append(note._replace(start=start, length=beat * note.length))
    return Part(**{**vars(part), "notes": tuple(sorted(played))})


def _swing(beat: float, swing: float) -> float:
    """Halves of a beat come late, and what is before and after them accordingly."""
    whole, part = divmod(beat, 1.0)
    late = 0.5 + swing
    bent = part / 0.5 * late if part <= 0.5 else late + (part - 0.5) / 0.5 * (1 - late)
    return whole + bent
