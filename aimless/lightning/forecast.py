"""How long a run will take, and what will go wrong in it, from its settings and a trial."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from aimless.errors import AimlessError, ConfigError, DataError
from aimless.lightning.messages import suggest

__all__ = ["Plan", "check_monitors", "check_storage", "duration", "processes"]


class Plan(NamedTuple):
    """What a run will do.

    Attributes:
        batches: of an epoch, for each process.
        epochs: of the run; None without end.
        val_batches: of a validation, for each process.
        validations: of the run; None without end.
    """

    batches: int
    epochs: float | None
    val_batches: int
    validations: float | None

    @classmethod
    def of(cls, settings: Any, batches: int, val_batches: int) -> Plan:
        """From the trainer's settings, and the batches of a process."""
        accumulate = settings.get("accumulate_grad_batches") or 1
        limits = []
        if (steps := settings.get("max_steps", -1)) not in (None, -1):
            limits.append(steps / max(math.ceil(batches / accumulate), 1))
        if (most := settings.get("max_epochs")) is not None and most >= 0:
            limits.append(most)
        if not limits and most is None and not settings.get("max_time"):
            limits.append(1000)  # Lightning's default
        epochs = min(limits) if limits else None
        if epochs is None or not val_batches:
            return cls(batches, epochs, val_batches, None if val_batches else 0)
        interval = settings.get("val_check_interval") or 1.0
        every = settings.get("check_val_every_n_epoch")
        if isinstance(interval, int) and every is None:
            return cls(batches, epochs, val_batches, epochs * batches // interval)
        per_epoch = batches // interval if isinstance(interval, int) else int(1 / interval)
        return cls(batches, epochs, val_batches, epochs // (every or 1) * per_epoch)


def processes(settings: Any, device: torch.device) -> int:
    """Training processes of a run, from the trainer's settings."""
    devices = settings.get("devices", "auto")
    if isinstance(devices, str):
        devices = [one for one in devices.split(",") if one] if "," in devices else devices
        devices = int(devices) if isinstance(devices, str) and devices != "auto" else devices
    if isinstance(devices, list):
        count = len(devices)
    elif devices in ("auto", -1):
        count = torch.cuda.device_count() if device.type == "cuda" else 1
    else:
        count = int(devices)
    return max(count, 1) * int(settings.get("num_nodes") or 1)


def check_monitors(callbacks: Iterable[Any], logged: Collection[str]) -> list[AimlessError]:
    """Callbacks that wait for a value that is never logged."""
    errors: list[AimlessError] = []
    for callback in callbacks:
        name = getattr(callback, "monitor", None)
        counted = isinstance(callback, ModelCheckpoint) and name in ("step", "epoch")
        if name is not None and name not in logged and not counted:
            text = f"trainer.callbacks: {type(callback).__name__} monitors '{name}', which is never"
            errors.append(ConfigError(f"{text} logged{suggest(name, logged)}"))
    return errors


def check_storage(folders: Iterable[Path], needed: int) -> list[AimlessError]:
    """Folders that cannot be written to, or have less free bytes than the checkpoints need."""
    errors: list[AimlessError] = []
    for folder in dict.fromkeys(folders):
        there = folder.absolute()
        while not os.path.lexists(there):
            there = there.parent
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            errors.append(
                DataError(
                    f"{folder}: no checkpoint can be written: {there} is no folder "
                    "that may be written to"
                )
            )
        elif (free := shutil.disk_usage(there).free) < needed:
            text = f"{folder}: the checkpoints that are kept need {needed / 1e9:.2f} GB"
            errors.append(DataError(f"{text}, free are {free / 1e9:.2f} GB"))
    return errors


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.4 h`, `12.5 days`."""
    for unit, name, most in ((1, "s", 120), (60, "min", 120), (3600, "h", 72)):
        if seconds / unit < most:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:.3g} days"
