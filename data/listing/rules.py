"""What a track must be, and whether the headers of its files say that it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

from aimless.errors import ConfigError
from data.audio import AudioFile, AudioReadError, printable
from data.listing.folders import SUFFIXES, ListedFile, TrackFolder

__all__ = ["Checked", "Fault", "MissingPolicy", "Rules", "Track", "check_track", "judge"]

logger = logging.getLogger(__name__)

MissingPolicy = Literal["error", "silence"]
Headers = Mapping[str, AudioFile | AudioReadError]
_frames = attrgetter("frames")


@dataclass(frozen=True)
class Track:
    """A track whose files have been checked.

    `stems` has the files by source; a source that is not in it is silent. `frames` is the length
    that all files have, `channels` what `data.audio.read` is to deliver (a mono file fills all of
    them), `rate` the sample rate in Hz. `location` is the folder where it was found.
    """

    name: str
    location: str | os.PathLike[str]
    stems: Mapping[str, AudioFile]
    mixture: AudioFile | None
    frames: int
    channels: int
    rate: int

    @property
    def folder(self) -> Path:
        """Where it was found."""
        return Path(self.location)


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
            training run; other encodings cannot hold one. Reads about a gigabyte per second,
            and each file only once as long as it does not change.
        missing: what a stem without a file is: an `error`, or `silence`. A track has at least
            one stem, and the mixture must always be there.

    Raises:
        ConfigError: `missing` is neither.
    """

    sources: Sequence[str]
    mixture: str | None = "mixture"
    sample_rate: int = 44100
    channels: int = 2
    max_length_difference: float = 0.1
    check_samples: bool = True
    missing: MissingPolicy = "error"

    def __post_init__(self) -> None:
        if self.missing not in ("error", "silence"):
            raise ConfigError(f"missing: {self.missing!r} is not one of error, silence")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files of a track, without suffix."""
        return (*self.sources, *([self.mixture] if self.mixture else []))


class Fault(NamedTuple):
    """What is wrong with a file or folder, to be read as `path: text`.

    `kind` is one of missing, cut off, unreadable, not finite, sample rate, channels, length,
    duplicate.
    """

    kind: str
    path: str
    text: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.text}"


class Checked(NamedTuple):
    """Result for one folder: a track, or why not."""

    track: Track | None
    faults: list[Fault]
    difference: float = 0.0  # seconds between its longest and shortest file


def check_track(found: TrackFolder, rules: Rules, headers: Headers) -> Checked:
    """Hold the headers of a track against the rules.

    Args:
        found: the track's folder and files.
        rules: what the track must be.
        headers: of its files, as `data.listing.index.headers` gives them.
    """
    if found.problem:
        return Checked(None, [Fault("unreadable", found.location, found.problem)])
    infos, faults = _collect(found, rules, headers)
    return judge(found.location, infos, faults, rules)


def judge(
    location: str, infos: Mapping[str, AudioFile], faults: list[Fault], rules: Rules
) -> Checked:
    """Hold the headers of a track, by name of file without suffix, against the rules.

    Args:
        location: the track's folder.
        infos: headers of the files that can be read.
        faults: found so far.
        rules: what the track must be.
    """
    rate, channels = rules.sample_rate, rules.channels
    usual = {(info.rate, info.channels) for info in infos.values()} == {(rate, channels)}
    if not usual:
        faults += [fault for info in infos.values() for fault in _misfits(info, rules)]
    extremes = _extremes(infos.values(), rate)
    if extremes is None:
        return Checked(None, faults)
    shortest, longest = extremes
    difference = (longest.frames - shortest.frames) / rate
    if difference > rules.max_length_difference:
        faults.append(_describe_difference(shortest, longest, rules))
    if faults:
        return Checked(None, faults, difference)
    mono = [name for name, info in infos.items() if not usual and info.channels < channels]
    if mono:
        text = "%s: mono, duplicated to %d channels: %s"
        logger.info(text, printable(location), channels, ", ".join(mono))
    track = Track(
        os.path.basename(location),
        location,
        {name: infos[name] for name in rules.sources if name in infos},
        infos[rules.mixture] if rules.mixture else None,
        shortest.frames,
        channels,
        rate,
    )
    return Checked(track, [], difference)


def _collect(
    found: TrackFolder, rules: Rules, headers: Headers
) -> tuple[dict[str, AudioFile], list[Fault]]:
    """Headers by name of file, and which files are missing or cannot be read."""
    infos: dict[str, AudioFile] = {}
    faults: list[Fault] = []
    files = found.files
    optional = rules.sources if rules.missing == "silence" else ()
    for name in rules.files:
        formats = files.get(name)
        if formats is None:
            if name not in optional:
                path = os.path.join(found.location, name + SUFFIXES[0])
                faults.append(Fault("missing", path, "missing"))
            continue
        header = headers[formats[0].path]
        if isinstance(header, AudioReadError):
            faults.append(_unreadable(formats[0], header))
            continue
        infos[name] = header
        for other in formats[1:]:
            faults += _mismatch(header, other, headers)
    if optional and files.keys().isdisjoint(optional):
        expected = ", ".join(name + SUFFIXES[0] for name in optional)
        text = f"no stem; expected one at least of {expected}"
        faults.append(Fault("missing", found.location, text))
    return infos, faults


def _unreadable(file: ListedFile, error: AudioReadError) -> Fault:
    text = str(error).removeprefix(f"{printable(file.path)}: ")
    kind = "cut off" if text.startswith("cut off") else "unreadable"
    return Fault("not finite" if "is not finite" in text else kind, file.path, text)


def _mismatch(preferred: AudioFile, other: ListedFile, headers: Headers) -> list[Fault]:
    """What is wrong with a stem's file in another format: it must be as long."""
    header = headers[other.path]
    if isinstance(header, AudioReadError):
        return [_unreadable(other, header)]
    if header.frames == preferred.frames:
        return []
    text = f"{header.frames} frames, but {preferred.path.name} beside it has {preferred.frames}"
    return [Fault("length", other.path, text)]


def _misfits(info: AudioFile, rules: Rules) -> list[Fault]:
    faults = []
    if info.rate != rules.sample_rate:
        text = f"sample rate {info.rate} Hz, wanted {rules.sample_rate} Hz"
        faults.append(Fault("sample rate", str(info.path), text))
    if info.channels not in (1, rules.channels):
        text = f"{info.channels} channels, wanted {rules.channels}"
        faults.append(Fault("channels", str(info.path), text))
    return faults


def _extremes(infos: Iterable[AudioFile], rate: int) -> tuple[AudioFile, AudioFile] | None:
    """The shortest and the longest of the files of a rate, the first of those equally long."""
    comparable = [info for info in infos if info.rate == rate]
    if not comparable:
        return None
    return min(comparable, key=_frames), max(comparable, key=_frames)


def _describe_difference(shortest: AudioFile, longest: AudioFile, rules: Rules) -> Fault:
    text = (
        f"{shortest.frames} frames, but {longest.path.name} has {longest.frames}; "
        f"allowed difference {rules.max_length_difference:g} s"
    )
    return Fault("length", str(shortest.path), text)
