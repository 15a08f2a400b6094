"""How the inner loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from aimless.errors import ConfigError

try:
    import numba
except ImportError as error:
    text = "numba is not installed and effects need it: pip install 'aimless[train]'"
    raise ConfigError(text) from error

__all__ = ["jit"]

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function when it is first called, and keep the machine code on disk.

    The code is kept in NUMBA_CACHE_DIR if that is set, else beside the source file, or in the
    user's cache folder if that cannot be written; worker processes load it in milliseconds.
    Where none can be written, each process compiles for itself, some ten seconds in all. numba
    notices a change in the function's own file only, so functions that call one another belong
    in one file.

    Products and sums may be fused, which rounds less; nothing else is reordered, so that the
    result on one machine is always the same.
    """
    # "numpy": no test for division by zero, which would keep loops from being vectorised.
    options: dict[str, Any] = {
        "nogil": True,
        "fastmath": {"contract", "nsz"},
        "error_model": "numpy",
    }
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache
        return numba.njit(**options)(function)
