"""Folders for visitors' files: private, removed when they leave, also after a crash.

Each server has a folder of its own, and a lock on it that the operating system lets go whatever
way the server ends. At its start a server removes those that nobody holds. The folder itself is
locked, not a file in it: that would be cleaned away by systemd-tmpfiles after some days, which
passes over locked folders.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from aimless.errors import DataError

__all__ = ["Workplace"]

_PREFIX = "aimless-web-"


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
        try:
            remove_abandoned(parent)
            self.folder, self._lock = _new_locked(parent)
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
        os.close(self._lock)


def remove_abandoned(parent: Path) -> None:
    """Remove folders of servers that are no more."""
    for folder in parent.glob(_PREFIX + "*"):
        try:
            lock = _lock(folder)
        except OSError:  # in use, or another user's
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _new_locked(parent: Path) -> tuple[Path, int]:
    """A new folder below another, and its lock.

    Raises:
        OSError: it cannot be made, or not be locked there.
    """
    while True:
        folder = parent / (_PREFIX + uuid.uuid4().hex)
        folder.mkdir(mode=0o700, parents=True)
        # a server that starts just now may take it for abandoned before the lock is there
        with suppress(FileNotFoundError, BlockingIOError):
            lock = _lock(folder)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _lock(folder: Path) -> int:
    """The open folder; closing it lets go.

    Raises:
        OSError: another process holds it, or it may not be opened.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
