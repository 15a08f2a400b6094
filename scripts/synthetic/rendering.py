"""Parts to sound: who plays what, and what each part is before it comes into the mix."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aimless.draws import generator
from synthetic.plain import PlainSynth
from synthetic.song import Part, Song
from synthetic.soundfont import FontSynth
from synthetic.speech import say
from synthetic.theory import Note
from synthetic.voice import Speaker, utter

__all__ = ["Sounds", "render"]

Audio = NDArray[np.float32]

_PAUSE = 2.0  # seconds of rest between spoken passages


class Sounds(NamedTuple):
    """What sounds are made with.

    Attributes:
        font: a sound font; None: the plain synthesiser.
        espeak: path of eSpeak NG; None: syllables without words.
        rate: in Hz.
    """

    font: Path | None
    espeak: str | None
    rate: int


class Synth(Protocol):
    """Plays notes."""

    def render(
        self, notes: tuple[Note, ...], program: int, frames: int, drums: bool = False
    ) -> Audio:
        """Play notes from silence, (2, frames)."""
        ...


def render(song: Song, part: Part, sounds: Sounds) -> Audio:
    """Play a part of a song, as dry as its instrument is.

    Returns:
        (2, frames), of a voice (1, frames).
    """
    frames = round(song.seconds * sounds.rate)
    if part.player in ("kit", "instrument"):
        synth: Synth = (
            FontSynth(sounds.font, sounds.rate) if sounds.font else PlainSynth(sounds.rate)
        )
        return synth.render(part.notes, part.program, frames, drums=part.player == "kit")
    rng = generator("voice", part.name, *song.seed)
    female = part.program % 2 == 0
    if part.player == "speaker" and sounds.espeak and rng.random() < 0.5:
        mono = _recite(part, rng, frames, sounds)
    else:
        speaker = Speaker.draw(rng, female, part.player == "speaker")
        mono = utter(part.notes, speaker, rng, frames, sounds.rate)
    return mono[None]


def _recite(part: Part, rng: np.random.Generator, frames: int, sounds: Sounds) -> Audio:
    """Sentences in the place of the part's rhythms, (frames,)."""
    out = np.zeros(frames, np.float32)
    voice = int(rng.integers(1 << 30))  # one person throughout
    for begin, end in _passages(part.notes):
        start = round(begin * sounds.rate)
        room = min(frames, round(end * sounds.rate)) - start
        speech = say(
            generator("line", voice, start), end - begin, sounds.rate, sounds.espeak, voice
        )[:room]
        fade = min(len(speech), sounds.rate // 20)
        speech[len(speech) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        out[start : start + len(speech)] = speech
    return out


def _passages(notes: tuple[Note, ...]) -> list[tuple[float, float]]:
    """Beginnings and ends in seconds of what has no long rest in it."""
    passages: list[tuple[float, float]] = []
    for note in notes:
        end = note.start + note.length
        if passages and note.start - passages[-1][1] < _PAUSE:
            passages[-1] = passages[-1][0], end
        else:
            passages.append((note.start, end))
    return [(begin, end) for begin, end in passages if end - begin > 1]
