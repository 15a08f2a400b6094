"""Checkpoints that are whole or not there, written at once or behind the training."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from aimless.errors import DataError
from aimless.sealing import SealingWriter, is_sealed
from aimless.weights import read_checkpoint

__all__ = ["AtomicCheckpointIO", "Saved"]

logger = logging.getLogger(__name__)

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.part")
#: Snapshots that may wait for the disk: ModelCheckpoint saves the best and the last in one go.
_MOST_IN_FLIGHT = 2


class Saved(NamedTuple):
    """A finished attempt to save.

    Attributes:
        path: of the checkpoint.
        step: optimizer steps that it holds.
        complete: whether training can go on from it, or it holds weights only.
        error: why it is not there; None if it is.
    """

    path: Path
    step: int
    complete: bool
    error: OSError | None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint under a temporary name in its folder, and renames it when it is down.

    The order is: write, flush, fsync, compare the length, rename, fsync the folder; only then are
    older files removed that Lightning no longer wants. Wherever a process is killed, a name
    stands for a whole file, the one before or the new one, and at most one temporary file is
    left over, which the next run removes (`prepare`). The files are sealed with their SHA-256,
    see `aimless.sealing`, and read as data.

    A save that fails, as on a full disk, leaves the file before as it was and warns in a line;
    the next one tries again. After failures at `limit` steps in a row the run ends.

    Checkpoints with a URL, as on S3, are left to Lightning.

    Args:
        asynchronous: copy the state to memory, and write it in a thread while training goes
            on. Up to two snapshots wait for the disk; then saving waits. A failure shows at
            the next save, or at the end, which waits until everything is down.
        limit: steps in a row whose save failed, after which the run ends.

    Raises:
        DataError: after `limit` failures in a row; and, of `load_checkpoint`, a file that is
            missing, damaged or more than data.
    """

    def __init__(self, asynchronous: bool = False, limit: int = 3) -> None:
        self.asynchronous = asynchronous
        self.limit = limit
        #: the newest save that worked and that training can go on from
        self.newest: Saved | None = None
        #: called with each checkpoint before it is saved; Lightning does not show its callbacks
        #: those that hold weights only
        self.hooks: list[Callable[[dict[str, Any]], None]] = []
        self._failed_steps: list[int] = []
        self._unwanted: list[Path] = []
        self._thread: ThreadPoolExecutor | None = None
        self._in_flight: deque[Future[Saved]] = deque()

    @property
    def failing(self) -> bool:
        """Whether the last save failed."""
        return bool(self._failed_steps)

    def prepare(self, folder: str | os.PathLike[str]) -> None:
        """Try out writing in a folder, and remove what a killed process left there.

        Raises:
            DataError: no checkpoint could be written there.
        """
        if "://" in os.fspath(folder):
            return
        folder = Path(folder)
        probe = _temporary(folder / "probe")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in os.listdir(folder):
                if _TEMPORARY.fullmatch(name):
                    (folder / name).unlink(missing_ok=True)
            with open(probe, "xb") as file:
                file.write(b"probe")
                file.flush()
                os.fsync(file.fileno())
            probe.unlink()
        except OSError as error:
            raise DataError(f"{folder}: no checkpoint can be written: {_reason(error)}") from error

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Write a checkpoint, or begin to."""
        for hook in self.hooks:
            hook(checkpoint)
        if "://" in os.fspath(path):
            super().save_checkpoint(checkpoint, str(path), storage_options)
            return
        target = Path(path)
        self._unwanted = [other for other in self._unwanted if other != target]
        if not self.asynchronous:
            self._settle(_save(checkpoint, target))
            return
        while len(self._in_flight) >= _MOST_IN_FLIGHT or self._first_is_done():
            self._settle(self._in_flight.popleft().result())
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._in_flight.append(self._thread.submit(_save, _snapshot(checkpoint), target))

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = None,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint as data, onto the CPU; see `aimless.weights.read_checkpoint`."""
        if "://" in os.fspath(path):
            return super().load_checkpoint(str(path), map_location, weights_only=True)
        return read_checkpoint(path, mmap=False)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint as soon as what was saved after it is down."""
        if "://" in os.fspath(path):
            super().remove_checkpoint(str(path))
            return
        self._unwanted.append(Path(path))
        self._tidy()

    def flush(self) -> None:
        """Wait until everything is down.

        Raises:
            DataError: as for saving.
        """
        while self._in_flight:
            self._settle(self._in_flight.popleft().result())

    def teardown(self) -> None:
        """Wait until everything is down, and end the thread."""
        try:
            self.flush()
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=True)
                self._thread = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the thread, for processes that are spawned before it is there."""
        return {**vars(self), "_thread": None, "_in_flight": deque()}

    def _first_is_done(self) -> bool:
        return bool(self._in_flight) and self._in_flight[0].done()

    def _settle(self, saved: Saved) -> None:
        """Take note of a finished attempt; on the training thread."""
        if saved.error is None:
            self._failed_steps = []
            if saved.complete:
                self.newest = saved
            self._tidy()
            return
        if saved.step not in self._failed_steps:
            self._failed_steps.append(saved.step)
        message = f"step {saved.step}: {saved.path} could not be written: {_reason(saved.error)}"
        if len(self._failed_steps) >= self.limit:
            times = f"{self.limit} times in a row; " if self.limit > 1 else ""
            raise DataError(f"{times}{message}") from saved.error
        logger.warning("%s; earlier checkpoints are kept, the next save tries again", message)

    def _tidy(self) -> None:
        if self._in_flight or self._failed_steps:
            return
        for path in self._unwanted:
            super().remove_checkpoint(path)
        self._unwanted = []


def _save(checkpoint: dict[str, Any], path: Path) -> Saved:
    step, complete = checkpoint.get("global_step", 0), "optimizer_states" in checkpoint
    try:
        _write(checkpoint, path)
    except OSError as error:
        return Saved(path, step, complete, error)
    return Saved(path, step, complete, None)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    """Raises OSError; the file before is then as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _temporary(path)
    try:
        with open(part, "xb") as file:
            writer = SealingWriter(file)
            torch.save(checkpoint, cast("IO[bytes]", writer))  # it needs no more than `write`
            size = writer.finish()
            file.flush()
            os.fsync(file.fileno())
        _verify(part, size)
        os.replace(part, path)
        _sync_folder(path.parent)
        _verify(path, size)
    finally:
        part.unlink(missing_ok=True)


def _verify(path: Path, size: int) -> None:
    """There are file systems on which a failed write shows only afterwards."""
    found = path.stat().st_size
    if found != size or not is_sealed(path):
        raise OSError(f"{found} of {size} bytes arrived")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _snapshot(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A copy in memory that training does not change."""

    def copy(tensor: Tensor) -> Tensor:
        return tensor.detach().to("cpu", copy=True)

    return apply_to_collection(checkpoint, Tensor, copy)
