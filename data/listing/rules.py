"""What a track must be, and whether the headers of its files say that it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from aimless.errors import ConfigError
from data.audio import AudioFile, AudioReadError, printable
from data.listing.folders import SUFFIXES, ListedFile, TrackFolder

__all__ = ["Checked", "Fault", "MissingPolicy", "Rules", "Track", "check_track"]

logger = logging.getLogger(__name__)

MissingPolicy = Literal["error", "silence"]
Headers = Mapping[str, AudioFile | AudioReadError]


@dataclass(frozen=True)
class Track:
    """A track whose files have been checked.

    `stems` has the files by source; a source that is not in it is silent. `frames` is the length
    that all files have, `channels` what `data.audio.read` is to deliver (a mono file fills all of
    them), `rate` the sample rate in Hz.
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
        return Checked(None, [Fault("unreadable", str(found.folder), found.problem)])
    infos, faults = _collect(found, rules, headers)
    for info in infos.values():
        faults += _misfits(info, rules)
    lengths = {name: info.frames for name, info in infos.items() if info.rate == rules.sample_rate}
    shortest, longest = (
        extreme(lengths, key=lambda name: lengths[name], default="") for extreme in (min, max)
    )
    difference = (lengths[longest] - lengths[shortest]) / rules.sample_rate if lengths else 0.0
    if difference > rules.max_length_difference:
        faults.append(_describe_difference(infos[shortest], infos[longest], rules))
    if faults:
        return Checked(None, faults, difference)
    mono = [name for name, info in infos.items() if info.channels < rules.channels]
    if mono:
        text = "%s: mono, duplicated to %d channels: %s"
        logger.info(text, printable(found.folder), rules.channels, ", ".join(mono))
    track = Track(
        found.folder.name,
        found.folder,
        {name: infos[name] for name in rules.sources if name in infos},
        infos[rules.mixture] if rules.mixture else None,
        lengths[shortest],
        rules.channels,
        rules.sample_rate,
    )
    return Checked(track, [], difference)


def _collect(
    found: TrackFolder, rules: Rules, headers: Headers
) -> tuple[dict[str, AudioFile], list[Fault]]:
    """Headers by name of file, and which files are missing or cannot be read."""
    infos: dict[str, AudioFile] = {}
    faults: list[Fault] = []
    optional = rules.sources if rules.missing == "silence" else ()
    for name in rules.files:
        if name not in found.files:
            if name not in optional:
                path = os.path.join(found.folder, name + SUFFIXES[0])
                faults.append(Fault("missing", path, "missing"))
            continue
        preferred, *others = found.files[name]
        header = headers[preferred.path]
        if isinstance(header, AudioReadError):
            faults.append(_unreadable(preferred, header))
            continue
        infos[name] = header
        faults += [fault for file in others for fault in _mismatch(header, file, headers)]
    if optional and found.files.keys().isdisjoint(optional):
        expected = ", ".join(name + SUFFIXES[0] for name in optional)
        text = f"no stem; expected one at least of {expected}"
        faults.append(Fault("missing", str(found.folder), text))
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


def _describe_difference(shortest: AudioFile, longest: AudioFile, rules: Rules) -> Fault:
    text = (
        f"{shortest.frames} frames, but {longest.path.name} has {longest.frames}; "
        f"allowed difference {rules.max_length_difference:g} s"
    )
    return Fault("length", str(shortest.path), text)
