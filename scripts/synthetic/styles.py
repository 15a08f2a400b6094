"""Kinds of music: tempo, groove, and which instruments may play what.

Instruments are programs of General MIDI, counted from 0.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["STYLES", "Style"]

PIANOS = (0, 1, 2)
ELECTRIC_PIANOS = (4, 5)
ORGANS = (16, 17, 18)
ACOUSTIC_GUITARS = (24, 25)
CLEAN_GUITARS = (26, 27)
DISTORTED_GUITARS = (29, 30)
STRINGS = (48, 49, 50)
PADS = (50, 51, 89, 90, 95)
BRASS = (61, 62, 63)
WINDS = (56, 64, 65, 66, 71, 73)
MALLETS = (11, 12, 108, 114)
SYNTH_LEADS = (80, 81, 87)


class Style(NamedTuple):
    """What a kind of music may consist of.

    Attributes:
        tempo: slowest and fastest, in beats per minute.
        swing: how much later than half of its beat an eighth on the off-beat comes, in beats;
            1/6 is a triplet.
        modes: of its keys.
        grooves: names in `drums.GROOVES`.
        kits: drum kits.
        basses: programs.
        bass_lines: names in `bass.LINES`.
        chords: (name in `chords.PATTERNS`, programs) of instruments that accompany, of which
            two or three are drawn.
        leads: programs of the melody instrument.
        spoken: probability that the vocals are spoken in rhythm and not sung.
    """

    tempo: tuple[float, float]
    swing: float
    modes: tuple[str, ...]
    grooves: tuple[str, ...]
    kits: tuple[int, ...]
    basses: tuple[int, ...]
    bass_lines: tuple[str, ...]
    chords: tuple[tuple[str, tuple[int, ...]], ...]
    leads: tuple[int, ...]
    spoken: float = 0.0


STYLES: dict[str, Style] = {
    "rock": Style(
        tempo=(105, 160),
        swing=0.0,
        modes=("major", "minor", "mixolydian"),
        grooves=("rock", "half time", "driving"),
        kits=(0, 8, 16),
        basses=(33, 34),
        bass_lines=("eighths", "roots", "syncopated"),
        chords=(
            ("power", DISTORTED_GUITARS),
            ("strum", CLEAN_GUITARS),
            ("sustained", ORGANS),
            ("arpeggio", CLEAN_GUITARS),
        ),
        leads=(29, 30, 27),
    ),
    "pop": Style(
        tempo=(90, 128),
        swing=0.0,
        modes=("major", "minor"),
        grooves=("rock", "four on the floor", "half time"),
        kits=(0, 8, 24),
        basses=(33, 34, 38),
        bass_lines=("eighths", "syncopated", "roots"),
        chords=(
            ("block", PIANOS),
            ("strum", ACOUSTIC_GUITARS),
            ("sustained", STRINGS),
            ("arpeggio", CLEAN_GUITARS + MALLETS),
            ("sustained", PADS),
        ),
        leads=(27, 73, 80, 11),
    ),
    "disco": Style(
        tempo=(112, 128),
        swing=0.0,
        modes=("minor", "dorian", "major"),
        grooves=("four on the floor", "disco"),
        kits=(8, 16, 24),
        basses=(33, 36, 38, 39),
        bass_lines=("octaves", "syncopated"),
        chords=(
            ("off-beat", CLEAN_GUITARS + ELECTRIC_PIANOS),
            ("sustained", STRINGS),
            ("stabs", BRASS),
            ("arpeggio", SYNTH_LEADS),
        ),
        leads=(80, 81, 65, 56),
    ),
    "hip-hop": Style(
        tempo=(76, 100),
        swing=0.08,
        modes=("minor", "dorian"),
        grooves=("hip-hop", "half time"),
        kits=(8, 24, 25),
        basses=(33, 38, 39),
        bass_lines=("syncopated", "roots"),
        chords=(
            ("block", ELECTRIC_PIANOS + PIANOS),
            ("sustained", PADS + STRINGS),
            ("stabs", BRASS + MALLETS),
        ),
        leads=(4, 11, 80, 73),
        spoken=0.7,
    ),
    "funk": Style(
        tempo=(92, 116),
        swing=0.04,
        modes=("dorian", "mixolydian"),
        grooves=("funk",),
        kits=(0, 8),
        basses=(33, 36, 37),
        bass_lines=("syncopated", "octaves"),
        chords=(
            ("off-beat", CLEAN_GUITARS),
            ("stabs", BRASS),
            ("block", (7, 4, 5)),
            ("sustained", ORGANS),
        ),
        leads=(65, 66, 56),
        spoken=0.2,
    ),
    "jazz": Style(
        tempo=(100, 180),
        swing=1 / 6,
        modes=("major", "dorian"),
        grooves=("swing", "brushes"),
        kits=(32, 40),
        basses=(32,),
        bass_lines=("walking",),
        chords=(("comping", (*PIANOS, 26)), ("sustained", ORGANS), ("block", (11, 26))),
        leads=(56, 64, 65, 66, 71),
    ),
    "ballad": Style(
        tempo=(60, 84),
        swing=0.0,
        modes=("major", "minor"),
        grooves=("ballad", "brushes"),
        kits=(0, 32, 40),
        basses=(32, 33, 35),
        bass_lines=("roots", "walking"),
        chords=(
            ("arpeggio", ACOUSTIC_GUITARS + PIANOS),
            ("block", PIANOS + ELECTRIC_PIANOS),
            ("sustained", STRINGS),
            ("sustained", PADS),
        ),
        leads=(40, 42, 71, 73, 68),
    ),
    "latin": Style(
        tempo=(96, 132),
        swing=0.0,
        modes=("minor", "major"),
        grooves=("bossa", "latin"),
        kits=(0, 40),
        basses=(32, 33),
        bass_lines=("tumbao",),
        chords=(
            ("comping", (24, 25)),
            ("block", PIANOS),
            ("stabs", BRASS),
            ("arpeggio", MALLETS),
        ),
        leads=(73, 56, 65, 114),
    ),
    "electronic": Style(
        tempo=(118, 140),
        swing=0.0,
        modes=("minor",),
        grooves=("four on the floor", "driving", "breakbeat"),
        kits=(24, 25),
        basses=(38, 39, 87),
        bass_lines=("off-beat", "octaves", "eighths"),
        chords=(
            ("arpeggio", (*SYNTH_LEADS, 98, 99)),
            ("sustained", PADS),
            ("stabs", (*SYNTH_LEADS, 62, 63)),
            ("off-beat", (90, 81)),
        ),
        leads=SYNTH_LEADS,
    ),
}
