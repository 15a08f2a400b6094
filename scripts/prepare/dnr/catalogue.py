"""The files of a collection: found, checked, and divided so that no two splits share one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aimless.errors import DataError
from aimless.songs.audio_paths import find_songs
from data.audio import AudioReadError, printable
from data.files.resampling import read_at
from data.listing import index, recordings
from data.listing.folders import SUFFIXES
from data.listing.holdout import held_out
from prepare.dnr.settings import SPLITS
from prepare.stems import describe, reopen
from prepare.work import do_all

__all__ = ["divide", "frames_of", "list_collection", "read_part"]

Planned = dict[str, Any]

_FILES_PER_WORKER = 50  # starting a process takes as long as decoding some songs


def list_collection(
    root: Path, workers: int, on_bad: str
) -> tuple[list[Planned], list[str], list[str]]:
    """All audio files below a folder, checked; of copies only the first by name.

    WAV and FLAC are checked by their headers, and float samples for numbers that are not finite;
    files of other formats are decoded to their end, which also tells how long they are.

    Args:
        root: of the collection.
        workers: processes that decode.
        on_bad: `stop` or `skip`.

    Returns:
        What a plan says of the files, by name; a line for each bad file; a line for each copy.

    Raises:
        DataError: no file, or bad ones, one line for each, if `on_bad` is `stop` or none is good.
    """
    paths = sorted(find_songs([root]), key=lambda path: path.relative_to(root).as_posix())
    plain = [path for path in paths if path.suffix.lower() in SUFFIXES]
    others = [path for path in paths if path.suffix.lower() not in SUFFIXES]
    listed = recordings.look_up(map(str, plain))
    headers = index.headers(root, listed, cache=False, check_samples=True)
    workers = min(workers, 1 + len(others) // _FILES_PER_WORKER)
    files, faults = do_all([(root, path) for path in others], _measure, workers, root.name, "skip")
    for header in headers.values():
        if isinstance(header, AudioReadError):
            faults.append(str(header))
        else:
            files.append({**describe(root, header), "rate": header.rate})
    if faults and (on_bad == "stop" or not files):
        head = f"{len(faults)} of {len(paths)} files under {printable(root)} cannot be used"
        raise DataError("\n  ".join([f"{head}; --on-bad skip leaves them out:", *faults]))
    unique, copies = _without_copies(root, sorted(files, key=lambda file: file["file"]))
    return unique, sorted(faults), copies


def divide(
    files: Sequence[Planned], shares: Sequence[float], group: str, seed: int
) -> dict[str, list[Planned]]:
    """Divide files into splits: by their names and the seed alone.

    Args:
        files: of a collection.
        shares: of the splits; one with 0 gets no files.
        group: `file`, or `folder` to keep together what is below one folder of the collection.
        seed: another one divides differently.

    Raises:
        DataError: fewer files or folders than splits.
    """
    part_of = {
        f["file"]: f["file"].split("/")[0] if group == "folder" else f["file"] for f in files
    }
    left = set(part_of.values())
    chosen: dict[str, frozenset[str]] = {}
    wanted = [(split, share) for split, share in zip(SPLITS, shares) if share > 0]
    if len(left) < len(wanted):
        raise DataError(f"{len(left)} {group}s cannot be divided into {len(wanted)} splits")
    total = sum(shares)
    for split, share in reversed(wanted[1:]):
        chosen[split] = held_out(left, share / total, seed)
        left -= chosen[split]
        total -= share
    chosen[wanted[0][0]] = frozenset(left)
    return {
        split: [file for file in files if part_of[file["file"]] in chosen[split]]
        for split, _ in wanted
    }


def frames_of(planned: Planned, rate: int) -> int:
    """Samples per channel that a file has at a rate in Hz."""
    return (2 * planned["frames"] * rate + planned["rate"]) // (2 * planned["rate"])


def read_part(
    root: Path, planned: Planned, start: int, frames: int, rate: int, channels: int
) -> NDArray[np.float32]:
    """Read a part of a file of any format at a rate.

    Args:
        root: of the collection.
        planned: what the plan says of the file.
        start: first sample, at the new rate.
        frames: how many, at the new rate.
        rate: in Hz.
        channels: wanted; mono fills all, and any other number is averaged.

    Returns:
        (channels, frames)

    Raises:
        AudioReadError: missing, damaged, or changed since the plan was made.
    """
    if Path(planned["file"]).suffix.lower() in SUFFIXES:
        block = read_at(reopen(root, planned), start, frames, rate)
    else:
        block = _decode_part(root / planned["file"], planned, start, frames, rate)
    if len(block) != channels:
        block = np.repeat(block.mean(0, keepdims=True), channels, 0)
    return block


def _measure(job: tuple[Path, Path]) -> Planned:
    """What a plan says of a file that has to be decoded."""
    from aimless.songs.song import Song  # imports torch, which WAV and FLAC do not need

    root, path = job
    try:
        song = Song.open(path)
        frames = sum(block.shape[-1] for block in song.blocks())
        size = path.stat().st_size
    except (DataError, OSError) as error:
        raise AudioReadError(str(error)) from error
    return {
        "file": path.relative_to(root).as_posix(),
        "size": size,
        "frames": frames,
        "rate": song.rate,
    }


def _decode_part(
    path: Path, planned: Planned, start: int, frames: int, rate: int
) -> NDArray[np.float32]:
    from aimless.songs.resampling import resampled
    from aimless.songs.song import Song

    try:
        if path.stat().st_size != planned["size"]:
            raise AudioReadError(f"{printable(path)}: changed since the plan was made")
        song = Song.open(path)
        part = np.zeros((song.channels, frames), np.float32)
        done = 0
        for block in resampled(song.blocks(), song.rate, rate):
            first, last = max(start - done, 0), min(start + frames - done, block.shape[-1])
            if first < last:
                at = done + first - start
                part[:, at : at + last - first] = block[:, first:last].numpy()
            done += block.shape[-1]
            if done >= start + frames:
                break
    except (DataError, OSError) as error:
        raise AudioReadError(str(error)) from error
    return part


def _without_copies(root: Path, files: Sequence[Planned]) -> tuple[list[Planned], list[str]]:
    """Files of different content, and a line for each that has that of an earlier one."""
    from aimless.download import sha256_of  # imports torch

    by_size = defaultdict(list)
    for file in files:
        by_size[file["size"]].append(file)
    first: dict[tuple[int, str], Planned] = {}
    unique, copies = [], []
    for file in files:
        content = ""
        if len(by_size[file["size"]]) > 1:
            content = sha256_of(root / file["file"])
        twin = first.setdefault((file["size"], content), file)
        if twin is file:
            unique.append(file)
        else:
            same = printable(twin["file"])
            copies.append(f"{printable(root / file['file'])}: a copy of {same}, left out")
    return unique, copies
