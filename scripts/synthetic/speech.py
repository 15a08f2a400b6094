"""Spoken lines: eSpeak NG where it is installed, else the syllables of `voice`."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from aimless.draws import generator
from aimless.errors import DataError
from synthetic.voice import Speaker, speak

__all__ = ["describe_espeak", "draw_sentence", "find_espeak", "say"]

Audio = NDArray[np.float32]

_VOICES = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan")
_MEN = ("", "+m1", "+m3", "+m4", "+m7")
_WOMEN = ("+f1", "+f2", "+f3", "+f4", "+f5")
_LIMIT = 60  # seconds that one call may take

_SUBJECTS = (
    "the river",
    "my brother",
    "an old house",
    "nobody",
    "the morning",
    "she",
    "a stranger",
    "the city",
    "our neighbour",
    "every window",
    "the captain",
    "winter",
    "this road",
)
_VERBS = (
    "remembers",
    "carries",
    "never found",
    "is looking for",
    "left behind",
    "talks about",
    "cannot hold",
    "dreams of",
    "was waiting for",
    "paid for",
    "listens to",
    "turned away from",
)
_OBJECTS = (
    "the last train",
    "seven silver coins",
    "a quiet garden",
    "the open sea",
    "his own name",
    "the yellow light",
    "an empty letter",
    "the wrong door",
    "a thousand voices",
    "the rain",
)
_ENDINGS = (
    "",
    "",
    "before the night is over",
    "as if it were easy",
    "again and again",
    "somewhere in the north",
    "without a word",
    "because it is Thursday",
    "after all",
)


def find_espeak() -> str | None:
    """Path of eSpeak NG; None if it is not installed."""
    return shutil.which("espeak-ng")


def describe_espeak(espeak: str | None) -> str:
    """A line about what speaks."""
    if espeak is None:
        return "eSpeak NG is not there or not wanted, using syllables without words"
    try:
        done = subprocess.run([espeak, "--version"], capture_output=True, text=True, timeout=_LIMIT)
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(f"{espeak}: cannot be run: {error}") from None
    return done.stdout.split("Data at")[0].strip()


def draw_sentence(rng: np.random.Generator) -> str:
    """A sentence that nobody has said before."""
    words = [rng.choice(choices) for choices in (_SUBJECTS, _VERBS, _OBJECTS, _ENDINGS)]
    return " ".join(str(word) for word in words if word).capitalize() + "."


def say(
    rng: np.random.Generator, seconds: float, rate: int, espeak: str | None, person: int
) -> Audio:
    """Somebody speaks.

    Args:
        rng: of the words.
        seconds: about how long, at least 1.
        rate: in Hz.
        espeak: path of eSpeak NG; None: syllables without words.
        person: key of the voice; the same one speaks with the same voice.

    Returns:
        (samples,), its peak at most 1.

    Raises:
        DataError: eSpeak NG fails.
    """
    own = generator("person", person)
    female = bool(own.random() < 0.5)
    if espeak is None:
        return speak(Speaker.draw(own, female, speaks=True), rng, seconds, rate)
    speed = int(own.integers(140, 200))  # words per minute
    sentences = max(1, round(seconds * speed / 60 / 8))
    text = " ".join(draw_sentence(rng) for _ in range(sentences))
    voice = str(own.choice(_VOICES)) + str(own.choice(_WOMEN if female else _MEN))
    return _run_espeak(espeak, text, voice, speed, int(own.integers(30, 70)), rate)


def _run_espeak(espeak: str, text: str, voice: str, speed: int, pitch: int, rate: int) -> Audio:
    words = [espeak, "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch), text]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_LIMIT, check=True)
        audio, own_rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    except (OSError, subprocess.SubprocessError, soundfile.LibsndfileError) as error:
        raise DataError(f"{espeak}: cannot speak: {error}") from None
    return np.asarray(soxr.resample(audio, own_rate, rate), np.float32)
