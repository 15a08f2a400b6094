"""Memory settings of the process."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep what a training step frees, for the next step.

    By default large tensors are mapped from the kernel and given back at every step, and a third
    of the time on a CPU goes into faulting their pages in again. Does nothing where the C
    library is another one, or where the user set the two variables in the environment.

    Returns:
        Whether the setting was made.
    """
    if not sys.platform.startswith("linux"):
        return False
    if "MALLOC_MMAP_MAX_" in os.environ or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
