"""Tables in the user's cache folder, and the lock that one process at a time makes them under.

A table belongs to a folder of a data set, and has a value of each column for each real path. It
is a gzipped NumPy archive without objects: nothing in it can run, and the checksum in gzip tells
when it is damaged. Nothing that goes wrong here is an error: without a table, files are opened as
if there was none.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.audio import printable
from data.listing.atomic import write_whole
from data.listing.columns import Columns, Kinds

try:
    import fcntl
except ImportError:  # not on Windows; then every process makes the table
    fcntl = None  # type: ignore[assignment]

__all__ = ["Table", "cache_folder"]

logger = logging.getLogger(__name__)

# What NumPy, zipfile and json raise at what they did not write.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


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
    """What is known by real path, kept for one folder.

    Args:
        folder: the folder that the rows are about; the table is named after its real path.
        kinds: of the columns. A table with others counts as none.
        version: of the meaning of the values; likewise.
    """

    def __init__(self, folder: str | os.PathLike[str], kinds: Kinds, version: int) -> None:
        self.folder = os.path.realpath(folder)
        self.kinds = kinds
        columns = {name: kind.__name__ for name, kind in kinds.items()}
        self.about = {"version": version, "folder": self.folder, "columns": columns}
        base = cache_folder()
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:24] + ".gz"
        self.path = None if base is None else base / "index" / name

    def load(self) -> Columns:
        """The rows, none of them if there is no table or it cannot be used."""
        if self.path is None:
            return Columns(self.kinds)
        try:
            return self._parse(gzip.decompress(self.path.read_bytes()))
        except FileNotFoundError:
            pass
        except _DAMAGE as error:
            logger.debug("%s: cannot be used and is made anew: %s", printable(self.path), error)
        return Columns(self.kinds)

    def save(self, rows: Columns) -> None:
        """Write all rows, under a temporary name first."""
        if self.path is None:
            return
        content = io.BytesIO()
        columns = [_pack(rows[name]) for name in self.kinds]
        np.savez(content, _pack([json.dumps(self.about)]), _pack(rows.names), *columns)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, gzip.compress(content.getvalue(), 1))
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

    def _parse(self, content: bytes) -> Columns:
        """The rows in an archive.

        Raises:
            ValueError: of another version or folder, or with other columns. What is no archive of
                ours raises that or one of several others.
        """
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            about, names, *values = (archive[name] for name in archive.files)
        if json.loads(_split(about)[0]) != self.about:
            raise ValueError("of another version or folder")
        columns = [
            _split(column) if kind is str else column
            for kind, column in zip(self.kinds.values(), values, strict=True)
        ]
        paths = _split(names)
        if {len(column) for column in columns} != {len(paths)}:
            raise ValueError("columns of different lengths")
        return Columns(self.kinds, paths, columns)


def _pack(column: Sequence[str] | NDArray[Any]) -> NDArray[Any]:
    """A column without objects: texts end in a zero each, which no path holds."""
    if isinstance(column, np.ndarray) and column.dtype != object:
        return column
    # Names may hold bytes that are not UTF-8, which Python carries as lone surrogates.
    joined = "".join(f"{text}\0" for text in column).encode("utf-8", "surrogatepass")
    return np.frombuffer(joined, np.uint8)


def _split(column: NDArray[Any]) -> list[str]:
    """The texts of a column."""
    return column.tobytes().decode("utf-8", "surrogatepass").split("\0")[:-1]
