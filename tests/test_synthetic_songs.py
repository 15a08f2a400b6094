"""Synthetic songs as notes: form, keys, chords, melodies, drums, and errors in labels."""

from __future__ import annotations

import importlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from aimless.draws import generator
from aimless.sources import MDX_SOURCES
from tests import synthetic_parts  # noqa: F401  (puts the scripts on the path)

bass, chords, drums, form, melody, planted, song, styles, theory = (
    importlib.import_module(f"synthetic.{name}")
    for name in (
        *("bass", "chords", "drums", "form", "melody", "planted", "song", "styles", "theory"),
    )
)
KEYS = [theory.Key(tonic, mode) for tonic in (0, 4, 11) for mode in theory.PROGRESSIONS]
SONGS = [song.compose(40.0, "test", number) for number in range(60)]


def sections(bars: int = 20, seed: int = 0):
    return form.draw_form(generator("form", seed), theory.Key(0, "major"), bars)


def test_triads_are_thirds_and_fifths() -> None:
    assert theory.Key(0, "major").chord(0) == (0, 4, 7)
    assert theory.Key(0, "major").chord(4, 4) == (7, 11, 2, 5)
    assert theory.Key(9, "minor").chord(0) == (9, 0, 4)
    for key in KEYS:
        for degree in range(6):
            root, third, fifth = key.chord(degree)
            assert (third - root) % 12 in (3, 4)
            assert (fifth - root) % 12 in (6, 7, 8)


@pytest.mark.parametrize("pitch_class", [0, 5, 11])
@pytest.mark.parametrize("centre", [36.0, 59.5, 61.0])
def test_the_nearest_key_is_at_most_six_semitones_away(pitch_class: int, centre: float) -> None:
    pitch = theory.nearest(pitch_class, centre)
    assert pitch % 12 == pitch_class
    assert abs(pitch - centre) <= 6


@pytest.mark.parametrize("bars", [1, 2, 5, 11, 12, 39, 40, 41, 200])
def test_sections_fill_the_song_without_gaps(bars: int) -> None:
    found = sections(bars)
    assert [bar for section in found for bar in section.bars] == list(range(bars))
    if bars >= 5:
        assert [section.kind for section in found[:3]] == ["intro", "verse", "chorus"]
    by_kind = {}
    for section in found:
        assert section.chords[:1] == by_kind.setdefault(section.kind, section.chords[:1])


@pytest.mark.parametrize("role", ["drums", "bass", "chords", "lead", "vocals"])
def test_every_part_plays_somewhere_and_not_always_everywhere(role: str) -> None:
    chosen = [form.playing(generator(role, seed), sections(), role) for seed in range(200)]
    assert all(chosen)
    assert len({tuple(section.kind for section in found) for found in chosen}) > 1


def test_patterns_are_a_bar_long() -> None:
    for groove in drums.GROOVES.values():
        for drum, pattern in groove.items():
            assert drum in drums.DRUMS
            assert len(pattern) == 16
            assert set(pattern) <= set("Xxo?.")


