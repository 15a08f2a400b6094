"""A few steps of a run at their real size, measured."""

from __future__ import annotations

import statistics
import time
from itertools import islice
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from aimless.lightning.usage import free_memory, host_memory_for, peak_memory

__all__ = ["LoaderSpeed", "Trial", "measure_loader", "size_of"]

_WARM_UP = 2  # batches that do not count
_PATIENCE = 20.0  # seconds, after which the trial ends early
_LOADER_BATCHES = 20
_MOST_ITEMS = 1 << 14
_SHARE = 0.9  # of the free memory, which nothing else should need


class Trial(pl.Callback):
    """Measures steps, memory, and which batches fit.

    Attributes:
        batch_seconds: of the forward and backward pass, and the optimizer, of a batch.
        val_seconds: of a batch of the validation, with its loading.
        optimizer_bytes: state of the optimizers.
        largest: items of the largest batch that fits; None if it could not be told.
        peak: most bytes of memory, see `peak_memory`.
    """

    def __init__(self) -> None:
        self.batch_seconds = 0.0
        self.val_seconds = 0.0
        self.optimizer_bytes = 0
        self.largest: int | None = None
        self.peak = 0
        self._times: list[float] = []
        self._began = self._first = self._val_began = 0.0
        self._val_batches = 0
        self._item_bytes: float | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """On a host, find out what an item needs before anything else takes memory."""
        if not self._times and self._item_bytes is None and pl_module.device.type == "cpu":
            self._item_bytes = _host_bytes_per_item(trainer, pl_module, batch)
        _synchronize(pl_module.device)
        self._began = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the time; enough is enough."""
        _synchronize(pl_module.device)
        now = time.perf_counter()
        self._times.append(now - self._began)
        if len(self._times) <= _WARM_UP:
            self._first = now  # compiling and the like is over
        elif now - self._first > _PATIENCE and trainer.global_step:
            trainer.should_stop = True
        self._batch = batch

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sum up."""
        self.batch_seconds = statistics.fmean(self._times[_WARM_UP:] or self._times)
        states = (s for one in trainer.optimizers for s in one.state.values())
        self.optimizer_bytes = size_of(value for state in states for value in state.values())
        self.peak = peak_memory(pl_module.device)
        items = len(self._batch[0])
        if pl_module.device.type == "cuda":
            self.largest = _largest_on_device(trainer, pl_module, self._batch)
        elif self._item_bytes and (free := free_memory()) is not None:
            self.largest = items + int(_SHARE * free / self._item_bytes)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The clock runs."""
        self._val_began = time.perf_counter()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Take the time."""
        _synchronize(pl_module.device)
        self._val_batches += 1
        self.val_seconds = (time.perf_counter() - self._val_began) / self._val_batches


class LoaderSpeed(NamedTuple):
    """How quickly batches come.

    Attributes:
        first_seconds: until the first one, with the start of the processes.
        batch_seconds: per batch after that, if nothing else is done.
        workers: processes that load.
    """

    first_seconds: float
    batch_seconds: float
    workers: int


def measure_loader(loader: Any) -> LoaderSpeed:
    """Load batches and do nothing with them.

    Batches that were made while the first one was waited for do not count, as far as there are
    others.
    """
    workers = loader.num_workers
    ahead = workers * (loader.prefetch_factor or 0)
    began = time.perf_counter()
    arrivals = []
    for _ in islice(loader, ahead + _LOADER_BATCHES):
        arrivals.append(time.perf_counter() - began)
        if arrivals[-1] > _PATIENCE and len(arrivals) > 1:
            break
    steady = arrivals[min(ahead, len(arrivals) // 2) :]
    if len(steady) < 2:
        return LoaderSpeed(arrivals[0], arrivals[-1] / len(arrivals), workers)
    return LoaderSpeed(arrivals[0], (steady[-1] - steady[0]) / (len(steady) - 1), workers)


def size_of(tensors: Any) -> int:
    """Bytes of the tensors among some values."""
    return sum(
        value.numel() * value.element_size() for value in tensors if isinstance(value, Tensor)
    )


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _pass(trainer: pl.Trainer, pl_module: Any, mixture: Tensor, stems: Tensor) -> None:
    """Forward and backward, without device effects; the gradients are dropped."""
    with trainer.precision_plugin.forward_context():
        loss, _, _ = pl_module.compute_loss(mixture, stems[:, pl_module.target_indices])
    loss.backward()
    pl_module.zero_grad(set_to_none=True)


def _host_bytes_per_item(trainer: pl.Trainer, pl_module: Any, batch: Any) -> float | None:
    """Resident memory that one more item takes: of the whole batch, against one item."""
    mixture, stems = batch[0], batch[1]
    one = host_memory_for(lambda: _pass(trainer, pl_module, mixture[:1], stems[:1]))
    if len(mixture) == 1:  # against none: too much, by what is needed once
        return None if one is None else float(max(one, 1))
    every = host_memory_for(lambda: _pass(trainer, pl_module, mixture, stems))
    if one is None or every is None or every <= one:
        return None
    return (every - one) / (len(mixture) - 1)


def _largest_on_device(trainer: pl.Trainer, pl_module: Any, batch: Any) -> int | None:
    """By trying: batches of the first item, of 1, 2, 4, ... until one does not fit."""
    fits = None
    items = 1
    while items <= _MOST_ITEMS:
        try:
            mixture = batch[0][:1].repeat(items, 1, 1)
            stems = batch[1][:1].repeat(items, 1, 1, 1)
            _pass(trainer, pl_module, mixture, stems)
        except RuntimeError as error:
            # besides too little memory, kernels with a limit of their own on the size
            if fits is None and not isinstance(error, torch.OutOfMemoryError):
                raise
            pl_module.zero_grad(set_to_none=True)
            break
        fits, items = items, 2 * items
        del mixture, stems
    torch.cuda.empty_cache()
    return fits
