"""Memory that a process needs."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

__all__ = ["free_memory", "host_memory_for", "peak_memory"]


def peak_memory(device: torch.device) -> int:
    """Most bytes so far: allocated on a CUDA device, else resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def free_memory() -> int | None:
    """Bytes that this process could still get on the host; None where the system does not say."""
    available = _number("/proc/meminfo", "MemAvailable:", 1024)
    limit, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None and used is not None:
        left = max(limit - used, 0)
        return left if available is None else min(available, left)
    return available


def host_memory_for(work: Callable[[], object]) -> int | None:
    """Most bytes of resident memory while some work is done; None where the system does not say.

    Work that allocates less than was freed before needs no more, so the smallest goes first.
    """
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets the peak, see proc(5)
    except OSError:
        return None
    work()
    return _number("/proc/self/status", "VmHWM:", 1024)


def _number(path: str, key: str = "", unit: int = 1) -> int | None:
    """The number after a key in a file of the kernel; None without one."""
    try:
        with open(path) as file:
            line = next((line for line in file if line.startswith(key)), "")
    except OSError:
        return None
    digits = line[len(key) :].split()
    return int(digits[0]) * unit if digits and digits[0].isdigit() else None
