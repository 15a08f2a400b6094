"""Index to item: a segment of each stem, and the mixture.

What an item holds is drawn from its key alone (`describe` shows it) and then read into buffers
that are made once per batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from aimless import draws
from aimless.errors import ConfigError, DataError
from data import audio
from data.augment.base import Audio, Compose, CPUBase
from data.dataset.excerpts import (
    AlignedPool,
    Excerpt,
    Plan,
    Pool,
    TrackPool,
    draw_start,
    level_db,
    read_stem,
)
from data.dataset.items import Item, ItemDataset, Items, collate
from data.dataset.redraw import Redraw, Rejects
from data.listing.folders import enumerate_names
from data.sampling import Key
from data.tracks import BadTrackPolicy, Track

__all__ = [
    "AlignedPool",
    "Excerpt",
    "Item",
    "ItemDataset",
    "Items",
    "Pool",
    "SegmentDataset",
    "collate",
]

logger = logging.getLogger(__name__)


class SegmentDataset(ItemDataset):
    """Segments of tracks, at random places or one after the other.

    Without `random` the items are the consecutive, non-overlapping segments of each track
    with its recorded mixture. The last one of a track is padded with zeros at the end, so that
    nothing of the song is lost. With `random` there are `samples_per_track` items per track,
    each at a place drawn from (seed, epoch, index). A track that is shorter than the segment
    is padded with zeros at the end. A stem that a track lacks is silent.

    A random segment that holds NaN or infinite samples is replaced by another draw; so is one
    below `min_loudness_db`, and, with `on_bad_track: skip`, one that cannot be read. The number
    of the attempt joins the key of the draw, and every further attempt also draws the track.

    Args:
        tracks: checked tracks of one sample rate and one number of channels; the recorded
            mixture may only be missing with `random_track_mix`.
        sources: names of the stems, the order of the source axis.
        segment: length in seconds; None: whole tracks, each with its own length.
        samples_per_track: items per track and epoch with `random`.
        random: draw the place of each item.
        random_track_mix: draw track and place for each source by itself; the mixture is the
            sum of the stems. Needs `random` and a segment length.
        transforms: effects on (mixture, stems), applied in this order.
        seed: of all draws.
        pools: with `random_track_mix`, where the stems of each source are drawn from; None:
            from all tracks.
        aligned: with `random_track_mix`, where the stems of some items are drawn from together.
        aligned_p: probability of such an item.
        samples: items per epoch; needed with `pools`, instead of `samples_per_track`.
        min_loudness_db: RMS in dB of full scale (a constant 1 has 0 dB) that a random segment
            must reach: each stem by itself with `random_track_mix`, else the mixture. The
            loudest of 10 draws is kept if none does. A stem without excerpts may be silent.
        on_bad_track: `skip` draws again in place of what cannot be read.
        max_bad_excerpts: that may be replaced in an epoch because they cannot be read or are
            not finite.
        rate: of all items in Hz, where pools take the place of tracks.
        channels: of all items, likewise.

    Raises:
        ConfigError: settings that exclude each other.
        DataError: no tracks, tracks without their mixture, or of several sample rates or
            numbers of channels.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        sources: Sequence[str],
        segment: float | None = None,
        samples_per_track: int = 1,
        random: bool = False,
        random_track_mix: bool = False,
        transforms: Sequence[CPUBase] | None = None,
        seed: int = 0,
        *,
        pools: Mapping[str, Pool] | None = None,
        aligned: AlignedPool | None = None,
        aligned_p: float = 0.0,
        samples: int | None = None,
        min_loudness_db: float | None = None,
        on_bad_track: BadTrackPolicy = "error",
        max_bad_excerpts: int = 10,
        rate: int | None = None,
        channels: int | None = None,
    ) -> None:
        if random_track_mix and not (random and segment is not None):
            raise ConfigError("random_track_mix: true needs random: true and a segment length")
        if not random_track_mix and (pools or aligned or samples):
            raise ConfigError("pools, aligned and samples need random_track_mix: true")
        if pools is not None and not samples:
            raise ConfigError("samples: with pools, the number of items per epoch is needed")
        if not random_track_mix:
            _require_mixtures(tracks)
        if pools is None or rate is None or channels is None:
            rate, channels = _common_format(tracks)
        self.rate, self.channels = rate, channels
        self.tracks = list(tracks)
        self.sources = tuple(sources)
        self.length = None if segment is None else max(1, round(segment * self.rate))
        self.random = random
        self.random_track_mix = random_track_mix
        self.transforms = Compose(transforms or ())
        self.seed = seed
        self.pools = pools or {source: TrackPool(source, self.tracks) for source in self.sources}
        self.aligned, self.aligned_p = aligned, aligned_p
        self.rejects = Rejects(max_bad_excerpts)
        self._redraw = Redraw(min_loudness_db, on_bad_track, self.rejects)
        per_track = [self._segments(track, samples_per_track) for track in self.tracks]
        self.ends = np.cumsum(per_track) if samples is None else np.array([samples])
        self._report_short_tracks()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def describe(self, key: Key | int) -> dict[str, list[Excerpt]]:
        """Files and places that an item is read from: of each source, and "mixture" if recorded.

        The excerpts of a source are summed; none is silence. They may have fewer frames than
        the segment; the rest is zeros. Where draws are made again, the item is read to tell.

        Raises:
            AudioReadError: as for the item.
        """
        key = self.complete(key)
        if not self.random:
            return self._draw_place(key, 0)
        shape = len(self.sources), self.channels, self.frames(key)
        stems = np.empty(shape, np.float32)
        return self._read(key, np.empty_like(stems[0]), stems, epoch=None)

    def frames(self, key: Key) -> int:
        """Length of an item: the segment's, or its track's."""
        return self.length or self._locate(key.index)[0].frames

    def lengths(self) -> set[int]:
        """All lengths that items have."""
        return {self.length} if self.length else {track.frames for track in self.tracks}

    def fill(self, key: Key, mixture: Audio, stems: Audio) -> None:
        """Read an item and apply the effects, into (channels, samples) and (sources, ...)."""
        read = mixture[: self.channels], stems[:, : self.channels]
        plan = self._read(key, *read, key.epoch)
        self.apply_effects(key, mixture, stems, recorded="mixture" in plan)

    def _read(self, key: Key, mixture: Audio, stems: Audio, epoch: int | None) -> Plan:
        """Read an item's stems, and its mixture if that was recorded.

        `epoch` is what rejected excerpts are counted in; None: they are not counted.
        """
        outs = dict(zip(self.sources, stems))
        if not self.random_track_mix:
            outs["mixture"] = mixture
            draw = partial(self._draw_place, key)
            return self._settle(draw, outs, lambda: level_db(mixture), epoch)
        if self._is_aligned(key):
            draw = partial(self._draw_aligned, key)
            return self._settle(draw, outs, lambda: level_db(stems.sum(0)), epoch)
        plan: Plan = {}
        for source, out in outs.items():
            draw = partial(self._draw_stem, key, source)
            plan |= self._settle(draw, {source: out}, lambda: level_db(out), epoch)  # noqa: B023
        return plan

    def _settle(
        self,
        draw: Callable[[int], Plan],
        outs: Mapping[str, Audio],
        level: Callable[[], float],
        epoch: int | None,
    ) -> Plan:
        """Read what is drawn into arrays by name; a draw of a consecutive segment is final."""

        def read(plan: Plan) -> None:
            for name, out in outs.items():
                read_stem(plan[name], out)

        if self.random and self.length is not None:
            return self._redraw.settle(draw, read, level, epoch)
        plan = draw(0)
        read(plan)
        return plan

    def _draw_place(self, key: Key, attempt: int) -> Plan:
        """One place of one track for all stems and the recorded mixture."""
        track, first = self._locate(key.index)
        length = self.length or track.frames
        start = first * length
        if self.random:
            rng = draws.generator("item", self.seed, key.epoch, key.index, attempt)
            if attempt:
                track = self.tracks[rng.integers(len(self.tracks))]
            start = draw_start(track.frames, length, rng)
        frames = min(length, track.frames - start)
        files = {source: track.stems.get(source) for source in self.sources}
        files["mixture"] = track.mixture
        return {
            name: [Excerpt(file, start, frames)] if file else [] for name, file in files.items()
        }

    def _is_aligned(self, key: Key) -> bool:
        if self.aligned is None:
            return False
        rng = draws.generator("aligned or not", self.seed, key.epoch, key.index)
        return bool(rng.random() < self.aligned_p)

    def _draw_aligned(self, key: Key, attempt: int) -> Plan:
        assert self.aligned is not None
        assert self.length is not None
        rng = draws.generator("aligned", self.seed, key.epoch, key.index, attempt)
        drawn = self.aligned.draw(self.length, rng)
        return {source: list(drawn.get(source, ())) for source in self.sources}

    def _draw_stem(self, key: Key, source: str, attempt: int) -> Plan:
        assert self.length is not None
        rng = draws.generator("stem", self.seed, key.epoch, key.index, source, attempt)
        return {source: self.pools[source].draw(self.length, rng)}

    def _locate(self, index: int) -> tuple[Track, int]:
        """The track of an item, and how many items of that track come before it."""
        number = int(np.searchsorted(self.ends, index, side="right"))
        before = int(self.ends[number - 1]) if number else 0
        return self.tracks[number], index - before

    def _segments(self, track: Track, samples_per_track: int) -> int:
        if self.random:
            return samples_per_track
        return 1 if self.length is None else math.ceil(track.frames / self.length)

    def _report_short_tracks(self) -> None:
        length = self.length
        short = [track.name for track in self.tracks if length and track.frames < length]
        if length and short:
            text = "%d of %d tracks are shorter than %.3g s and padded with zeros: %s"
            seconds = length / self.rate
            names = enumerate_names(short)
            logger.warning(text, len(short), len(self.tracks), seconds, names)


def _common_format(tracks: Sequence[Track]) -> tuple[int, int]:
    formats = sorted({(track.rate, track.channels) for track in tracks})
    if len(formats) != 1:
        raise DataError(f"tracks must share one (sample rate, channels), found {formats}")
    return formats[0]


def _require_mixtures(tracks: Sequence[Track]) -> None:
    for track in tracks:
        if track.mixture is None:
            raise DataError(f"{audio.printable(track.folder)}: its recorded mixture is needed")
