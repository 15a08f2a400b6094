"""Songs without one of their stems, as the sum of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aimless.errors import ConfigError, DataError
from aimless.sources import MDX_SOURCES
from data.audio import printable
from data.check.layout import Layout, detect
from prepare.mixing import write_sum
from prepare.output import making
from prepare.stems import describe, find_tracks, reopen

__all__ = ["Rest", "choose_splits", "make_plan", "make_rest"]


class Rest(NamedTuple):
    """A song without a stem, to be written.

    Attributes:
        root: of the songs.
        place: the file.
        stems: what the plan says of the files that are summed.
        bits: of the samples, or `auto`.
    """

    root: Path
    place: Path
    stems: Sequence[Mapping[str, Any]]
    bits: str


def choose_splits(root: Path, wanted: Sequence[str] | None) -> dict[str, Path]:
    """Folders of songs by name; `.` is the root itself, if there are no splits in it.

    Raises:
        ConfigError: a wanted split is not there.
        DataError: there is no such folder.
    """
    layout: Layout = detect(root)
    for name in wanted or ():
        if name not in layout.splits:
            known = ", ".join(layout.splits)
            raise ConfigError(f"--splits: {name} is not in {printable(root)}, which has {known}")
    return {name: layout.splits[name] for name in wanted or layout.splits}


def make_plan(
    root: Path, splits: Mapping[str, Path], without: str, rate: int, on_bad: str
) -> dict[str, Any]:
    """All songs, and what is left of each.

    Args:
        root: of the data set.
        splits: folders of songs by name.
        without: the stem to leave out.
        rate: that all stems must have, in Hz.
        on_bad: `stop` or `skip`.

    Returns:
        `tracks`: place -> stems; `skipped`: a line for each bad file.

    Raises:
        DataError: no songs, or bad ones: those of all splits are named.
    """
    rest = [source for source in MDX_SOURCES if source != without]
    places: dict[str, list[dict[str, Any]]] = {}
    skipped: list[str] = []
    errors: list[str] = []
    for split, folder in splits.items():
        try:
            tracks, faults = find_tracks(folder, rest, rate, on_bad)
        except DataError as error:
            errors.append(str(error))
            continue
        skipped += faults
        for track in tracks:
            stems = [describe(root, track.stems[name]) for name in rest]
            places[(Path(split) / f"{track.name}.wav").as_posix()] = stems
    if errors:
        raise DataError("\n".join(errors))
    return {"tracks": places, "skipped": skipped}


def make_rest(job: Rest) -> str | None:
    """Write a song without a stem.

    Returns:
        A line if it goes beyond full scale.

    Raises:
        AudioReadError: a stem is missing, damaged or changed.
        DataError: the file cannot be written.
    """
    files = [reopen(job.root, stem) for stem in job.stems]
    with making(job.place) as part:
        beyond = write_sum(part, files, job.bits)
    return beyond and beyond.describe(job.place)
