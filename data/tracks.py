"""Folder tree to checked index.

A data set is a folder of track folders, each with one audio file per source and, where it is
needed, the recorded mixture:

    <folder>/<track>/{mixture,drums,bass,other,vocals}.wav

`scan` reads the header of every file once, in parallel, and either returns tracks that can be
read without surprises or raises one error that lists every bad file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from aimless.errors import ConfigError, DataError
from data import audio, folders
from data.audio import AudioFile, AudioReadError, printable
from data.folders import SUFFIXES, TrackFolder, enumerate_names

__all__ = ["BadTrackPolicy", "Rules", "Track", "scan"]

logger = logging.getLogger(__name__)

BadTrackPolicy = Literal["error", "skip"]

_WARN_DIFFERENCE = 0.001  # seconds; shorter differences come from resampling and do no harm


@dataclass(frozen=True)
class Track:
    """A track whose files have been checked.

    `frames` is the length that all files have, `channels` what `data.audio.read` is to deliver
    (a mono file fills all of them), `rate` the sample rate in Hz.
    """

    name: str
    folder: Path
    stems: Mapping[str, AudioFile]
    mixture: AudioFile | None
    frames: int
    channels: int
    rate: int


@dataclass(frozen=True)
class Rules:
    """What a track must be.

    Args:
        sources: names of the stems, also of their files.
        mixture: name of the recorded mixture's file; None: not needed, not opened.
        sample_rate: of every file, in Hz.
        channels: of every file; mono files are accepted too and duplicated.
        max_length_difference: between the files of a track, in seconds. Up to this, the
            shortest file sets the length.
        check_samples: read float files whole, since one sample that is not finite would end a
            training run; other encodings cannot hold one. Reads about a gigabyte per second.
    """

    sources: Sequence[str]
    mixture: str | None = "mixture"
    sample_rate: int = 44100
    channels: int = 2
    max_length_difference: float = 0.1
    check_samples: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files of a track, without suffix."""
        return (*self.sources, *([self.mixture] if self.mixture else []))


class _Checked(NamedTuple):
    """Result for one folder: a track, or the lines that say why not."""

    track: Track | None
    faults: list[str]
    difference: float = 0.0  # seconds between its longest and shortest file


def scan(
    folder: str | os.PathLike[str],
    rules: Rules,
    on_bad_track: BadTrackPolicy = "error",
    select: Callable[[str], bool] | None = None,
) -> list[Track]:
    """Check every file of every track under a folder.

    Args:
        folder: a split of a data set, for instance `root/train`.
        rules: what a track must be.
        on_bad_track: `error` raises if any track is bad, `skip` goes on with the others.
        select: look only at the tracks whose name it accepts.

    Returns:
        The good tracks, by name.

    Raises:
        DataError: no track, or bad ones. The first line says how many and where; one line per
            bad file follows, with its path and the reason.
        ConfigError: `on_bad_track` is neither `error` nor `skip`.
    """
    if on_bad_track not in ("error", "skip"):
        raise ConfigError(f"on_bad_track: {on_bad_track!r} is not one of error, skip")
    found = folders.find(folder, rules.files, select)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda candidate: _check_track(candidate, rules), found))
    results = _refuse_duplicates(found, results, rules)
    _report_faults(Path(folder), found, results, on_bad_track)
    _report_differences(results)
    return [result.track for result in results if result.track is not None]


def _check_track(found: TrackFolder, rules: Rules) -> _Checked:
    """Read all headers of a track and hold them against the rules."""
    if found.problem:
        return _Checked(None, [f"{printable(found.folder)}: {found.problem}"])
    infos: dict[str, AudioFile] = {}
    faults: list[str] = []
    for name in rules.files:
        try:
            infos[name] = _read_header(found, name)
        except AudioReadError as error:
            faults.append(str(error))
            continue
        path = found.files[name][0]
        faults += [f"{printable(path)}: {text}" for text in _misfits(infos[name], rules)]
        if rules.check_samples and audio.may_be_nonfinite(infos[name]):
            faults += _bad_samples(path)
    if faults:
        return _Checked(None, faults)
    shortest = min(infos, key=lambda name: infos[name].frames)
    longest = max(infos, key=lambda name: infos[name].frames)
    frames = infos[shortest].frames
    difference = (infos[longest].frames - frames) / rules.sample_rate
    if difference > rules.max_length_difference:
        return _Checked(None, [_describe_difference(found, infos, shortest, longest, rules)])
    mono = [name for name, info in infos.items() if info.channels < rules.channels]
    if mono:
        text = "%s: mono, duplicated to %d channels: %s"
        logger.info(text, printable(found.folder), rules.channels, ", ".join(mono))
    stems = {name: infos[name] for name in rules.sources}
    mixture = infos[rules.mixture] if rules.mixture else None
    track = Track(
        found.folder.name, found.folder, stems, mixture, frames, rules.channels, rules.sample_rate
    )
    return _Checked(track, [], difference)


