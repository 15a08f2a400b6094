"""Items, batches of them in one piece of memory, and what all data sets of items share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from aimless import draws
from aimless.errors import ConfigError
from data.augment.base import Audio, Compose, Mix
from data.dataset.sharing import Lease, lease
from data.sampling import Key

__all__ = ["Item", "ItemDataset", "Items", "collate", "sum_stems"]

_BLOCK_FRAMES = 1 << 17  # the sum of so many stays in a processor's cache


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
    """Items that lie side by side in memory; `batch` is all of them as one.

    Args:
        items: in the order of the batch.
        batch: the same memory.
        lease: on that memory.
    """

    def __init__(self, items: Iterable[Item], batch: Item, lease: Lease) -> None:
        super().__init__(items)
        self.batch = batch
        self.lease = lease


def collate(items: Sequence[Item]) -> Any:
    """Make a batch (`Item`), without a copy where the data set has read the items into one buffer.

    In a loader process the batch takes the form in which it is handed over; the loader gives
    it out as an `Item`.
    """
    if not isinstance(items, Items):
        return default_collate(list(items))
    return items.batch if get_worker_info() is None else _Parcel(items.batch, items.lease)


class ItemDataset(Dataset[Item]):
    """Items that are made in place, side by side in the memory of a batch.

    A subclass sets the attributes and defines `__len__`, `frames` and `fill`. What an item holds
    must depend on its key and on nothing else, see `aimless.draws`.

    Attributes:
        sources: names of the stems, the order of the source axis.
        channels: of all items as they are read; effects may leave other ones, see
            `item_channels`.
        transforms: effects on (mixture, stems).
        seed: of all draws.
    """

    sources: Sequence[str]
    channels: int
    transforms: Compose
    seed: int

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def item_channels(self) -> int:
        """Of all items, after the effects."""
        return self.transforms.channels_after(self.channels)

    def frames(self, key: Key) -> int:
        """Length of an item in samples."""
        raise NotImplementedError

    def lengths(self) -> set[int]:
        """All lengths that items have, in samples."""
        return {self.frames(Key(0, index)) for index in range(len(self))}

    def fill(self, key: Key, mixture: Audio, stems: Audio) -> None:
        """Write an item into (channels, samples) and (sources, channels, samples).

        Both are not initialised, and have `item_channels` channels. What is read goes into the
        first `channels` of them; `apply_effects` fills the others.
        """
        raise NotImplementedError

    def __getitem__(self, key: Key | int) -> Item:
        """The item of a key; a plain index means epoch 0.

        Raises:
            AudioReadError: a file cannot be read any more, and nothing may take its place.
        """
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key | int]) -> Items:
        """The items of several keys in one buffer; see `collate`.

        Raises:
            AudioReadError: as for one item.
            ConfigError: items of different lengths.
        """
        complete = [self.complete(key) for key in keys]
        lengths = {self.frames(key) for key in complete}
        if len(lengths) != 1:
            raise ConfigError(f"whole tracks of {sorted(lengths)} frames do not fit in one batch")
        size = self.item_channels, lengths.pop()
        shapes = (len(keys), *size), (len(keys), len(self.sources), *size)
        held = lease(*shapes)
        mixture, stems = held.views(*shapes)
        for row, key in enumerate(complete):
            self.fill(key, mixture[row].numpy(), stems[row].numpy())
        items = [
            Item(mixture[row], stems[row], key.valid, key.epoch, key.index)
            for row, key in enumerate(complete)
        ]
        epoch, index, valid = (torch.tensor(field) for field in zip(*complete))
        return Items(items, Item(mixture, stems, valid, epoch, index), held)

    def complete(self, key: Key | int) -> Key:
        """A key of an item that there is.

        Raises:
            IndexError: there is none.
        """
        key = key if isinstance(key, Key) else Key(0, int(key))
        if not 0 <= key.index < len(self):
            raise IndexError(f"index {key.index} is outside of 0..{len(self) - 1}")
        return key

    def apply_effects(self, key: Key, mixture: Audio, stems: Audio, recorded: bool) -> None:
        """Apply the effects to an item in place, and sum the mixture unless it was recorded.

        Args:
            key: of the item.
            mixture: (channels, samples); only read if it was recorded.
            stems: (sources, channels, samples). Of both the first `channels` were read.
            recorded: the mixture is there already.

        Raises:
            ConfigError: an effect left other channels than it says.
        """
        if not self.transforms.transforms:
            if not recorded:
                sum_stems(stems, mixture)
            return
        before = mixture[: self.channels], stems[:, : self.channels]
        mix = Mix(before[0] if recorded else None, before[1], in_place=True)
        self.transforms.apply(mix, draws.generator("effects", self.seed, key.epoch, key.index))
        if mix.shape[1] != stems.shape[1]:
            text = "transforms: stems have {} channels after the effects, which say {}"
            raise ConfigError(text.format(mix.shape[1], stems.shape[1]))
        for out, read, result in zip((mixture, stems), before, (mix.mixture, mix.stems)):
            if result is not read:
                out[...] = result


def sum_stems(stems: Audio, out: Audio) -> None:
    """Sum (sources, channels, samples) to (channels, samples), a cacheful at a time."""
    for begin in range(0, out.shape[1], _BLOCK_FRAMES):
        block = slice(begin, begin + _BLOCK_FRAMES)
        out[:, block] = stems[0, :, block]
        for stem in stems[1:]:
            out[:, block] += stem[:, block]


class _Parcel:
    """A batch on its way to the training process; pickling it is sending it."""

    def __init__(self, batch: Item, lease: Lease) -> None:
        self.batch = batch
        self.lease = lease

    def __reduce__(self) -> tuple[Any, ...]:
        mixture, stems, *marks = self.batch
        shapes = tuple(mixture.shape), tuple(stems.shape)
        memory = self.lease.hand_over()
        return _unpack, (memory, shapes, [torch.as_tensor(mark).tolist() for mark in marks])


def _unpack(memory: Tensor, shapes: Sequence[tuple[int, ...]], marks: Sequence[list[Any]]) -> Item:
    return Item(*Lease(memory).views(*shapes), *map(torch.tensor, marks))
