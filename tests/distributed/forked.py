"""Runs of several processes, forked from the tests' own: each knows what a launcher would tell it.

A fork has imported everything, so that a run takes seconds.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only

from aimless.errors import DataError
from tests.helpers import experiment, main

AVERAGING = {
    "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
    "init_args": {"decay": 0.5},
}


class Ended(NamedTuple):
    """Of each rank: exit status, or minus the signal that killed it, and what it said."""

    statuses: list[int | None]
    said: list[str]


def torchrun(rank: int, world: int, port: int) -> dict[str, Any]:
    """The variables that torchrun sets."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": 0}
    return {**numbers, **place, "TORCHELASTIC_RUN_ID": "test"}


def run_ranks(
    folder: Path,
    *words: Any,
    world: int = 2,
    seconds: float = 60,
    launcher: Callable[[int, int, int], dict[str, Any]] = torchrun,
) -> Ended:
    """Run `main.py` in several processes; the status of one that did not end is None."""
    port = _free_port()
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=_be_rank, args=(launcher(rank, world, port), rank, folder, words))
        for rank in range(world)
    ]
    try:
        for process in ranks:
            process.start()
        deadline = time.monotonic() + seconds
        for process in ranks:
            process.join(max(deadline - time.monotonic(), 0))
        statuses = [process.exitcode for process in ranks]
    finally:
        _kill(ranks)
    return Ended(statuses, [(folder / f"{rank}.txt").read_text() for rank in range(world)])


def _be_rank(told: dict[str, Any], rank: int, folder: Path, words: tuple[Any, ...]) -> None:
    os.environ.update({name: str(value) for name, value in told.items()})
    rank_zero_only.rank = rank  # which Lightning has read at its import
    sys.stdout = sys.stderr = open(folder / f"{rank}.txt", "w", buffering=1)  # noqa: SIM115
    os.dup2(sys.stderr.fileno(), 2)
    logging.getLogger("lightning").addHandler(logging.StreamHandler(sys.stderr))
    logging.getLogger("aimless").addHandler(logging.StreamHandler(sys.stderr))
    os._exit(main(*words))


def _kill(ranks: list[ForkProcess]) -> None:
    for process in ranks:
        if process.is_alive():
            process.kill()
        process.join()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def configure(root: Path, folder: Path, *callbacks: Any, **overrides: Any) -> str:
    """2 processes: 4 steps of 2 items each per epoch, and 3 validation segments in two batches."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "data__init_args__samples_per_track": 8,
        "data__init_args__val_seq_duration": 1.0,
        "data__init_args__batch_size": 2,
        "trainer__strategy": "ddp",
        "trainer__max_epochs": 2,
        "excerpts__count": 0,
        "trainer__callbacks": list(callbacks),
    }
    return experiment(root, folder, **{**settings, **overrides})


def fault(how: str, where: str = "train", step: int = 3, rank: int = 1) -> dict[str, Any]:
    """The config of a `FaultAt`."""
    settings = {"how": how, "where": where, "step": step, "rank": rank}
    return {"class_path": "tests.distributed.forked.FaultAt", "init_args": settings}


class FaultAt(pl.Callback):
    """Ends a process, or a loader process of it, in the middle of a run.

    Args:
        how: `raise` an error, `data` for one of a file, `kill`, `terminate`, `exit`, `sleep`, or
            `loader` to kill a loader process.
        where: in `setup`, the check before training, the next batch (train) or the validation.
        step: after so many optimizer steps.
        rank: of the process.
    """

    def __init__(self, how: str, where: str, step: int, rank: int) -> None:
        self.how = how
        self.where = where
        self.step = step
        self.rank = rank

    def _fail(self, trainer: pl.Trainer, where: str) -> None:
        if (where, trainer.global_rank) != (self.where, self.rank):
            return
        if where in ("train", "validation") and trainer.global_step != self.step:
            return
        if self.how == "raise":
            raise RuntimeError("a fault")
        if self.how == "data":
            raise DataError("/somewhere/vocals.wav: cannot be read")
        if self.how in ("kill", "terminate"):
            os.kill(os.getpid(), signal.SIGKILL if self.how == "kill" else signal.SIGTERM)
        elif self.how == "exit":
            os._exit(7)
        elif self.how == "sleep":
            time.sleep(300)
        elif self.how == "loader":
            children = sorted(child.pid or 0 for child in multiprocessing.active_children())
            # those of the validation began before those of the training
            os.kill(children[-1 if where == "train" else 0], signal.SIGKILL)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._fail(trainer, "setup")

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self._fail(trainer, "train")

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._fail(trainer, "check" if trainer.sanity_checking else "validation")


class RemoveFile(pl.Callback):
    """Removes a file in the middle of a run.

    Args:
        path: of the file.
        step: after so many optimizer steps.
    """

    def __init__(self, path: str, step: int) -> None:
        self.path = Path(path)
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            self.path.unlink(missing_ok=True)
