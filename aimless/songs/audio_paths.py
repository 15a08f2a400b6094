"""Which files are meant: names, folders and patterns become a list of audio files.

Imports nothing heavy.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from aimless.errors import DataError

__all__ = ["AUDIO_SUFFIXES", "find_songs", "printable"]

#: What folders are searched for; a file that is named itself may have any suffix.
AUDIO_SUFFIXES = frozenset(
    "." + name
    for name in (
        *("wav", "flac", "aif", "aiff", "aifc", "caf", "w64"),
        *("mp3", "ogg", "oga", "opus", "m4a", "mp4", "aac", "wma", "webm"),
    )
)


def find_songs(given: Iterable[str | os.PathLike[str]], recursive: bool = True) -> list[Path]:
    """List audio files, each real file once, in the order in which they were given.

    Args:
        given: files of any name; folders, which are searched for audio files in the order of
            their names, hidden ones skipped; or patterns with `*`, `?` or `**`.
        recursive: search folders within folders too.

    Raises:
        DataError: a path is missing, a pattern fits nothing, or a folder holds no audio.
    """
    unique: dict[str, Path] = {}
    for name in given:
        for path in _expand(name):
            found = list(_search(path, recursive)) if path.is_dir() else [path]
            if not found:
                raise DataError(f"{printable(path)}: no audio in it")
            for song in found:
                unique.setdefault(os.path.realpath(song), song)
    return list(unique.values())


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that any terminal takes, also if its name is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _expand(name: str | os.PathLike[str]) -> list[Path]:
    """The path itself, or what a pattern stands for; shells do not expand quoted patterns."""
    if os.path.lexists(name):
        return [Path(name)]
    pattern = os.fspath(name)
    found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []
    if not found:
        raise DataError(f"{printable(name)}: no such file")
    # like a folder, a pattern means its audio files; other files were not meant by it
    paths = [Path(path) for path in found]
    return [p for p in paths if p.is_dir() or _is_audio(p)] or paths


def _search(folder: Path, recursive: bool) -> Iterator[Path]:
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if recursive and name[0] != ".")
        for name in sorted(names):
            if name[0] != "." and _is_audio(Path(name)):
                yield Path(place, name)


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES
