"""Index to item: a segment of each stem, and the mixture.

What an item holds is planned from its key alone (`describe` shows the plan) and then read
into buffers that are made once per batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from aimless import draws
from aimless.errors import ConfigError, DataError
from data import audio
from data.audio import AudioFile
from data.augment.base import Audio, Compose, CPUBase, Mix
from data.folders import enumerate_names
from data.sampling import Key
from data.tracks import Track

__all__ = ["Excerpt", "Item", "Items", "SegmentDataset", "collate"]

logger = logging.getLogger(__name__)


class Item(NamedTuple):
    """One training example, or a batch of them with one axis more in front.

    Attributes:
        mixture: float32 (channels, samples).
        stems: float32 (sources, channels, samples), in the order of the data set's sources.
        valid: False for an item that only fills up a batch; it must not count in a metric.
        epoch: of its key.
        index: of its key.
    """

    mixture: Tensor
    stems: Tensor
    valid: bool | Tensor
    epoch: int | Tensor
    index: int | Tensor  # type: ignore[assignment] # hides tuple.index


class Items(list[Item]):
    """Items that lie side by side in memory; `batch` is all of them as one."""

    def __init__(self, items: Iterable[Item], batch: Item) -> None:
        super().__init__(items)
        self.batch = batch


def collate(items: Sequence[Item]) -> Item:
    """Make a batch, without a copy where the data set has read the items into one buffer."""
    return items.batch if isinstance(items, Items) else default_collate(list(items))


class Excerpt(NamedTuple):
    """`frames` frames of a file from frame `start` on."""

    file: AudioFile
    start: int
    frames: int


class SegmentDataset(Dataset[Item]):
    """Segments of tracks, at random places or one after the other.

    Without `random` the items are the consecutive, non-overlapping segments of each track
    with its recorded mixture. The last one of a track is padded with zeros at the end, so that
    nothing of the song is lost. With `random` there are `samples_per_track` items per track,
    each at a place drawn from (seed, epoch, index). A track that is shorter than the segment
    is padded with zeros at the end.

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
    ) -> None:
        if random_track_mix and not (random and segment is not None):
            raise ConfigError("random_track_mix: true needs random: true and a segment length")
        if not random_track_mix:
            _require_mixtures(tracks)
        self.rate, self.channels = _common_format(tracks)
        self.tracks = list(tracks)
        self.sources = tuple(sources)
        self.length = None if segment is None else max(1, round(segment * self.rate))
        self.random = random
        self.random_track_mix = random_track_mix
        self.transforms = Compose(transforms or ())
        self.seed = seed
        per_track = [self._segments(track, samples_per_track) for track in self.tracks]
        self.ends = np.cumsum(per_track)
        self._report_short_tracks()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, key: Key | int) -> Item:
        """The item of a key; a plain index means epoch 0.

        Raises:
            AudioReadError: a file changed or vanished since it was checked, or is not finite.
        """
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key | int]) -> Items:
        """The items of several keys, read side by side into one buffer; see `collate`.

        Raises:
            AudioReadError: as for one item.
            ConfigError: whole tracks of different lengths.
        """
        complete = [self._complete(key) for key in keys]
        lengths = {self.length or self._locate(key.index)[0].frames for key in complete}
        if len(lengths) != 1:
            raise ConfigError(f"whole tracks of {sorted(lengths)} frames do not fit in one batch")
        (length,) = lengths
        stems = _empty(len(complete), len(self.sources), self.channels, length)
        mixture = _empty(len(complete), self.channels, length)
        for row, key in enumerate(complete):
            self._fill(key, mixture[row].numpy(), stems[row].numpy())
        items = [
            Item(mixture[row], stems[row], key.valid, key.epoch, key.index)
            for row, key in enumerate(complete)
        ]
        epoch, index, valid = (torch.tensor(field) for field in zip(*complete))
        return Items(items, Item(mixture, stems, valid, epoch, index))

    def _fill(self, key: Key, mixture: Audio, stems: Audio) -> None:
        """Read an item and apply the effects, into (channels, samples) and (sources, ...)."""
        excerpts = self.describe(key)
        for source, out in zip(self.sources, stems):
            _read_padded(excerpts[source], out)
        recorded = None
        if "mixture" in excerpts:
            recorded = mixture
            _read_padded(excerpts["mixture"], recorded)
        mix = Mix(recorded, stems, in_place=True)
        self.transforms.apply(mix, draws.generator("effects", self.seed, key.epoch, key.index))
        for out, result in ((mixture, mix.mixture), (stems, mix.stems)):
            if result is not out:
                out[...] = result

    def describe(self, key: Key | int) -> dict[str, Excerpt]:
        """Files and places that an item is read from: one per source, and "mixture" if recorded.

        An excerpt may have fewer frames than the segment; the rest is zeros.
        """
        key = self._complete(key)
        rng = draws.generator("item", self.seed, key.epoch, key.index)
        if self.random_track_mix:
            return {source: self._draw_excerpt(source, rng) for source in self.sources}
        track, first = self._locate(key.index)
        length = self.length or track.frames
        start = first * length
        if self.random:
            start = _draw_start(track, length, rng)
        frames = min(length, track.frames - start)
        files = {source: track.stems[source] for source in self.sources}
        if track.mixture is not None:
            files["mixture"] = track.mixture
        return {name: Excerpt(file, start, frames) for name, file in files.items()}

    def _complete(self, key: Key | int) -> Key:
        key = key if isinstance(key, Key) else Key(0, int(key))
        if not 0 <= key.index < len(self):
            raise IndexError(f"index {key.index} is outside of 0..{len(self) - 1}")
        return key

    def _locate(self, index: int) -> tuple[Track, int]:
        """The track of an item, and how many items of that track come before it."""
        number = int(np.searchsorted(self.ends, index, side="right"))
        before = int(self.ends[number - 1]) if number else 0
        return self.tracks[number], index - before

    def _draw_excerpt(self, source: str, rng: np.random.Generator) -> Excerpt:
        assert self.length is not None
        track = self.tracks[rng.integers(len(self.tracks))]
        start = _draw_start(track, self.length, rng)
        return Excerpt(track.stems[source], start, min(self.length, track.frames - start))

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


def _empty(*shape: int) -> Tensor:
    """A float32 buffer, in shared memory if this is a worker, so that handing it over is free."""
    buffer = torch.empty(shape)
    return buffer if get_worker_info() is None else buffer.share_memory_()


def _common_format(tracks: Sequence[Track]) -> tuple[int, int]:
    formats = sorted({(track.rate, track.channels) for track in tracks})
    if len(formats) != 1:
        raise DataError(f"tracks must share one (sample rate, channels), found {formats}")
    return formats[0]


def _require_mixtures(tracks: Sequence[Track]) -> None:
    for track in tracks:
        if track.mixture is None:
            raise DataError(f"{audio.printable(track.folder)}: its recorded mixture is needed")


def _draw_start(track: Track, length: int, rng: np.random.Generator) -> int:
    return int(rng.integers(max(track.frames - length, 0) + 1))


def _read_padded(excerpt: Excerpt, out: Audio) -> None:
    audio.read(*excerpt, out=out[:, : excerpt.frames])
    out[:, excerpt.frames :] = 0
