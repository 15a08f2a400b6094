"""How each fault is done to a run, and when it is over."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from soaking.attempt import Attempt
from soaking.checkpoints import damage, find_checkpoints
from soaking.disk import Disk
from soaking.faults import SIGNALS, Fault

__all__ = ["Saboteur"]

_FULL = "could not be written"


class Saboteur:
    """Does faults to attempts.

    Args:
        disk: that the run writes to.
        songs: of the training split.
        step_seconds: that an optimizer step takes, about.
        start_seconds: from the start of the command to its first step, about.
        patience: seconds in which something must have happened.
    """

    def __init__(
        self,
        disk: Disk,
        songs: list[Path],
        step_seconds: float,
        start_seconds: float,
        patience: float,
    ) -> None:
        self.disk = disk
        self.songs = songs
        self.step_seconds = step_seconds
        self.start_seconds = start_seconds
        self.patience = patience

    def await_moment(self, attempt: Attempt, fault: Fault) -> bool:
        """Wait until a fault is due; whether the run is still there then."""
        if fault.phase == "start":
            return not attempt.wait(fault.delay * self.start_seconds)
        first: int | None = None
        wanted = "validates" if fault.phase == "validation" else "begins"
        longest = self.patience + 5 * self.start_seconds + 50 * self.step_seconds
        for entries in attempt.watch(longest):
            steps = [entry.step for entry in entries if entry.event in ("begins", wanted)]
            first = steps[-1] if first is None and steps else first
            due = [e for e in entries if e.event == wanted and e.step >= (first or 0) + fault.after]
            if first is not None and due:
                time.sleep(fault.delay * self.step_seconds)
                return attempt.main.poll() is None
        return False

    def strike(self, attempt: Attempt, fault: Fault) -> Callable[[], None]:
        """Do it; returns what undoes it, to be called when the run has left."""
        if fault.kind in SIGNALS:
            return self._signal(attempt, fault)
        if fault.kind == "loader killed":
            loaders = attempt.loaders()
            attempt.send(signal.SIGKILL, [loaders[fault.choose(len(loaders))]])
            return _nothing
        if fault.kind == "track deleted":
            return self._delete(fault)
        if fault.kind.startswith("checkpoint"):
            attempt.send(signal.SIGKILL, attempt.processes())
            return lambda: self._damage_newest(fault)
        return self._fill(attempt, fault)

    def _signal(self, attempt: Attempt, fault: Fault) -> Callable[[], None]:
        """To one process that trains, or to all; a terminal's Ctrl-C goes to all there are."""
        ranks = attempt.ranks()
        chosen = fault.choose(len(ranks) + 1)
        if fault.kind == "Ctrl-C" or (chosen == len(ranks) and fault.kind == "SIGKILL"):
            targets = attempt.processes()
        else:
            targets = ranks if chosen == len(ranks) else [ranks[chosen]]
        attempt.send(SIGNALS[fault.kind], targets)
        return _nothing

    def _delete(self, fault: Fault) -> Callable[[], None]:
        song = self.songs[fault.choose(len(self.songs))]
        away = song.parent.parent / "deleted"
        song.rename(away)

        def restore() -> None:
            away.rename(song)

        return restore

    def _damage_newest(self, fault: Fault) -> None:
        if found := find_checkpoints(self.disk.folder):
            damage(found[-1].path, fault.where, fault.kind == "checkpoint truncated")

    def _fill(self, attempt: Attempt, fault: Fault) -> Callable[[], None]:
        pids = attempt.ranks()
        self.disk.fill(pids)
        if fault.kind == "disk full for a while":
            for _ in attempt.watch(self.patience):
                if _FULL in attempt.said():
                    break
            self.disk.free(pids)
        return lambda: self.disk.free(pids)


def _nothing() -> None:
    """There is nothing to undo."""
