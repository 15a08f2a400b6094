"""Checkpoints as this test sees them, by other means than the run's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

__all__ = ["Checkpoint", "damage", "differences", "find_checkpoints", "load"]

#: The run's own: weights and average, optimizer, schedules, counters, data position, random states.
_PARTS = (
    "state_dict",
    "current_model_state",
    "optimizer_states",
    "lr_schedulers",
    "resume",
    "global_step",
    "epoch",
)
#: No part of the state: where in its step the run was when it was saved, and what a run measures
#: of its own speed.
_SPEEDS = ("wait", "step_s", "peak_gb", "audio_s_per_s", "read_retries")
_LEFT_OUT = {"/resume/place", *(f"/resume/metrics/train/{name}" for name in _SPEEDS)}
_DIGITS = 64


class Checkpoint(NamedTuple):
    """A whole checkpoint.

    Attributes:
        modified: time of its last change in nanoseconds.
        step: optimizer steps that it holds.
        path: of the file.
    """

    modified: int
    step: int
    path: Path


def find_checkpoints(folder: Path) -> list[Checkpoint]:
    """Those below a folder that are whole, the newest last."""
    found = []
    for path in folder.rglob("*.ckpt"):
        if _is_whole(path):
            found.append(Checkpoint(path.stat().st_mtime_ns, load(path)["global_step"], path))
    return sorted(found)


def _is_whole(path: Path) -> bool:
    """A checkpoint ends in the digits of the SHA-256 of all that is before them."""
    content = path.read_bytes()
    digest = hashlib.sha256(content[:-_DIGITS]).hexdigest()
    return content[-_DIGITS:] == digest.encode()


def load(path: Path) -> dict[str, Any]:
    """What is in a checkpoint."""
    return torch.load(path, weights_only=True, mmap=False)


def damage(path: Path, where: float, truncated: bool) -> None:
    """Cut a file off, or flip a bit of it; its time stays.

    Args:
        path: of the file.
        where: from 0 to 1: place in the file.
        truncated: cut, or else flip.
    """
    before, size = path.stat(), path.stat().st_size
    place = min(int(where * size), size - 1)
    with open(path, "r+b") as file:
        if truncated:
            file.truncate(place)
        else:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << place % 8]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of all values that are not the same, bit for bit, in two checkpoints."""
    ours, theirs = ({key: c.get(key) for key in _PARTS} for c in (one, other))
    first, second = dict(_leaves(ours)), dict(_leaves(theirs))
    names = sorted((first.keys() | second.keys()).difference(_LEFT_OUT))
    return [
        name
        for name in names
        if name not in first or name not in second or not _equal(first[name], second[name])
    ]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        inner = [(str(key), one) for key, one in value.items()]
    elif isinstance(value, (list, tuple)):
        inner = [(str(index), one) for index, one in enumerate(value)]
    else:
        yield name, value
        return
    for key, one in inner:
        yield from _leaves(one, f"{name}/{key}")


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other
