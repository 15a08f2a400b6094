"""A voice that sings or speaks syllables: a glottal wave and noise through a vocal tract.

The source-filter model (Fant, "Acoustic theory of speech production", 1960). The glottal wave is
a table of harmonics read at the pitch of the melody; noise gives breath and consonants. Both pass
a filter that changes from frame to frame, by short-time Fourier transforms: vowels are resonances
at the mean formants of men and women (Peterson and Barney, "Control methods used in a study of
the vowels", JASA 24, 1952), consonants bands of noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthetic.theory import Note

__all__ = ["Speaker", "speak", "utter"]

Audio = NDArray[np.float32]

_FFT, _HOP = 1024, 256
_TABLE = 2048
_TILT = 1.25  # exponent by which the harmonics of the glottal wave get weaker
_FRAME_SMOOTHING = 5  # frames over which a vowel turns into the next
_GAIN = 0.5

# The first three formants of men and of women, in Hz.
_VOWELS = {
    "i": ((270, 2290, 3010), (310, 2790, 3310)),
    "e": ((530, 1840, 2480), (610, 2330, 2990)),
    "ae": ((660, 1720, 2410), (860, 2050, 2850)),
    "ah": ((730, 1090, 2440), (850, 1220, 2810)),
    "aw": ((570, 840, 2410), (590, 920, 2710)),
    "uh": ((640, 1190, 2390), (760, 1400, 2780)),
    "u": ((300, 870, 2240), (370, 950, 2670)),
    "er": ((490, 1350, 1690), (500, 1640, 1960)),
}
_HIGHER = (3500.0, 4500.0)  # two more, of the tract's length and not of the vowel
_BANDWIDTHS = (70.0, 90.0, 130.0, 200.0, 250.0)
_STRENGTHS = (1.0, 0.75, 0.5, 0.35, 0.2)


class _Consonant(NamedTuple):
    """How a syllable begins: noise from `low` to `high` Hz, and how loud the voice is in it."""

    seconds: float
    low: float
    high: float
    noise: float
    voiced: float


_CONSONANTS = (
    _Consonant(0.0, 0, 0, 0.0, 1.0),  # none
    _Consonant(0.11, 4500, 11000, 1.0, 0.0),  # s
    _Consonant(0.10, 2000, 7000, 0.9, 0.0),  # sh
    _Consonant(0.08, 1200, 10000, 0.35, 0.0),  # f
    _Consonant(0.035, 2500, 8000, 1.2, 0.0),  # t
    _Consonant(0.04, 1200, 3500, 1.0, 0.0),  # k
    _Consonant(0.03, 300, 1500, 0.7, 0.2),  # b
    _Consonant(0.07, 0, 0, 0.0, 0.25),  # m, n
    _Consonant(0.06, 0, 0, 0.0, 0.5),  # l, r
    _Consonant(0.06, 500, 6000, 0.3, 0.0),  # h
)


@dataclass(frozen=True)
class Speaker:
    """A person.

    Args:
        female: whose formants it has.
        size: factor of all formants, about 1.
        breath: share of noise in the vowels.
        vibrato: depth in semitones, for long notes.
        vibrato_rate: in Hz.
        glide: seconds that the pitch takes from one note to the next.
    """

    female: bool
    size: float
    breath: float
    vibrato: float
    vibrato_rate: float
    glide: float

    @classmethod
    def draw(cls, rng: np.random.Generator, female: bool, speaks: bool = False) -> Speaker:
        """Somebody."""
        vibrato = 0.0 if speaks else rng.uniform(0.1, 0.6)
        return cls(
            female,
            rng.uniform(0.92, 1.08),
            rng.uniform(0.01, 0.06),
            vibrato,
            rng.uniform(4.8, 6.5),
            rng.uniform(0.03, 0.09),
        )


def utter(
    notes: tuple[Note, ...], speaker: Speaker, rng: np.random.Generator, frames: int, rate: int
) -> Audio:
    """Sing a syllable per note.

    Args:
        notes: in seconds, sorted, one at a time.
        speaker: who sings.
        rng: of the syllables and the noise.
        frames: length of the result.
        rate: in Hz.

    Returns:
        (frames,).
    """
    out = np.zeros(frames, np.float32)
    for phrase in _phrases(notes):
        start = round(max(phrase[0].start - 0.15, 0) * rate)
        count = min(frames, round((phrase[-1].start + phrase[-1].length + 0.3) * rate)) - start
        moved = [note._replace(start=note.start - start / rate) for note in phrase]
        if count > _FFT:
            out[start : start + count] += _sing_phrase(moved, speaker, rng, count, rate)
    return out


def speak(speaker: Speaker, rng: np.random.Generator, seconds: float, rate: int) -> Audio:
    """Say sentences of syllables that mean nothing, whose pitch falls towards their ends.

    Returns:
        (samples,) of about the seconds that are asked for.
    """
    base = rng.uniform(52, 57) if speaker.female else rng.uniform(40, 46)
    notes: list[Note] = []
    at = 0.1
    while at < seconds - 0.5:
        syllables = int(rng.integers(5, 16))
        for number in range(syllables):
            length = float(rng.uniform(0.11, 0.26))
            fall = 4 * (0.5 - number / syllables) + 1.5 * rng.standard_normal()
            notes.append(Note(at, 0.95 * length, round(base + fall), int(rng.integers(70, 110))))
            at += length
        at += float(rng.uniform(0.25, 0.7))
    return utter(tuple(notes), speaker, rng, round(max(seconds, at) * rate), rate)


def _phrases(notes: tuple[Note, ...]) -> list[list[Note]]:
    """Notes between which there is no rest of more than half a second."""
    phrases: list[list[Note]] = []
    for note in notes:
        before = phrases[-1][-1] if phrases else None
        if before is not None and note.start - (before.start + before.length) < 0.5:
            phrases[-1].append(note)
        else:
            phrases.append([note])
    return phrases


def _sing_phrase(
    notes: list[Note], speaker: Speaker, rng: np.random.Generator, count: int, rate: int
) -> Audio:
    """(count,): both excitations, filtered frame by frame, overlapped and added."""
    pitch, loudness = _contour(notes, speaker, count, rate)
    tract, consonant = _filters(notes, speaker, rng, count, rate)
    voiced = _glottal_wave(pitch, rate) * loudness
    breath = rng.standard_normal(count, dtype=np.float32) * loudness
    noise = 0.1 * rng.standard_normal(count, dtype=np.float32)
    spectrum = _transform(voiced + speaker.breath * breath) * tract
    spectrum += _transform(noise) * consonant
    return _GAIN * _inverse(spectrum, count)


def _contour(notes: list[Note], speaker: Speaker, count: int, rate: int) -> tuple[Audio, Audio]:
    """Frequency in Hz and loudness, both (count,), computed every few samples."""
    step = 64
    time = np.arange(0, count + step, step) / rate
    pitch = np.full(len(time), float(notes[0].pitch))
    loudness = np.zeros(len(time))
    for note in notes:
        since = time - note.start
        begun = since >= 0
        pitch[begun] = note.pitch
        deep = speaker.vibrato * np.clip((since - 0.25) / 0.4, 0, 1) * begun
        held = begun & (since < note.length)
        pitch += np.where(held, deep * np.sin(2 * np.pi * speaker.vibrato_rate * since), 0)
        swell = np.clip(np.minimum(since / 0.03, (note.length - since) / 0.06), 0, 1)
        loudness = np.maximum(loudness, (note.velocity / 100) ** 1.5 * swell)
    pitch = _smooth(pitch, max(1, round(speaker.glide * rate / step)))
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    fine = np.arange(count) / rate
    return (
        np.interp(fine, time, frequency).astype(np.float32),
        np.interp(fine, time, loudness).astype(np.float32),
    )


def _smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Moving average over the first axis, of an odd number of values at least `width`."""
    half = width // 2
    padded = np.concatenate([values[:1].repeat(half + 1, 0), values, values[-1:].repeat(half, 0)])
    sums = padded.cumsum(0)
    return (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)


