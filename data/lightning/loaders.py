"""How batches are made ahead: loader processes, how far ahead, and page-locked memory."""

from __future__ import annotations

import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Listener
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from aimless.errors import ConfigError, DataError
from data.dataset.items import Item, ItemDataset, collate
from data.files.supervision import ReadPolicy, Slots, supervisor
from data.lightning.settings import check_number, check_timeout, default_workers, setting
from data.sampling import Key

__all__ = ["LoaderSettings", "check_batches"]

_DIED = re.compile(r"DataLoader worker \(pid|Pin memory thread exited")


@dataclass(frozen=True)
class LoaderSettings:
    """Settings of all loaders of a data module.

    Each loader process computes with one thread, which is what torch sets in them.

    Args:
        num_workers: processes that load data, per training process; None: from the number of
            processor cores. 0: the training process loads between its steps.
        prefetch: batches that each of them makes ahead; None: 2.
        persistent_workers: keep the processes from one epoch to the next; None: yes.
        pin_memory: copy batches to page-locked memory; None: if the trainer uses CUDA.
        read_timeout: seconds after which an attempt to read from a file is over; None: never.
        read_retries: attempts after the first, where the storage fails or does not answer.

    Raises:
        ConfigError: a number that is too low; names the key.
    """

    num_workers: int | None = None
    prefetch: int | None = None
    persistent_workers: bool | None = None
    pin_memory: bool | None = None
    read_timeout: float | None = 60.0
    read_retries: int = 3

    def __post_init__(self) -> None:
        check_timeout("read_timeout", self.read_timeout)
        check_number("read_retries", self.read_retries, low=0)
        if self.num_workers is not None:
            check_number("num_workers", self.num_workers, low=0)
        if self.prefetch is not None:
            check_number("prefetch", self.prefetch)

    def loader(
        self,
        dataset: Dataset[Item],
        trainer: pl.Trainer | None,
        sampler: Sampler[Key],
        batch_size: int,
        drop_last: bool = False,
        whole_songs: bool = False,
    ) -> DataLoader[Item]:
        """A loader of batches.

        Args:
            dataset: of items.
            trainer: that takes them; None: one process without a device.
            sampler: which items this process gets, in which order.
            batch_size: items per batch.
            drop_last: leave an incomplete last batch out.
            whole_songs: items are of some hundred MB, so that unless the settings say otherwise
                two processes prepare one each.
        """
        workers, prefetch = self.num_workers, self.prefetch
        if workers is None:
            workers = default_workers(trainer.num_devices if trainer else 1)
            workers = min(workers, 2) if whole_songs else workers
        if prefetch is None and whole_songs:
            prefetch = 1
        pin = self.pin_memory
        if pin is None:
            pin = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return _Loader(
            ReadPolicy(self.read_timeout, self.read_retries),
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=pin,
            # Workers keep no state between epochs, so that starting them anew gains nothing.
            persistent_workers=workers > 0 and self.persistent_workers is not False,
            prefetch_factor=prefetch if workers > 0 else None,
            # Of its own: how often a loader is begun must not show in the run's random numbers.
            generator=torch.Generator(),
        )


