"""Resampling of audio that arrives in blocks, with soxr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

__all__ = ["resampled"]


def resampled(blocks: Iterable[Tensor], rate: int, new_rate: int) -> Iterator[Tensor]:
    """Resample blocks (..., n); passes them on untouched where the rates are equal.

    The result is that of resampling the whole at once: no delay, and round(samples * new_rate /
    rate) samples, at least one. soxr's HQ quality, 20 bits.

    Args:
        blocks: of one shape but for their lengths, on the CPU.
        rate: of the blocks in Hz.
        new_rate: wanted, in Hz.
    """
    if rate == new_rate:
        yield from blocks
        return
    import soxr  # only where rates differ

    stream: soxr.ResampleStream | None = None
    shape = torch.Size()
    done = 0
    for block in blocks:
        if stream is None:
            shape = block.shape[:-1]
            stream = soxr.ResampleStream(rate, new_rate, shape.numel(), dtype="float32")
        samples = block.reshape(shape.numel(), -1).T.contiguous().numpy()
        result = stream.resample_chunk(samples)
        done += len(result)
        if len(result):
            yield torch.from_numpy(result).T.reshape(*shape, -1)
    if stream is None:
        return
    empty = torch.empty(0, shape.numel()).numpy()
    result = stream.resample_chunk(empty, last=True)
    if len(result) or not done:
        rest = torch.from_numpy(result) if done or len(result) else torch.zeros(1, shape.numel())
        yield rest.T.reshape(*shape, -1)
