"""What was seen of each fault, as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Record", "as_json", "table"]


@dataclass
class Record:
    """One fault and what came of it.

    Attributes:
        kind: of the fault.
        phase: of the run in which it came.
        lap: number of the training run, from 0.
        attempt: number of its start, from 0; its prints lie in a folder of this name.
        status: of the command; None: it went on.
        seconds_to_leave: from the fault until the last process was gone.
        reached: optimizer steps that were made when it left.
        saved: steps that a checkpoint had to hold by then.
        lost: steps that were made again, once that is known.
        seconds_to_resume: from the next start of the command to its first step.
        problems: what must not be.
    """

    kind: str
    phase: str
    lap: int
    attempt: int
    status: int | None = None
    seconds_to_leave: float | None = None
    reached: int = 0
    saved: int = 0
    lost: int | None = None
    seconds_to_resume: float | None = None
    problems: list[str] = field(default_factory=list)


def as_json(records: Sequence[Record], **more: Any) -> dict[str, Any]:
    """Everything, as plain data."""
    return {**more, "faults": [asdict(record) for record in records]}


def table(records: Sequence[Record]) -> str:
    """A line for each kind of fault."""
    heads = ("fault", "times", "status", "steps lost", "unsaved", "s to leave", "s to resume")
    rows = [heads]
    for kind in dict.fromkeys(record.kind for record in records):
        some = [record for record in records if record.kind == kind]
        lost = [record.lost for record in some if record.lost is not None]
        unsaved = [record.reached - record.saved for record in some if record.lost is not None]
        statuses = {"-" if record.status is None else str(record.status) for record in some}
        rows.append(
            (
                kind,
                str(len(some)),
                " ".join(sorted(statuses)),
                str(sum(lost)),
                str(sum(unsaved)),
                _middle_and_most([record.seconds_to_leave for record in some]),
                _middle_and_most([record.seconds_to_resume for record in some]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _middle_and_most(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.1f}, at most {max(known):.1f}" if known else "-"
