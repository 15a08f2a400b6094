"""Logs on a disk that is full for a while: a line says so, and the training goes on."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from aimless.errors import DataError
from aimless.lightning.failures import is_disk_full

__all__ = ["SteadyLogs", "steady"]

logger = logging.getLogger(__name__)

_failing: set[str] = set()  # logs that have been warned of


class SteadyLogs(pl.Callback):
    """Has every logger of a run outlast a full disk.

    The rows of `CSVLogger` are kept in memory until there is room, and no row is written twice or
    in part. Other loggers lose what they were given meanwhile.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Wrap what writes, once and in the process that writes."""
        for log in trainer.loggers if trainer.is_global_zero else []:
            table = isinstance(log, CSVLogger)  # which writes in `save` alone
            for name in ("save",) if table else ("log_metrics", "finalize"):
                if name not in vars(log):
                    setattr(log, name, _steadily(log, getattr(log, name)))


def _steadily(log: Logger, write: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(write)
    def write_steadily(*args: Any, **kwargs: Any) -> None:
        with steady(log):
            write(*args, **kwargs)

    return write_steadily


@contextlib.contextmanager
def steady(log: Logger) -> Iterator[None]:
    """A context in which a logger, or what it logs, may find the disk full.

    Warned of once while it lasts.

    Args:
        log: that writes.

    Raises:
        OSError, ValueError: for another reason.
    """
    place = os.path.normpath(getattr(log, "log_dir", None) or log.save_dir or str(log.name))
    try:
        with _all_or_nothing(log):
            yield
    except (OSError, ValueError, DataError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        if isinstance(log, TensorBoardLogger):
            log._experiment = None  # its thread has died; the next one begins another file
        if place not in _failing:
            _failing.add(place)
            logger.warning("the log in %s could not be written: %s; the run goes on", place, reason)
    else:
        _failing.discard(place)


def _reason(error: BaseException) -> str | None:
    """Why there was no room; None for an error that is about something else."""
    if isinstance(error, DataError):
        return str(error)  # of excerpts
    for one in (error, error.__cause__):  # TensorBoard's logger makes ValueErrors of all
        if isinstance(one, OSError) and is_disk_full(one):
            return one.strerror
    return None


@contextlib.contextmanager
def _all_or_nothing(log: Logger) -> Iterator[None]:
    """Have a table as it was before if its new rows do not fit; they are still in memory."""
    table = log._experiment if isinstance(log, CSVLogger) else None
    if table is None or not table.metrics:
        yield
        return
    path, keys = Path(table.metrics_file_path), list(table.metrics_keys)
    size = path.stat().st_size if path.exists() else 0
    new_column = size and not set().union(*table.metrics) <= set(keys)
    before = path.read_bytes() if new_column else None  # for then all is written anew
    try:
        yield
    except OSError:
        table.metrics_keys = keys
        if before is not None:
            path.write_bytes(before)
        elif path.exists():
            os.truncate(path, size)
        raise
