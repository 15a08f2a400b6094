"""How many processes torchrun or SLURM has started, so that no config needs to repeat it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from aimless.errors import ConfigError

__all__ = ["follow_launcher"]


class _Launched(NamedTuple):
    """What a launcher says; None where it does not."""

    launcher: str
    devices: int | None
    num_nodes: int | None


def follow_launcher(trainer: Mapping[str, Any]) -> dict[str, int]:
    """The trainer's `devices` and `num_nodes` as the processes were started.

    Args:
        trainer: its config. Devices that were chosen, such as `[0, 2]`, stay chosen.

    Returns:
        What the config leaves open; nothing where Lightning starts the processes itself.

    Raises:
        ConfigError: the config says otherwise.
    """
    launched = _find()
    if launched is None:
        return {}
    followed = {}
    for key, default in (("devices", None), ("num_nodes", 1)):
        started, stated = getattr(launched, key), _count(trainer.get(key))
        if started is None:
            continue
        if stated in (None, default):
            followed[key] = started
        elif stated != started:
            what = "processes per machine" if key == "devices" else "machines"
            raise ConfigError(
                f"trainer.{key}: {trainer.get(key)}, but {launched.launcher} has started {started} "
                f"{what}; leave it out or say {started}"
            )
    return followed


def _find() -> _Launched | None:
    if TorchElasticEnvironment.detect():
        here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if world % here:
            raise ConfigError(
                f"torchrun has started {world} processes, {here} of them here; the number must be "
                "the same on all machines"
            )
        return _Launched("torchrun", here, world // here)
    if SLURMEnvironment.detect():
        return _Launched("SLURM", _number("SLURM_NTASKS_PER_NODE"), _number("SLURM_NNODES"))
    return None


def _number(variable: str) -> int | None:
    value = os.environ.get(variable)
    return int(value) if value else None


def _count(stated: Any) -> int | None:
    """Devices or machines that a config asks for; None for any number."""
    if isinstance(stated, str) and "," in stated:
        stated = [name for name in stated.split(",") if name.strip()]
    if isinstance(stated, (list, tuple)):
        return len(stated)
    if stated in (None, "auto", -1, "-1"):
        return None
    return int(stated)
