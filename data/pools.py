"""Where random stems come from: pools of files, and pools made of other pools.

`SegmentDataset` asks the pool of each source for the excerpts that make its stem, see
`data.dataset.excerpts.Pool`. All draws come from the generator that is passed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.audio import AudioFile
from data.dataset.excerpts import Excerpt, Pool, draw_start
from data.tracks import Track

__all__ = ["FilePool", "MixupPool", "PresencePool", "TogetherPool", "WeightedPool"]


class FilePool:
    """One of several files, each as likely, from a place on that is drawn evenly.

    Args:
        files: at least one. Of a file that is shorter than the segment, all is taken.
    """

    def __init__(self, files: Sequence[AudioFile]) -> None:
        self.files = list(files)

    def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
        """An excerpt of `length` frames, or of a whole file that is shorter."""
        file = self.files[rng.integers(len(self.files))]
        start = draw_start(file.frames, length, rng)
        return [Excerpt(file, start, min(length, file.frames - start))]


class WeightedPool:
    """One of several pools, drawn by weight.

    Args:
        pools: at least one.
        weights: of each pool, positive; only their ratios count.
    """

    def __init__(self, pools: Sequence[Pool], weights: Sequence[float]) -> None:
        self.pools = list(pools)
        self.shares = _normalise(weights)

    def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
        """What the drawn pool draws."""
        return self.pools[rng.choice(len(self.pools), p=self.shares)].draw(length, rng)


class TogetherPool:
    """All stems of one track from one place on; a folder is drawn by weight, then a track evenly.

    Args:
        folders: tracks of each folder; at least one folder, and no empty one.
        weights: of each folder, positive; only their ratios count.
    """

    def __init__(self, folders: Sequence[Sequence[Track]], weights: Sequence[float]) -> None:
        self.folders = [list(tracks) for tracks in folders]
        self.shares = _normalise(weights)

    def draw(self, length: int, rng: np.random.Generator) -> dict[str, list[Excerpt]]:
        """An excerpt of each stem that the track has."""
        tracks = self.folders[rng.choice(len(self.folders), p=self.shares)]
        track = tracks[rng.integers(len(tracks))]
        start = draw_start(track.frames, length, rng)
        frames = min(length, track.frames - start)
        return {source: [Excerpt(file, start, frames)] for source, file in track.stems.items()}


class PresencePool:
    """A pool that is drawn from now and then, and silence otherwise.

    Args:
        pool: what to draw from.
        probability: of drawing from it.
    """

    def __init__(self, pool: Pool, probability: float) -> None:
        self.pool = pool
        self.probability = probability

    def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
        """What the pool draws, or nothing."""
        return self.pool.draw(length, rng) if rng.random() < self.probability else []


class MixupPool:
    """Several draws from one pool, summed: a choir out of singers.

    Args:
        pool: what to draw from. Where its first draw is silence, nothing is added.
        probabilities: of adding one more draw, two more, and so on; their sum is at most 1.
        gain_db: lowest and highest gain of an added draw in dB; drawn evenly between them.
    """

    def __init__(
        self, pool: Pool, probabilities: Sequence[float], gain_db: tuple[float, float]
    ) -> None:
        self.pool = pool
        self.thresholds = np.cumsum(probabilities[::-1])[::-1]  # of at least 1, 2, ... more
        self.gain_db = gain_db

    def draw(self, length: int, rng: np.random.Generator) -> list[Excerpt]:
        """The first draw as it is, those added each with a gain."""
        excerpts = self.pool.draw(length, rng)
        count = int((rng.random() < self.thresholds).sum()) if excerpts else 0
        for _ in range(count):
            gain = 10 ** (rng.uniform(*self.gain_db) / 20)
            added = self.pool.draw(length, rng)
            excerpts += [excerpt._replace(gain=excerpt.gain * gain) for excerpt in added]
        return excerpts


def _normalise(weights: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(weights, np.float64) / np.sum(weights)
