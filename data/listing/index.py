"""What is known about the files of a data set, remembered between runs.

A file is opened again only if its size or time of change differs from what is remembered. Where
several processes of a machine start together, as the ranks of a distributed run do, one opens
the files and the others wait for what it finds.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from data import audio
from data.audio import AudioFile, AudioReadError, printable
from data.listing.cache import Row, Table
from data.listing.folders import ListedFile

__all__ = ["digests", "headers"]

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

_VERSION = 1  # of what a row means; raise it when the same file would give another row
_HEADER = AudioFile._fields[1:]
_COLUMNS = (*_HEADER, "finite", "digest")
_SIZE, _MTIME, _FINITE, _DIGEST = map(_COLUMNS.index, ("size", "mtime_ns", "finite", "digest"))

_THREADS = 8
_DIGEST_FRAMES = 1 << 14  # 64 kB of 16-bit stereo


class _Entry(NamedTuple):
    """What is known of a file; a row of the table holds the same without the path."""

    header: AudioFile
    finite: bool  # all samples are known to be
    digest: str | None = None


def headers(
    folder: PathLike, files: Sequence[ListedFile], cache: bool = True, check_samples: bool = False
) -> dict[str, AudioFile | AudioReadError]:
    """Headers of files, opened in parallel as far as they are not remembered.

    Args:
        folder: what the cache is kept for; the files usually lie below it.
        files: as listed.
        cache: remember headers in the user's cache folder, see `data.listing.cache`.
        check_samples: also read files whole whose encoding has numbers that are not finite.

    Returns:
        By listed path: the header, or what is wrong with the file. Faults are not remembered.
    """
    if check_samples:
        rows, faults = _complete(folder, files, cache, lambda row: row[_FINITE], _check_samples)
    else:
        rows, faults = _complete(folder, files, cache, lambda row: True, lambda entry: entry)
    return {
        file.path: faults[file.path] if file.path in faults else _header(file, rows[file.real])
        for file in files
    }


def digests(
    folder: PathLike, files: Sequence[ListedFile], cache: bool = True
) -> dict[str, str | AudioReadError]:
    """Short hashes of the sound of files: equal for a copy, also in another lossless encoding.

    The hash is of the first 16 384 frames (64 kB of 16-bit stereo) that are not all zeros.

    Args:
        folder: see `headers`.
        files: as listed.
        cache: see `headers`.

    Returns:
        By listed path: the hash, "" for a file that is all zeros, or what is wrong with the file.
    """
    rows, faults = _complete(
        folder, files, cache, lambda row: row[_DIGEST] is not None, _add_digest
    )
    return {
        file.path: faults[file.path] if file.path in faults else rows[file.real][_DIGEST]
        for file in files
    }


def _complete(
    folder: PathLike,
    files: Sequence[ListedFile],
    cache: bool,
    suffices: Callable[[Row], bool],
    add: Callable[[_Entry], _Entry],
) -> tuple[Mapping[str, Row], dict[str, AudioReadError]]:
    """Rows by real path, opening the files whose row is missing, outdated or does not suffice.

    Files that cannot be read have no valid row; they are in the second result, by listed path.
    """
    if not cache:
        return _open(files, {}, add)
    table = Table(folder, _COLUMNS, _VERSION)
    rows = table.load()
    if not _open_needed(files, rows, suffices):
        return rows, {}
    with table.lock():
        rows = table.load()  # another process may have filled it meanwhile
        needed = _open_needed(files, rows, suffices)
        if not needed:
            return rows, {}
        logger.info("%s: opening %d of %d files", printable(folder), len(needed), len(files))
        fresh, faults = _open(needed, rows, add)
        if fresh:
            used = {file.real for file in files}
            rows = {real: row for real, row in rows.items() if real in used or os.path.exists(real)}
            rows |= fresh
            table.save(rows)
    return rows, faults


def _open_needed(
    files: Sequence[ListedFile], rows: Mapping[str, Row], suffices: Callable[[Row], bool]
) -> list[ListedFile]:
    return [
        file
        for file in files
        if (row := rows.get(file.real)) is None or not _holds(row, file) or not suffices(row)
    ]


def _open(
    files: Sequence[ListedFile], rows: Mapping[str, Row], add: Callable[[_Entry], _Entry]
) -> tuple[dict[str, Row], dict[str, AudioReadError]]:
    """Open files in parallel, those with a row that holds only for what is to be added."""

    def examine(file: ListedFile) -> _Entry | AudioReadError:
        row = rows.get(file.real)
        try:
            if row is not None and _holds(row, file):
                return add(_Entry(_header(file, row), row[_FINITE], row[_DIGEST]))
            header = audio.info(file.path)
            return add(_Entry(header, finite=not audio.may_be_nonfinite(header)))
        except AudioReadError as error:
            return error

    fresh: dict[str, Row] = {}
    faults: dict[str, AudioReadError] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for file, found in zip(files, pool.map(examine, files)):
            if isinstance(found, AudioReadError):
                faults[file.path] = found
            else:
                values = (getattr(found.header, name) for name in _HEADER)
                fresh[file.real] = (*values, found.finite, found.digest)
    return fresh, faults


def _holds(row: Row, file: ListedFile) -> bool:
    """Whether a file is still as it was when its row was made."""
    return row[_SIZE] == file.size and row[_MTIME] == file.mtime_ns


def _header(file: ListedFile, row: Row) -> AudioFile:
    return AudioFile(file.path, *row[:_FINITE])


def _check_samples(entry: _Entry) -> _Entry:
    if not entry.finite:
        audio.check_samples(entry.header)
    return entry._replace(finite=True)


def _add_digest(entry: _Entry) -> _Entry:
    for start in range(0, entry.header.frames, _DIGEST_FRAMES):
        frames = min(_DIGEST_FRAMES, entry.header.frames - start)
        block = audio.read(entry.header, start, frames)
        if block.any():
            content = hashlib.sha256(block.tobytes()).hexdigest()[:32]
            return entry._replace(digest=f"{start} {content}")
    return entry._replace(digest="")
