"""Parts to stems, stems to a master."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aimless.sources import MDX_SOURCES
from data.augment.equalizer import shelf
from data.augment.limiter import limiter_gain
from data.kernels.freeverb import reverberate
from data.kernels.lanes import biquads
from data.loudness import integrated_loudness
from synthetic.rendering import Sounds, render
from synthetic.song import Part, Room, Song

__all__ = [
    "add",
    "loudness_of",
    "master",
    "mix_song",
    "place",
    "saturate",
    "scale_db",
    "to_16_bits",
]

Audio = NDArray[np.float32]

_TREBLE = 3000.0  # Hz
_WET_GAIN = 0.08  # of the reverberation against the part, at a share of 1
_SPREAD = 23  # samples at 44.1 kHz by which the right channel's delays are longer
_CEILING = 0.985  # peak of a master; rounding of the stems to 16 bits needs a little more
_RELEASE = 0.08  # seconds of the master's limiter
_QUIETEST = 1e-9
_BLOCK = 512  # frames
_SILENCE = 1e-9  # squared; -90 dB
_FULL_SCALE = 32768


def mix_song(song: Song, sounds: Sounds) -> dict[str, dict[str, Audio]]:
    """Play and master a song.

    Args:
        song: as composed.
        sounds: what it is played with.

    Returns:
        stem -> part -> (2, frames). The parts of a stem add up to it, and all of them to the
        mixture, whose peak is below 1.
    """
    parts: dict[str, dict[str, Audio]] = {stem: {} for stem in MDX_SOURCES}
    for part in song.parts:
        dry = render(song, part, sounds)
        parts[part.stem][part.name] = place(dry, part.room, song.hall, sounds.rate)
    for stem, named in parts.items():
        _balance(song.of_stem(stem), named, song.levels[stem], sounds.rate)
    master(parts, song.loudness, sounds.rate)
    return parts


def place(dry: Audio, room: Room, hall: tuple[float, float], rate: int) -> Audio:
    """Put a part into the room: amplifier, treble, width, panning, reverberation.

    Its level is any, and to be set.

    Args:
        dry: (2, frames), or (1, frames) of a voice.
        room: where it stands.
        hall: size and damping of the room, from 0 to 1.
        rate: in Hz.

    Returns:
        (2, frames).
    """
    angle = 2 * math.pi * min(_TREBLE / rate, 0.45)
    driven = saturate(dry, room.drive_db)
    dry = biquads(driven, np.array([shelf(angle, room.tilt_db, 0.707, high=True)]))
    middle = dry.mean(0)
    # Constant power: 1 for both in the middle, sqrt(2) and 0 at the sides.
    at = (room.pan + 1) * math.pi / 4
    gains = math.sqrt(2) * np.array([math.cos(at), math.sin(at)], np.float32)
    side = np.float32(room.width / 2) * (dry[0] - dry[-1])
    wet = np.stack([middle + side, middle - side])
    wet *= gains[:, None]
    if room.wet:
        size, damping = hall
        feedback = 0.7 + 0.28 * size
        middle *= np.float32(_WET_GAIN * room.wet)
        for channel, spread in zip(wet, (0, _SPREAD)):
            channel += reverberate(middle, rate, feedback, 0.4 * damping, spread)
    return wet


def saturate(dry: Audio, drive_db: float) -> Audio:
    """Drive a part into an amplifier, x / sqrt(1 + x^2), whose overtones give it presence.

    Args:
        dry: (channels, frames).
        drive_db: level to which its RMS is brought before; about -20 does next to nothing.

    Returns:
        (channels, frames) of any level.
    """
    driven = dry * np.float32(10 ** ((drive_db - _power(dry)) / 20))
    bent = driven * driven
    bent += 1
    driven /= np.sqrt(bent, out=bent)
    return driven


def _balance(parts: list[Part], named: dict[str, Audio], level: float, rate: int) -> None:
    """Scale parts in place: against each other, and their sum to a level in LUFS."""
    for part in parts:
        scale_db(named[part.name], part.level - _power(named[part.name]))
    if named:
        total = add(list(named.values()))
        change = level - loudness_of(total, rate)
        for audio in named.values():
            scale_db(audio, change)


def loudness_of(audio: Audio, rate: int) -> float:
    """LUFS of (channels, frames); of what has no loudness, such as a click, the power in dB."""
    loudness = integrated_loudness(audio, rate)
    return loudness if math.isfinite(loudness) else _power(audio)


def _power(audio: Audio) -> float:
    """Mean square in dB of what is not silent; close enough to tell parts of a stem apart."""
    blocks = audio[:, : audio.shape[1] // _BLOCK * _BLOCK].reshape(len(audio), -1, _BLOCK)
    energy = np.einsum("cbt,cbt->b", blocks, blocks) / _BLOCK
    heard = energy[energy > _SILENCE]
    return 10 * math.log10(float(heard.mean()) if len(heard) else _SILENCE)


def scale_db(audio: Audio, decibels: float) -> None:
    """Change the level in place."""
    audio *= np.float32(10 ** (decibels / 20))


def master(parts: Mapping[str, Mapping[str, Audio]], loudness: float, rate: int) -> None:
    """Bring all parts in place to a loudness together, and limit the peaks.

    The gain is one number per frame, the same for all parts, so that they still add up to the
    mixture (as in Jeon and Lee, "Towards robust music source separation on loud commercial
    music", ISMIR 2022). A stem may be louder than the mixture that it partly cancels in; the
    limiter heeds all of them.

    Args:
        parts: stem -> part -> (channels, frames).
        loudness: in LUFS, of what goes into the limiter.
        rate: in Hz.
    """
    stems = [add(list(named.values())) for named in parts.values() if named]
    mixture = add(stems)
    drive = np.float32(10 ** ((loudness - loudness_of(mixture, rate)) / 20))
    peaks = np.maximum.reduce([np.abs(signal).max(0) for signal in (mixture, *stems)])
    gain = drive * limiter_gain(drive * peaks[None], _RELEASE * rate, _CEILING)
    for named in parts.values():
        for audio in named.values():
            audio *= gain


def add(signals: Sequence[Audio]) -> Audio:
    """Their sum, a new array."""
    total = signals[0].copy()
    for signal in signals[1:]:
        total += signal
    return total


def to_16_bits(
    stems: Mapping[str, Audio],
) -> tuple[dict[str, NDArray[np.int16]], NDArray[np.int16]]:
    """Round stems, and add them up.

    Should one of them or their sum pass full scale, all are scaled down together.

    Args:
        stems: (channels, frames) each.

    Returns:
        The stems, and the mixture, which is their sum to the last bit, (frames, channels) each.
    """
    signals = [*stems.values(), add(list(stems.values()))]
    peak = max(float(max(signal.max(), -signal.min())) for signal in signals)
    scale = np.float32(_FULL_SCALE * min(1, _CEILING / max(peak, _QUIETEST)))
    rounded = {
        name: np.ascontiguousarray(np.rint(scale * stem).astype(np.int16).T)
        for name, stem in stems.items()
    }
    # No overflow: the ceiling leaves room for the rounding of the stems.
    return rounded, np.add.reduce(list(rounded.values()), dtype=np.int16)
