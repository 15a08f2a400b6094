"""One start of the training run: its processes, what they say, how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from aimless import stopping
from soaking.journal import FOLDER, Entry, read_journal

__all__ = ["Attempt"]

_POLL = 0.01


class Attempt:
    """A started command, with all processes of its session.

    Args:
        words: the command line.
        folder: for its journals and for what it prints; made.
        environment: beside that of this process.
    """

    def __init__(self, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.log = folder / "log.txt"
        self.began = time.monotonic()
        with open(self.log, "xb") as log:
            self.main = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment, FOLDER: str(folder)},
                start_new_session=True,
                preexec_fn=_heed_ctrl_c,
            )

    def entries(self, event: str | None = None) -> list[Entry]:
        """The journals' entries so far, of one event or of all."""
        return [entry for entry in read_journal(self.folder) if event in (None, entry.event)]

    def said(self) -> str:
        """What was printed so far."""
        return self.log.read_text(errors="replace")

    def ranks(self) -> list[int]:
        """The processes that train, by rank; before training only the one that was started."""
        found = {entry.rank: entry.pid for entry in self.entries("resumed")}
        return [found[rank] for rank in sorted(found)] or [self.main.pid]

    def loaders(self) -> list[int]:
        """The processes that load data."""
        ranks = self.ranks()
        return sorted(
            pid
            for pid, (parent, _) in _session(self.main.pid).items()
            if parent in ranks and pid not in ranks
        )

    def processes(self) -> list[int]:
        """All processes of the session that still run."""
        return sorted(_session(self.main.pid))

    def send(self, number: int, pids: Sequence[int]) -> None:
        """Send a signal to those that are still there."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether all its processes end within so many seconds."""
        until = time.monotonic() + seconds
        while self.main.poll() is None or self.processes():
            stopping.check()
            if time.monotonic() > until:
                return False
            time.sleep(_POLL)
        return True

    def watch(self, seconds: float) -> Iterator[list[Entry]]:
        """The entries, again and again, until the command ends or so many seconds are over."""
        until = time.monotonic() + seconds
        while self.main.poll() is None and time.monotonic() < until:
            stopping.check()
            yield self.entries()
            time.sleep(_POLL)

    def end(self) -> None:
        """Kill whatever is left."""
        while self.main.poll() is None or self.processes():
            self.send(signal.SIGKILL, self.processes())
            time.sleep(_POLL)


def _heed_ctrl_c() -> None:
    """Where this process ignores it, as a shell's background jobs do, the command would, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _session(session: int) -> dict[int, tuple[int, str]]:
    """Process -> (parent, state) of those in a session that are not dead yet."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            text = Path("/proc", name, "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # the name, which stands in brackets, may hold anything
        state, parent, _, its_session, *_ = text.rpartition(")")[2].split()
        if int(its_session) == session and state not in "ZX":
            found[int(name)] = int(parent), state
    return found
