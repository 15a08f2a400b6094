"""One line for what ends a run from outside of it."""

from __future__ import annotations

import errno
from typing import Any

import lightning.pytorch as pl
import torch

from aimless.errors import ConfigError, DataError
from aimless.lightning.usage import peak_memory

__all__ = ["disk_full", "is_disk_full", "is_out_of_memory", "out_of_memory", "unused_weights"]

#: What other libraries than torch's allocators say of it, near the end of a device's memory.
_NO_MEMORY = ("DefaultCPUAllocator", "ALLOC_FAILED", "CUDA error: out of memory")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the host, had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def out_of_memory(trainer: pl.Trainer, data: Any) -> ConfigError:
    """What was too large, and what to make smaller.

    Args:
        trainer: of the run.
        data: its data module; its `batch_size` and `seq_duration` are named, if it has them.
    """
    device = trainer.strategy.root_device
    peak = f"; peak {peak_memory(device) / 2**30:.1f} GiB on {device}"
    batch, seconds = (getattr(data, name, None) for name in ("batch_size", "seq_duration"))
    what = f", batches of {batch}" if batch else ""
    what += f" segments of {seconds:g} s" if batch and seconds else ""
    return ConfigError(
        f"out of memory at step {trainer.global_step}{what}{peak}; lower data.init_args.batch_size"
        " (and raise trainer.accumulate_grad_batches) or data.init_args.seq_duration"
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether a file had no room: on its disk, in a quota, or below a limit on its size."""
    return isinstance(error, OSError) and error.errno in _FULL


def disk_full(trainer: pl.Trainer, error: OSError) -> DataError:
    """What could not be written. Checkpoints try again (`AtomicCheckpointIO`), and logs do."""
    what = error.filename or f"a file of the run in {trainer.default_root_dir}"
    return DataError(
        f"{what} could not be written at step {trainer.global_step}: {error.strerror}; "
        "--ckpt_path last goes on from the last save"
    )


def unused_weights() -> ConfigError:
    """What DDP says on a page of its own, for which it is recognised by the setting's name."""
    return ConfigError(
        "trainer.strategy: the loss of a step did not depend on some weights of the network; "
        "ddp_find_unused_parameters_true allows that"
    )
