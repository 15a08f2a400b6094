"""When the segments of a kind of sound begin in a mix, and which part of its file each is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prepare.dnr.settings import Kind

__all__ = ["Segment", "arrange", "draw_count", "place", "shorten"]


class Segment(NamedTuple):
    """Where a part of a file is in a mix, in samples.

    Attributes:
        start: in the mix.
        frames: length.
        clip_start: where the part begins in the file.
        fade_in: length of the fade at the beginning, 0 if the file begins there too.
        fade_out: length of the fade at the end, likewise.
    """

    start: int
    frames: int
    clip_start: int
    fade_in: int
    fade_out: int

    def envelope(self) -> NDArray[np.float64]:
        """Gain (frames,) of the fades: sin² ramps, of which the first sample is not 0."""
        gain = np.ones(self.frames)
        for frames, part in ((self.fade_in, gain), (self.fade_out, gain[::-1])):
            part[:frames] *= np.sin(np.pi / 2 * (np.arange(frames) + 0.5) / max(frames, 1)) ** 2
        return gain

    def moved(self, clip_start: int, available: int, fade: int) -> Segment:
        """The same place in the mix, for another part of a file of `available` samples."""
        fade = min(fade, self.frames // 2)
        return self._replace(
            clip_start=clip_start,
            fade_in=fade if clip_start > 0 else 0,
            fade_out=fade if clip_start + self.frames < available else 0,
        )


def draw_count(rng: np.random.Generator, mean: float) -> int:
    """A number from the Poisson distribution with this parameter, given that it is not 0."""
    while not (count := int(rng.poisson(mean))):
        pass
    return count


def arrange(
    rng: np.random.Generator, available: Sequence[int], kind: Kind, total: int, rate: int
) -> list[Segment]:
    """Draw lengths, parts and places of the segments of a kind.

    Args:
        rng: of all draws.
        available: length of the file of each segment, in samples at `rate`.
        kind: what segments are like.
        total: length of the mix in samples.
        rate: in Hz.
    """
    shortest, longest = (round(seconds * rate) for seconds in kind.seconds)
    drawn = [
        frames if frames <= longest else int(rng.integers(shortest, longest + 1))
        for frames in available
    ]
    lengths = shorten(drawn, int(rng.uniform(*kind.fill) * total))
    starts = place(rng, lengths, total, kind.overlap)
    fade = round(kind.fade * rate)
    return [
        Segment(start, frames, 0, 0, 0).moved(int(rng.integers(whole - frames + 1)), whole, fade)
        for start, frames, whole in zip(starts, lengths, available)
    ]


def shorten(lengths: Sequence[int], budget: int) -> list[int]:
    """Shorten the longest to one length, so that together they are no longer than the budget.

    None becomes shorter than one sample.
    """
    left, limit = budget, max(lengths)
    for done, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - done)
        if length > share:
            limit = max(share, 1)
            break
        left -= length
    return [min(length, limit) for length in lengths]


def place(
    rng: np.random.Generator, lengths: Sequence[int], total: int, overlap: float = 0.0
) -> list[int]:
    """Where segments begin that follow one another; all ways to divide the gaps are as likely.

    Args:
        rng: of the draws.
        lengths: of the segments, not more than `total` together.
        total: length of the mix.
        overlap: share of the shorter one that neighbours have in common at most.
    """
    after = [*lengths[1:], 0]
    common = [
        int(overlap * rng.uniform() * min(length, following))
        for length, following in zip(lengths, after)
    ]
    steps = np.subtract(lengths, common)
    gaps = (total - int(steps.sum())) * rng.dirichlet(np.ones(len(lengths) + 1))
    before = np.floor(np.cumsum(gaps[:-1])).astype(int)
    return [int(start) for start in before + np.cumsum(steps) - steps]
