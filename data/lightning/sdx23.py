"""The two corrupted music sets of the Sound Demixing Challenge 2023 as Lightning data modules."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Literal

from aimless.errors import ConfigError, DataError
from aimless.sources import MDX_SOURCES
from data.audio import printable
from data.lightning.base import BaseDataModule, Split
from data.lightning.settings import check_number, setting
from data.listing.holdout import held_out

__all__ = ["FETCH", "LABELS", "Bleed", "LabelNoise"]

#: Where the labels of the label-noise set are looked for.
LABELS = Path(__file__).resolve().parent / "label_noise.csv"
#: The command that brings them there.
FETCH = "python scripts/fetch_label_noise.py"

_UNSEEN = 0.15  # about the share that MUSDB18 holds out of its training songs


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

    def __init__(self, root: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(root, *args, **kwargs)
        valid = [Split("valid")]
        self.splits = {"train": [Split("train")], "val": valid, "test": valid}


class LabelNoise(BaseDataModule):
    """SDX23's label-noise set, of which only the songs are used that were found clean.

    `root/train/<id>/{mixture,drums,bass,other,vocals}.wav`, and a CSV with the columns ID, Clean
    (`Y` or empty) and Notes, which `scripts/fetch_label_noise.py` brings.

    Args:
        root: folder that holds `train`, and `valid` for the test.
        labels: the CSV; null: `data/lightning/label_noise.csv`.
        validation: `published` validates on the songs trained on, as the published runs did,
            which says how well they are known, not how well new songs are separated; `unseen`
            holds 15 % of the clean songs out; a number between 0 and 1 is the share to hold out.
        split_seed: of the choice of songs to hold out; apart from `seed`, so that runs with
            different draws are validated on the same songs.
        **kwargs: settings of all data modules, see `BaseDataModule`.

    Raises:
        ConfigError: a value that is not allowed; names the key.
    """

    sources = MDX_SOURCES

    def __init__(
        self,
        root: str,
        *args: Any,
        labels: str | None = None,
        validation: Literal["published", "unseen"] | float = "published",
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, *args, **kwargs)
        self.labels = LABELS if labels is None else Path(labels)
        self.share = _check_validation(validation)
        self.split_seed = check_number("split_seed", split_seed, low=0)
        self._clean: frozenset[str] = frozenset()
        self._unseen: frozenset[str] = frozenset()
        train = [Split("train", self._is_trained_on)]
        self.splits = {"train": train, "val": train, "test": [Split("valid")]}
        self.held_out = ("test",)
        if self.share is not None:
            self.splits["val"] = [Split("train", self._is_unseen)]
            self.held_out = ("val", "test")

    def setup(self, stage: str | None = None) -> None:
        """Read the labels, then check the files; see `BaseDataModule.setup`.

        Raises:
            DataError: also if the labels are missing, damaged, or name no clean song, or if
                there are too few of them to hold some out.
        """
        if stage != "test" and not self._clean:
            self._clean = read_clean(self.labels)
            if self.share is not None:
                self._unseen = self._hold_out(self.share)
        super().setup(stage)

    def _hold_out(self, share: float) -> frozenset[str]:
        folder = self.root / "train"
        # A missing folder has its own message, from the scan.
        songs = [name for name in self._clean if (folder / name).is_dir()]
        unseen = held_out(songs, share, self.split_seed)
        if songs and not unseen:
            raise DataError(
                f"{setting('validation')}: {share:g} of the clean songs cannot be held out, "
                f"there is only {songs[0]} under {printable(folder)}"
            )
        return unseen

    def _is_trained_on(self, name: str) -> bool:
        return name in self._clean and name not in self._unseen

    def _is_unseen(self, name: str) -> bool:
        return name in self._unseen


def _check_validation(value: str | float) -> float | None:
    """The share of songs to hold out; None: none."""
    if value == "published":
        return None
    share = _UNSEEN if value == "unseen" else value
    if isinstance(share, str) or not 0 < share < 1:
        raise ConfigError(
            f"{setting('validation')}: {value!r} is neither published nor unseen nor a number "
            "between 0 and 1"
        )
    return share


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
        hint = f"; fetch them with: {FETCH}" if isinstance(error, FileNotFoundError) else ""
        raise DataError(
            f"{path}: the labels of the label-noise set cannot be read: {reason}{hint}"
        ) from error
    if not marked:
        raise DataError(f"{path}: marks no song clean (no 'Y' in column Clean)")
    return frozenset(marked)
