"""SIGTERM, SIGUSR1 and Ctrl-C, as something that all processes of a run agree about."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

__all__ = ["Signals"]

_NUMBERS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)


class Signals:
    """Remembers a signal until it is asked for; a second Ctrl-C ends the process at once.

    A handler runs anywhere, in the middle of a collective operation for instance. It only
    remembers. `agree` is called where all processes pass, at the end of each step.
    """

    def __init__(self) -> None:
        self.received = 0
        self._group: Any = None

    def install(self, timeout: timedelta | None = None) -> None:
        """Take the signals over, and connect the processes; all of them call it together.

        `aimless.stopping.stoppable` puts back what was there. A Ctrl-C that is ignored, as in a
        shell's background jobs, stays so.

        Args:
            timeout: of the connection, after which the others are taken for dead; None: torch's.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._remember)
        if _processes() > 1 and self._group is None:
            # of the hosts: a device would be waited for at each step
            self._group = distributed.new_group(backend="gloo", timeout=timeout)

    def agree(self, wish: bool) -> tuple[int, bool]:
        """Ask all processes, at the same point of each.

        Args:
            wish: anything else that one process may ask of all.

        Returns:
            (the signal that any of them received, or 0; whether any of them has the wish)
        """
        if self._group is None:
            return self.received, wish
        votes = torch.tensor([self.received, wish], dtype=torch.int32)
        distributed.all_reduce(votes, distributed.ReduceOp.MAX, self._group)
        number, wished = votes.tolist()
        return number, bool(wished)

    def _remember(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            os._exit(128 + number)
        self.received = number

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the connection, which another process makes itself."""
        return {**vars(self), "_group": None}


def _processes() -> int:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1
