"""The queue: one job runs, a few wait, the next is told to come back later."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aimless.errors import AimlessError
from web.child import ENVIRONMENT, python
from web.files import STOP

__all__ = ["Busy", "Job", "Queue"]

#: Seconds that a stopped job may still take, before its process is killed.
_PATIENCE = 10.0
#: Seconds that a job may say nothing, before its process is killed; a segment takes a few.
_LONGEST_SILENCE = 1800.0
#: Seconds until a process that could not be started is tried again.
_RETRY = 1.0
_SILENT = "The separation stood still for too long and was ended. Try again, or another model."
_DIED = "The separation broke off: the server may be out of memory. Try again, or an excerpt."


class Busy(AimlessError):
    """As many jobs wait as may."""


@dataclass(eq=False)
class Job:
    """One separation, as the page sees it; only the queue changes it.

    Args:
        request: see `web.separate.Worker.run`; with the folder.
        state: `waiting`, `loading`, `separating`, `drawing`, and in the end `done`, `failed` or
            `stopped`.
        done: seconds of the song.
        total: seconds of the song.
        began: when the first segment began, by `time.monotonic`.
        error: why it failed.
        result: see `web.separate.Worker.run`.
        stopping: whether nobody waits for it any more.
    """

    request: Mapping[str, Any]
    state: str = "waiting"
    done: float = 0.0
    total: float = 0.0
    began: float = 0.0
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    stopping: bool = False

    @property
    def folder(self) -> Path:
        """What is made lies here."""
        return Path(self.request["folder"])

    @property
    def finished(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ("done", "failed", "stopped")

    @property
    def seconds_left(self) -> float | None:
        """As much for the rest as for what is done; None before that can be told."""
        if not 0 < self.done <= self.total:
            return None
        return (time.monotonic() - self.began) / self.done * (self.total - self.done)


class Queue:
    """Runs jobs one after the other in one process, which keeps the model in memory.

    Args:
        device: see `aimless.Separator`.
        waiting: jobs behind the one that runs.
    """

    def __init__(self, device: str, waiting: int) -> None:
        self.device, self.most_waiting = device, waiting
        self._change = threading.Condition()
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self._thread.start()

    def submit(self, folder: Path, **request: Any) -> Job:
        """Put a job at the end.

        Args:
            folder: in which a new folder is made for the job.
            **request: see `web.separate.Worker.run`.

        Raises:
            Busy: too many wait.
        """
        job = Job({**request, "folder": str(folder / uuid.uuid4().hex)})
        with self._change:
            ahead = len(self._waiting) + (self._running is not None)
            if ahead > self.most_waiting:
                raise Busy(f"{ahead} songs are being split or wait. Please try again in a minute.")
            job.folder.mkdir()
            self._waiting.append(job)
            self._change.notify_all()
        return job

    def position(self, job: Job) -> int:
        """How many jobs are before it."""
        with self._change:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def stop(self, job: Job) -> None:
        """Let a job end, now or after its segment, and remove what it made."""
        with self._change:
            if job.finished:
                return
            if job in self._waiting:
                self._waiting.remove(job)
                self._finish(job, "stopped")
                return
            job.stopping = True
            with suppress(OSError):  # a full disk: then its process is killed soon
                (job.folder / STOP).touch()
            process = self._process
        if process is not None:
            timer = threading.Timer(_PATIENCE, self._kill_if_running, (job, process))
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        """Stop all, and the process."""
        with self._change:
            self._closed = True
            for job in self._waiting:
                self._finish(job, "stopped")
            self._waiting.clear()
            if self._process is not None:
                self._process.kill()
            self._change.notify_all()
        self._thread.join()

    @property
    def process_id(self) -> int | None:
        """Of the process that separates; None where it is not running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _kill_if_running(self, job: Job, process: subprocess.Popen[str]) -> None:
        with self._change:
            if job is self._running and not job.finished:
                process.kill()

    def _work(self) -> None:
        """The thread of the queue."""
        while True:
            ready = self._make_ready()  # before the first visitor comes
            with self._change:
                if ready:
                    self._change.wait_for(lambda: self._closed or self._waiting)
                else:
                    self._change.wait_for(lambda: self._closed, _RETRY)
                if self._closed:
                    break
                if not ready:
                    continue
                job = self._running = self._waiting.pop(0)
                job.state = "loading"
            self._run(job)
            with self._change:
                self._running = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _make_ready(self) -> bool:
        """Start the process where it does not run; whether it could be started."""
        try:
            self._ready_process()
        except OSError as error:  # too many processes, or no memory for another
            sys.stderr.write(f"the process that separates cannot be started: {error}\n")
            return False
        return True

    def _ready_process(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [*python("separate"), self.device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=ENVIRONMENT,
            )
        return self._process

    def _run(self, job: Job) -> None:
        reason = _DIED
        try:
            self._exchange(job)
        except TimeoutError:
            reason = _SILENT
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.stderr.write(f"the process that separates cannot be used: {error!r}\n")
        if not job.finished:
            if self._process is not None:  # what else it says would be heard by the next job
                self._process.kill()
                self._process.wait()
            stopped = self._closed or job.stopping
            self._finish(job, "stopped" if stopped else "failed", reason)

    def _exchange(self, job: Job) -> None:
        """Give the process a job, and hear it until that is finished or the process ends.

        Raises:
            TimeoutError: it said nothing for long.
            OSError: it is not there, or cannot be started.
            ValueError, KeyError, TypeError: what it said is no message.
        """
        process = self._ready_process()
        assert process.stdin is not None
        process.stdin.write(json.dumps(job.request) + "\n")
        process.stdin.flush()
        while not job.finished and (line := _read_line(process)):
            self._hear(job, json.loads(line))

    def _hear(self, job: Job, message: Mapping[str, Any]) -> None:
        state = message["state"]
        if state == "separating":
            if job.state != "separating":
                job.began = time.monotonic()
            job.done, job.total = message["done"], message["total"]
        if state == "done":
            self._deliver(job, message["result"])
        elif state in ("failed", "stopped"):
            self._finish(job, state, message.get("error", ""))
        elif state in ("loading", "separating", "drawing"):
            job.state = state
        elif state != "ready":
            raise ValueError(state)

    def _deliver(self, job: Job, result: dict[str, Any]) -> None:
        with self._change:  # nobody can stop it between the look and the deed
            if job.stopping:
                self._finish(job, "stopped")
            else:
                job.result, job.state = result, "done"

    def _finish(self, job: Job, state: str, error: str = "") -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        job.error, job.state = error, state


def _read_line(process: subprocess.Popen[str]) -> str:
    """The next line of a process; nothing where it has ended.

    Raises:
        TimeoutError: it was killed, as it said nothing for long.
    """
    assert process.stdout is not None
    began = time.monotonic()
    timer = threading.Timer(_LONGEST_SILENCE, process.kill)
    timer.daemon = True
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    if not line and time.monotonic() - began >= _LONGEST_SILENCE:
        raise TimeoutError
    return line
