"""A survey as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from data.audio import printable
from data.check.findings import SEVERITIES, Finding, LookedAt, Severity
from data.check.measure import decibels
from data.check.survey import Survey

__all__ = ["exit_status", "to_json", "to_text"]

Row = tuple[str, str, str, str]

_STATUS: dict[Severity, int] = {"error": 3, "warning": 1, "note": 0}
_LEAST_WIDTH = 30  # of the last two columns of the table, in characters


def exit_status(survey: Survey) -> int:
    """0 if nothing or only notes were found, 1 for warnings, 3 for errors."""
    return max((_STATUS[finding.severity] for finding in survey.findings), default=0)


def to_text(survey: Survey, width: int = 100) -> str:
    """A table of the findings, worst first, and their counts.

    Args:
        survey: what was found.
        width: no line of the table is longer, in characters; paths are shortened in the middle.
    """
    rows = [
        (finding.severity, finding.kind, _relative(finding.path, survey), _plain(finding.text))
        for finding in survey.findings
    ]
    return "\n".join([_headline(survey), *_table(rows, width), *_counts(survey.findings)])


def to_json(survey: Survey) -> str:
    """The findings, and the figures of every track, as one JSON object.

    Paths and names are printable text; levels are in dB of full scale, null for silence; shares
    are between 0 and 1.
    """
    document = {
        "version": 1,
        "root": printable(survey.root),
        "exit_status": exit_status(survey),
        "counts": _count(survey.findings),
        "findings": [_describe_finding(finding) for finding in survey.findings],
        "tracks": [_describe_track(track) for track in survey.tracks],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _headline(survey: Survey) -> str:
    splits = Counter(track.split for track in survey.tracks)
    named = (
        ""
        if list(splits) == ["."]
        else " (" + ", ".join(f"{k} {n}" for k, n in splits.items()) + ")"
    )
    longest = [
        max((file.frames / file.rate for file in track.headers.values()), default=0.0)
        for track in survey.tracks
    ]
    minutes = sum(longest) / 60
    return f"{_plain(survey.root)}: {len(survey.tracks)} tracks{named}, {minutes:.1f} minutes"


def _table(rows: Sequence[Row], width: int) -> list[str]:
    """Rows in columns; what does not fit into the last one goes on in the next line."""
    if not rows:
        return []
    heads = ("SEVERITY", "KIND", "WHERE", "WHAT")
    first, second, third, _ = (
        max(map(len, (head, *column))) for head, column in zip(heads, zip(*rows))
    )
    free = max(width - first - second - 6, _LEAST_WIDTH)
    third = min(third, free // 2)
    lines = []
    for severity, kind, where, what in (heads, *rows):
        parts = textwrap.wrap(what, free - third)
        left = f"{severity:{first}}  {kind:{second}}  {_shorten(where, third):{third}}  "
        lines += [f"{left}{parts[0]}", *(" " * len(left) + part for part in parts[1:])]
    return lines


def _counts(findings: Sequence[Finding]) -> list[str]:
    counts = _count(findings)
    if not counts:
        return ["nothing found"]
    return [
        f"{sum(kinds.values())} {severity}{'s'[: sum(kinds.values()) > 1]}: "
        + ", ".join(f"{kind} {number}" for kind, number in kinds.items())
        for severity, kinds in counts.items()
    ]


def _count(findings: Sequence[Finding]) -> dict[str, dict[str, int]]:
    """How many of each kind, by severity."""
    counts = {
        severity: Counter(finding.kind for finding in findings if finding.severity == severity)
        for severity in SEVERITIES
    }
    return {severity: dict(kinds) for severity, kinds in counts.items() if kinds}


def _describe_finding(finding: Finding) -> dict[str, Any]:
    fields = {**finding._asdict(), "path": printable(finding.path)}
    del fields["value"]
    return {name: _plain(value) for name, value in fields.items()}


def _describe_track(track: LookedAt) -> dict[str, Any]:
    found = track.measure
    relative = None
    if found is not None and found.residual is not None and found.rms:
        relative = _rounded(found.residual / found.rms)
    return {
        "split": track.split,
        "name": _plain(track.found.folder.name),
        "level_db": _rounded(found.rms) if found else None,
        "mixture_error_db": relative,
        "files": {name: _describe_file(track, name) for name in track.headers},
    }


def _describe_file(track: LookedAt, name: str) -> dict[str, Any]:
    header = track.headers[name]
    described: dict[str, Any] = {
        "frames": header.frames,
        "sample_rate": header.rate,
        "channels": header.channels,
        "format": header.format,
        "subtype": header.subtype,
    }
    if track.measure is not None:
        found = track.measure.files[name]
        described |= {
            "peak_db": _rounded(found.peak),
            "level_db": _rounded(found.rms),
            "full_scale": found.full_scale,
            "silence": found.silence,
        }
    return described


def _rounded(ratio: float) -> float | None:
    """A ratio in dB; None, which JSON has, for the -inf of silence."""
    return round(decibels(ratio), 2) if ratio else None


def _relative(path: str, survey: Survey) -> str:
    return _plain(os.path.relpath(path, survey.root))


def _plain(text: str | os.PathLike[str]) -> str:
    """Text without characters that would move the cursor or cannot be written."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in printable(text)
    )


def _shorten(text: str, width: int) -> str:
    """Text with its middle left out if it is too long: the ends of a path tell most."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]
