"""Jobs side by side, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from aimless import stopping
from aimless.errors import DataError
from data.audio import AudioReadError

__all__ = ["do_all"]

Job = TypeVar("Job")
Result = TypeVar("Result")


def do_all(
    jobs: Sequence[Job],
    do: Callable[[Job], Result],
    workers: int = 1,
    title: str = "",
    on_bad: str = "stop",
) -> tuple[list[Result], list[str]]:
    """Do jobs, in any order and any number of processes.

    Args:
        jobs: that can be pickled; the result must not depend on their order.
        do: a function at the top of a module, or a `functools.partial` of one.
        workers: processes; 1 does all in this one.
        title: of the progress bar, which is shown on a terminal.
        on_bad: `stop` ends at the first source file that cannot be read, `skip` goes on.

    Returns:
        The results in the order of the jobs, without those that failed; and why these did.

    Raises:
        AudioReadError: a source file cannot be read, and `on_bad` is `stop`.
        DataError: a worker was killed, or what `do` raises.
    """
    results: dict[int, Result] = {}
    failures: dict[int, str] = {}
    bar = tqdm(total=len(jobs), desc=title, disable=None, file=sys.stderr)
    with bar:
        for index, outcome in _outcomes(jobs, do, workers):
            stopping.check()
            if not isinstance(outcome, AudioReadError):
                results[index] = outcome
            elif on_bad == "stop":
                raise outcome
            else:
                failures[index] = str(outcome)
            bar.update()
    return [results[index] for index in sorted(results)], [failures[i] for i in sorted(failures)]


def _outcomes(
    jobs: Sequence[Job], do: Callable[[Job], Result], workers: int
) -> Iterator[tuple[int, Result | AudioReadError]]:
    """Number of a job, and its result or what is wrong with its source, as they are done."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        for index, job in enumerate(jobs):
            yield index, _attempt(do, job)
        return
    # Spawned, not forked: what libraries did with threads and locks so far is no concern.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin_worker)
    try:
        numbers = {pool.submit(_attempt, do, job): index for index, job in enumerate(jobs)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    except BrokenProcessPool:
        stopping.check()
        reason = "a worker process was killed, perhaps for lack of memory"
        raise DataError(f"{reason}; the same command goes on, with fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(do: Callable[[Job], Result], job: Job) -> Result | AudioReadError:
    try:
        return do(job)
    except AudioReadError as error:
        return error


def _begin_worker() -> None:
    """Leave signals of the terminal and the scheduler to the main process, and end with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
