"""Tracks that are in two splits, as links or as copies.

A model that is validated on what it was trained on looks better than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from data.audio import AudioReadError
from data.listing import folders, index
from data.listing.folders import ListedFile, TrackFolder

__all__ = ["check_disjoint"]

Lengths = tuple[tuple[str, int], ...]  # (stem, frames) of all stems
Sound = tuple[Lengths, tuple[str, ...]]  # and their hashes
Known = TypeVar("Known")


def check_disjoint(
    training: Sequence[TrackFolder], other: Sequence[TrackFolder], cache: bool = True
) -> None:
    """Make sure that no track is in two splits: neither the same files nor copies of them.

    A track is a copy if all its stems are as long as those of another one and sound the same
    where they first sound (`data.listing.index.digests`), under whatever name and in whatever
    lossless encoding. Tracks that are silent throughout are not compared, nor are tracks with a
    file that cannot be read, which the scan of their split reports.

    Args:
        training: tracks as `data.listing.folders.find` lists them.
        other: of another split.
        cache: remember what was found in the files, see `data.listing.index`.

    Raises:
        DataError: names the first track that is in both, and says how many there are.
    """
    folders.check_disjoint(training, other)
    lengths = [_lengths(split, cache) for split in (training, other)]
    alike = set(filter(None, lengths[0])) & set(filter(None, lengths[1]))
    trained, held_out = (
        _sounds([pair for pair in zip(split, known) if pair[1] in alike], cache)
        for split, known in zip((training, other), lengths)
    )
    copies = [(held_out[sound], trained[sound]) for sound in held_out if sound in trained]
    folders.refuse_shared(copies, "sound the same")


def _lengths(split: Sequence[TrackFolder], cache: bool) -> list[Lengths | None]:
    """Frames of the stems of each track; None if a stem cannot be read."""
    headers = _by_path(index.headers, split, cache)
    lengths: list[Lengths | None] = []
    for found in split:
        frames = []
        for stem, file in _preferred(found):
            header = headers[file.path]
            if not isinstance(header, AudioReadError):
                frames.append((stem, header.frames))
        lengths.append(tuple(frames) if len(frames) == len(found.files) else None)
    return lengths


def _sounds(
    candidates: Sequence[tuple[TrackFolder, Lengths | None]], cache: bool
) -> dict[Sound, TrackFolder]:
    """Tracks by what they sound like, without those that are silent or cannot be read."""
    digests = _by_path(index.digests, [found for found, _ in candidates], cache)
    tracks: dict[Sound, TrackFolder] = {}
    for found, lengths in candidates:
        heard = [digests[file.path] for _, file in _preferred(found)]
        sound = tuple(digest for digest in heard if isinstance(digest, str))
        if lengths and len(sound) == len(heard) and any(sound):
            tracks.setdefault((lengths, sound), found)
    return tracks


def _by_path(
    read: Callable[[Path, list[ListedFile], bool], dict[str, Known]],
    split: Sequence[TrackFolder],
    cache: bool,
) -> dict[str, Known]:
    """What the index knows of the files of a split; it keeps a table for each folder."""
    files: dict[Path, list[ListedFile]] = {}
    for found in split:
        files.setdefault(found.folder.parent, []).extend(file for _, file in _preferred(found))
    known: dict[str, Known] = {}
    for folder, listed in files.items():
        known |= read(folder, listed, cache)
    return known


def _preferred(found: TrackFolder) -> list[tuple[str, ListedFile]]:
    return [(stem, files[0]) for stem, files in sorted(found.files.items())]
