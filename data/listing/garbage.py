"""Many objects at once without the search for cycles among them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_garbage_collection"]


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Spare Python the search for cycles, of which a scan of files makes hardly any.

    It would walk again and again through the objects of all files: half the time of a scan. At the
    end they count as old, which spares the walk through them that would follow at once.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if gc.get_freeze_count() == 0:  # else what somebody froze would thaw
                gc.freeze()
                gc.unfreeze()
            gc.enable()
