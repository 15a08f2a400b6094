"""What is known by name, as columns, so that a hundred thousand rows are compared at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "Kinds", "Row"]

Row = tuple[Any, ...]
Kinds = Mapping[str, type]

_DTYPES = {int: np.int64, bool: np.bool_, str: np.object_}


class Columns:
    """Rows of plain values by name.

    Args:
        kinds: of each column, by its name: int (of 64 bits), bool or str.
        names: of the rows, none twice.
        values: a column of that many for each kind.
    """

    def __init__(
        self, kinds: Kinds, names: Sequence[str] = (), values: Sequence[Any] | None = None
    ) -> None:
        self.kinds = kinds
        self.names = list(names)
        filled: Sequence[Any] = [()] * len(kinds) if values is None else values
        self.values: dict[str, NDArray[Any]] = {
            name: np.asarray(column, _DTYPES[kind])
            for (name, kind), column in zip(kinds.items(), filled, strict=True)
        }

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.values[column]

    def find(self, names: Sequence[str]) -> NDArray[np.intp]:
        """The row of each name; -1 where there is none."""
        if self.names == list(names):
            return np.arange(len(self))
        rows = dict(zip(self.names, range(len(self))))
        return np.array([rows.get(name, -1) for name in names], np.intp)

    def select(self, names: Sequence[str]) -> Columns:
        """The rows of these names as far as there are any, in this order."""
        rows = self.find(names)
        rows = rows[rows >= 0]
        found = [self.names[row] for row in rows]
        return Columns(self.kinds, found, [self[name][rows] for name in self.kinds])

    def updated(self, rows: Mapping[str, Row]) -> Columns:
        """These columns with some rows in addition, or in the place of those of that name."""
        kept = np.array([name not in rows for name in self.names], np.bool_)
        names = [name for name, stays in zip(self.names, kept) if stays]
        fresh = Columns(self.kinds, list(rows), list(zip(*rows.values())) or None)
        values = [np.concatenate([self[name][kept], fresh[name]]) for name in self.kinds]
        return Columns(self.kinds, names + fresh.names, values)
