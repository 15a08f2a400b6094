"""Which part of a data set is held out for validation: the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["held_out"]


def held_out(names: Iterable[str], fraction: float, seed: int = 0) -> frozenset[str]:
    """Choose a share of names.

    Those with the lowest SHA-256 of seed and name are chosen, so that the choice depends
    neither on the order of the names nor on the machine, and changes for a few names only when
    some are added.

    Args:
        names: each counts once.
        fraction: between 0 and 1; of two names and more, at least one is chosen and one is left.
        seed: another seed, another choice.

    Returns:
        The chosen names; none of a single name, which cannot be divided.
    """
    ordered = sorted(set(names), key=lambda name: _digest(name, seed))
    if len(ordered) < 2:
        return frozenset()
    count = min(max(1, round(fraction * len(ordered))), len(ordered) - 1)
    return frozenset(ordered[:count])


def _digest(name: str, seed: int) -> bytes:
    # File names may hold bytes that are not UTF-8, which Python carries as surrogates.
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
