"""Which folders are tracks: the listing of a data set, without opening any audio."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aimless.errors import DataError
from data.audio import printable

__all__ = [
    "SUFFIXES",
    "ListedFile",
    "TrackFolder",
    "check_disjoint",
    "enumerate_names",
    "find",
    "list_entry",
    "refuse_shared",
]

logger = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac")  # in order of preference


class ListedFile(NamedTuple):
    """A file as a listing shows it.

    Attributes:
        path: where it was found.
        real: where it is, links resolved.
        size: in bytes; -1 if the system does not say, as for a link to nowhere.
        mtime_ns: time of the last change in nanoseconds; -1 likewise.
    """

    path: str
    real: str
    size: int
    mtime_ns: int


class TrackFolder(NamedTuple):
    """A folder that looks like a track, with its audio of every format.

    A data set may have a hundred thousand files, of which no object is made before it is asked for.

    Attributes:
        location: where the folder was found.
        real: where it is, links resolved.
        names: of its files, the preferred formats first.
        sizes: of its files, see `ListedFile`.
        mtimes_ns: likewise.
        links: real paths of those of its files that are links, by name.
        problem: why it cannot be listed.
    """

    location: str
    real: str
    names: Sequence[str] = ()
    sizes: Sequence[int] = ()
    mtimes_ns: Sequence[int] = ()
    links: Mapping[str, str] = {}
    problem: str | None = None

    @property
    def folder(self) -> Path:
        """Where it was found."""
        return Path(self.location)

    @property
    def listed(self) -> list[ListedFile]:
        """Its files, as `names` has them."""
        return list(map(ListedFile, self.paths, self.reals, self.sizes, self.mtimes_ns))

    @property
    def files(self) -> dict[str, list[ListedFile]]:
        """Its files by stem; those of several formats in order of preference."""
        files: dict[str, list[ListedFile]] = {}
        for name, file in zip(self.names, self.listed):
            files.setdefault(os.path.splitext(name)[0], []).append(file)
        return files

    @property
    def paths(self) -> list[str]:
        """Where its files were found."""
        prefix = _prefix(self.location)
        return [prefix + name for name in self.names]

    @property
    def reals(self) -> list[str]:
        """Where its files are, links resolved."""
        prefix, links = _prefix(self.real), self.links
        if not links:
            return [prefix + name for name in self.names]
        return [links.get(name) or prefix + name for name in self.names]

    def real_paths(self, names: Iterable[str]) -> frozenset[str]:
        """Where the files of these stems really are, links resolved."""
        files = self.files
        return frozenset(file.real for name in names for file in files.get(name, ()))


def find(
    folder: str | os.PathLike[str],
    files: Sequence[str],
    select: Callable[[str], bool] | None = None,
) -> list[TrackFolder]:
    """List the track folders directly under a folder, by name, without opening any file.

    Names that start with `.` or `__` and folders without any of the wanted files are ignored.

    Args:
        folder: a split of a data set, for instance `root/train`.
        files: names of the files that make a track, without suffix.
        select: keep only the tracks whose name it accepts.

    Raises:
        DataError: the folder is missing, unreadable, or no track is in it.
    """
    root = os.fspath(folder)
    try:
        with os.scandir(root) as entries:
            found = {entry.name: entry.is_symlink() for entry in entries if entry.is_dir()}
    except OSError as error:
        raise DataError(f"{_found_none(root, files)} ({error.strerror})") from None
    names = sorted(name for name in found if not name.startswith((".", "__")))
    names = [name for name in names if select is None or select(name)]
    wanted = [name + suffix for name in files for suffix in SUFFIXES]
    prefix, real = _prefix(root), _prefix(os.path.realpath(root))
    candidates = [
        _list_folder(prefix + name, _resolve(real, name, found[name]), wanted) for name in names
    ]
    ignored = [found.folder.name for found in candidates if not (found.names or found.problem)]
    if ignored:
        logger.debug("%s: no stems in %s", printable(root), enumerate_names(ignored, len(ignored)))
    tracks = [found for found in candidates if found.names or found.problem]
    if not tracks:
        raise DataError(_found_none(root, files))
    return tracks


def check_disjoint(training: Sequence[TrackFolder], other: Sequence[TrackFolder]) -> None:
    """Make sure that no file of a track is in two splits, links resolved.

    `data.listing.copies.check_disjoint` finds copies as well.

    Raises:
        DataError: names the first track that is in both, and says how many there are.
    """
    owners = {path: found for found in training for path in found.real_paths(found.files)}
    shared = [
        (found, owners[path])
        for found in other
        for path in sorted(found.real_paths(found.files) & owners.keys())[:1]
    ]
    refuse_shared(shared, "are the same files")


def refuse_shared(pairs: Sequence[tuple[TrackFolder, TrackFolder]], relation: str) -> None:
    """Raise an error if there are pairs of one track in two splits.

    Args:
        pairs: the held-out track and the trained one.
        relation: what the two are, such as `are the same files`.

    Raises:
        DataError: names the first pair, and says how many there are.
    """
    if pairs:
        held_out, trained = pairs[0]
        count = "1 track is" if len(pairs) == 1 else f"{len(pairs)} tracks are"
        raise DataError(
            f"{count} in two splits: {printable(held_out.folder)} and "
            f"{printable(trained.folder)} {relation}; remove one of each pair"
        )


def enumerate_names(names: Sequence[str], limit: int = 10) -> str:
    """Names in one line: the first few, and how many more."""
    shown = ", ".join(printable(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _found_none(root: str, files: Sequence[str]) -> str:
    expected = ", ".join(name + SUFFIXES[0] for name in files)
    return f"found 0 tracks under {printable(root)}; expected folders with {expected}"


def _list_folder(folder: str, real: str, wanted: Sequence[str]) -> TrackFolder:
    """The wanted files of a track, from one listing of its folder."""
    try:
        with os.scandir(folder) as entries:
            present = {entry.name: entry for entry in entries}
    except OSError as error:
        return TrackFolder(folder, real, problem=error.strerror or str(error))
    names = tuple([name for name in wanted if name in present])
    links = {
        name: os.path.realpath(os.path.join(real, name))
        for name in names
        if present[name].is_symlink()
    }
    sizes, mtimes_ns = [], []
    for name in names:
        size, mtime_ns = _size_and_time(present[name])
        sizes.append(size)
        mtimes_ns.append(mtime_ns)
    return TrackFolder(folder, real, names, sizes, mtimes_ns, links)


def list_entry(entry: os.DirEntry[str], prefix: str) -> ListedFile:
    """A file as its folder shows it.

    Args:
        entry: of the folder.
        prefix: what real paths in the folder begin with, a separator at the end.
    """
    real = _resolve(prefix, entry.name, entry.is_symlink())
    return ListedFile(entry.path, real, *_size_and_time(entry))


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:  # whoever opens the file says why
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _prefix(folder: str) -> str:
    """What the paths in a folder begin with; adding to it is quicker than joining paths."""
    return os.path.join(folder, "")


def _resolve(prefix: str, name: str, is_link: bool) -> str:
    """The real path of an entry of a real folder; only for links the system has to be asked."""
    return os.path.realpath(prefix + name) if is_link else prefix + name
