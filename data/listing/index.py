"""What is known about the files of a data set, remembered between runs.

A file is opened again only if its size or time of change differs from what is remembered. Where
several processes of a machine start together, as the ranks of a distributed run do, one opens
the files and the others wait for what it finds.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, compress
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data import audio
from data.audio import AudioFile, AudioReadError, printable
from data.listing.cache import Table
from data.listing.columns import Columns, Row
from data.listing.folders import ListedFile, TrackFolder

__all__ = ["digests", "headers", "recall"]

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

_VERSION = 2  # of what a row means; raise it when the same file would give another row
# Those of `AudioFile` without the path, and two more.
_KINDS = {
    "frames": int,
    "rate": int,
    "channels": int,
    "format": str,
    "subtype": str,
    "size": int,
    "mtime_ns": int,
    "data_offset": int,  # -1: none
    "finite": bool,  # all samples are known to be
    "digest": str,  # "": not known
}
_HEADER = AudioFile._fields[1:]
_SILENT = "silent"  # the digest of a file that is all zeros

_THREADS = 8
_DIGEST_FRAMES = 1 << 14  # 64 kB of 16-bit stereo

Suffices = Callable[[Columns], NDArray[np.bool_]]


class _Entry(NamedTuple):
    """What is known of a file; a row of the table holds the same without the path."""

    header: AudioFile
    finite: bool
    digest: str = ""

    def row(self) -> Row:
        """Values of all columns."""
        *header, offset = self.header[1:]
        return (*header, -1 if offset is None else offset, self.finite, self.digest)


class _Found(NamedTuple):
    """What is known of some files.

    Attributes:
        paths: of those that can be read.
        known: rows by real path, also of other files.
        rows: which of them are those of `paths`.
        faults: what is wrong with the other files, by path.
    """

    paths: list[str]
    known: Columns
    rows: NDArray[np.intp]
    faults: dict[str, AudioReadError]


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
        paths, known, rows, faults = _complete(folder, files, cache, _are_finite, _check_samples)
    else:
        paths, known, rows, faults = _complete(
            folder, files, cache, _are_known, lambda entry: entry
        )
    return dict(zip(paths, _headers(paths, known, rows))) | faults


def recall(
    folder: PathLike, found: Sequence[TrackFolder], check_samples: bool = False
) -> list[AudioFile] | None:
    """Headers of all files of tracks, if every one is remembered and none has changed.

    Args:
        folder: see `headers`.
        found: as listed; their files are taken one after the other.
        check_samples: see `headers`.

    Returns:
        As many as there are files; None if `headers` has some to open.
    """
    known = Table(folder, _KINDS, _VERSION).load()
    paths, reals, sizes, mtimes_ns = (
        list(chain.from_iterable(map(attrgetter(column), found)))
        for column in ("paths", "reals", "sizes", "mtimes_ns")
    )
    suffices = _are_finite if check_samples else _are_known
    rows = _valid_rows(reals, sizes, mtimes_ns, known, suffices)
    return list(_headers(paths, known, rows)) if (rows >= 0).all() else None


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
    paths, known, rows, faults = _complete(folder, files, cache, _have_digest, _add_digest)
    found = ["" if digest == _SILENT else digest for digest in known["digest"][rows]]
    return dict(zip(paths, found)) | faults


def _complete(
    folder: PathLike,
    files: Sequence[ListedFile],
    cache: bool,
    suffices: Suffices,
    add: Callable[[_Entry], _Entry],
) -> _Found:
    """Open the files whose row is missing, outdated or does not suffice."""
    paths, reals = [file.path for file in files], [file.real for file in files]
    if cache:
        table = Table(folder, _KINDS, _VERSION)
        known = table.load()
        rows = _rows_of(files, known, suffices)
        if (rows >= 0).all():
            return _Found(paths, known, rows, {})
        with table.lock():
            known, faults = _fill(table, files, suffices, add)
    else:
        fresh, faults = _open(files, Columns(_KINDS), add)
        known = Columns(_KINDS).updated(fresh)
    good = [path not in faults for path in paths]
    rows = known.find(list(compress(reals, good)))
    return _Found(list(compress(paths, good)), known, rows, faults)


def _fill(
    table: Table, files: Sequence[ListedFile], suffices: Suffices, add: Callable[[_Entry], _Entry]
) -> tuple[Columns, dict[str, AudioReadError]]:
    """All rows of a table, those of the files up to date, and what is wrong with files by path."""
    known = table.load()  # another process may have filled it meanwhile
    rows = _rows_of(files, known, suffices)
    needed = [file for file, row in zip(files, rows) if row < 0]
    if not needed:
        return known, {}
    text = "%s: opening %d of %d files"
    logger.info(text, printable(table.folder), len(needed), len(files))
    fresh, faults = _open(needed, known, add)
    if fresh:
        known = _in_order(known.updated(fresh), [file.real for file in files])
        table.save(known)
    return known, faults


def _in_order(known: Columns, reals: Sequence[str]) -> Columns:
    """Rows as they will be asked for, which finds them soonest, and others that are still there."""
    listed = dict.fromkeys(reals)
    others = [name for name in known.names if name not in listed and os.path.exists(name)]
    return known.select([*listed, *others])


def _open(
    files: Sequence[ListedFile], known: Columns, add: Callable[[_Entry], _Entry]
) -> tuple[dict[str, Row], dict[str, AudioReadError]]:
    """Open files in parallel, those with a row that holds only for what is to be added."""

    def examine(file: ListedFile, row: int) -> _Entry | AudioReadError:
        try:
            if row >= 0:
                (header,) = _headers([file.path], known, [row])
                return add(_Entry(header, bool(known["finite"][row]), known["digest"][row]))
            header = audio.info(file.path)
            return add(_Entry(header, finite=not audio.may_be_nonfinite(header)))
        except AudioReadError as error:
            return error

    fresh: dict[str, Row] = {}
    faults: dict[str, AudioReadError] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(examine, files, _rows_of(files, known, _are_known).tolist())
        for file, entry in zip(files, found):
            if isinstance(entry, AudioReadError):
                faults[file.path] = entry
            else:
                fresh[file.real] = entry.row()
    return fresh, faults


def _rows_of(files: Sequence[ListedFile], known: Columns, suffices: Suffices) -> NDArray[np.intp]:
    _, reals, sizes, mtimes_ns = zip(*files) if files else ((),) * 4
    return _valid_rows(reals, sizes, mtimes_ns, known, suffices)


def _valid_rows(
    reals: Sequence[str],
    sizes: Sequence[int],
    mtimes_ns: Sequence[int],
    known: Columns,
    suffices: Suffices,
) -> NDArray[np.intp]:
    """The row of each file, -1 if it has changed since, or the row does not suffice."""
    rows = known.find(reals)
    if not len(known):
        return rows
    same = (known["size"][rows] == sizes) & (known["mtime_ns"][rows] == mtimes_ns)
    return np.where(same & suffices(known)[rows], rows, -1)


def _headers(
    paths: Iterable[str], known: Columns, rows: Sequence[int] | NDArray[np.intp]
) -> Iterator[AudioFile]:
    """Headers from the rows of as many files."""
    *columns, offsets = (known[name][rows].tolist() for name in _HEADER)
    offsets = [None if offset < 0 else offset for offset in offsets]
    return map(AudioFile._make, zip(paths, *columns, offsets))


def _are_known(known: Columns) -> NDArray[np.bool_]:
    return np.ones(len(known), np.bool_)


def _are_finite(known: Columns) -> NDArray[np.bool_]:
    return known["finite"]


def _have_digest(known: Columns) -> NDArray[np.bool_]:
    return np.asarray(known["digest"] != "", np.bool_)


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
    return entry._replace(digest=_SILENT)
