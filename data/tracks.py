"""Folder tree to checked index.

A data set is a folder of track folders, each with one audio file per source and, where it is
needed, the recorded mixture:

    <folder>/<track>/{mixture,drums,bass,other,vocals}.wav

`scan` looks at the header of every file and either returns tracks that can be read without
surprises or raises one error that lists every bad file. Headers are remembered, see
`data.listing.index`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from aimless.errors import ConfigError, DataError
from data.audio import AudioFile, printable
from data.listing import folders, index
from data.listing.folders import SUFFIXES, TrackFolder, enumerate_names
from data.listing.garbage import no_garbage_collection
from data.listing.rules import Checked, Fault, MissingPolicy, Rules, Track, check_track, judge

__all__ = ["BadTrackPolicy", "MissingPolicy", "Rules", "Track", "scan"]

logger = logging.getLogger(__name__)

BadTrackPolicy = Literal["error", "skip"]

_WARN_DIFFERENCE = 0.001  # seconds; shorter differences come from resampling and do no harm


def scan(
    folder: str | os.PathLike[str],
    rules: Rules,
    on_bad_track: BadTrackPolicy = "error",
    select: Callable[[str], bool] | None = None,
    cache: bool = True,
) -> list[Track]:
    """Check every file of every track under a folder.

    Args:
        folder: a split of a data set, for instance `root/train`.
        rules: what a track must be.
        on_bad_track: `error` raises if any track is bad, `skip` goes on with the others.
        select: look only at the tracks whose name it accepts.
        cache: open only files that changed since they were last scanned, see `data.listing.index`.

    Returns:
        The good tracks, by name.

    Raises:
        DataError: no track, or bad ones. The first line says how many and where; one line per
            bad file follows, with its path and the reason.
        ConfigError: `on_bad_track` is neither `error` nor `skip`.
    """
    if on_bad_track not in ("error", "skip"):
        raise ConfigError(f"on_bad_track: {on_bad_track!r} is not one of error, skip")
    with no_garbage_collection():
        return _scan(folder, rules, on_bad_track, select, cache)


def _scan(
    folder: str | os.PathLike[str],
    rules: Rules,
    on_bad_track: BadTrackPolicy,
    select: Callable[[str], bool] | None,
    cache: bool,
) -> list[Track]:
    found = folders.find(folder, rules.files, select)
    recalled = index.recall(folder, found, rules.check_samples) if cache else None
    if recalled is None:
        files = [file for track in found for file in track.listed]
        headers = index.headers(folder, files, cache, rules.check_samples)
        results = [check_track(candidate, rules, headers) for candidate in found]
    else:
        results = list(_check_recalled(found, rules, iter(recalled)))
    results = _refuse_duplicates(found, results, rules)
    _report_faults(Path(folder), found, results, on_bad_track)
    tracks = [result.track for result in results if result.track is not None]
    _report_differences(results)
    _report_silence(Path(folder), tracks, rules)
    return tracks


def _check_recalled(
    found: Sequence[TrackFolder], rules: Rules, headers: Iterator[AudioFile]
) -> Iterator[Checked]:
    """Check tracks whose headers are known, in the order of their files."""
    names = rules.files
    usual = tuple(name + SUFFIXES[0] for name in names)
    for track in found:
        infos = list(islice(headers, len(track.names)))
        if track.names == usual:  # spares a search for each stem
            yield judge(track.location, dict(zip(names, infos)), [], rules)
        else:
            yield check_track(track, rules, {info.location: info for info in infos})


def _refuse_duplicates(
    found: Sequence[TrackFolder], results: list[Checked], rules: Rules
) -> list[Checked]:
    """Turn a track into a fault if its stems are those of an earlier one, links resolved."""
    if len({track.real for track in found}) == len(found) and not any(t.links for t in found):
        return results  # without links no two tracks share a file
    first: dict[frozenset[str], TrackFolder] = {}
    kept = []
    for candidate, result in zip(found, results):
        twin = candidate
        if result.track is not None:
            twin = first.setdefault(candidate.real_paths(rules.sources), candidate)
        if twin is not candidate:
            text = f"same files as {printable(twin.folder)}"
            result = Checked(None, [Fault("duplicate", str(candidate.folder), text)])
        kept.append(result)
    return kept


def _report_faults(
    root: Path,
    found: Sequence[TrackFolder],
    results: Sequence[Checked],
    on_bad_track: BadTrackPolicy,
) -> None:
    faults = [fault for result in results for fault in result.faults]
    bad = [track.folder.name for track, result in zip(found, results) if result.faults]
    if not faults:
        return
    count = len({fault.path for fault in faults})
    if on_bad_track == "error" or len(bad) == len(found):
        files = "1 bad file" if count == 1 else f"{count} bad files"
        head = f"{files} in {len(bad)} of {len(found)} tracks under"
        raise DataError("\n  ".join([f"{head} {printable(root)}:", *map(str, faults)]))
    text = "%s: skipped %d of %d tracks with %d bad files: %s"
    logger.warning(text, printable(root), len(bad), len(found), count, enumerate_names(bad))
    for fault in faults:
        logger.info("%s", fault)


def _report_differences(results: Sequence[Checked]) -> None:
    uneven = [result for result in results if result.track and result.difference > _WARN_DIFFERENCE]
    if uneven:
        names = [result.track.name for result in uneven if result.track]
        worst = max(result.difference for result in uneven)
        text = "%d tracks have files of different lengths (up to %.0f ms), the shortest counts: %s"
        logger.warning(text, len(uneven), 1000 * worst, enumerate_names(names))


def _report_silence(root: Path, tracks: Sequence[Track], rules: Rules) -> None:
    """Say once how many stems have no file, where that is allowed."""
    absent = Counter(name for track in tracks for name in rules.sources if name not in track.stems)
    if absent:
        counts = ", ".join(f"{name} in {absent[name]}" for name in rules.sources if absent[name])
        text = "%s: stems without a file are silent: %s of %d tracks"
        logger.info(text, printable(root), counts, len(tracks))
