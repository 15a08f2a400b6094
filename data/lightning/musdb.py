"""MUSDB18-HQ as a Lightning data module."""

from __future__ import annotations

from typing import Any, Literal

from aimless.errors import DataError
from aimless.sources import MDX_SOURCES
from data.audio import printable
from data.dataset.musdb import TEST, TRAIN, VALIDATION_TRACKS
from data.lightning.base import BaseDataModule, Split
from data.lightning.settings import check_choice, setting

__all__ = ["MUSDB"]


class MUSDB(BaseDataModule):
    """MUSDB18-HQ: `root/{train,test}/<track>/{mixture,drums,bass,other,vocals}.wav`.

    Args:
        root: folder that holds `train` and `test`.
        split: `musdb` holds the 14 validation tracks of the musdb package out of `train`,
            validates on them and keeps `test` for the test; `published` trains on all of
            `train` and validates on `test`, as the published runs did, which leaves no track
            to test on that was not used to choose the model.
        **kwargs: settings of all data modules, see `BaseDataModule`.

    Raises:
        ConfigError: a value that is not allowed; names the key.
    """

    sources = MDX_SOURCES

    def __init__(
        self, root: str, *args: Any, split: Literal["musdb", "published"] = "musdb", **kwargs: Any
    ) -> None:
        super().__init__(root, *args, **kwargs)
        self.split = check_choice("split", split, ("musdb", "published"))
        test = [Split(TEST)]
        self.splits = {"train": [Split(TRAIN)], "val": test, "test": test}
        if split == "musdb":
            self.splits["train"] = [Split(TRAIN, _is_training)]
            self.splits["val"] = [Split(TRAIN, _is_validation)]

    def setup(self, stage: str | None = None) -> None:
        """Check the files, see `BaseDataModule.setup`.

        Raises:
            DataError: also if `split` is `musdb` and none of the validation tracks is there.
        """
        if self.split == "musdb" and stage != "test":
            self._check_validation_tracks()
        super().setup(stage)

    def _check_validation_tracks(self) -> None:
        folder = self.root / TRAIN
        # A missing folder has its own message, from the scan.
        if folder.is_dir() and not any((folder / name).is_dir() for name in VALIDATION_TRACKS):
            raise DataError(
                f"{setting('split')}: 'musdb' validates on {len(VALIDATION_TRACKS)} tracks of "
                f"{printable(folder)}, and none is there; 'published' validates on {TEST!r}"
            )


def _is_validation(name: str) -> bool:
    return name in VALIDATION_TRACKS


def _is_training(name: str) -> bool:
    return not _is_validation(name)
