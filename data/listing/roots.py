"""Folders and lists that training stems are drawn from, in the layouts that people have them.

- `tracks`: a folder of track folders, `<root>/<track>/<source>.wav`; the stems of a track
  belong together.
- `stems`: a folder per source, `<root>/<source>/**/*.wav`; the files are unrelated.
- `csv`: a table with a column `source` (or `instrum`) and a column `path`, absolute or relative to
  the table's folder; the files are unrelated.

FLAC files are found as well in each.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from aimless.errors import DataError
from data import tracks
from data.audio import AudioFile, printable
from data.listing import recordings
from data.listing.folders import ListedFile
from data.listing.recordings import FileRules
from data.tracks import BadTrackPolicy, Rules, Track

__all__ = ["LAYOUTS", "Contents", "Layout", "Root", "load"]

Layout = Literal["tracks", "stems", "csv"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class Root:
    """A place with training stems.

    Args:
        path: a folder, or a table if the layout is `csv`.
        weight: how often it is drawn from, in relation to the other roots.
        layout: how the stems lie in it.
    """

    path: Path
    weight: float = 1.0
    layout: Layout = "tracks"


class Contents(NamedTuple):
    """What a root holds: files by source (no entry: none), and tracks if its layout has them."""

    files: Mapping[str, Sequence[AudioFile]]
    tracks: Sequence[Track] = ()

    def presence(self, source: str) -> float:
        """Share of the tracks that have a source; 1 where stems are unrelated."""
        found = len(self.files.get(source, ()))
        return found / len(self.tracks) if self.tracks else float(found > 0)


def load(root: Root, rules: Rules, on_bad: BadTrackPolicy = "error") -> Contents:
    """Find the stems of a root and check their files.

    Args:
        root: where to look.
        rules: what tracks and files must be; a mixture is not looked for.
        on_bad: `error` raises if a file is bad, `skip` goes on with the others.

    Raises:
        DataError: nothing is there, or bad files, all of them listed; a table's faults name
            its line.
    """
    if root.layout == "tracks":
        return _load_tracks(root, rules, on_bad)
    if root.layout == "csv":
        entries = _list_table(root.path, rules.sources)
    else:
        entries = _list_stems(root.path, rules.sources)
    sources, listed, origins = zip(*entries)
    file_rules = FileRules(rules.sample_rate, rules.channels, rules.check_samples, on_bad)
    checked = recordings.check(root.path, listed, file_rules, origins)
    good = {header.path: header for header in checked}
    files: dict[str, list[AudioFile]] = {}
    for source, file in zip(sources, listed):
        if (path := Path(file.path)) in good:
            files.setdefault(source, []).append(good[path])
    return Contents(files)


class _Entry(NamedTuple):
    """A source, its file, and where it was named; empty if it was found."""

    source: str
    file: ListedFile
    origin: str = ""


def _load_tracks(root: Root, rules: Rules, on_bad: BadTrackPolicy) -> Contents:
    found = tracks.scan(root.path, rules, on_bad)
    files = {
        source: [track.stems[source] for track in found if source in track.stems]
        for source in rules.sources
    }
    return Contents({source: listed for source, listed in files.items() if listed}, found)


def _list_stems(root: Path, sources: Sequence[str]) -> list[_Entry]:
    there = [source for source in sources if (root / source).is_dir()]
    if not there:
        raise DataError(f"{printable(root)}: holds none of the folders {', '.join(sources)}")
    return [_Entry(source, file) for source in there for file in recordings.find(root / source)]


def _list_table(table: Path, sources: Sequence[str]) -> list[_Entry]:
    """The rows of a table whose source is one of ours."""
    rows = [row for row in _read_rows(table) if row.source in sources]
    if not rows:
        raise DataError(f"{printable(table)}: no row of {', '.join(sources)}")
    files = recordings.look_up(os.fspath(table.parent / row.path) for row in rows)
    return [_Entry(row.source, file, row.origin) for row, file in zip(rows, files)]


class _Row(NamedTuple):
    """A row of a table, and where it stands."""

    source: str
    path: str
    origin: str


def _read_rows(table: Path) -> list[_Row]:
    found = []
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            column = _source_column(table, rows.fieldnames or ())
            for row in rows:
                origin = f"{printable(table)}, line {rows.line_num}"
                source, name = ((row[key] or "").strip() for key in (column, "path"))
                if not source or not name:
                    raise DataError(f"{origin}: no {'path' if source else column} given")
                found.append(_Row(source, name, origin))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{printable(table)}: cannot be read: {reason}") from None
    return found


def _source_column(table: Path, columns: Sequence[str]) -> str:
    named = [name for name in ("source", "instrum") if name in columns]
    if not named or "path" not in columns:
        raise DataError(
            f"{printable(table)}, line 1: needs the columns source (or instrum) and path, "
            f"found {', '.join(columns) or 'none'}"
        )
    return named[0]
