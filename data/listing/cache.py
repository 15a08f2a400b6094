"""Tables in the user's cache folder, and the lock that one process at a time makes them under.

A table belongs to a folder of a data set, and has a row of plain values for each real path. It
is gzipped JSON: nothing in it can run, and the checksum in gzip tells when it is damaged.
Nothing that goes wrong here is an error: without a table, files are opened as if there was none.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.audio import printable
from data.listing.atomic import write_whole

try:
    import fcntl
except ImportError:  # not on Windows; then every process makes the table
    fcntl = None  # type: ignore[assignment]

__all__ = ["Table", "cache_folder"]

logger = logging.getLogger(__name__)

Row = tuple[Any, ...]


def cache_folder() -> Path | None:
    """The folder named by `AIMLESS_CACHE`, else `aimless` under `XDG_CACHE_HOME` or `~/.cache`.

    Returns:
        None if the user has no home.
    """
    if named := os.environ.get("AIMLESS_CACHE"):
        return Path(os.path.abspath(named))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification has relative paths ignored
        base = os.path.expanduser(os.path.join("~", ".cache"))
    return Path(base, "aimless") if os.path.isabs(base) else None


class Table:
    """Rows of plain values by real path, kept for one folder.

    Args:
        folder: the folder that the rows are about; the table is named after its real path.
        columns: names of the values of a row. A table with others counts as none.
        version: of the meaning of the values; likewise.
    """

    def __init__(
        self, folder: str | os.PathLike[str], columns: Sequence[str], version: int
    ) -> None:
        self.folder = os.path.realpath(folder)
        self.columns = list(columns)
        self.about = {"version": version, "folder": self.folder, "columns": self.columns}
        base = cache_folder()
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:24] + ".json.gz"
        self.path = None if base is None else base / "index" / name

    def load(self) -> dict[str, Row]:
        """The rows, none of them if there is no table or it cannot be used."""
        if self.path is None:
            return {}
        try:
            document = json.loads(gzip.decompress(self.path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            logger.debug("%s: cannot be read and is made anew: %s", printable(self.path), error)
            return {}
        if not self._fits(document):
            logger.debug("%s: of another version, made anew", printable(self.path))
            return {}
        return dict(zip(document["names"], zip(*document["values"])))

    def save(self, rows: Mapping[str, Row]) -> None:
        """Write all rows, under a temporary name first."""
        if self.path is None:
            return
        values = list(zip(*rows.values())) or [()] * len(self.columns)
        document = {"about": self.about, "names": list(rows), "values": values}
        content = gzip.compress(json.dumps(document, separators=(",", ":")).encode(), 1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, content)
        except OSError as error:
            text = "%s: cannot be written (%s), so that files are opened again at the next start"
            logger.warning(text, printable(self.path), error.strerror or error)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process of this machine is inside; the kernel frees a dead one's."""
        descriptor = self._open_lock()
        try:
            yield
        finally:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for children forked meanwhile
                os.close(descriptor)

    def _open_lock(self) -> int | None:
        """A locked descriptor, or None where there are no locks: then all do the same work."""
        if self.path is None or fcntl is None:
            return None
        path = self.path.with_suffix(".lock")
        descriptor = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = "waiting for another process that opens the files of %s"
                logger.info(text, printable(self.folder))
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have none
            logger.debug("%s: no lock: %s", printable(path), error)
            if descriptor is not None:
                os.close(descriptor)
            return None
        return descriptor

    def _fits(self, document: Any) -> bool:
        if not isinstance(document, dict) or document.get("about") != self.about:
            return False
        names, values = document.get("names"), document.get("values")
        return (
            isinstance(names, list)
            and isinstance(values, list)
            and len(values) == len(self.columns)
            and all(isinstance(column, list) and len(column) == len(names) for column in values)
        )
