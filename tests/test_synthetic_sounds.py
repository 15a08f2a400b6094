"""Synthetic sounds: voices, effects, instruments, and how they are mixed."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from aimless.draws import generator
from aimless.errors import ConfigError, DataError
from aimless.sources import MDX_SOURCES
from data.loudness import integrated_loudness
from tests import synthetic_parts  # noqa: F401  (puts the scripts on the path)

effects, mixing, plain, rendering, song, soundfont, speech, theory, voice = (
    importlib.import_module(f"synthetic.{name}")
    for name in (
        *("effects", "mixing", "plain", "rendering", "song", "soundfont", "speech", "theory"),
        "voice",
    )
)
RATE = 44100
PLAIN = rendering.Sounds(None, None, RATE)
HALL = (0.5, 0.5)
FONT, _ = soundfont.find_font(None)
with_font = pytest.mark.skipif(FONT is None, reason="needs FluidSynth and a sound font")
with_espeak = pytest.mark.skipif(speech.find_espeak() is None, reason="needs eSpeak NG")


def synths():
    return [plain.PlainSynth(RATE), *([soundfont.FontSynth(FONT, RATE)] if FONT else [])]


def note(pitch: int, start: float = 0.1, length: float = 0.8):
    return theory.Note(start, length, pitch, 100)


def fundamental(signal: np.ndarray, low: float, high: float) -> float:
    """Frequency in Hz at which the signal is most like itself a period later."""
    power = np.abs(np.fft.rfft(signal, 2 * len(signal))) ** 2
    correlation = np.fft.irfft(power)[: len(signal)]
    lags = np.arange(int(RATE / high), int(RATE / low))
    return RATE / lags[np.argmax(correlation[lags])]


def power(signal: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(signal)) ** 2
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    return float(spectrum[(frequency >= low) & (frequency < high)].sum() / spectrum.sum())


@pytest.mark.parametrize("program", [0, 33, 73, 81])
@pytest.mark.parametrize("pitch", [45, 57, 69])
def test_instruments_play_the_pitch_that_is_written(program: int, pitch: int) -> None:
    wanted = 440 * 2 ** ((pitch - 69) / 12)
    for synth in synths():
        audio = synth.render((note(pitch),), program, RATE)
        assert audio.shape == (2, RATE)
        assert audio.dtype == np.float32
        found = fundamental(audio.mean(0)[RATE // 4 : RATE // 2], 0.7 * wanted, 1.5 * wanted)
        assert 12 * np.log2(found / wanted) == pytest.approx(0, abs=0.3)


def test_instruments_are_silent_before_the_first_note_and_the_same_again() -> None:
    notes = (note(60, start=0.5), note(64, start=0.6))
    for synth in synths():
        audio = synth.render(notes, 0, RATE)
        assert not audio[:, : int(0.49 * RATE)].any()
        assert np.abs(audio[:, int(0.52 * RATE) :]).max() > 0.01
        np.testing.assert_array_equal(audio, synth.render(notes, 0, RATE))


def test_a_note_ends() -> None:
    for synth in synths():
        for program in (16, 33, 73):
            audio = synth.render((note(60, length=0.3),), program, 3 * RATE)
            during, after = audio[:, RATE // 5 : RATE // 3], audio[:, 2 * RATE :]
            assert np.abs(after).max() < 0.05 * np.abs(during).max()


def test_drums_differ_from_each_other() -> None:
    for synth in synths():
        kick, snare, hat = (
            synth.render((note(key, 0.0, 0.1),), 0, RATE, drums=True).mean(0)
            for key in (36, 38, 42)
        )
        assert power(kick, 20, 300) > 0.6
        assert power(hat, 3000, 22050) > 0.6
        assert power(kick, 20, 300) > power(snare, 20, 300) > power(hat, 20, 300)


@with_font
def test_a_font_without_the_instrument_or_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="preset 200"):
        soundfont.FontSynth(FONT, RATE).render((note(60),), 200, 1000)
    broken = tmp_path / "broken.sf2"
    broken.write_bytes(b"RIFF\x10\0\0\0sfbk" + bytes(8))
    assert soundfont.find_font(broken)[0] == broken
    with pytest.raises(DataError, match=r"broken\.sf2: FluidSynth cannot load it"):
        soundfont.FontSynth(broken, RATE).render((note(60),), 0, 1000)


def test_what_is_no_font_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfont, "_library", lambda: None)
    with pytest.raises(DataError, match="cannot be read"):
        soundfont.find_font(tmp_path / "missing.sf2")
    (tmp_path / "text.sf2").write_text("not a font at all")
    with pytest.raises(DataError, match="is no sound font"):
        soundfont.find_font(tmp_path / "text.sf2")


def test_without_fluidsynth_the_plain_synthesiser_plays_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ConfigError("no FluidSynth")

    font = tmp_path / "font.sf2"
    font.write_bytes(b"RIFF\0\0\0\0sfbk")
    monkeypatch.setattr(soundfont, "SYSTEM_FONTS", (font,))
    monkeypatch.setattr(soundfont, "_library", missing)
    assert soundfont.find_font(None) == (None, "no FluidSynth; using the plain synthesiser")
    with pytest.raises(ConfigError, match="no FluidSynth"):
        soundfont.find_font(font)
    monkeypatch.setattr(soundfont, "SYSTEM_FONTS", ())
    found, line = soundfont.find_font(None)
    assert found is None
    assert "apt-get install" in line


@pytest.mark.parametrize("female", [False, True])
def test_a_voice_sings_the_melody_in_vowels(female: bool) -> None:
    pitch = 57 if female else 48
    speaker = voice.Speaker.draw(generator("speaker"), female)
    notes = (note(pitch, 0.2, 0.9), note(pitch + 4, 1.2, 0.9), note(pitch + 7, 3.0, 0.9))
    audio = voice.utter(notes, speaker, generator("song"), 4 * RATE, RATE)
    assert audio.shape == (4 * RATE,)
    for one in notes:
        wanted = 440 * 2 ** ((one.pitch - 69) / 12)
        middle = audio[int((one.start + 0.4) * RATE) : int((one.start + 0.7) * RATE)]
        found = fundamental(middle, 0.7 * wanted, 1.4 * wanted)
        assert 12 * np.log2(found / wanted) == pytest.approx(0, abs=1.0)  # it has a vibrato
        assert power(middle, 80, 4000) > 0.9
    rest = audio[int(2.5 * RATE) : int(2.8 * RATE)]
    assert np.abs(rest).max() < 0.02 * np.abs(audio).max()


def test_filtering_frames_by_one_changes_nothing() -> None:
    signal = generator("noise").standard_normal(5000).astype(np.float32)
    np.testing.assert_allclose(voice._inverse(voice._transform(signal), 5000), signal, atol=1e-5)


def test_voices_do_not_alias() -> None:
    wave = voice._glottal_wave(np.full(RATE, 997.0, np.float32), RATE)
    spectrum = np.abs(np.fft.rfft(wave))
    harmonics = np.zeros(len(spectrum), bool)
    for number in range(1, 23):
        harmonics[997 * number - 3 : 997 * number + 4] = True
    assert spectrum[~harmonics].max() < 0.01 * spectrum.max()


def test_speech_without_words_has_pauses_and_a_voice() -> None:
    audio = speech.say(generator("line"), 5.0, RATE, None, person=3)
    assert 5 * RATE <= len(audio) < 8 * RATE
    level = np.sqrt(np.mean(audio[: len(audio) // 441 * 441].reshape(-1, 441) ** 2, axis=1))
    assert 0.02 < np.mean(level < 0.02 * level.max()) < 0.6
    same = speech.say(generator("line"), 5.0, RATE, None, person=3)
    np.testing.assert_array_equal(audio, same)


@with_espeak
def test_espeak_says_about_as_much_as_wanted() -> None:
    found = speech.find_espeak()
    lengths = [len(speech.say(generator(n), 6.0, RATE, found, n)) / RATE for n in range(4)]
    assert all(2 < seconds < 14 for seconds in lengths)


def test_a_speaker_that_fails_is_named() -> None:
    with pytest.raises(DataError, match="false: cannot speak"):
        speech.say(generator("line"), 2.0, RATE, "false", person=1)


@pytest.mark.parametrize("name", effects.EFFECTS)
def test_effects_are_finite_and_differ(name: str) -> None:
    first, second = (effects.EFFECTS[name](generator(name, n), RATE) for n in (0, 1))
    assert np.isfinite(first).all()
    assert 0.05 < len(first) / RATE < 20
    assert len(first) != len(second) or not np.array_equal(first, second)


def test_drawn_effects_have_a_peak_of_one_and_soft_ends() -> None:
    for number in range(10):
        _, sound = effects.draw_effect(generator("effect", number), RATE)
        assert np.abs(sound).max() == pytest.approx(1)
        assert abs(sound[0]) < 0.01
        assert abs(sound[-1]) < 0.01


def test_panning_keeps_the_power_and_goes_to_its_side() -> None:
    dry = generator("dry").standard_normal((2, RATE)).astype(np.float32)
    levels = []
    for pan in (-1.0, 0.0, 1.0):
        wet = mixing.place(dry, song.Room(pan, 0.0, 0.0, 0.0, -30.0), HALL, RATE)
        levels.append(np.sqrt((wet**2).mean(1)))
    left, middle, right = levels
    assert left[1] < 1e-6 * left[0]
    assert right[0] < 1e-6 * right[1]
    assert middle[0] == pytest.approx(middle[1])
    powers = [float((level**2).sum()) for level in levels]
    assert powers == pytest.approx([powers[1]] * 3, rel=1e-4)


def test_a_room_rings_on_and_a_dry_part_does_not() -> None:
    dry = np.zeros((1, RATE), np.float32)
    dry[:, 1000:1100] = 1
    for wet in (0.0, 0.5):
        audio = mixing.place(dry, song.Room(0.3, 1.0, wet, 0.0, -10.0), HALL, RATE)
        assert audio.shape == (2, RATE)
        assert bool(np.abs(audio[:, RATE // 2 :]).max() > 1e-5) == bool(wet)


def test_an_amplifier_adds_overtones_the_more_it_is_driven() -> None:
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 100 * time, dtype=np.float32)[None]
    shares = [power(mixing.saturate(tone, drive)[0], 200, 22050) for drive in (-30.0, -10.0, 6.0)]
    assert shares == sorted(shares)
    assert shares[0] < 1e-5
    assert shares[2] > 1e-2


def test_a_master_has_its_loudness_and_no_peak_beyond_full_scale() -> None:
    one = song.compose(8.0, "master", 1)
    parts = mixing.mix_song(one, PLAIN)
    assert list(parts) == list(MDX_SOURCES)
    stems = {stem: mixing.add(list(named.values())) for stem, named in parts.items()}
    mixture = mixing.add(list(stems.values()))
    assert max(np.abs(signal).max() for signal in (mixture, *stems.values())) <= 0.986
    assert integrated_loudness(mixture, RATE) == pytest.approx(one.loudness, abs=3)
    for stem in stems.values():
        assert -40 < integrated_loudness(stem, RATE) < one.loudness + 6


def test_16_bit_stems_sum_to_the_mixture_exactly() -> None:
    rng = generator("bits")
    for scale in (0.1, 3.0):  # 3: stems that have to be scaled down
        stems = {name: scale * rng.standard_normal((2, 999)).astype("f4") for name in MDX_SOURCES}
        rounded, mixture = mixing.to_16_bits(stems)
        total = sum(stem.astype(np.int64) for stem in rounded.values())
        np.testing.assert_array_equal(total, mixture)
        assert mixture.dtype == np.int16
        assert mixture.shape == (999, 2)
