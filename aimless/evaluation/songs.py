"""Folders of songs to songs whose files have been checked.

<root>/[test/]<song>/<source>.wav
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aimless.errors import DataError
from aimless.evaluation.stems import FileStem, Stem, SumStem

__all__ = ["MIXTURES", "Song", "SongFiles", "check_alike", "find_songs", "open_song"]

#: What the recorded mixture's file is called, in MUSDB and in DnR.
MIXTURES = ("mixture", "mix")
#: Formats in order of preference, where a stem is there in several.
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff")
#: Files of one song may differ in length by this much, in seconds.
LENGTH_TOLERANCE = 0.1


@dataclass(frozen=True)
class SongFiles:
    """A song folder as its listing shows it; `stems` has the audio files by stem name."""

    name: str
    stems: Mapping[str, Path]

    @property
    def sources(self) -> list[str]:
        """Names of the stems, in alphabetical order, without the mixture."""
        return sorted(set(self.stems) - set(MIXTURES))


@dataclass(frozen=True)
class Song:
    """A song's opened references by source, and its mixture: recorded, or their sum."""

    name: str
    references: Mapping[str, Stem]
    mixture: Stem

    @property
    def rate(self) -> int:
        """Sample rate in Hz."""
        return self.mixture.rate


def find_songs(root: Path) -> dict[str, SongFiles]:
    """List the song folders with audio in a folder, or in its `test` folder if it has one.

    Raises:
        DataError: there is no folder, or no song in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    folder = root / "test" if _has_songs(root / "test") else root
    songs = {path.name: SongFiles(path.name, _stem_files(path)) for path in _folders(folder)}
    songs = {name: song for name, song in songs.items() if song.sources}
    if not songs:
        raise DataError(
            f"{folder}: no songs; needs folders <song>/<source>.wav (or {', '.join(SUFFIXES[1:])})"
        )
    return songs


def open_song(files: SongFiles) -> Song:
    """Open a song's references and check that they fit together.

    Raises:
        DataError: a file cannot be read, or differs from the others in rate, channels or, by
            more than 0.1 s, in length.
    """
    references = {name: FileStem(files.stems[name]) for name in files.sources}
    recorded = next((files.stems[name] for name in MIXTURES if name in files.stems), None)
    if recorded is None:
        mixture: Stem = SumStem(list(references.values()), f"sum of the stems of {files.name}")
    else:
        mixture = FileStem(recorded)
    check_alike([*references.values(), mixture])
    return Song(files.name, references, mixture)


def check_alike(stems: Iterable[Stem]) -> int:
    """Check that stems agree with the first in rate, channels and about in length.

    Returns:
        Samples of the shortest.

    Raises:
        DataError: they do not.
    """
    first, *others = stems
    for stem in others:
        if stem.rate != first.rate:
            raise DataError(f"{stem.where}: {stem.rate} Hz, but {first.where} has {first.rate} Hz")
        if stem.channels != first.channels:
            raise DataError(
                f"{stem.where}: {stem.channels} channels, but {first.where} has {first.channels}"
            )
        if abs(stem.samples - first.samples) > LENGTH_TOLERANCE * first.rate:
            raise DataError(
                f"{stem.where}: {stem.samples} samples, but {first.where} has {first.samples}; "
                f"up to {LENGTH_TOLERANCE} s may differ"
            )
    return min([first.samples, *(stem.samples for stem in others)])


def _has_songs(folder: Path) -> bool:
    return folder.is_dir() and any(_stem_files(path) for path in _folders(folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _stem_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=_preference):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            files.setdefault(path.stem, path)
    return files


def _preference(path: Path) -> tuple[int, str]:
    suffix = path.suffix.lower()
    return (SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES), path.name)
