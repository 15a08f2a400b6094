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
from typing import Any

from aimless.errors import AimlessError, DataError

__all__ = ["ENVIRONMENT", "Children", "answer", "python"]

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


class Children:
    """Runs limited processes, a few at once; others wait for their turn.

    Args:
        count: at once.
        memory_bytes: of address space each.
        cpu_seconds: each.
    """

    def __init__(self, count: int, memory_bytes: int, cpu_seconds: int) -> None:
        self.memory_bytes, self.cpu_seconds = memory_bytes, cpu_seconds
        self._places = threading.BoundedSemaphore(count)

    def run(self, module: str, request: Mapping[str, Any], file_bytes: int) -> dict[str, Any]:
        """Let a child work.

        Args:
            module: of this package.
            request: what its `work` gets.
            file_bytes: that it may write into one file.

        Returns:
            What its `work` gives.

        Raises:
            DataError: its own, or that it crashed or passed its limits.
        """
        limits = {
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_CPU": self.cpu_seconds,
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
                    timeout=2 * self.cpu_seconds,
                )
            except subprocess.TimeoutExpired:
                raise DataError("The file takes too long to be worked on.") from None
        if done.returncode:
            sys.stderr.write(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}\n")
            raise DataError("The file cannot be worked on: it is damaged, or needs too much.")
        reply = json.loads(done.stdout)
        if "error" in reply:
            raise DataError(reply["error"])
        return reply


def answer(work: Callable[..., Mapping[str, Any]]) -> None:
    """The main function of a child: limits itself, then works on the request it is given."""
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
    json.dump(reply, sys.stdout)
