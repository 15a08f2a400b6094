"""A disk of its own for a run, which can be full."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from aimless.errors import ConfigError

__all__ = ["Disk", "mounted_disk"]

_MEGABYTES = 256
_FILLER = "filler"
#: Bytes after which files of a process are full, where a limit stands for a full disk: fewer than
#: a checkpoint has, more than journals and logs.
_LIMIT = 64 * 1024


class Disk(Protocol):
    """Where the run lies.

    Attributes:
        name: of how it gets full.
        folder: on it.
    """

    name: str
    folder: Path

    def fill(self, pids: Sequence[int]) -> None:
        """Leave no room, for these processes at least."""

    def free(self, pids: Sequence[int]) -> None:
        """Give the room back."""


class _SmallDisk:
    """A file system in memory; a file that fills it stands in for what others write."""

    name = "tmpfs"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, pids: Sequence[int]) -> None:
        block = bytes(1 << 16)
        with (
            contextlib.suppress(OSError),  # full, which is wanted
            open(self.folder / _FILLER, "wb", buffering=0) as file,
        ):
            while True:
                file.write(block)

    def free(self, pids: Sequence[int]) -> None:
        (self.folder / _FILLER).unlink(missing_ok=True)


class _Limit:
    """A limit on the size of files, which any user may set: a write fails with EFBIG."""

    name = "limit"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, pids: Sequence[int]) -> None:
        self._limit(pids, _LIMIT)

    def free(self, pids: Sequence[int]) -> None:
        self._limit(pids, resource.RLIM_INFINITY)

    def _limit(self, pids: Sequence[int], limit: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                if most != resource.RLIM_INFINITY:
                    limit = min(limit, most) if limit != resource.RLIM_INFINITY else most
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, most))


@contextlib.contextmanager
def mounted_disk(folder: Path, kind: str) -> Iterator[Disk]:
    """A disk for the time of a `with`.

    Args:
        folder: where it is to be.
        kind: `tmpfs`, which root may mount; `limit`, without one; `auto`: what goes.

    Raises:
        ConfigError: no file system may be mounted, but is wanted.
    """
    folder.mkdir(parents=True)
    if kind == "limit":
        yield _Limit(folder)
        return
    words = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "aimless-soak", str(folder)]
    refused = _refusal(words)
    if refused and kind == "tmpfs":
        raise ConfigError(f"--disk tmpfs: {refused}; --disk limit needs no mount")
    if refused:
        yield _Limit(folder)
        return
    try:
        yield _SmallDisk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _refusal(words: Sequence[str]) -> str:
    """Why a command fails; "" if it does not."""
    if os.geteuid() != 0:
        return "only root may mount"
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        return f"there is no command {words[0]}"
    return " ".join(done.stderr.split()) if done.returncode else ""
