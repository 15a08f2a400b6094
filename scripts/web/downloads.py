"""Files that are made when a visitor asks for them, and removed once they are sent."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from aimless.errors import AimlessError
from web.child import Children
from web.workplace import Workplace

__all__ = ["Download", "Downloads", "Maker", "TooMany"]

#: Downloads of one visitor: one that is made, and others that wait or are being sent.
_MOST = 10
_HEADERS = {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer"}


class TooMany(AimlessError):
    """A visitor asks for more downloads before those of before are there."""


class Downloads:
    """Those of one visitor: made one after the other. For the event loop only."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._count = 0

    def enter(self) -> None:
        """One more.

        Raises:
            TooMany: there are as many as may be.
        """
        if self._count >= _MOST:
            raise TooMany(f"{self._count} downloads are under way. Please wait for one of them.")
        self._count += 1

    def leave(self) -> None:
        """One is sent, or given up."""
        self._count -= 1


class Maker:
    """Makes files, a few at once, in threads of its own: those of all other requests stay free.

    Args:
        workplace: with the room for them.
        encoders: processes that make them.
        at_once: threads that wait for the processes.
    """

    def __init__(self, workplace: Workplace, encoders: Children, at_once: int) -> None:
        self.workplace, self.encoders = workplace, encoders
        self._threads = anyio.CapacityLimiter(at_once)

    async def make(self, folder: Path, work: Mapping[str, Any], file_bytes: int) -> None:
        """Make files in a new folder; without success the folder is removed.

        Args:
            folder: to be made.
            work: see `web.encode.work`.
            file_bytes: of one file at most.

        Raises:
            DataError: there is no room, or they cannot be made.
            FileNotFoundError: what the folder lies in is no longer there.
        """
        await to_thread.run_sync(self._make, folder, work, file_bytes, limiter=self._threads)

    def _make(self, folder: Path, work: Mapping[str, Any], file_bytes: int) -> None:
        self.workplace.check_space()
        folder.mkdir()
        try:
            self.encoders.run("encode", work, file_bytes, files=len(work["files"]))
        except BaseException:
            _remove(folder)
            raise


class Download(FileResponse):
    """A file that goes away, with its folder, however the sending ends.

    Args:
        path: of the file.
        name: that the visitor sees.
        downloads: which it leaves in the end.
    """

    def __init__(self, path: Path, name: str, downloads: Downloads) -> None:
        super().__init__(path, filename=name, headers=_HEADERS)
        self._folder, self._downloads = path.parent, downloads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._downloads.leave()
            await to_thread.run_sync(_remove, self._folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
