"""What is wrong with a track, how badly, and in what words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from data.audio import AudioFile
from data.check.measure import FileMeasure, TrackMeasure, decibels
from data.listing.folders import TrackFolder
from data.listing.rules import Checked, Rules

__all__ = ["SEVERITIES", "Finding", "LookedAt", "Severity", "judge", "judge_levels"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

_CLIPPED = 1e-4  # share of samples at full scale; a loud peak now and then is no clipping
_MOSTLY_SILENT = 0.9  # share of time
_UNEVEN = 0.001  # seconds
_MIXTURE_DB = -60.0
_ROUNDING = 2.0**-14  # four 16-bit stems, rounded, differ from their sum by less
_UNUSUAL_DB = 12.0
_ENOUGH_LEVELS = 5  # tracks, to know what is usual


class Finding(NamedTuple):
    """Something that is wrong with a data set.

    Attributes:
        severity: `error`: training would stop, or its scores be wrong; `warning`: to be looked
            at; `note`: may be meant so.
        kind: in a word or two.
        split: name of the split.
        track: name of the track, "" if it is about the split.
        path: of the file or folder.
        text: what is wrong.
        value: how badly, comparable within a kind.
    """

    severity: Severity
    kind: str
    split: str
    track: str
    path: str
    text: str
    value: float = 0.0

    def rank(self) -> tuple[int, str, float, str]:
        """To be sorted by: worst first."""
        return SEVERITIES.index(self.severity), self.kind, -self.value, self.path


@dataclass
class LookedAt:
    """A track, the headers of its readable files by name, and what its samples are like."""

    split: str
    found: TrackFolder
    checked: Checked
    headers: Mapping[str, AudioFile]
    measure: TrackMeasure | None = None

    def finding(
        self, severity: Severity, kind: str, path: object, text: str, value: float = 0.0
    ) -> Finding:
        """A finding about this track."""
        return Finding(severity, kind, self.split, self.found.folder.name, str(path), text, value)


def judge(track: LookedAt, rules: Rules, segment: float | None) -> Iterator[Finding]:
    """Findings about one track.

    Args:
        track: what is known of it.
        rules: what it must be.
        segment: length of the training segments in seconds, if known.
    """
    for fault in track.checked.faults:
        yield track.finding("error", fault.kind, fault.path, fault.text)
    yield from _judge_headers(track, rules, segment)
    if track.measure is None:
        return
    for name, found in track.measure.files.items():
        yield from _judge_file(track, track.headers[name], found)
    if rules.mixture and rules.mixture in track.headers:
        yield from _judge_mixture(track, track.headers[rules.mixture], track.measure)


def judge_levels(tracks: Sequence[LookedAt]) -> Iterator[Finding]:
    """Findings about tracks that are much louder or softer than the others."""
    levels = [
        (track, decibels(track.measure.rms))
        for track in tracks
        if track.measure and track.measure.rms
    ]
    if len(levels) < _ENOUGH_LEVELS:
        return
    usual = statistics.median(level for _, level in levels)
    for track, level in levels:
        if abs(level - usual) > _UNUSUAL_DB:
            text = f"level {level:.1f} dB of full scale (RMS), half of the tracks {usual:.1f} dB"
            distance = abs(level - usual)
            yield track.finding("note", "level", track.found.folder, text, distance)


def _judge_headers(track: LookedAt, rules: Rules, segment: float | None) -> Iterator[Finding]:
    folder = track.found.folder
    mono = [name for name, file in track.headers.items() if file.channels < rules.channels]
    if mono:
        text = f"mono, duplicated to {rules.channels} channels: {', '.join(mono)}"
        yield track.finding("note", "mono", folder, text)
    if _UNEVEN < track.checked.difference <= rules.max_length_difference:
        milliseconds = 1000 * track.checked.difference
        text = f"files differ in length by {milliseconds:.0f} ms; the shortest counts"
        yield track.finding("warning", "length", folder, text, milliseconds)
    seconds = min((file.frames / file.rate for file in track.headers.values()), default=math.inf)
    if segment is not None and seconds < segment:
        text = f"{seconds:.3g} s, shorter than a segment of {segment:g} s: padded with zeros"
        yield track.finding("note", "short", folder, text, -seconds)


def _judge_file(track: LookedAt, file: AudioFile, found: FileMeasure) -> Iterator[Finding]:
    if found.fault:
        yield track.finding("error", "unreadable", file.path, found.fault)
        return
    if found.not_finite:
        yield track.finding("error", "not finite", file.path, found.not_finite)
    if found.peak > 1:
        text = f"float samples up to {decibels(found.peak):+.1f} dB of full scale, read as they are"
        yield track.finding("note", "above full scale", file.path, text, found.peak)
    elif found.full_scale > _CLIPPED:
        text = f"{100 * found.full_scale:.2g} % of the samples at full scale"
        yield track.finding("warning", "clipping", file.path, text, found.full_scale)
    if found.silence == 1:
        text = "all samples are zero" if not found.peak else "never above -60 dB of full scale"
        yield track.finding("warning", "silent", file.path, text)
    elif found.silence > _MOSTLY_SILENT:
        text = f"{100 * found.silence:.0f} % of its time below -60 dB of full scale"
        yield track.finding("note", "mostly silent", file.path, text, found.silence)


def _judge_mixture(track: LookedAt, file: AudioFile, found: TrackMeasure) -> Iterator[Finding]:
    """The recorded mixture must be the sum of the stems, but for their rounding."""
    if found.residual is None or found.residual <= _ROUNDING:
        return
    relative = decibels(found.residual / found.rms) if found.rms else math.inf
    if relative > _MIXTURE_DB:
        text = f"differs from the sum of its stems by {relative:.1f} dB of its own level"
        yield track.finding("warning", "mixture", file.path, text, relative)
