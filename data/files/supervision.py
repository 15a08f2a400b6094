"""Which file a process reads, for how long, and what ends a read that takes too long.

Storage over a network may stop answering, and a process that waits for it cannot say so. Each
loader process therefore writes the file that it reads into memory that it shares with the
training process (`Slots`), which names it when the process dies, and an alarm ends a read after
`ReadPolicy.timeout` seconds. A read that no signal ends, as libsndfile goes on after one, ends
with its process.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Collection
from types import FrameType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.files.audio_file import PathLike, printable

__all__ = ["ReadPolicy", "Slots", "supervisor"]

_SLOT = np.dtype([("pid", "i8"), ("began", "f8"), ("retries", "i8"), ("path", "S1000")])
_AGAIN = 1.0  # seconds between alarms: Python drops what is raised in a destructor
_GRACE = 5.0  # seconds more, after which the process ends


class ReadPolicy(NamedTuple):
    """How much patience a read has with the storage.

    Attributes:
        timeout: seconds after which an attempt to read is over; None: never.
        retries: attempts after the first.
    """

    timeout: float | None = 60.0
    retries: int = 3


class Slots:
    """What each loader process of a loader reads, in shared memory; it can be pickled.

    Args:
        processes: how many there are.
    """

    def __init__(self, processes: int) -> None:
        import torch  # here, as scripts read files without it

        self._memory = torch.zeros((processes + 1) * _SLOT.itemsize, dtype=torch.uint8)
        self._memory.share_memory_()

    def rows(self) -> NDArray[np.void]:
        """One for the training process, then those of the loader processes."""
        return self._memory.numpy().view(_SLOT)

    @property
    def retries(self) -> int:
        """Reads that were tried again so far, by all processes."""
        return int(self.rows()["retries"].sum())

    def owns(self, pids: Collection[int]) -> bool:
        """Whether one of the processes is ours."""
        return bool(np.isin(self.rows()["pid"], list(pids)).any())

    def describe(self, pids: Collection[int], timeout: float | None) -> str:
        """What processes that died were reading.

        Args:
            pids: of the processes.
            timeout: seconds after which a read was over.

        Returns:
            ` while reading <path>` or ` after reading <path>`, of each; nothing if they read
            nothing.
        """
        rows = self.rows()
        texts = []
        for row in rows[np.isin(rows["pid"], list(pids))]:
            if path := printable(os.fsdecode(bytes(row["path"]))):
                seconds = time.monotonic() - row["began"]
                silent = timeout is not None and seconds > timeout
                now = f", which gave no answer for {seconds:.0f} s" if silent else ""
                texts.append(
                    f"while reading {path}{now}" if row["began"] else f"after reading {path}"
                )
        return " " + "; ".join(dict.fromkeys(texts)) if texts else ""


class _Supervisor:
    """The reads of this process; used as `with supervisor.reading(path):`."""

    def __init__(self) -> None:
        self.policy = ReadPolicy()
        self._row = np.zeros(1, _SLOT)[0]
        self._armed = self._rings = False

    def begin(self, policy: ReadPolicy, slots: Slots, process: int = 0) -> None:
        """Follow a policy from now on.

        In the training process there is an alarm only where nobody else handles SIGALRM.

        Args:
            policy: of the reads.
            slots: where they are published.
            process: number of the loader process, from 1; 0 is the training process.
        """
        self.policy = policy
        self._row = slots.rows()[process]
        self._row["pid"] = os.getpid()
        self._armed = False
        if _may_set_handlers():
            free = signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, self._alarm)
            self._rings = bool(process) or free
            if self._rings:
                signal.signal(signal.SIGALRM, self._alarm)
        if process and policy.timeout is not None:
            threading.Thread(target=self._end_a_hang, daemon=True).start()

    def reading(self, path: PathLike) -> _Supervisor:
        """A context in which a file is read.

        Raises:
            TimeoutError: in it, after the policy's timeout; errno is ETIMEDOUT.
        """
        self._row["path"] = os.fsencode(path)[-1000:]
        return self

    def count_retry(self) -> int:
        """Count a read that is tried again; how many there were in this process."""
        self._row["retries"] += 1
        return int(self._row["retries"])

    def __enter__(self) -> None:
        self._row["began"] = time.monotonic()
        if self.policy.timeout is not None and self._may_alarm():
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self.policy.timeout, _AGAIN)

    def __exit__(self, *error: object) -> None:
        if self._armed:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._row["began"] = 0

    def _may_alarm(self) -> bool:
        timer, _ = signal.getitimer(signal.ITIMER_REAL) if self._rings else (1.0, 0.0)
        return timer == 0 and _may_set_handlers()

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            text = f"no answer within {self.policy.timeout:g} s"
            raise TimeoutError(errno.ETIMEDOUT, text)

    def _end_a_hang(self) -> None:
        """End this process if a read goes on after its alarm; its slot tells why."""
        assert self.policy.timeout is not None
        longest = self.policy.timeout + _GRACE
        while True:
            time.sleep(_AGAIN)
            began = self._row["began"]
            if began and time.monotonic() - began > longest:
                os._exit(1)


def _may_set_handlers() -> bool:
    """Signals reach the main thread only, and alarms are POSIX."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


#: Of this process.
supervisor = _Supervisor()
