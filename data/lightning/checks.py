"""Checks of the settings of data modules that mix at random."""

from __future__ import annotations

from aimless.errors import ConfigError
from data.lightning.settings import setting

__all__ = ["check_fraction", "check_share", "require_duration"]


def check_share(name: str, value: float) -> float:
    """Check a probability or share, from 0 to 1.

    Raises:
        ConfigError: names the key and the value.
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"{setting(name)}: {value} is not a number from 0 to 1")
    return value


def check_fraction(name: str, value: float) -> float:
    """Check a share of which neither nothing nor all will do.

    Raises:
        ConfigError: names the key and the value.
    """
    if not 0 < value < 1:
        raise ConfigError(f"{setting(name)}: {value} is not a number between 0 and 1")
    return value


def require_duration(seconds: float | None) -> None:
    """Segments of training items must have a length; there are no whole tracks to take.

    Raises:
        ConfigError: `seq_duration` is null.
    """
    if seconds is None:
        raise ConfigError(f"{setting('seq_duration')}: null, wanted a number of seconds")
