"""Raw songs to training and validation: which goes where, and how its files get there."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aimless.errors import DataError
from aimless.sources import MDX_SOURCES
from data.audio import printable
from data.listing.holdout import held_out
from data.listing.rules import Track
from prepare.mixing import write_sum
from prepare.output import making
from prepare.stems import describe, find_tracks, reopen

__all__ = ["HOW", "SPLITS", "Song", "make_plan", "make_song"]

SPLITS = ("train", "valid")
HOW = ("copy", "hardlink", "symlink", "move")
MIXTURE = "mixture.wav"


class Song(NamedTuple):
    """A song to put in its place.

    Attributes:
        raw: folder of the raw songs.
        place: the song's new folder.
        stems: name -> what the plan says of its file.
        how: one of `HOW`.
        bits: of the mixture's samples, or `auto`.
    """

    raw: Path
    place: Path
    stems: Mapping[str, dict[str, Any]]
    how: str
    bits: str

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.place.is_dir() and (self.how != "move" or not self.left)

    @property
    def left(self) -> list[tuple[Path, Path]]:
        """Raw files that are still there, and their places."""
        pairs = [(self.raw / stem["file"], self._target(name)) for name, stem in self._stems()]
        return [pair for pair in pairs if os.path.lexists(pair[0])]

    def _stems(self) -> list[tuple[str, dict[str, Any]]]:
        return sorted(self.stems.items())

    def _target(self, name: str) -> Path:
        return self.place / stem_name(name, self.stems[name])


def stem_name(name: str, stem: Mapping[str, Any]) -> str:
    """A stem's file name: lower-case suffix, whatever that of the raw file is."""
    return name + Path(stem["file"]).suffix.lower()


def make_plan(raw: Path, share: float, seed: int, rate: int, on_bad: str) -> dict[str, Any]:
    """Choose the split of each song by its name and the seed alone.

    Args:
        raw: folder of the raw songs, a folder each.
        share: of the songs that go to validation, between 0 and 1; at least one does.
        seed: another one chooses others.
        rate: that all stems must have, in Hz.
        on_bad: `stop` or `skip`.

    Returns:
        `tracks`: place -> stems; `skipped`: a line for each bad file.

    Raises:
        DataError: see `prepare.stems.find_tracks`; or there is only one song.
    """
    tracks, skipped = find_tracks(raw, MDX_SOURCES, rate, on_bad)
    chosen = held_out((track.name for track in tracks), share, seed)
    if not chosen:
        raise DataError(f"{printable(raw)}: {tracks[0].name} is the only song, nothing to split")
    places = {f"{SPLITS[track.name in chosen]}/{track.name}": track for track in tracks}
    described = {place: _describe(raw, track) for place, track in places.items()}
    return {"tracks": described, "skipped": skipped}


def _describe(raw: Path, track: Track) -> dict[str, dict[str, Any]]:
    return {name: describe(raw, file) for name, file in track.stems.items()}


def make_song(song: Song) -> str | None:
    """Put a song in its place, with its mixture.

    A song that is moved is whole in its new place before anything is taken from the old one.

    Returns:
        A line if the mixture goes beyond full scale.

    Raises:
        AudioReadError: a stem is missing, damaged or changed.
        DataError: the new files cannot be written, or are not those that are to be moved.
    """
    note = None
    if not song.place.is_dir():
        with making(song.place) as part:
            note = _fill(part, song)
    if song.how == "move":
        _remove_originals(song)
    return note


def _fill(part: Path, song: Song) -> str | None:
    """The stems and their mixture, in a folder that is still temporary."""
    part.mkdir()
    files = {name: reopen(song.raw, stem) for name, stem in song.stems.items()}
    for name, file in files.items():
        target = part / stem_name(name, song.stems[name])
        try:
            _bring(Path(os.path.realpath(file)), target, song.how)
        except OSError as error:
            hint = "; choose --how copy or symlink" if error.errno == errno.EXDEV else ""
            raise DataError(f"{printable(song.place)}: {error.strerror}{hint}") from error
    beyond = write_sum(part / MIXTURE, list(files.values()), song.bits)
    return beyond and beyond.describe(song.place / MIXTURE)


def _bring(source: Path, target: Path, how: str) -> None:
    if how == "symlink":
        target.symlink_to(source)
    elif how == "copy":
        shutil.copyfile(source, target)
    else:
        try:
            os.link(source, target)
        except OSError as error:
            if how == "hardlink" or error.errno not in (errno.EXDEV, errno.EPERM):
                raise
            shutil.copyfile(source, target)  # to another disk


def _remove_originals(song: Song) -> None:
    """Take away what is in the new place, and the folder if nothing else is in it."""
    for old, new in song.left:
        if not os.path.samefile(old, new) and not filecmp.cmp(old, new, shallow=False):
            raise DataError(f"{printable(old)}: is not the same as {printable(new)}; kept")
        old.unlink()
    for folder in {(song.raw / stem["file"]).parent for stem in song.stems.values()}:
        with contextlib.suppress(OSError):  # there is something else in it
            folder.rmdir()
