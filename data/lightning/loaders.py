"""How batches are made ahead: loader processes, how far ahead, and page-locked memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset, Sampler

from aimless.errors import ConfigError, DataError
from data.dataset.items import Item, ItemDataset, collate
from data.lightning.settings import check_number, default_workers, setting
from data.sampling import Key

__all__ = ["LoaderSettings", "check_batches"]


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

    Raises:
        ConfigError: a number that is too low; names the key.
    """

    num_workers: int | None = None
    prefetch: int | None = None
    persistent_workers: bool | None = None
    pin_memory: bool | None = None

    def __post_init__(self) -> None:
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
    ) -> DataLoader[Item]:
        """A loader of batches.

        Args:
            dataset: of items.
            trainer: that takes them; None: one process without a device.
            sampler: which items this process gets, in which order.
            batch_size: items per batch.
            drop_last: leave an incomplete last batch out.
        """
        workers = self.num_workers
        if workers is None:
            workers = default_workers(trainer.num_devices if trainer else 1)
        pin = self.pin_memory
        if pin is None:
            pin = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return _Loader(
            dataset,
            batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=pin,
            # Workers keep no state between epochs, so that starting them anew gains nothing.
            persistent_workers=workers > 0 and self.persistent_workers is not False,
            prefetch_factor=self.prefetch if workers > 0 else None,
        )


class _Loader(DataLoader[Item]):
    """A DataLoader that ends at once after an error, and says in one line that a process died.

    Its processes get their first keys when the first batch is asked for: a trainer that resumes
    asks for the iterator before it sets the sampler's epoch.
    """

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        iterator = super().__iter__()
        try:
            yield from iterator
        except Exception as error:
            # Left to the garbage collector, which finds the error and its iterator in a circle,
            # the end takes torch five seconds for each process.
            if hasattr(iterator, "_shutdown_workers"):
                iterator._shutdown_workers()
                self._iterator = None
            if isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error):
                raise self._died(error) from error
            raise

    def _died(self, error: RuntimeError) -> DataError:
        detail = str(error).splitlines()[0].strip().rstrip(".")
        return DataError(
            f"a loader process died, perhaps for lack of memory ({detail}); "
            f"{setting('num_workers')} is {self.num_workers}"
        )


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
