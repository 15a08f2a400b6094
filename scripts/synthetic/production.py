"""Tracks to folders of WAV files."""

from __future__ import annotations

import wave
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prepare.output import making
from prepare.work import do_all

from aimless.errors import DataError
from aimless.memory import keep_freed_memory
from data.audio import printable
from synthetic.layouts import Layout, Track
from synthetic.mixing import add, mix_song, to_16_bits
from synthetic.planted import apply_errors
from synthetic.rendering import Sounds
from synthetic.scene import make_scene
from synthetic.song import compose

__all__ = ["make_track", "make_tracks"]

Audio = NDArray[np.float32]


def make_tracks(
    tracks: list[Track], layout: Layout, root: Path, sounds: Sounds, workers: int
) -> None:
    """Make all tracks, in any number of processes; the files do not depend on it.

    Raises:
        DataError: a file cannot be written, or a sound cannot be made.
    """
    do_all(tracks, partial(make_track, layout=layout, root=root, sounds=sounds), workers, "songs")


def make_track(track: Track, layout: Layout, root: Path, sounds: Sounds) -> None:
    """Make one track: a folder with its stems and its mixture, whole or not there.

    Raises:
        DataError: a file cannot be written, or a sound cannot be made.
    """
    keep_freed_memory()
    stems, mixture = to_16_bits(_sound(track, layout, sounds))
    folder = root / track.place
    try:
        with making(folder) as part:
            part.mkdir()
            for name, samples in {**stems, layout.mixture: mixture}.items():
                _write_wav(part / f"{name}.wav", samples, sounds.rate)
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot be written: {error.strerror}") from error


def _sound(track: Track, layout: Layout, sounds: Sounds) -> dict[str, Audio]:
    """Stems (channels, frames) by name."""
    if "speech" in layout.sources:
        return make_scene(track.seconds, sounds, *track.seed)
    parts = mix_song(compose(track.seconds, *track.seed), sounds)
    silence = np.zeros((2, round(track.seconds * sounds.rate)), np.float32)
    return {
        stem: add(list(named.values()) or [silence])
        for stem, named in apply_errors(parts, track.errors).items()
    }


def _write_wav(path: Path, samples: NDArray[np.int16], rate: int) -> None:
    """16-bit samples (frames, channels)."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
