"""The two corrupted music sets of the Sound Demixing Challenge 2023 as Lightning data modules."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from aimless.errors import DataError
from aimless.sources import MDX_SOURCES
from data.lightning.base import BaseDataModule, Split

__all__ = ["LABELS", "Bleed", "LabelNoise"]

#: Where the labels of the label-noise set are looked for.
LABELS = Path(__file__).resolve().parent / "label_noise.csv"


class Bleed(BaseDataModule):
    """SDX23's bleeding set: `root/{train,valid}/<id>/{mixture,drums,bass,other,vocals}.wav`.

    Validation and test are on `valid`.

    Args:
        root: folder that holds `train` and `valid`.
        **kwargs: settings of all data modules, see `BaseDataModule`.

    Raises:
        ConfigError: a value that is not allowed; names the key.
    """

    sources = MDX_SOURCES

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        valid = [Split("valid")]
        self.splits = {"train": [Split("train")], "val": valid, "test": valid}


class LabelNoise(BaseDataModule):
    """SDX23's label-noise set, of which only the songs are used that were found clean.

    `root/train/<id>/{mixture,drums,bass,other,vocals}.wav`, and a CSV with the columns ID, Clean
    (`Y` or empty) and Notes. Validation is on the songs trained on, as published.

    Args:
        root: folder that holds `train`, and `valid` for the test.
        labels: the CSV; null: `data/lightning/label_noise.csv`.
        **kwargs: settings of all data modules, see `BaseDataModule`.

    Raises:
        ConfigError: a value that is not allowed; names the key.
    """

    sources = MDX_SOURCES
    held_out = ()

    def __init__(self, root: str, labels: str | None = None, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.labels = LABELS if labels is None else Path(labels)
        self._clean: frozenset[str] = frozenset()
        clean = [Split("train", self._is_clean)]
        self.splits = {"train": clean, "val": clean, "test": [Split("valid")]}

    def setup(self, stage: str | None = None) -> None:
        """Read the labels, then check the files; see `BaseDataModule.setup`.

        Raises:
            DataError: also if the labels are missing, damaged, or name no clean song.
        """
        if stage != "test" and not self._clean:
            self._clean = read_clean(self.labels)
        super().setup(stage)

    def _is_clean(self, name: str) -> bool:
        return name in self._clean


def read_clean(path: Path) -> frozenset[str]:
    """IDs of the songs that a label file marks clean.

    Raises:
        DataError: the file is missing, has other columns, or marks no song.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = {"ID", "Clean"} - set(rows.fieldnames or ())
            if missing:
                raise DataError(f"{path}: has no column {', '.join(sorted(missing))}")
            marked = {row["ID"].strip() for row in rows if (row["Clean"] or "").strip() == "Y"}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: the labels of the label-noise set cannot be read: {reason}"
        ) from error
    if not marked:
        raise DataError(f"{path}: marks no song clean (no 'Y' in column Clean)")
    return frozenset(marked)
