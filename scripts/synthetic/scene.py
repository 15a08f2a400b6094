"""Scenes of music, effects and speech, mono, as in Divide and Remaster.

Loudness as there (Petermann et al., "The Cocktail Fork Problem", ICASSP 2022): music at -24 LUFS,
effects at -21 and speech at -17, each up to 2 LU more or less, and single clips up to 1; the mix at
-27, with a peak of no more than -0.5 dB.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aimless.draws import generator
from synthetic.effects import draw_effect
from synthetic.mixing import add, loudness_of, mix_song, scale_db
from synthetic.rendering import Sounds
from synthetic.song import compose
from synthetic.speech import say

__all__ = ["make_scene"]

Audio = NDArray[np.float32]

_MUSIC, _EFFECTS, _SPEECH, _MIX = -24.0, -21.0, -17.0, -27.0  # LUFS
_CLASS_SPREAD, _CLIP_SPREAD = 2.0, 1.0  # LU
_PEAK = 10 ** (-0.5 / 20)
_FADE = 0.5  # seconds at the beginning and end of a piece of music


def make_scene(seconds: float, sounds: Sounds, *seed: int | str) -> dict[str, Audio]:
    """Make a scene from its key of random numbers.

    Args:
        seconds: its length, at least 2.
        sounds: what it is made with.
        *seed: as of `aimless.draws.generator`.

    Returns:
        music, sfx and speech, (1, frames) each.
    """
    frames = round(seconds * sounds.rate)
    rng = generator("scene", *seed)
    levels = {
        "music": _MUSIC + rng.uniform(-_CLASS_SPREAD, _CLASS_SPREAD),
        "sfx": _EFFECTS + rng.uniform(-_CLASS_SPREAD, _CLASS_SPREAD),
        "speech": _SPEECH + rng.uniform(-_CLASS_SPREAD, _CLASS_SPREAD),
    }
    stems = {
        "music": _play_music(rng, levels["music"], seconds, sounds, seed),
        "sfx": _play_effects(rng, levels["sfx"], seconds, sounds.rate),
        "speech": _play_speech(rng, levels["speech"], seconds, sounds),
    }
    stems = {name: np.ascontiguousarray(audio[:, :frames]) for name, audio in stems.items()}
    mix = add(list(stems.values()))
    change = _MIX + rng.uniform(-_CLASS_SPREAD, _CLASS_SPREAD) - loudness_of(mix, sounds.rate)
    peak = max(float(np.abs(audio).max()) for audio in (mix, *stems.values()))
    change = min(change, 20 * float(np.log10(_PEAK / max(peak, 1e-9))))
    for audio in stems.values():
        scale_db(audio, change)
    return stems


def _play_music(
    rng: np.random.Generator,
    level: float,
    seconds: float,
    sounds: Sounds,
    seed: tuple[int | str, ...],
) -> Audio:
    """One or two instrumental pieces, faded in and out, that fill most of the scene."""
    out = _silence(seconds, sounds.rate)
    count = 2 if seconds >= 20 and rng.random() < 0.5 else 1
    for number in range(count):
        share = seconds / count
        length = share * rng.uniform(0.6, 0.95)
        begin = number * share + rng.uniform(0, share - length)
        song = compose(length, *seed, "piece", number)
        played = tuple(part for part in song.parts if part.stem != "vocals")
        stems = mix_song(replace(song, parts=played), sounds)
        mono = add([audio for named in stems.values() for audio in named.values()]).mean(0)
        _fade(mono, min(_FADE, length / 4), sounds.rate)
        _put(out, mono, begin, level + _clip(rng), sounds.rate)
    return out


def _play_effects(rng: np.random.Generator, level: float, seconds: float, rate: int) -> Audio:
    out = _silence(seconds, rate)
    for _ in range(1 + rng.poisson(seconds / 6)):
        _, sound = draw_effect(rng, rate)
        begin = rng.uniform(0, max(seconds - len(sound) / rate, seconds / 2))
        _put(out, sound, begin, level + _clip(rng), rate)
    return out


def _play_speech(rng: np.random.Generator, level: float, seconds: float, sounds: Sounds) -> Audio:
    """Two people, one after the other, with pauses."""
    out = _silence(seconds, sounds.rate)
    people = rng.integers(1 << 30, size=2)
    at = rng.uniform(0, min(3, seconds / 4))
    while at < seconds - 1:
        wanted = min(rng.uniform(2, 8), seconds - at)
        person = int(people[rng.integers(2)])
        spoken = say(rng, wanted, sounds.rate, sounds.espeak, person)
        _put(out, spoken, at, level + _clip(rng), sounds.rate)
        at += len(spoken) / sounds.rate + rng.exponential(2)
    return out


def _silence(seconds: float, rate: int) -> Audio:
    return np.zeros((1, round(seconds * rate)), np.float32)


def _clip(rng: np.random.Generator) -> float:
    return rng.uniform(-_CLIP_SPREAD, _CLIP_SPREAD)


def _put(out: Audio, sound: Audio, begin: float, level: float, rate: int) -> None:
    """Add a sound (samples,) at a loudness; what does not fit is cut off and faded."""
    start = round(begin * rate)
    piece = sound[: out.shape[1] - start].copy()
    if len(piece) < len(sound):
        fade = min(len(piece), rate // 20)
        piece[len(piece) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    scale_db(piece, level - loudness_of(piece[None], rate))
    out[0, start : start + len(piece)] += piece


def _fade(audio: Audio, seconds: float, rate: int) -> None:
    ramp = np.linspace(0, 1, round(seconds * rate), dtype=np.float32)
    audio[: len(ramp)] *= ramp
    audio[len(audio) - len(ramp) :] *= ramp[::-1]
