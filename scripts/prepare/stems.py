"""Folders of stems as sources: what is in them, checked, and what a plan says of them."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aimless.errors import DataError
from data import audio
from data.audio import AudioFile, AudioReadError, printable
from data.listing import folders, index
from data.listing.rules import Checked, Rules, Track, check_track
from prepare.command import positive
from prepare.mixing import AUTO_BITS

__all__ = ["add_stem_options", "describe", "find_tracks", "reopen"]

logger = logging.getLogger(__name__)


def add_stem_options(parser: argparse.ArgumentParser) -> None:
    """`--sample-rate` and `--bits`."""
    parser.add_argument(
        "--sample-rate", type=positive, default=44100, metavar="HZ", help="of all stems (44100)"
    )
    parser.add_argument(
        "--bits",
        choices=AUTO_BITS,
        default="auto",
        help="of the samples written: those of the stems (auto), 16, 24 or float; a sum beyond "
        "full scale is written as 32-bit float in any case, and never clipped",
    )


def find_tracks(
    folder: Path, sources: Sequence[str], rate: int, on_bad: str
) -> tuple[list[Track], list[str]]:
    """Check the stems of all tracks under a folder.

    Args:
        folder: of the tracks' folders; hidden ones and `__MACOSX` are not looked at.
        sources: names of the stems that a track must have.
        rate: that they must have, in Hz.
        on_bad: `stop` or `skip`.

    Returns:
        The good tracks by name, and a line for each bad file.

    Raises:
        DataError: no track; or bad files, one line for each, if `on_bad` is `stop` or no track
            is good.
    """
    rules = Rules(sources, None, rate)
    found = folders.find(folder, rules.files)
    files = [file for track in found for formats in track.files.values() for file in formats]
    headers = index.headers(folder, files, cache=False, check_samples=True)
    checked: list[Checked] = [check_track(track, rules, headers) for track in found]
    faults = [str(fault) for result in checked for fault in result.faults]
    tracks = [result.track for result in checked if result.track is not None]
    if faults and (on_bad == "stop" or not tracks):
        bad = sum(bool(result.faults) for result in checked)
        head = f"bad files in {bad} of {len(found)} tracks under {printable(folder)}"
        raise DataError("\n  ".join([f"{head}; --on-bad skip leaves them out:", *faults]))
    return tracks, faults


def describe(root: Path, file: AudioFile) -> dict[str, Any]:
    """What a plan says of a file: where it is below the root, and what tells that it is the same.

    Nothing of this changes when the source is copied to another place.
    """
    return {
        "file": Path(os.path.relpath(file.location, root)).as_posix(),
        "size": file.size,
        "frames": file.frames,
    }


def reopen(root: Path, planned: Mapping[str, Any]) -> AudioFile:
    """The file that a plan means.

    Raises:
        AudioReadError: it is missing, damaged, or not what it was when the plan was made.
    """
    path = root / planned["file"]
    header = audio.info(path)
    if (header.size, header.frames) != (planned["size"], planned["frames"]):
        raise AudioReadError(f"{printable(path)}: changed since the plan was made")
    return header
