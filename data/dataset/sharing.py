"""Memory of batches that is filled again and again.

Fresh memory costs more than reading the audio that goes into it, and several times as much if it
is shared between processes, because the kernel clears it and maps it page by page. So the
memory of a batch is filled again once nothing refers to the batch any more. A loader process
learns that from the last element, which the process that got the batch sets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import accumulate
from math import prod
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

__all__ = ["Lease", "lease"]

_LINE = 16  # elements of float32 in 64 bytes, to which tensors are aligned


class Lease:
    """Keeps memory from being filled again for as long as tensors made of it are alive.

    Args:
        memory: flat float32; its last element is not 0 while it is in use.
    """

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self._array = memory.numpy()
        self._array[-1] = 1
        self._process = os.getpid()

    @property
    def __array_interface__(self) -> dict[str, Any]:
        # NumPy's way to make an array that keeps its origin alive, here this lease.
        return self._array[:-_LINE].__array_interface__

    def __del__(self) -> None:
        # A copy that came into being by fork, or was handed over, has no say.
        if self._process == os.getpid():
            self._array[-1] = 0

    def hand_over(self) -> Tensor:
        """Leave the memory to the process that it is sent to."""
        self._process = 0
        return self.memory

    def views(self, *shapes: tuple[int, ...]) -> list[Tensor]:
        """Tensors of these shapes, one after the other in the memory."""
        flat = np.asarray(self)
        starts = accumulate(map(_padded, shapes), initial=0)
        return [
            torch.from_numpy(flat[start : start + prod(shape)].reshape(shape))
            for start, shape in zip(starts, shapes)
        ]


class _Memories:
    """What a process has for batches; a forked process begins without."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = Lock()
        self.known: list[Tensor] = []

    def lease(self, size: int) -> Lease:
        """Memory that nobody uses. Free memory of another size is given back."""
        if self.process != os.getpid():
            self.__init__()  # type: ignore[misc]
        with self.lock:
            self.known = [m for m in self.known if len(m) == size or m[-1] != 0]
            for memory in self.known:
                if len(memory) == size and memory[-1] == 0:
                    return Lease(memory)
            memory = torch.empty(size)
            # A loader process makes batches where the other process can read them.
            self.known.append(memory if get_worker_info() is None else memory.share_memory_())
            return Lease(self.known[-1])


_memories = _Memories()


def lease(*shapes: tuple[int, ...]) -> Lease:
    """Memory for float32 tensors of these shapes, not initialised; shared in a loader process."""
    return _memories.lease(sum(map(_padded, shapes)) + _LINE)


def _padded(shape: Sequence[int]) -> int:
    return -(-prod(shape) // _LINE) * _LINE
