"""Folders for visitors' files: private, removed when they leave, also after a crash.

Each server has a folder of its own, and a lock on it that the operating system lets go whatever
way the server ends. At its start a server removes those that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from pathlib import Path
from typing import IO

from aimless.errors import DataError

__all__ = ["Workplace"]

_PREFIX, _LOCK = "aimless-web-", "lock"


class Workplace:
    """The server's folder.

    Args:
        parent: below which it is made.
        most_bytes: that all files in it may have together.

    Raises:
        DataError: it cannot be made.
    """

    def __init__(self, parent: Path, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.folder = parent / (_PREFIX + uuid.uuid4().hex)
        try:
            remove_abandoned(parent)
            self.folder.mkdir(mode=0o700, parents=True)
            self._lock = _lock(self.folder)
        except OSError as error:
            raise DataError(f"--work {parent}: {error.strerror or error}") from error

    def new_folder(self) -> Path:
        """A folder for one visitor."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        return folder

    def check_space(self) -> None:
        """Refuse new work where the disk's share is used up.

        Raises:
            DataError: it is.
        """
        if self.used() > self.most_bytes:
            raise DataError("The server is full just now. Please try again in some minutes.")

    def used(self) -> int:
        """Bytes of all files; a file that has two names counts once."""
        sizes: dict[int, int] = {}
        for place, _, names in os.walk(self.folder):
            for name in names:
                try:
                    status = os.stat(os.path.join(place, name))
                except FileNotFoundError:  # removed meanwhile
                    continue
                sizes[status.st_ino] = status.st_size
        return sum(sizes.values())

    def close(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def remove_abandoned(parent: Path) -> None:
    """Remove folders of servers that are no more."""
    for folder in parent.glob(_PREFIX + "*"):
        try:
            lock = _lock(folder)
        except OSError:  # in use, or another user's
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _lock(folder: Path) -> IO[bytes]:
    """The open lock file; closing it lets go.

    Raises:
        OSError: another process holds it, or it may not be opened.
    """
    file = open(folder / _LOCK, "ab")  # noqa: SIM115 it stays open as long as the lock is held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file
