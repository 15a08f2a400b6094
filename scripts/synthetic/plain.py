"""Instruments without samples: a few sines per note, and noise for drums."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aimless.draws import generator
from synthetic.drums import DRUMS
from synthetic.theory import Note

__all__ = ["PlainSynth"]

Audio = NDArray[np.float32]

_LONGEST = 6.0  # seconds of a note that are computed
_RELEASE = 0.06  # seconds in which a note fades after its end
_LEVEL = 0.12


class _Timbre(NamedTuple):
    """A family of instruments.

    Attributes:
        partials: most overtones, the fundamental included.
        slope: exponent by which they get weaker.
        decay: seconds in which the fundamental falls to 1/e; 0: it is held.
        damping: how much quicker higher partials fall, per partial.
        attack: seconds.
        vibrato: depth as a share of the frequency.
        odd: only odd partials, as of a clarinet.
    """

    partials: int
    slope: float
    decay: float
    damping: float
    attack: float
    vibrato: float
    odd: bool = False


_HELD = _Timbre(20, 1.2, 0.0, 0.0, 0.06, 0.003)
#: First program after a family -> its timbre, in the order of General MIDI.
_FAMILIES: tuple[tuple[int, _Timbre], ...] = (
    (8, _Timbre(16, 1.6, 1.2, 0.25, 0.004, 0.0)),  # pianos
    (16, _Timbre(6, 2.2, 0.7, 0.8, 0.002, 0.0)),  # mallets
    (24, _Timbre(10, 0.8, 0.0, 0.0, 0.01, 0.002)),  # organs
    (29, _Timbre(20, 1.3, 0.8, 0.15, 0.003, 0.0)),  # guitars
    (32, _Timbre(40, 0.7, 3.0, 0.02, 0.005, 0.001)),  # distorted guitars
    (40, _Timbre(12, 1.5, 0.9, 0.2, 0.006, 0.0)),  # basses
    (56, _HELD),  # strings, choirs
    (64, _Timbre(24, 1.0, 0.0, 0.0, 0.03, 0.002)),  # brass
    (80, _Timbre(16, 1.1, 0.0, 0.0, 0.03, 0.004, odd=True)),  # winds
    (88, _Timbre(40, 1.0, 0.0, 0.0, 0.005, 0.001)),  # synthesisers
    (104, _Timbre(14, 1.5, 0.0, 0.0, 0.2, 0.003)),  # pads
    (128, _Timbre(14, 1.3, 0.6, 0.3, 0.003, 0.0)),  # the rest
)


class PlainSynth:
    """Plays parts without samples; takes the place of `soundfont.FontSynth`.

    Args:
        rate: in Hz.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def render(
        self, notes: tuple[Note, ...], program: int, frames: int, drums: bool = False
    ) -> Audio:
        """Play notes; arguments and result, (2, frames), as of `FontSynth.render`."""
        mono = np.zeros(frames, np.float32)
        longest: dict[int, float] = {}  # by pitch
        for note in notes:
            longest[note.pitch] = max(longest.get(note.pitch, 0.0), min(note.length, _LONGEST))
        # A part repeats its tones; each is computed once.
        sounds = {
            pitch: self._drum(pitch, program) if drums else self._tone(pitch, program, length)
            for pitch, length in longest.items()
        }
        for note in notes:
            sound = sounds[note.pitch]
            if not drums:
                sound = _end(sound, note.length, self.rate)
            start = round(note.start * self.rate)
            count = min(len(sound), frames - start)
            mono[start : start + count] += _LEVEL * (note.velocity / 100) ** 2 * sound[:count]
        return np.stack([mono, mono])

    def _tone(self, pitch: int, program: int, length: float) -> Audio:
        """A tone with all its partials, long enough to be held for some seconds."""
        timbre = next(timbre for end, timbre in _FAMILIES if program < end)
        time = np.arange(round((length + _RELEASE) * self.rate)) / self.rate
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        drift = timbre.vibrato / 5 * (1 - np.cos(2 * np.pi * 5 * time))
        phase = 2 * np.pi * frequency * (time + drift)
        # sin((n + 1) x) = 2 cos(x) sin(n x) - sin((n - 1) x): two sines serve for all partials
        before, partial, twice = np.zeros_like(time), np.sin(phase), 2 * np.cos(phase)
        falling = np.exp(-time / timbre.decay) if timbre.decay else np.ones_like(time)
        faster = np.exp(-time * timbre.damping / timbre.decay) if timbre.decay else 1.0
        tone = np.zeros_like(time)
        for number in range(1, min(timbre.partials, int(0.45 * self.rate / frequency)) + 1):
            if number % 2 or not timbre.odd:
                tone += falling * partial * number**-timbre.slope
            before, partial = partial, twice * partial - before
            falling = falling * faster
        return (tone * np.minimum(1, time / timbre.attack)).astype(np.float32)

    def _drum(self, key: int, kit: int) -> Audio:
        """A membrane whose pitch falls, noise, or both; kits differ in their lengths."""
        rng = generator("drum", key, kit)
        name = next((name for name, number in DRUMS.items() if number == key), "snare")
        frequency, tone, noise, decay = _DRUM_SOUNDS.get(name, _DRUM_SOUNDS["snare"])
        decay *= rng.uniform(0.7, 1.4)
        time = np.arange(round(min(8 * decay, 2.0) * self.rate)) / self.rate
        sweep = frequency * (time + 0.02 * (1 - np.exp(-time / 0.02)))
        body = tone * np.sin(2 * np.pi * sweep)
        hiss = np.diff(rng.standard_normal(len(time) + 1)) if noise else np.zeros(len(time))
        return ((body + noise * hiss) * np.exp(-time / decay)).astype(np.float32)


#: Frequency of the membrane in Hz, share of it, share of noise, decay in seconds.
_DRUM_SOUNDS = {
    "kick": (52.0, 4.0, 0.05, 0.11),
    "snare": (185.0, 1.2, 0.7, 0.09),
    "rim": (1700.0, 1.0, 0.2, 0.02),
    "clap": (900.0, 0.1, 0.9, 0.08),
    "low tom": (95.0, 2.5, 0.05, 0.2),
    "mid tom": (130.0, 2.5, 0.05, 0.17),
    "high tom": (175.0, 2.5, 0.05, 0.14),
    "closed hat": (6000.0, 0.0, 0.5, 0.03),
    "pedal hat": (6000.0, 0.0, 0.4, 0.04),
    "open hat": (6000.0, 0.0, 0.5, 0.25),
    "crash": (4000.0, 0.0, 0.7, 0.7),
    "ride": (3200.0, 0.1, 0.3, 0.4),
    "tambourine": (7000.0, 0.0, 0.4, 0.08),
    "cowbell": (560.0, 0.8, 0.02, 0.1),
    "high conga": (330.0, 1.5, 0.05, 0.06),
    "open conga": (260.0, 1.5, 0.03, 0.15),
    "low conga": (200.0, 1.5, 0.03, 0.15),
    "shaker": (8000.0, 0.0, 0.25, 0.03),
}


def _end(sound: Audio, length: float, rate: int) -> Audio:
    """The first seconds of a tone, faded out after its length."""
    held, fade = round(length * rate), round(_RELEASE * rate)
    sound = sound[: held + fade].copy()
    tail = sound[held:]
    tail *= np.linspace(1, 0, fade, dtype=np.float32)[: len(tail)]
    return sound
