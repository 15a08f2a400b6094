"""Which data set it is: its splits, and what their tracks are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aimless.errors import DataError
from aimless.sources import MDX_SOURCES, SDX_SOURCES
from data.audio import printable
from data.listing.folders import SUFFIXES

__all__ = ["Layout", "detect"]


class Layout(NamedTuple):
    """How a data set is laid out.

    Attributes:
        splits: folders by the name of the split; `.` if the root itself holds the tracks.
        sources: names of the stems.
        mixture: name of the recorded mixture.
        channels: of the files.
    """

    splits: Mapping[str, Path]
    sources: Sequence[str]
    mixture: str
    channels: int


# Divide and Remaster; then MUSDB18-HQ (train, test) and SDX23 (train, valid).
_KNOWN = (
    (("tr", "cv", "tt"), SDX_SOURCES, "mix", 1),
    (("train", "valid", "test"), MDX_SOURCES, "mixture", 2),
)


def detect(root: Path) -> Layout:
    """Find the splits of a data set by the names of the folders in it.

    Args:
        root: folder of `train`, `valid` and `test`, or of `tr`, `cv` and `tt`, as far as they
            are there; or else of the tracks themselves.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    try:
        present = {entry.name for entry in os.scandir(root) if entry.is_dir()}
    except OSError as error:
        raise DataError(f"{printable(root)}: {error.strerror}; wanted a data set") from None
    for names, sources, mixture, channels in _KNOWN:
        splits = {
            name: root / name
            for name in names
            if name in present and not _is_track(root / name, (*sources, mixture))
        }
        if splits:
            return Layout(splits, sources, mixture, channels)
    return Layout({".": root}, MDX_SOURCES, "mixture", 2)


def _is_track(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / (name + suffix)).is_file() for name in names for suffix in SUFFIXES)
