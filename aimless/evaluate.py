"""Score separated stems against references: one song at a time, in as many processes as wanted."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from aimless.errors import ConfigError, DataError
from aimless.evaluation.bss_eval import BSSScores, bss_eval
from aimless.evaluation.estimates import (
    Estimates,
    FolderEstimates,
    IdealMaskEstimates,
    MixtureEstimates,
    NetworkEstimates,
)
from aimless.evaluation.scores import METRICS, SongScores, columns, score_song
from aimless.evaluation.song_bss import require_engine
from aimless.evaluation.songs import SongFiles, find_songs, open_song
from aimless.evaluation.statistics import Difference, Summary, bootstrap_mean, compare, summarise
from aimless.memory import keep_freed_memory

__all__ = [
    "BSSScores",
    "Difference",
    "Estimates",
    "Evaluation",
    "FolderEstimates",
    "IdealMaskEstimates",
    "MixtureEstimates",
    "NetworkEstimates",
    "SongScores",
    "Summary",
    "bootstrap_mean",
    "bss_eval",
    "compare",
    "evaluate",
]

#: (songs done, songs in all, name of the last, why it was not scored or None)
Progress = Callable[[int, int, str, "str | None"], None]


@dataclass
class Evaluation:
    """Scores of a set of songs.

    Attributes:
        label: what was scored: a folder's name, a model's, a baseline's.
        sources: that were scored, in alphabetical order.
        columns: names of the values each song and source has.
        songs: name -> scores, by name.
        failed: name -> why a song was not scored, by name.
        notes: what the reader of the scores should know.
    """

    label: str
    sources: list[str]
    columns: list[str]
    songs: dict[str, SongScores] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, dict[str, Summary]]:
        """source -> column -> mean and median over songs; the row `all` is last."""
        return summarise(self.songs.values(), self.sources, self.columns)


@dataclass(frozen=True)
class _Job:
    """What every song has in common."""

    estimates: Estimates
    sources: list[str]
    metrics: tuple[str, ...]
    engine: str
    excerpts: bool


def evaluate(
    references: str | os.PathLike[str],
    estimates: str | os.PathLike[str] | Estimates,
    *,
    metrics: Sequence[str] = METRICS[:2],
    sources: Sequence[str] | None = None,
    engine: str = "aimless",
    workers: int = 1,
    excerpts: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Score the estimates of every song in a folder of references.

    Args:
        references: folder of folders `<song>/<source>.wav`, or one with such a `test` folder.
        estimates: a folder of the same layout, or another kind of `Estimates`.
        metrics: `sdr`, `si_sdr`, `bss_eval`.
        sources: to score; None: all that have references and estimates.
        engine: of BSSEval: `aimless`, or `museval`, slower, to check.
        workers: processes that score songs.
        excerpts: keep the worst 10 s of every stem, for a report.
        progress: called at the start, and after each song.

    Returns:
        The scores, and which songs could not be scored and why.

    Raises:
        ConfigError: a setting is out of range, or museval cannot be used.
        DataError: a folder has no songs, or not one song could be scored.
    """
    wanted = columns(metrics)
    require_engine(engine)
    songs = find_songs(Path(references))
    if not isinstance(estimates, Estimates):
        estimates = FolderEstimates(Path(estimates))
    _check_workers(workers, estimates)
    chosen = _choose(sources, estimates.sources(songs))
    evaluation = Evaluation(estimates.label, chosen, wanted, notes=_notes(songs, chosen, estimates))
    if progress:
        progress(0, len(songs), "", None)
    job = _Job(estimates, chosen, tuple(metrics), engine, excerpts)
    for done, (name, result) in enumerate(_results(list(songs.values()), job, workers), 1):
        if isinstance(result, SongScores):
            evaluation.songs[name] = result
        else:
            evaluation.failed[name] = result
        if progress:
            progress(done, len(songs), name, evaluation.failed.get(name))
    evaluation.songs = dict(sorted(evaluation.songs.items()))
    evaluation.failed = dict(sorted(evaluation.failed.items()))
    if not evaluation.songs:
        name, reason = next(iter(evaluation.failed.items()))
        raise DataError(f"none of {len(songs)} songs could be scored; {name}: {reason}")
    return evaluation


def _check_workers(workers: int, estimates: Estimates) -> None:
    if workers < 1:
        raise ConfigError(f"workers: {workers}; must be at least 1")
    if workers > 1 and not estimates.portable:
        raise ConfigError(
            f"workers: {workers}; a network runs in one process. Separate first, or set 1"
        )


def _choose(sources: Sequence[str] | None, known: list[str]) -> list[str]:
    unknown = [source for source in sources or [] if source not in known]
    if unknown:
        raise ConfigError(f"sources: '{unknown[0]}'; there are {', '.join(known)}")
    return sorted(set(sources)) if sources else known


def _notes(songs: dict[str, SongFiles], sources: list[str], estimates: Estimates) -> list[str]:
    """What is there, but not scored."""
    notes = []
    left = {source for song in songs.values() for source in song.sources} - set(sources)
    if left:
        notes.append(f"not scored, though there are references: {', '.join(sorted(left))}")
    if isinstance(estimates, FolderEstimates):
        extra = sorted(set(estimates.songs) - set(songs))
        if extra:
            notes.append(f"{estimates.root}: no references of {', '.join(extra)}")
        files = {source for song in estimates.songs.values() for source in song.sources}
        unknown = sorted(files - set(sources) - left)
        if unknown:
            notes.append(f"{estimates.root}: no references of the stems {', '.join(unknown)}")
    return notes


def _results(
    songs: list[SongFiles], job: _Job, workers: int
) -> Iterator[tuple[str, SongScores | str]]:
    """Name and scores of each song as they come, or why there are none."""
    if workers == 1:
        for song in songs:
            yield song.name, _score(song, job)
        return
    with _pool(min(workers, len(songs))) as pool:
        pending = {pool.submit(_score, song, job): song.name for song in songs}
        for future in as_completed(pending):
            try:
                yield pending[future], future.result()
            except BrokenProcessPool:
                yield pending[future], "a worker process ended; out of memory? Use fewer workers"


def _score(song: SongFiles, job: _Job) -> SongScores | str:
    """Scores of one song, or why there are none."""
    try:
        opened = open_song(song)
        scored = [source for source in job.sources if source in opened.references]
        missing = sorted(set(job.sources) - set(scored))
        if missing:
            return f"no reference of {', '.join(missing)}"
        stems = job.estimates.stems(opened, scored)
        return score_song(opened, stems, job.metrics, job.engine, job.excerpts)
    except DataError as error:
        return str(error)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes that share the cores, and end at once if this one is interrupted."""
    threads = max(1, math.floor(torch.get_num_threads() / workers))
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _begin_worker, (threads,)
    )
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        # the songs in work would take minutes; they write nothing
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)
        raise


def _begin_worker(threads: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends its workers
    torch.set_num_threads(threads)
    keep_freed_memory()
