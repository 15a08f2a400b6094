"""Work on strangers' bytes happens in a process of its own, which may crash or be killed.

A child is a module of this package with a `main`: it reads one line of JSON, and answers with one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from aimless.errors import AimlessError, DataError

__all__ = ["ENVIRONMENT", "Children", "answer", "keep_stdout", "python"]

SCRIPTS = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")])),
}
#: Threads would each reserve address space of their own.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def python(module: str) -> list[str]:
    """The command that runs a module of this package."""
    return [sys.executable, "-m", f"web.{module}"]


def keep_stdout() -> TextIO:
    """The way to whoever started this process, for answers alone.

    All else that is printed, by libraries in C too, goes where errors go from now on.
    """
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return kept


class Children:
    """Runs limited processes, a few at once; others wait for their turn.

    Args:
        count: at once.
        memory_bytes: of address space each.
        cpu_seconds: each, for one file.
    """

    def __init__(self, count: int, memory_bytes: int, cpu_seconds: int) -> None:
        self.memory_bytes, self.cpu_seconds = memory_bytes, cpu_seconds
        self._places = threading.BoundedSemaphore(count)

    def run(
        self, module: str, request: Mapping[str, Any], file_bytes: int, files: int = 1
    ) -> dict[str, Any]:
        """Let a child work.

        Args:
            module: of this package.
            request: what its `work` gets.
            file_bytes: that it may write into one file.
            files: that it works on, one after the other.

        Returns:
            What its `work` gives.

        Raises:
            DataError: its own, or that it crashed, passed its limits or could not be started.
        """
        cpu_seconds = files * self.cpu_seconds
        limits = {
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_CPU": cpu_seconds,
            "RLIMIT_FSIZE": file_bytes,
            "RLIMIT_CORE": 0,
        }
        with self._places:
            try:
                done = subprocess.run(
                    python(module),
                    input=json.dumps({"limits": limits, "request": dict(request)}),
                    capture_output=True,
                    text=True,
                    env=ENVIRONMENT | _ONE_THREAD,
                    timeout=2 * cpu_seconds,
                )
            except subprocess.TimeoutExpired:
                raise DataError("The file takes too long to be worked on.") from None
            except OSError as error:  # too many processes, or no memory for another
                sys.stderr.write(f"{module} cannot be started: {error}\n")
                raise DataError("The server is too busy. Please try again in a minute.") from None
        if done.returncode:
            sys.stderr.write(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}\n")
            raise DataError("The file cannot be worked on: it is damaged, or needs too much.")
        reply = json.loads(done.stdout)
        if "error" in reply:
            raise DataError(reply["error"])
        return reply


def answer(work: Callable[..., Mapping[str, Any]]) -> None:
    """The main function of a child: limits itself, then works on the request it is given."""
    parent = keep_stdout()
    message = json.loads(sys.stdin.readline())
    for name, value in message["limits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    try:
        reply = dict(work(**message["request"]))
    except AimlessError as error:
        reply = {"error": str(error)}
    except MemoryError:
        reply = {"error": "The file needs more memory than it may take."}
    with parent:
        json.dump(reply, parent)
