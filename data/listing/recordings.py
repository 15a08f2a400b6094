"""Unrelated audio files below a folder: their listing, and the check of their headers.

`data.tracks` is for folders of stems that belong together; this is for files that do not.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from aimless.errors import DataError
from data.audio import AudioFile, AudioReadError, printable
from data.listing import index
from data.listing.folders import SUFFIXES, ListedFile, enumerate_names, list_entry
from data.listing.garbage import no_garbage_collection
from data.tracks import BadTrackPolicy

__all__ = ["FileRules", "check", "check_disjoint", "find", "look_up"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileRules:
    """What a file must be.

    Args:
        sample_rate: in Hz; None: any.
        channels: mono files pass too, to be duplicated; None: any.
        check_samples: read float files whole, for samples that are not finite.
        on_bad: `error` raises if any file is bad, `skip` goes on with the others.
    """

    sample_rate: int | None = None
    channels: int | None = None
    check_samples: bool = True
    on_bad: BadTrackPolicy = "error"


def find(folder: str | os.PathLike[str]) -> list[ListedFile]:
    """List the WAV and FLAC files of a folder and the folders within, by path.

    Names that start with `.` or `__` are skipped. Linked folders are searched, each once.

    Raises:
        DataError: the folder is missing or unreadable, or no audio is in it.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise DataError(f"{printable(folder)}: {error.strerror}; wanted a folder") from None
    with no_garbage_collection():
        found = sorted(_walk(os.fspath(folder)), key=attrgetter("path"))
    if not found:
        raise DataError(f"{printable(folder)}: no {' or '.join(SUFFIXES)} files in it or below")
    return found


def look_up(paths: Iterable[str]) -> list[ListedFile]:
    """What a listing shows of each path; a file that is missing is named when it is checked."""
    folders: dict[str, str] = {}  # real paths; to resolve each file's anew would take longest
    listed = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.join(folders[folder], name)
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                real = os.path.realpath(path)
                status = os.stat(path)
            listed.append(ListedFile(path, real, status.st_size, status.st_mtime_ns))
        except OSError:
            listed.append(ListedFile(path, real, -1, -1))
    return listed


def check(
    folder: str | os.PathLike[str],
    files: Sequence[ListedFile],
    rules: FileRules,
    origins: Sequence[str] | None = None,
) -> list[AudioFile]:
    """Check the headers of all files, opened in parallel as far as they are not remembered.

    Args:
        folder: what the headers are remembered for, see `data.listing.index`.
        files: as listed.
        rules: what they must be.
        origins: where each file was named, to begin the line about a bad one with.

    Returns:
        The good files, in the order given.

    Raises:
        DataError: bad files, or none that is good. The first line says how many; one line
            per bad file follows, with its path and the reason.
    """
    with no_garbage_collection():
        headers = index.headers(folder, files, check_samples=rules.check_samples)
    good, faults, bad = [], [], []
    for file, origin in zip(files, origins or [""] * len(files)):
        header = _hold_against(rules, headers[file.path])
        if isinstance(header, AudioFile):
            good.append(header)
        else:
            faults.append(f"{origin}: {header}" if origin else header)
            bad.append(os.path.basename(file.path))
    if faults and (rules.on_bad == "error" or not good):
        head = f"{len(faults)} of {len(files)} files under {printable(folder)} cannot be used:"
        raise DataError("\n  ".join([head, *faults]))
    if faults:
        text = "%s: skipped %d of %d files: %s"
        logger.warning(text, printable(folder), len(bad), len(files), enumerate_names(bad))
        logger.info("\n".join(faults))
    return good


def check_disjoint(
    training: Iterable[str | os.PathLike[str]], other: Iterable[str | os.PathLike[str]]
) -> None:
    """Make sure that no file is both trained on and held out, links resolved.

    Raises:
        DataError: names the first file that is, and says how many there are.
    """
    trained, held_out = (
        {file.real: file.path for file in look_up(os.fspath(file) for file in files)}
        for files in (training, other)
    )
    shared = sorted(trained.keys() & held_out.keys())
    if shared:
        raise DataError(
            f"{len(shared)} files are in two splits: {printable(held_out[shared[0]])} and "
            f"{printable(trained[shared[0]])} are the same file; remove one of each pair"
        )


def _walk(folder: str) -> Iterator[ListedFile]:
    """Audio files of a folder and of the folders within, each real one once."""
    seen: set[str] = set()
    pending = [folder]
    while pending:
        place = pending.pop()
        real = os.path.realpath(place)
        if real in seen:  # a link to where we have been
            continue
        seen.add(real)
        try:
            with os.scandir(place) as entries:
                shown = [entry for entry in entries if not entry.name.startswith((".", "__"))]
        except OSError:  # as if it was empty
            continue
        prefix = os.path.join(real, "")
        inner = [entry.path for entry in shown if entry.is_dir()]
        pending += sorted(inner, reverse=True)
        for entry in shown:
            if entry.name.lower().endswith(SUFFIXES) and not entry.is_dir():
                yield list_entry(entry, prefix)


def _hold_against(rules: FileRules, header: AudioFile | AudioReadError) -> AudioFile | str:
    """The header, or the line that says why the file cannot be used."""
    if isinstance(header, AudioReadError):
        return str(header)
    if rules.sample_rate not in (None, header.rate):
        reason = f"sample rate {header.rate} Hz, wanted {rules.sample_rate} Hz"
    elif rules.channels is not None and header.channels not in (1, rules.channels):
        reason = f"{header.channels} channels, wanted {rules.channels}"
    else:
        return header
    return f"{printable(header)}: {reason}"