def _glottal_wave(frequency: Audio, rate: int) -> Audio:
    """Harmonics up to the highest that no pitch of the phrase carries past the Nyquist rate."""
    most = max(1, min(80, int(0.48 * rate / float(frequency.max()))))
    phase = np.cumsum(frequency, dtype=np.float64) * (_TABLE / rate)
    return _glottal_table(most)[phase.astype(np.int64) & (_TABLE - 1)]


@lru_cache(maxsize=128)
def _glottal_table(harmonics: int) -> Audio:
    """A period of the glottal wave, (table,)."""
    spectrum = np.zeros(_TABLE // 2 + 1, complex)
    numbers = np.arange(1, harmonics + 1)
    spectrum[1 : harmonics + 1] = numbers**-_TILT * np.exp(0.3j * numbers)
    return (np.fft.irfft(spectrum) * _TABLE / 4).astype(np.float32)


def _filters(
    notes: list[Note], speaker: Speaker, rng: np.random.Generator, count: int, rate: int
) -> tuple[Audio, Audio]:
    """Gains of the tract and of consonants, (frames, bins) each."""
    frames = _frame_count(count)
    time = _HOP * np.arange(frames) / rate
    bins = np.fft.rfftfreq(_FFT, 1 / rate).astype(np.float32)
    formants = np.empty((frames, 5))
    voiced = np.ones(frames)
    noise = np.zeros((frames, len(bins)), np.float32)
    for number, note in enumerate(notes):
        vowel = list(_VOWELS.values())[rng.integers(len(_VOWELS))][speaker.female]
        here = time >= note.start - 0.05 if number else slice(None)
        formants[here] = [speaker.size * hertz for hertz in (*vowel, *_HIGHER)]
        consonant = _CONSONANTS[rng.integers(len(_CONSONANTS))]
        begin = note.start - consonant.seconds / 2
        inside = np.flatnonzero((time >= begin) & (time < begin + consonant.seconds))
        voiced[inside] = consonant.voiced
        loud = consonant.noise * (note.velocity / 100) ** 1.5
        noise[inside] = loud * ((bins > consonant.low) & (bins < consonant.high))
    formants = _smooth(formants, _FRAME_SMOOTHING)
    voiced = _smooth(voiced, 3)
    return _resonances(formants, bins) * voiced[:, None].astype(np.float32), noise


def _resonances(formants: NDArray[np.float64], bins: Audio) -> Audio:
    """Parallel resonances, (frames, formants) -> gains (frames, bins)."""
    gains = np.full((len(formants), len(bins)), 0.01, np.float32)
    for centres, width, strength in zip(formants.T, _BANDWIDTHS, _STRENGTHS):
        away = (bins - centres.astype(np.float32)[:, None]) * np.float32(2 / width)
        gains += np.float32(strength) / np.sqrt(1 + away * away)
    return gains


def _frame_count(count: int) -> int:
    return -(-count // _HOP) + _FFT // _HOP - 1


@lru_cache(maxsize=1)
def _window() -> Audio:
    """Square root of a Hann window, whose squares over all frames add up to 2."""
    return np.sin(np.pi * np.arange(_FFT) / _FFT).astype(np.float32)


def _transform(signal: Audio) -> NDArray[np.complex64]:
    """(count,) -> (frames, bins)."""
    frames = _frame_count(len(signal))
    padded = np.zeros(_HOP * (frames - 1) + _FFT, np.float32)
    padded[_FFT - _HOP : _FFT - _HOP + len(signal)] = signal
    view = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    return np.fft.rfft(view * _window(), axis=1).astype(np.complex64)


def _inverse(spectrum: NDArray[np.complex64], count: int) -> Audio:
    """(frames, bins) -> (count,), the inverse of `_transform`."""
    blocks = np.fft.irfft(spectrum, _FFT, axis=1).astype(np.float32) * (_window() / 2)
    parts = _FFT // _HOP
    out = np.zeros((len(blocks) + parts - 1, _HOP), np.float32)
    for part in range(parts):
        out[part : part + len(blocks)] += blocks[:, _HOP * part : _HOP * (part + 1)]
    return out.reshape(-1)[_FFT - _HOP : _FFT - _HOP + count]
