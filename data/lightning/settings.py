"""Checks of a data module's settings; every message names the key as a config has it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TypeVar

from aimless.errors import ConfigError

__all__ = [
    "check_choice",
    "check_duration",
    "check_level",
    "check_number",
    "check_timeout",
    "default_workers",
    "setting",
]

Number = TypeVar("Number", int, float)
Choice = TypeVar("Choice", bound=str)

# Segment lengths in seconds outside of this are typing errors, not experiments.
_SHORTEST, _LONGEST = 0.01, 3600.0


def default_workers(ranks: int) -> int:
    """Loader processes per training process: what is left of its share of the cores, up to 8.

    One core computes, or feeds the device, and one runs everything else. With one or two cores
    loader processes gain nothing: they compete with the computation, and handing over their
    batches costs as much as reading them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, max(0, (cores or 1) // max(ranks, 1) - 2))


def setting(name: str) -> str:
    """The key of a setting in a config, as on the command line."""
    return f"data.init_args.{name}"


def check_number(name: str, value: Number, low: int = 1) -> Number:
    """Check a setting that must not be below `low`.

    Raises:
        ConfigError: names the key and the value.
    """
    if not value >= low:
        raise ConfigError(f"{setting(name)}: {value} is not a number of at least {low}")
    return value


def check_level(name: str, value: float | None) -> float | None:
    """Check a level in dB of full scale; None stays None.

    Raises:
        ConfigError: names the key and the value.
    """
    if value is not None and not (math.isfinite(value) and value < 0):
        raise ConfigError(f"{setting(name)}: {value} is not a number of dB below 0, or null")
    return value


def check_timeout(name: str, value: float | None) -> float | None:
    """Check a time in seconds; None means without end.

    Raises:
        ConfigError: names the key and the value.
    """
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{setting(name)}: {value} is not a number of seconds above 0, or null")
    return value


def check_choice(name: str, value: Choice, allowed: Sequence[Choice]) -> Choice:
    """Check a setting that takes one of a few words.

    Raises:
        ConfigError: names the key, the value and what is allowed.
    """
    if value not in allowed:
        raise ConfigError(f"{setting(name)}: {value!r} is not one of {', '.join(allowed)}")
    return value


def check_duration(name: str, value: float | str | None, same: float | None = None) -> float | None:
    """Check a length in seconds; None means whole tracks, "same" takes the value of `same`.

    Raises:
        ConfigError: names the key and the value.
    """
    if value == "same":
        return same
    if value is None:
        return None
    if isinstance(value, str) or not (math.isfinite(value) and _SHORTEST <= value <= _LONGEST):
        raise ConfigError(
            f"{setting(name)}: {value} is not a number of seconds from {_SHORTEST:g} to "
            f"{_LONGEST:g}, or null for whole tracks"
        )
    return value
