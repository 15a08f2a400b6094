"""What a training process does and when, in a file that outlives it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl

__all__ = ["FOLDER", "Entry", "Journal", "read_journal"]

#: Environment variable with the folder of the journals.
FOLDER = "SOAK_JOURNAL"


class Entry(NamedTuple):
    """A line of a journal.

    Attributes:
        seconds: `time.monotonic`, which is the same clock for all processes of a machine.
        rank: of the process.
        pid: of the process.
        event: `resumed`: training is about to begin or to go on; `begins`: a batch, and all that
            belongs to the last step, saving too, is over; `done`: a batch; `validates`.
        step: optimizer steps so far.
    """

    seconds: float
    rank: int
    pid: int
    event: str
    step: int


class Journal(pl.Callback):
    """Writes a line per event to `<rank>-<pid>.journal` in the folder that `SOAK_JOURNAL` names.

    Each line is one write, so that it is whole however the process ends.
    """

    def __init__(self) -> None:
        self._file = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the file."""
        path = Path(os.environ[FOLDER]) / f"{trainer.global_rank}-{os.getpid()}.journal"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._note("resumed", trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """All that came before is over."""
        self._note("begins", trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """The weights are those of `trainer.global_step`."""
        self._note("done", trainer)

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """A validation is under way; not the check before training."""
        if not trainer.sanity_checking:
            self._note("validates", trainer)

    def _note(self, event: str, trainer: pl.Trainer) -> None:
        os.write(self._file, f"{time.monotonic():.3f} {event} {trainer.global_step}\n".encode())


def read_journal(folder: Path) -> list[Entry]:
    """The entries of all processes so far, in the order of time."""
    entries = []
    for path in folder.glob("*.journal"):
        rank, _, pid = path.stem.partition("-")
        for line in path.read_text().splitlines():
            seconds, event, step = line.split()
            entries.append(Entry(float(seconds), int(rank), int(pid), event, int(step)))
    return sorted(entries)
