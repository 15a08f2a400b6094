"""The other processes of this machine, started as Lightning starts them and seen to their end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

__all__ = ["Failure", "ScriptLauncher"]

_ENDING = 2.0  # seconds that a process may take to end all its threads


class Failure(NamedTuple):
    """What ended a process.

    Attributes:
        rank: of the process.
        status: exit status, 128 and its number after a signal.
        message: a line.
    """

    rank: int
    status: int
    message: str


class ScriptLauncher(_SubprocessScriptLauncher):
    """Starts a process for each further device, and leaves to `Peers` what to do when one fails.

    Lightning kills the process that the user started five seconds or less after another one has
    failed; its exit status, and the steps that it could have saved, would be lost.

    Args:
        as those of Lightning's launcher.
    """

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: pl.Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start the others, if nobody else does, and call a function."""
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not environment.creates_processes_externally:
            self._call_children_scripts()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def failures(self) -> list[Failure]:
        """Of the processes that were started here and ended with another status than 0."""
        return [
            _describe(rank, status)
            for rank, process in self._started()
            if (status := process.poll())
        ]

    def failure_of(self, rank: int) -> Failure | None:
        """Of a process that is seen to end; None if it was not started here, or ended well.

        Its first thread is gone a moment before its status is there to be asked for.
        """
        process = dict(self._started()).get(rank)
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
        return _describe(rank, process.returncode) if process.returncode else None

    def wait(self, seconds: float) -> list[Failure]:
        """Wait for the processes that were started here; returns those that had to be killed."""
        deadline = time.monotonic() + seconds
        for process in self.procs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0))
        late = [(rank, process) for rank, process in self._started() if process.poll() is None]
        for _, process in late:
            process.kill()
            process.wait()
        return [Failure(rank, 1, f"did not end within {seconds:g} s") for rank, _ in late]

    def _started(self) -> list[tuple[int, subprocess.Popen[bytes]]]:
        """The processes that were started here, by rank."""
        first = self.cluster_environment.node_rank() * self.num_processes + 1
        return list(enumerate(self.procs, first))


def _describe(rank: int, status: int) -> Failure:
    if status > 0:
        return Failure(rank, status, f"ended with status {status}")
    return Failure(rank, 128 - status, f"was killed by {signal.Signals(-status).name}")
