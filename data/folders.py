"""Which folders are tracks: the listing of a data set, without opening any audio."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aimless.errors import DataError
from data.audio import printable

__all__ = ["SUFFIXES", "TrackFolder", "check_disjoint", "enumerate_names", "find"]

logger = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac")  # in order of preference


@dataclass(frozen=True)
class TrackFolder:
    """A folder that looks like a track; `files` has its audio, every format, by stem name."""

    folder: Path
    files: Mapping[str, Sequence[Path]]
    problem: str | None = None

    def real_paths(self, names: Iterable[str]) -> frozenset[str]:
        """Where the files of these stems really are, links resolved."""
        return frozenset(
            os.path.realpath(path) for name in names for path in self.files.get(name, [])
        )


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
    root = Path(folder)
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        raise DataError(f"{_found_none(root, files)} ({error.strerror})") from None
    names = [name for name in names if not name.startswith((".", "__"))]
    names = [name for name in names if select is None or select(name)]
    candidates = [_list_files(root / name, files) for name in names]
    ignored = [found.folder.name for found in candidates if not (found.files or found.problem)]
    if ignored:
        logger.debug("%s: no stems in %s", printable(root), enumerate_names(ignored, len(ignored)))
    tracks = [found for found in candidates if found.files or found.problem]
    if not tracks:
        raise DataError(_found_none(root, files))
    return tracks


def check_disjoint(training: Sequence[TrackFolder], other: Sequence[TrackFolder]) -> None:
    """Make sure that no file of a track is in two splits, links resolved.

    Raises:
        DataError: names the first track that is in both, and says how many there are.
    """
    owners = {path: found for found in training for path in found.real_paths(found.files)}
    shared = [
        (found, owners[path])
        for found in other
        for path in sorted(found.real_paths(found.files) & owners.keys())[:1]
    ]
    if shared:
        held_out, trained = shared[0]
        raise DataError(
            f"{len(shared)} tracks are in two splits: {printable(held_out.folder)} and "
            f"{printable(trained.folder)} are the same files; remove one of each pair"
        )


def enumerate_names(names: Sequence[str], limit: int = 10) -> str:
    """Names in one line: the first few, and how many more."""
    shown = ", ".join(printable(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _found_none(root: Path, files: Sequence[str]) -> str:
    expected = ", ".join(name + SUFFIXES[0] for name in files)
    return f"found 0 tracks under {printable(root)}; expected folders with {expected}"


def _list_files(folder: Path, files: Sequence[str]) -> TrackFolder:
    try:
        present = set(os.listdir(folder))
    except OSError as error:
        return TrackFolder(folder, {}, problem=error.strerror or str(error))
    found = {
        name: [folder / (name + suffix) for suffix in SUFFIXES if name + suffix in present]
        for name in files
    }
    return TrackFolder(folder, {name: paths for name, paths in found.items() if paths})
