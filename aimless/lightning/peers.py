"""What the processes of a run know of each other beside their collective operations.

A process that waits in a collective operation for one that is gone learns it at once from gloo,
and from NCCL only when the network tells, which between the GPUs of one machine it does not.
Therefore each process looks every second, in a thread, whether all others are still there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import distributed
from torch.distributed.distributed_c10d import _get_default_store

from aimless.lightning.launcher import Failure, ScriptLauncher

__all__ = ["Peers"]

_PERIOD = 1.0  # seconds between two looks
_SOON = 0.05  # the same, until all know each other, and where one waits for the others
_MEETING = 30.0  # seconds in which all get to know each other, which they do at once
_HEARING = 5.0  # seconds in which the others hear what process 0 ends with
_ANNOUNCED = 3.0  # seconds to leave, when the process that failed has saved what there was
_SUDDEN = 30.0  # seconds to leave when a process is gone: the operation under way ends first
_runs = 0  # of this process; all processes of a group begin the same ones


class Peers:
    """The processes of one run, watched by a thread of each of them.

    As soon as one fails, the others have some seconds to notice it in an operation of their own,
    to save and to leave; then the thread ends the process, with the status of the one that
    failed first. Failures are announced in the store of the process group. A process that is
    killed announces nothing; those of its machine find that its process id is gone.

    Args:
        rank: of this process.
        world: number of processes.
        timeout: seconds that a process may take to leave once it has begun to.
        launcher: that starts others, if Lightning does.
        child: whether this process was started by another one of the run.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        timeout: float,
        launcher: ScriptLauncher | None = None,
        child: bool = False,
    ) -> None:
        global _runs
        _runs += 1
        self.rank = rank
        self.world = world
        self.leaving = threading.Event()
        self._timeout = timeout
        self._prefix = f"aimless/{_runs}/"
        self._launcher = launcher
        self._parent = os.getppid() if child else None
        self._connection: Any = None
        self._found: Failure | None = None
        self._gone = False  # process 0, and the store with it
        self._lock = threading.RLock()
        self._unknown = set(range(world))  # ranks that may be of this machine
        self._neighbours: dict[int, tuple[int, str]] = {}  # rank -> its process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)

    def begin(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def meet(self) -> None:
        """Wait until all processes know each other; one that is gone from then on is missed.

        To be called when there is a process group, by all at once.
        """
        deadline = time.monotonic() + min(self._timeout, _MEETING)
        met: Any = None
        while not self._gone and time.monotonic() < deadline:
            self._connect()
            with self._holding() as held:
                if held:
                    self._meet()
            if not self._unknown:
                met = self._ask("add", "met", 1 if met is None else 0)
            if met is not None and met >= self.world:
                return
            time.sleep(_SOON)

    def announce(self, failure: Failure) -> None:
        """Tell the others what ends this process, or what another one was seen to end with.

        The first of a run counts; what a process says itself goes before what others saw.
        """
        key = "failed" if failure.rank == self.rank else "gone"
        self._ask("compare_set", key, "", json.dumps(failure))

    def failure(self) -> Failure | None:
        """What ended a process of this run first; None while all are well."""
        with self._holding() as held:
            if not held:
                return self._found or Failure(0, 1, "gives no answer")
            self._gone = self._gone or self._store_is_gone()
            if said := self._said("failed"):
                self._found = said
            elif self._found is None and (seen := self._said("gone") or self._seen()):
                self._found = self._said("failed") or self._explain(seen)  # it may have come since
            if self._found is not None:
                self._ask("set", f"left/{self.rank}", "1")
            return self._found

    def first(self, what: str) -> bool:
        """Whether no other process has asked for the same; without process 0, 1 is the first."""
        count = self._ask("add", what, 1)
        return count == 1 if count is not None else self.rank == 1

    def end(self, well: bool) -> Failure | None:
        """Stop watching; process 0, which keeps the store, waits until the others know.

        Args:
            well: this process did all that it was to do. The others may have more to do, such as
                longer songs, and are waited for as long as they live.

        Returns:
            What befell another process meanwhile.
        """
        key = "done" if well else "left"
        self._ask("set", f"{key}/{self.rank}", "1")
        found = None
        if self.rank == 0:
            found = self._await(key, math.inf if well else _HEARING)
        self._over.set()
        self._thread.join(_PERIOD)
        return found if well else None

    def _await(self, key: str, seconds: float) -> Failure | None:
        """Wait until all others have set a key; returns early with what befell one of them."""
        lost = self._found.rank if self._found else self.rank
        names = [f"{key}/{rank}" for rank in range(self.world) if rank not in (lost, self.rank)]
        deadline = time.monotonic() + seconds
        while names and time.monotonic() < deadline and not self._ask("check", names):
            if key == "done" and (found := self.failure()):
                return found
            if self._connection is None:
                return None
            time.sleep(_SOON)
        return None

    # -- looking ----------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._over.wait(_SOON if self._unknown else _PERIOD):
            self._connect()
            if found := self.failure():
                break
        else:
            return
        began = time.monotonic()
        grace = _ANNOUNCED if self._said("failed") else _SUDDEN
        self.announce(found)
        while not self._over.wait(_PERIOD):
            if time.monotonic() - began > (self._timeout if self.leaving.is_set() else grace):
                self._leave_at_once(found)

    def _leave_at_once(self, found: Failure) -> None:
        text = f"error: rank {found.rank}: {found.message}; rank {self.rank} ends, which waits\n"
        sys.stderr.write(text)
        sys.stderr.flush()
        if self._launcher is not None:
            self._launcher.wait(0)
        os._exit(found.status)

    def _said(self, key: str) -> Failure | None:
        said = self._ask("get", key) if self._ask("check", [key]) else None
        return Failure(*json.loads(said)) if said else None

    def _seen(self) -> Failure | None:
        """A process that is gone without a word."""
        for found in self._launcher.failures() if self._launcher else []:
            if not self._done(found.rank):
                return found
        self._meet()
        for rank, process in self._neighbours.items():
            if _has_ended(*process) and not self._done(rank):
                pid, _ = process
                return Failure(rank, 1, f"process {pid} on {_host()} is gone")
        return Failure(0, 1, "is gone") if self._gone else None

    def _explain(self, seen: Failure) -> Failure:
        """What the launcher knows better: a process vanishes before its status is there."""
        return (self._launcher and self._launcher.failure_of(seen.rank)) or seen

    def _done(self, rank: int) -> bool:
        return bool(self._ask("check", [f"done/{rank}"]))

    def _meet(self) -> None:
        """Learn which ranks are processes of this machine."""
        with contextlib.suppress(OSError):  # that cannot be told now: the next look will
            self._learn()

    def _learn(self) -> None:
        if not self._unknown or self._connection is None:
            return
        if self.rank in self._unknown:
            place = [_host(), os.getpid(), _start_of(os.getpid())]
            self._ask("set", f"at/{self.rank}", json.dumps(place))
            self._unknown.remove(self.rank)
        for rank in list(self._unknown):
            if said := self._ask("check", [f"at/{rank}"]) and self._ask("get", f"at/{rank}"):
                host, pid, start = json.loads(said)
                # in a container, a process id may mean nothing, or another process
                if start and host == _host() and _start_of(pid) == start:
                    self._neighbours[rank] = pid, start
                self._unknown.remove(rank)

    # -- the store --------------------------------------------------------------------------

    def _store_is_gone(self) -> bool:
        """Whether process 0 is seen to be gone, which keeps the store.

        Asking for it would tell the same, with a trace of the operation's C++ on stderr.
        """
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun keeps it
            return False
        if self._parent is not None and os.getppid() != self._parent:
            return True
        return 0 in self._neighbours and _has_ended(*self._neighbours[0])

    @contextlib.contextmanager
    def _holding(self) -> Iterator[bool]:
        """A context that one thread is in at a time; whether this one is.

        An operation of the store has no timeout. Where process 0 has stopped, or its machine is
        gone without a word, the other thread never comes back from one.
        """
        held = self._lock.acquire(timeout=1 if self._gone else _HEARING)
        self._gone = self._gone or not held
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    def _connect(self) -> None:
        """Get a connection to the store of our own, as soon as there is one.

        The main thread's may be in use, for as long as it waits for another process.
        """
        with self._holding() as held:
            wanted = held and self._connection is None and not self._gone
            if wanted and distributed.is_initialized():
                try:
                    store: Any = _get_default_store()
                    self._connection = store.clone()
                except distributed.DistError:
                    self._gone = True

    def _ask(self, operation: str, key: str | list[str], *values: Any) -> Any:
        """An operation of the store; None without it."""
        with self._holding() as held:
            if not held or self._connection is None or self._gone:
                return None
            many = isinstance(key, list)
            name: Any = [self._prefix + one for one in key] if many else f"{self._prefix}{key}"
            try:
                return getattr(self._connection, operation)(name, *values)
            except distributed.DistError:
                self._gone = True
                return None


def _host() -> str:
    return socket.gethostname()


def _start_of(pid: int) -> str | None:
    """When a process of this machine began, in ticks; None if there is none, or it has ended.

    Raises:
        OSError: that cannot be told now, for want of memory for instance.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in "ZX" else fields[18]


def _has_ended(pid: int, start: str) -> bool:
    try:
        return _start_of(pid) != start
    except OSError:
        return False
