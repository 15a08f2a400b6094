"""Which item goes to which process, in which order.

Samplers yield `Key`s instead of plain indices. A key says everything that an item depends
on besides the data set and its seed, so that workers keep no state: the content of a batch
is a function of (seed, epoch, index), whatever the number of workers or processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import distributed
from torch.utils.data import Sampler

from aimless import draws

__all__ = ["EvalSampler", "Key", "TrainSampler", "rank_and_world_size"]


class Key(NamedTuple):
    """What an item is made from: the epoch, the index in the data set, and whether it counts.

    Items with `valid=False` only fill up the last batch of a process.
    """

    epoch: int
    index: int  # type: ignore[assignment] # hides tuple.index, which a key has no use for
    valid: bool = True


def rank_and_world_size() -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) outside distributed runs."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class TrainSampler(Sampler[Key]):
    """All items in a new order each epoch, dealt out to the processes.

    The order is drawn from (seed, epoch) and process r of n takes every n-th item from r on,
    so that n processes with batch size b see in each step what one process with batch size
    n*b sees. Each gets the same number of items; the uneven rest of an epoch is left out.

    A run that was interrupted goes on in the middle of an epoch (`set_position`) with the items
    that it would have seen; the epochs after that one begin at their beginning.

    Args:
        size: number of items in the data set.
        seed: of the order.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws; Lightning calls it.

        A position holds for its epoch only: any other one begins at 0.
        """
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def set_position(self, epoch: int, start: int) -> None:
        """Go on in the middle of an epoch.

        Args:
            epoch: that the next iteration draws.
            start: items of it that all processes together have used, from 0 to `size`.

        Raises:
            ValueError: there is no such position.
        """
        if epoch < 0 or not 0 <= start <= self.size:
            raise ValueError(f"no item {start} in epoch {epoch} of {self.size} items")
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Of a whole epoch: a trainer that goes on in the middle counts from there."""
        return self.size // rank_and_world_size()[1]

    def __iter__(self) -> Iterator[Key]:
        rank, world = rank_and_world_size()
        order = draws.generator("order", self.seed, self.epoch).permutation(self.size)
        rest = order[self.start :]
        for index in rest[rank::world][: len(rest) // world]:
            yield Key(self.epoch, int(index))


class EvalSampler(Sampler[Key]):
    """All items once, in order, dealt out to the processes; the epoch is always 0.

    Args:
        size: number of items in the data set.
        pad: give each process the same number of keys, filled up with `valid=False`, so that
            metrics can be reduced across processes after each batch. Without it a process may
            get fewer, or none.
    """

    def __init__(self, size: int, pad: bool = True) -> None:
        self.size = size
        self.pad = pad

    def __len__(self) -> int:
        rank, world = rank_and_world_size()
        share = len(range(rank, self.size, world))
        return -(-self.size // world) if self.pad else share

    def __iter__(self) -> Iterator[Key]:
        rank, world = rank_and_world_size()
        share = range(rank, self.size, world)
        for index in share:
            yield Key(0, index)
        for _ in range(len(self) - len(share)):
            yield Key(0, self.size - 1, valid=False)