@pytest.mark.parametrize("name", drums.GROOVES)
def test_drums_hit_what_the_kit_has_and_fill_the_ends_of_sections(name: str) -> None:
    found = sections(24)
    notes = drums.write_drums(generator("drums", name), name, found)
    assert {note.pitch for note in notes} <= set(drums.DRUMS.values())
    assert all(0 <= note.start < 24 * theory.BEATS_PER_BAR for note in notes)
    assert all(1 <= note.velocity <= 127 for note in notes)
    toms = {drums.DRUMS[tom] for tom in ("low tom", "mid tom", "high tom")}
    last = {section.bars[-1] for section in found}
    assert {note.start // theory.BEATS_PER_BAR for note in notes if note.pitch in toms} <= last


@pytest.mark.parametrize("line", bass.LINES)
@pytest.mark.parametrize("key", KEYS[:4], ids=str)
def test_the_bass_begins_its_bars_with_the_chord(line: str, key) -> None:
    found = form.draw_form(generator("bass"), key, 16)
    roots = {bar: key.chord(d) for s in found for bar, d in zip(s.bars, s.chords)}
    notes = bass.write_bass(generator(line), line, key, found)
    on_beat = [note for note in notes if note.start % theory.BEATS_PER_BAR == 0]
    assert all(note.pitch % 12 == roots[int(note.start // 4)][0] for note in on_beat)
    assert all(24 <= note.pitch <= 62 for note in notes)


@pytest.mark.parametrize("name", chords.PATTERNS)
def test_accompaniment_keeps_to_its_chords(name: str) -> None:
    key = theory.Key(2, "dorian")
    found = form.draw_form(generator("chords"), key, 12)
    degrees = {bar: d for s in found for bar, d in zip(s.bars, s.chords)}
    for note in chords.write_chords(generator(name), name, key, found):
        degree = degrees[int(note.start // theory.BEATS_PER_BAR)]
        root = key.chord(degree)[0]
        fifths = {root, (root + 7) % 12}
        allowed = fifths if name == "power" else set(key.chord(degree, 4))
        assert note.pitch % 12 in allowed


def test_melodies_stay_in_the_scale_rest_and_come_back() -> None:
    key = theory.Key(7, "mixolydian")
    found = form.draw_form(generator("melody"), key, 32)
    notes = melody.write_melody(generator("melody"), key, found, 55, 72)
    scale = key.scale(55, 72)
    assert {note.pitch for note in notes} <= set(scale)
    rests = [b.start - a.start - a.length for a, b in pairwise(notes)]
    assert min(rests) >= 0
    assert max(rests) > 1
    strong = [note for note in notes if note.start % 4 in (0, 2)]
    degrees = {bar: d for s in found for bar, d in zip(s.bars, s.chords)}
    assert all(note.pitch % 12 in key.chord(degrees[int(note.start // 4)]) for note in strong)
    rhythms = Counter(
        tuple(note.start - 8 * bar for note in notes if 8 * bar <= note.start < 8 * bar + 8)
        for bar in range(16)
    )
    assert max(rhythms.values()) > 1


def test_songs_differ_and_are_the_same_again() -> None:
    assert song.compose(40.0, "test", 7) == SONGS[7]
    assert len({(one.style, one.key, round(one.tempo)) for one in SONGS}) > 50
    assert {one.style for one in SONGS} == set(styles.STYLES)


def test_every_song_has_all_stems_for_a_good_part_of_it() -> None:
    for one in SONGS:
        assert {part.stem for part in one.parts} == set(MDX_SOURCES)
        for part in one.parts:
            assert part.notes == tuple(sorted(part.notes))
            assert part.notes[0].start >= 0
            assert part.notes[-1].start < one.seconds
        starts = [part.notes[0].start for stem in MDX_SOURCES for part in one.of_stem(stem)]
        assert min(starts) < 5


def test_stems_come_and_go() -> None:
    late = [min(p.notes[0].start for p in one.of_stem("vocals")) > 2 for one in SONGS]
    assert np.mean(late) > 0.8
    without = [min(p.notes[0].start for p in one.of_stem("drums")) > 2 for one in SONGS]
    assert 0.1 < np.mean(without) < 0.9


def test_swing_delays_off_beats_only() -> None:
    assert [song._swing(beat, 0.0) for beat in (1, 1.25, 1.5, 1.75)] == [1, 1.25, 1.5, 1.75]
    swung = [song._swing(beat, 1 / 6) for beat in (2, 2.5, 3)]
    assert swung == pytest.approx([2, 2 + 2 / 3, 3])


def test_errors_move_or_swap_what_is_there_and_keep_the_mixture() -> None:
    kinds: Counter[str] = Counter()
    for number, one in enumerate(SONGS):
        errors = planted.draw_errors(generator("errors", number), one, 0.6)
        parts = {
            stem: {part.name: np.full((2, 3), i + 1.0) for i, part in enumerate(one.of_stem(stem))}
            for stem in MDX_SOURCES
        }
        wrong = planted.apply_errors(parts, errors)
        assert all(wrong.values())
        assert sum(len(named) for named in wrong.values()) == len(one.parts)
        assert (wrong == parts) == (not errors)
        kinds.update(error.kind for error in errors)
        for error in errors:
            if error.kind == "misplaced":
                assert error.part in wrong[error.other]
                assert error.part not in wrong[error.stem]
    assert kinds["swap"] > 5
    assert kinds["misplaced"] > 5
    assert 20 < sum(kinds.values()) < 52


def test_no_share_of_errors_gives_none_and_all_gives_one_each() -> None:
    drawn = [planted.draw_errors(generator("e", n), one, 0.0) for n, one in enumerate(SONGS)]
    assert drawn == [[]] * len(SONGS)
    drawn = [planted.draw_errors(generator("e", n), one, 1.0) for n, one in enumerate(SONGS)]
    assert {len(errors) for errors in drawn} == {1}
