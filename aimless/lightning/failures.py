"""One line for what ends a run from outside of it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch

from aimless.errors import ConfigError

__all__ = ["is_out_of_memory", "out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the host, had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def out_of_memory(trainer: pl.Trainer, data: Any) -> ConfigError:
    """What was too large, and what to make smaller.

    Args:
        trainer: of the run.
        data: its data module; its `batch_size` and `seq_duration` are named, if it has them.
    """
    device = trainer.strategy.root_device
    peak = f"; peak {_peak_gib(device):.1f} GiB on {device}"
    batch, seconds = (getattr(data, name, None) for name in ("batch_size", "seq_duration"))
    what = f", batches of {batch}" if batch else ""
    what += f" segments of {seconds:g} s" if batch and seconds else ""
    return ConfigError(
        f"out of memory at step {trainer.global_step}{what}{peak}; lower data.init_args.batch_size"
        " (and raise trainer.accumulate_grad_batches) or data.init_args.seq_duration"
    )


def _peak_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
