"""Audio that arrives in blocks of one length and is taken in blocks of another."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["Fifo", "collect"]


class Fifo:
    """A queue of audio (..., samples): what is pushed first is taken first.

    `len(fifo)` is the number of samples in it. Blocks are joined when they are looked at, so
    that pushing many small ones costs no copies.
    """

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []
        self._samples = 0

    def __len__(self) -> int:
        return self._samples

    def push(self, block: Tensor) -> None:
        """Append a block (..., samples)."""
        if block.shape[-1]:
            self._blocks.append(block)
            self._samples += block.shape[-1]

    def peek(self, start: int, stop: int) -> Tensor:
        """Samples from `start` to `stop`, both at most `len`, counted from the oldest."""
        return self._joined()[..., start:stop]

    def take(self, samples: int) -> Tensor:
        """Remove and return the oldest `samples`."""
        joined = self._joined()
        taken = joined[..., :samples].clone()  # a view would keep the rest alive
        self.drop(samples)
        return taken

    def drop(self, samples: int) -> None:
        """Forget the oldest `samples`."""
        if samples:
            self._blocks = [self._joined()[..., samples:].clone()]
            self._samples -= samples

    def _joined(self) -> Tensor:
        if len(self._blocks) > 1:
            self._blocks = [torch.cat(self._blocks, dim=-1)]
        return self._blocks[0]


def collect(blocks: Iterable[Tensor], samples: int) -> Tensor:
    """Join blocks (..., n) into one tensor, which is not held twice in memory.

    Args:
        blocks: at least one.
        samples: how many are expected; more or fewer may come.
    """
    total: Tensor | None = None
    done = 0
    for block in blocks:
        if total is None:
            total = block.new_empty(*block.shape[:-1], samples)
        after = done + block.shape[-1]
        if after > total.shape[-1]:
            more = after + after // 4 - total.shape[-1]
            total = torch.cat([total, total.new_empty(*total.shape[:-1], more)], dim=-1)
        total[..., done:after] = block
        done = after
    assert total is not None, "no blocks"
    return total[..., :done]