class _Loader(DataLoader[Item]):
    """A DataLoader that ends at once after an error, and says in one line that a process died.

    Its processes get their first keys when the first batch is asked for: a trainer that resumes
    asks for the iterator before it sets the sampler's epoch.

    Args:
        policy: of the reads.
        dataset: of items.
        num_workers: processes that load.
        **kwargs: those of DataLoader.
    """

    def __init__(
        self, policy: ReadPolicy, dataset: Dataset[Item], *, num_workers: int, **kwargs: Any
    ) -> None:
        self.policy = policy
        self.slots = Slots(num_workers)
        begin = partial(_begin_worker, policy, self.slots)
        super().__init__(dataset, num_workers=num_workers, worker_init_fn=begin, **kwargs)

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        if self.num_workers == 0:
            supervisor.begin(self.policy, self.slots)
        else:
            _check_sockets()
        iterator: Any = None
        try:
            # of persistent processes, one may have died since the last epoch
            iterator = super().__iter__()
            _postpone_deaths()
            while True:
                self._check_deaths()
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
                yield batch
        except Exception as error:
            # Left to the garbage collector, which finds the error and its iterator in a circle,
            # the end takes torch five seconds for each process.
            iterator = iterator or self._iterator
            if hasattr(iterator, "_shutdown_workers"):
                iterator._shutdown_workers()
                self._iterator = None
            if isinstance(error, RuntimeError) and _DIED.search(str(error)):
                raise self._died(str(error)) from error
            raise

    def _check_deaths(self) -> None:
        for text in _deaths:
            if self.slots.owns(_pids(text)):
                _deaths.remove(text)
                raise RuntimeError(text)

    def _died(self, text: str) -> DataError:
        detail = text.splitlines()[0].strip().rstrip(".")
        read = self.slots.describe(_pids(text), self.policy.timeout)
        hint = "" if "no answer" in read else ", perhaps for lack of memory"
        return DataError(
            f"a loader process died{read}{hint} ({detail}); "
            f"{setting('num_workers')} is {self.num_workers}"
        )


def _check_sockets() -> None:
    """Loader processes hand batches over through sockets in the folder for temporary files.

    If they cannot be made, torch drops the batches there and waits for them for ever.

    Raises:
        ConfigError: no socket can be made.
    """
    if torch.multiprocessing.get_sharing_strategy() != "file_descriptor":
        return
    try:
        Listener().close()
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"TMPDIR: {tempfile.gettempdir()}: no socket can be made there: {reason}; "
            f"{setting('num_workers')} above 0 needs another folder"
        ) from None


def _begin_worker(policy: ReadPolicy, slots: Slots, worker: int) -> None:
    # Ctrl-C and SIGUSR1 reach a whole group of processes; the training process acts on them.
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    supervisor.begin(policy, slots, worker + 1)


# Loader processes that died, in the words of torch.
_deaths: list[str] = []
_handler: Callable[[int, FrameType | None], None] | None = None


def _postpone_deaths() -> None:
    """Let the death of a loader process wait until the next batch is asked for.

    Torch's handler of SIGCHLD raises wherever the training process is at that moment, which may
    be half way through an optimizer step. Weights are only worth saving between two steps.
    """
    global _handler
    raises = signal.getsignal(signal.SIGCHLD)
    main = threading.current_thread() is threading.main_thread()
    if not main or not callable(raises) or raises is _handler:
        return

    def remember(number: int, frame: FrameType | None) -> None:
        try:
            raises(number, frame)
        except RuntimeError as error:
            if not _DIED.search(str(error)):
                raise
            _deaths.append(str(error))

    _handler = remember
    signal.signal(signal.SIGCHLD, remember)


def _pids(text: str) -> list[int]:
    """The processes that a message of torch is about."""
    named = re.search(r"\(pid(?:\(s\))? ([\d, ]+)\)", text)
    return [int(number) for number in named[1].split(",")] if named else []


def check_batches(dataset: ItemDataset, batch_size: int, world: int) -> None:
    """A training batch must be full at least once, and its items equally long.

    Args:
        dataset: to train on.
        batch_size: items per process and step.
        world: number of processes.

    Raises:
        ConfigError: names the key.
    """
    if len(dataset) // world < batch_size:
        raise ConfigError(
            f"{setting('batch_size')}: {len(dataset)} samples, batch {batch_size} x "
            f"{world} rank{'s'[: world > 1]}: not one full batch"
        )
    lengths = dataset.lengths()
    if batch_size > 1 and len(lengths) > 1:
        raise ConfigError(
            f"{setting('batch_size')}: {batch_size} with seq_duration null needs "
            "tracks of one length; use 1"
        )
