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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aimless.errors import AimlessError
from web.child import ENVIRONMENT, python
from web.files import STOP

__all__ = ["Busy", "Job", "Queue"]

#: Seconds that a stopped job may still take, before its process is killed.
_PATIENCE = 10.0
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
    """

    request: Mapping[str, Any]
    state: str = "waiting"
    done: float = 0.0
    total: float = 0.0
    began: float = 0.0
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)

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
            self._ready_process()  # before the first visitor comes
            with self._change:
                self._change.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    break
                job = self._running = self._waiting.pop(0)
                job.state = "loading"
            self._run(job)
            with self._change:
                self._running = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()

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
        process = self._ready_process()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job.request) + "\n")
            process.stdin.flush()
            while not job.finished:
                line = process.stdout.readline()
                if not line:
                    break
                self._hear(job, json.loads(line))
        except BrokenPipeError:
            sys.stderr.write("the process that separates was not there\n")
        if not job.finished:
            process.wait()
            stopped = self._closed or (job.folder / STOP).exists()
            self._finish(job, "stopped" if stopped else "failed", _DIED)

    def _hear(self, job: Job, message: Mapping[str, Any]) -> None:
        state = message["state"]
        if state == "separating":
            if job.state != "separating":
                job.began = time.monotonic()
            job.done, job.total = message["done"], message["total"]
        if state == "done":
            job.result = message["result"]
        if state in ("failed", "stopped"):
            self._finish(job, state, message.get("error", ""))
        elif state != "ready":
            job.state = state

    def _finish(self, job: Job, state: str, error: str = "") -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        job.error, job.state = error, state
