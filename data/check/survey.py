"""Look at all tracks of a data set, and gather what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from aimless.errors import DataError
from data.audio import AudioFile
from data.check.duplicates import find_duplicates
from data.check.findings import Finding, LookedAt, judge, judge_levels
from data.check.layout import Layout
from data.check.measure import TrackMeasure, measure
from data.listing import folders, index
from data.listing.rules import Rules, check_track

__all__ = ["Survey", "survey"]

Job = tuple[Mapping[str, AudioFile], Sequence[str], str | None, bool]


@dataclass
class Survey:
    """What was looked at, and what was found.

    Attributes:
        root: the data set.
        tracks: in the order of splits and names.
        findings: worst first.
        bytes_read: size of the files that were read whole.
    """

    root: Path
    tracks: list[LookedAt]
    findings: list[Finding]
    bytes_read: int


def survey(
    root: Path,
    layout: Layout,
    rules: Rules,
    segment: float | None = None,
    quick: bool = False,
    workers: int = 1,
) -> Survey:
    """Look at every track of a data set.

    Args:
        root: folder of the data set.
        layout: its splits.
        rules: what a track must be; samples are read as `quick` says.
        segment: length of the training segments in seconds; shorter tracks are noted.
        quick: look at the headers only, and read no samples.
        workers: processes that read samples; 1 reads in this one.

    Raises:
        DataError: there are no tracks.
    """
    findings: list[Finding] = []
    tracks: list[LookedAt] = []
    for split, folder in layout.splits.items():
        try:
            tracks += _look_at(split, folder, rules)
        except DataError as error:
            if len(layout.splits) == 1:
                raise
            findings.append(Finding("error", "no tracks", split, "", str(folder), str(error)))
    if not tracks:
        raise DataError("; ".join(finding.text for finding in findings))
    bytes_read = 0
    if not quick:
        bytes_read = sum(file.size for track in tracks for file in track.headers.values())
        _measure_all(tracks, rules, workers, bytes_read)
    findings += [finding for track in tracks for finding in judge(track, rules, segment)]
    findings += judge_levels(tracks)
    findings += find_duplicates(tracks, rules.sources)
    return Survey(root, tracks, sorted(findings, key=Finding.rank), bytes_read)


def _look_at(split: str, folder: Path, rules: Rules) -> list[LookedAt]:
    found = folders.find(folder, rules.files)
    files = [file for track in found for formats in track.files.values() for file in formats]
    headers = index.headers(folder, files, cache=False)
    tracks = []
    for track in found:
        preferred = {name: headers[formats[0].path] for name, formats in track.files.items()}
        readable = {name: file for name, file in preferred.items() if isinstance(file, AudioFile)}
        tracks.append(LookedAt(split, track, check_track(track, rules, headers), readable))
    return tracks


def _measure_all(tracks: Sequence[LookedAt], rules: Rules, workers: int, size: int) -> None:
    """Read the samples of all tracks, a track at a time in each process."""
    readable = [track for track in tracks if track.headers]
    jobs = [
        (track.headers, rules.sources, rules.mixture, _comparable(track, rules))
        for track in readable
    ]
    with tqdm(total=size, unit="B", unit_scale=True, desc="reading", disable=None) as bar:
        for track, found in zip(readable, _run(jobs, workers)):
            track.measure = found
            bar.update(sum(file.size for file in track.headers.values()))


def _run(jobs: Sequence[Job], workers: int) -> Iterator[TrackMeasure]:
    if workers == 1 or len(jobs) < 2:
        yield from map(_measure, jobs)
        return
    # Spawned, not forked: what libraries did with threads and locks so far is no concern.
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn")) as pool:
        yield from pool.map(_measure, jobs)


def _measure(job: Job) -> TrackMeasure:
    return measure(*job)


def _comparable(track: LookedAt, rules: Rules) -> bool:
    """Whether the stems of a track can be summed, and the sum held against the mixture."""
    complete = rules.missing == "silence" or all(name in track.headers for name in rules.sources)
    rates = {file.rate for file in track.headers.values()}
    channels = {file.channels for file in track.headers.values()} - {1}
    return complete and len(rates) == 1 and len(channels) <= 1
