"""Where the stems of songs go: names from a template, checked before anything is separated."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Sequence
from pathlib import Path, PurePath

from aimless.errors import ConfigError
from aimless.songs.audio_paths import printable

__all__ = ["TEMPLATE", "check_stem_name", "check_template", "plan_stems"]

TEMPLATE = "{song}/{stem}"
_STEM_NAME = re.compile(r"\w[\w .()+-]{0,99}")


def plan_stems(
    songs: Sequence[Path],
    stems: Sequence[str],
    folder: Path,
    suffix: str = ".wav",
    template: str = TEMPLATE,
) -> list[dict[str, Path]]:
    """Name the files of all songs.

    Args:
        songs: files that are to be separated.
        stems: names of the stems; letters, digits, spaces and `_.()+-` only.
        folder: below which all files lie.
        suffix: of the files.
        template: of a file's name below the folder, with `{song}` for the song's name without
            suffix and `{stem}`.

    Returns:
        For each song: name of the stem -> file.

    Raises:
        ConfigError: a bad name or template, two songs that would be written to one file, or a
            stem that would be written over a song.
    """
    check_template(template)
    for stem in stems:
        check_stem_name(stem)
    plan = [
        {
            stem: folder / (template.format(song=_song_name(song), stem=stem) + suffix)
            for stem in stems
        }
        for song in songs
    ]
    owner: dict[str, Path] = {os.path.realpath(song): song for song in songs}
    taken: dict[str, Path] = {}
    for song, paths in zip(songs, plan):
        for path in paths.values():
            real = os.path.realpath(path)
            if real in owner:
                raise ConfigError(f"{printable(path)}: is a song to separate; choose another name")
            # names that differ in case alone are one file on some disks
            other = taken.setdefault(real.casefold(), song)
            if other is not song:
                raise ConfigError(
                    f"{printable(other)} and {printable(song)} would both be written to "
                    f"{printable(path)}; separate them in two runs"
                )
    return plan


def check_stem_name(name: str) -> None:
    """Refuse names that a checkpoint must not bring into a path.

    Raises:
        ConfigError: names it.
    """
    if not _STEM_NAME.fullmatch(name):
        raise ConfigError(
            f"stem name {name!r}: must begin with a letter or digit and hold only letters, "
            "digits, spaces and _.()+-"
        )


def _song_name(song: Path) -> str:
    """A song's name as a part of a path: never hidden, never `..`."""
    return song.stem.lstrip(".") or "song"


def check_template(template: str) -> None:
    """Refuse a template that does not name a file per stem below the folder.

    Raises:
        ConfigError: says what it must hold.
    """
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"template: '{template}': {error}") from None
    names = [name for _, name, _, _ in fields if name is not None]
    plain = all(not spec and not conversion for _, _, spec, conversion in fields)
    if not plain or not set(names) <= {"song", "stem"} or "stem" not in names:
        raise ConfigError(
            f"template: '{template}'; must hold {{stem}}, and may hold {{song}} and no other field"
        )
    path = PurePath(template)
    if path.is_absolute() or ".." in path.parts or template.endswith(("/", os.sep)):
        raise ConfigError(f"template: '{template}'; must lead to a file below the folder")