def _read_header(found: TrackFolder, name: str) -> AudioFile:
    """Header of the preferred file of a stem; its other formats must be as long."""
    paths = found.files.get(name)
    if not paths:
        raise AudioReadError(f"{printable(found.folder / (name + SUFFIXES[0]))}: missing")
    infos = [audio.info(path) for path in paths]
    for path, info in zip(paths[1:], infos[1:]):
        if info.frames != infos[0].frames:
            raise AudioReadError(
                f"{printable(path)}: {info.frames} frames, "
                f"but {paths[0].name} beside it has {infos[0].frames}"
            )
    return infos[0]


def _bad_samples(path: Path) -> list[str]:
    try:
        audio.check_samples(path)
    except AudioReadError as error:
        return [str(error)]
    return []


def _misfits(info: AudioFile, rules: Rules) -> list[str]:
    faults = []
    if info.rate != rules.sample_rate:
        faults.append(f"sample rate {info.rate} Hz, wanted {rules.sample_rate} Hz")
    if info.channels not in (1, rules.channels):
        faults.append(f"{info.channels} channels, wanted {rules.channels}")
    return faults


def _describe_difference(
    found: TrackFolder, infos: Mapping[str, AudioFile], shortest: str, longest: str, rules: Rules
) -> str:
    return (
        f"{printable(found.files[shortest][0])}: {infos[shortest].frames} frames, but "
        f"{found.files[longest][0].name} has {infos[longest].frames}; allowed difference "
        f"{rules.max_length_difference:g} s"
    )


def _refuse_duplicates(
    found: Sequence[TrackFolder], results: Sequence[_Checked], rules: Rules
) -> list[_Checked]:
    """Turn a track into a fault if its stems are those of an earlier one, links resolved."""
    first: dict[frozenset[str], TrackFolder] = {}
    kept = []
    for candidate, result in zip(found, results):
        twin = candidate
        if result.track is not None:
            twin = first.setdefault(candidate.real_paths(rules.sources), candidate)
        if twin is not candidate:
            text = f"{printable(candidate.folder)}: same files as {printable(twin.folder)}"
            result = _Checked(None, [text])
        kept.append(result)
    return kept


def _report_faults(
    root: Path,
    found: Sequence[TrackFolder],
    results: Sequence[_Checked],
    on_bad_track: BadTrackPolicy,
) -> None:
    faults = [line for result in results for line in result.faults]
    bad = [track.folder.name for track, result in zip(found, results) if result.faults]
    if not faults:
        return
    if on_bad_track == "error" or len(bad) == len(found):
        files = "1 bad file" if len(faults) == 1 else f"{len(faults)} bad files"
        head = f"{files} in {len(bad)} of {len(found)} tracks under"
        raise DataError("\n  ".join([f"{head} {printable(root)}:", *faults]))
    text = "%s: skipped %d of %d tracks with %d bad files: %s"
    logger.warning(text, printable(root), len(bad), len(found), len(faults), enumerate_names(bad))
    for line in faults:
        logger.info(line)


def _report_differences(results: Sequence[_Checked]) -> None:
    uneven = [result for result in results if result.track and result.difference > _WARN_DIFFERENCE]
    if uneven:
        names = [result.track.name for result in uneven if result.track]
        worst = max(result.difference for result in uneven)
        text = "%d tracks have files of different lengths (up to %.0f ms), the shortest counts: %s"
        logger.warning(text, len(uneven), 1000 * worst, enumerate_names(names))
