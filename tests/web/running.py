"""The app as a user runs it: a server process on a free port."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
_USED, _PEAK = "VmRSS:", "VmHWM:"


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What the condition gives as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def files_below(folder: Path) -> list[Path]:
    """All files in a folder, of which some may go away meanwhile."""
    return sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names)


def memory_of(pid: int, peak: bool = False) -> int:
    """Resident bytes of a process, now or at most so far; 0 where it is no more."""
    status = _read(Path(f"/proc/{pid}/status")).decode()
    words = status.partition(_PEAK if peak else _USED)[2].split()
    return int(words[0]) << 10 if words else 0  # a process that just ended has no memory


def _read(path: Path) -> bytes:
    """A file below /proc; nothing where the process or thread is no more."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen
    work: Path
    log: Path

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and content of an address."""
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def alive(self) -> bool:
        """Whether it answers."""
        return self.process.poll() is None and self.get("/_stcore/health")[0] == 200

    def files(self) -> list[Path]:
        """Visitors' files on disk."""
        return files_below(self.work)

    def memory(self) -> int:
        """Resident bytes of the server process."""
        return memory_of(self.process.pid)

    def children(self, module: str) -> list[int]:
        """Processes of the server that run this module of its package."""
        pids = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            pids += _read(task).split()  # each belongs to the thread that started it
        name = f"web.{module}".encode()
        return [
            int(pid)
            for pid in pids
            if name in _read(Path(f"/proc/{int(pid)}/cmdline")).split(b"\0")
        ]

    def stop(self) -> None:
        """Let it end as Ctrl-C does."""
        self.process.terminate()
        self.process.wait(30)


def start_server(models: Path, work: Path, *words: str) -> Server:
    """Run the app on a free port.

    Args:
        models: folder of checkpoints to offer.
        work: folder for its log and its files.
        *words: more options of the app.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = work / "server.log"
    command = [
        *(sys.executable, "-m", "streamlit", "run", "scripts/webapp.py"),
        *(f"--server.port={port}", "--server.headless=true", "--"),
        *("--models", str(models), "--published", "--work", str(work / "work"), *words),
    ]
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=file, stderr=file, env={**os.environ, "HOME": str(work)}
        )
    server = Server(f"http://127.0.0.1:{port}", process, work / "work", log)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return server.alive()
        except OSError:
            return False

    wait_for(answers, 60)
    return server


class Use:
    """What a server takes, in bytes and seconds of a core.

    Args:
        server: that runs.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.peaks: dict[str, int] = {}
        self.look()
        self.before = dict(self.peaks)
        self._cpu_before = self._cpu()
        self.cpu_seconds, self.disk_left = 0.0, 0

    def look(self) -> None:
        """Note what is used now."""
        pid = self.server.process.pid
        workers = self.server.children("separate")
        helpers = [*self.server.children("decode"), *self.server.children("encode")]
        used = {
            "server": memory_of(pid, peak=True),
            "worker": max((memory_of(worker, peak=True) for worker in workers), default=0),
            "all": sum(memory_of(process) for process in [pid, *workers, *helpers]),
            "disk": self.disk(),
        }
        self.peaks = {name: max(now, self.peaks.get(name, 0)) for name, now in used.items()}

    def finish(self, seconds: float = 30.0) -> None:
        """Note what was used in all, and what is left on the disk so long after all have gone."""
        self.cpu_seconds = self._cpu() - self._cpu_before
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.server.files(), seconds)
        self.disk_left = self.disk()

    def disk(self) -> int:
        """Bytes of all files of visitors; a file that has two names counts once."""
        sizes = {}
        for path in self.server.files():
            try:
                status = path.stat()
            except FileNotFoundError:  # removed meanwhile
                continue
            sizes[status.st_ino] = status.st_size
        return sum(sizes.values())

    def _cpu(self) -> float:
        """Of the server's own process, so far."""
        words = Path(f"/proc/{self.server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
