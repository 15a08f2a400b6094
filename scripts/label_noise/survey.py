"""Measure all songs of a data set with one separator; what is measured once is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from prepare.output import write_file
from prepare.work import do_all

from aimless.checkpoint import load
from aimless.errors import DataError
from aimless.evaluation.songs import SongFiles, find_songs, open_song
from aimless.separator import Separator
from aimless.songs.audio_paths import printable
from label_noise.measure import HEARD, WINDOW, Measurement, measure

__all__ = ["Separation", "Survey", "find_labelled", "survey"]

_VERSION = 1  # of what is measured


@dataclass(frozen=True)
class Separation:
    """A separator by its checkpoint and settings, so that every process can load its own.

    Args:
        source: see `aimless.checkpoint.load`, also for the next three.
        sha256: what a downloaded file must hash to.
        trusted: packages besides aimless whose classes the checkpoint may name.
        checkpoints: (name, file) pairs of a recipe.
        settings: (name, value) pairs of `aimless.Separator`.
        threads: of each process; 0: as many as torch takes.
    """

    source: str
    sha256: str | None = None
    trusted: tuple[str, ...] = ()
    checkpoints: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    threads: int = 0

    def load(self) -> Separator:
        """The separator, with a residual; loaded once in each process.

        Raises:
            DataError: the checkpoint is missing or damaged.
            ConfigError: a setting out of range, or a network that cannot be built.
        """
        return _loaded(self)[0]

    def fingerprint(self) -> str:
        """A hash of the network's weights and structure and of all settings."""
        return _loaded(self)[1]


@cache
def _loaded(separation: Separation) -> tuple[Separator, str]:
    if separation.threads:
        torch.set_num_threads(separation.threads)
    network = load(
        separation.source,
        sha256=separation.sha256,
        trusted=separation.trusted,
        checkpoints=dict(separation.checkpoints),
    )
    digest = hashlib.sha256(f"{_VERSION} {WINDOW} {separation.settings} {network}".encode())
    if separation.source.endswith((".yaml", ".yml")) and Path(separation.source).is_file():
        digest.update(Path(separation.source).read_bytes())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    for name in ("sources", "sample_rate", "channels", "engine", "init_args"):
        digest.update(repr(getattr(network, name)).encode())
    return Separator(network, residual=True, **dict(separation.settings)), digest.hexdigest()


@dataclass
class Survey:
    """What is known of a set.

    Attributes:
        songs: name -> measurement.
        files: name -> the song's files.
        failed: name -> why a song was not measured.
        kept: songs that an earlier run had measured.
    """

    songs: dict[str, Measurement] = field(default_factory=dict)
    files: dict[str, SongFiles] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kept: int = 0


@dataclass(frozen=True)
class _Job:
    song: SongFiles
    path: Path
    key: str
    separation: Separation
    heard: tuple[str, ...]


def find_labelled(root: Path) -> dict[str, SongFiles]:
    """The song folders in a folder, or in its `train` folder if it has one.

    Raises:
        DataError: there is no folder, or no song in it.
    """
    return find_songs(root / "train" if (root / "train").is_dir() else root)


def survey(
    songs: Mapping[str, SongFiles],
    separation: Separation,
    folder: Path,
    heard: Sequence[str] = HEARD,
    workers: int = 1,
) -> Survey:
    """Measure the songs that are not yet measured, with a progress bar.

    Args:
        songs: by name.
        separation: the separator.
        folder: keeps a file per song, made again if the song or the separator changed; is there.
        heard: see `label_noise.measure.measure`.
        workers: processes.

    Raises:
        DataError: a file cannot be written, or no song could be measured.
    """
    fingerprint = separation.fingerprint()
    jobs = [
        _Job(song, folder / f"{name}.npz", key, separation, tuple(heard))
        for name, song in songs.items()
        for key in [_key(song, fingerprint, heard)]
    ]
    result = Survey(files=dict(songs))
    result.songs = _read(jobs)
    result.kept = len(result.songs)
    left = [job for job in jobs if job.song.name not in result.songs]
    outcomes, _ = do_all(left, _measure, workers, "songs")
    result.failed = {job.song.name: reason for job, reason in zip(left, outcomes) if reason}
    result.songs |= _read(job for job in left if job.song.name not in result.failed)
    result.songs = dict(sorted(result.songs.items()))
    if not result.songs:
        name, reason = next(iter(result.failed.items()))
        raise DataError(
            f"none of {len(songs)} songs could be measured; {printable(name)}: {reason}"
        )
    return result


def _key(song: SongFiles, fingerprint: str, heard: Sequence[str]) -> str:
    """What a measurement depends on: files by size and time, the separator by its content."""
    files = [
        (name, path.name, status.st_size, status.st_mtime_ns)
        for name, path in sorted(song.stems.items())
        for status in [path.stat() if path.exists() else path.lstat()]
    ]
    return hashlib.sha256(json.dumps([fingerprint, sorted(heard), files]).encode()).hexdigest()


def _read(jobs: Iterable[_Job]) -> dict[str, Measurement]:
    found = {}
    for job in jobs:
        if job.path.is_file():
            measured = Measurement.from_bytes(job.path.read_bytes(), job.key)
            if measured is not None:
                found[job.song.name] = measured
    return found


def _measure(job: _Job) -> str | None:
    """Measure a song and keep it; says why it could not be."""
    try:
        measured = measure(open_song(job.song), job.separation.load(), job.heard)
    except DataError as error:
        return str(error)
    write_file(job.path, measured.to_bytes(job.key))
    return None
