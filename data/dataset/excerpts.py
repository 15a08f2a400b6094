"""Parts of files that make a stem: what they are, where they are drawn from, how they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from data import audio
from data.audio import AudioFile
from data.augment.base import Audio
from data.tracks import Track

__all__ = [
    "AlignedPool",
    "Excerpt",
    "Plan",
    "Pool",
    "TrackPool",
    "draw_start",
    "level_db",
    "read_stem",
]

_BLOCK_FRAMES = 1 << 17  # summed in float32, the blocks in float64


class Excerpt(NamedTuple):
    """`frames` frames of a file from frame `start` on, times a linear gain."""

    file: AudioFile
    start: int
    frames: int
    gain: float = 1.0


Plan = dict[str, list[Excerpt]]


class Pool(Protocol):
    """Where the stems of one source are drawn from."""

    def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
        """Excerpts that are summed to a stem.

        Args:
            length: of the stem in frames; an excerpt may be shorter, the rest is zeros.
            rng: makes all draws.

        Returns:
            One as a rule; none for a stem that is to be silent.
        """
        ...


class AlignedPool(Protocol):
    """Where all stems of an item are drawn from together, for instance one place of a track."""

    def draw(self, length: int, rng: np.random.Generator) -> Mapping[str, list[Excerpt]]:
        """Excerpts by source, see `Pool`; a source that is not named is silent."""
        ...


class TrackPool:
    """A source's stems of all tracks, each track as likely, from a place that is drawn evenly.

    Args:
        source: name of the stem. In a track without it the stem is silent.
        tracks: at least one.
    """

    def __init__(self, source: str, tracks: Sequence[Track]) -> None:
        self.source = source
        self.tracks = tracks

    def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
        """One excerpt, or none."""
        track = self.tracks[int(rng.integers(len(self.tracks)))]
        start = draw_start(track.frames, length, rng)
        file = track.stems.get(self.source)
        return [Excerpt(file, start, min(length, track.frames - start))] if file else []


def draw_start(frames: int, length: int, rng: np.random.Generator) -> int:
    """Where a segment begins in a file: anywhere that it fits, or at 0."""
    return int(rng.integers(max(frames - length, 0) + 1))


def read_stem(excerpts: Sequence[Excerpt], out: Audio) -> None:
    """Read excerpts and sum them, into (channels, samples); what they do not reach is zeros.

    Raises:
        AudioReadError: one of them cannot be read, or is not finite.
    """
    covered = 0
    for number, (file, start, frames, gain) in enumerate(excerpts):
        part = out[:, :frames] if number == 0 else np.empty((len(out), frames), np.float32)
        audio.read(file, start, frames, out=part)
        if gain != 1:
            part *= np.float32(gain)
        if number:
            out[:, covered:frames] = 0
            out[:, :frames] += part
        covered = max(covered, frames)
    out[:, covered:] = 0


def level_db(samples: Audio) -> float:
    """RMS of (channels, samples) over all of them in dB, where a constant 1 has 0 dB.

    Silence is minus infinity.
    """
    squares = 0.0
    for row in samples:
        for begin in range(0, len(row), _BLOCK_FRAMES):
            block = row[begin : begin + _BLOCK_FRAMES]
            squares += float(np.einsum("t,t", block, block))
    return 10 * float(np.log10(squares / samples.size)) if squares > 0 else -np.inf
