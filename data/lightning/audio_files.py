"""Audio files of any kind as a Lightning data module for `predict`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from aimless.errors import ConfigError, DataError
from aimless.songs import song
from aimless.songs.audio_paths import find_songs, printable
from data.lightning.settings import setting
from data.sampling import EvalSampler, Key

__all__ = ["AudioFiles", "Song", "SongDataset"]


class Song(NamedTuple):
    """A song to separate, by its file: it may be longer than memory holds."""

    path: str


class SongDataset(Dataset[Song]):
    """Songs by their files.

    Args:
        files: audio files of any format.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Key | int) -> Song:
        return Song(str(self.files[key.index if isinstance(key, Key) else key]))


class AudioFiles(pl.LightningDataModule):
    """Songs to separate: `predict` gets one `Song` at a time, nothing twice on any process.

    Args:
        paths: a file, folder or pattern, or a list of them. Folders are searched for audio files,
            in the order of their names; hidden files and folders are skipped.
        recursive: search folders within folders too.

    Raises:
        ConfigError: no paths.
    """

    def __init__(self, paths: str | list[str], recursive: bool = True) -> None:
        super().__init__()
        self.paths = [paths] if isinstance(paths, str) else list(paths)
        if not self.paths:
            raise ConfigError(f"{setting('paths')}: none given; name files or folders")
        self.recursive = recursive
        self.dataset: SongDataset | None = None

    def setup(self, stage: str | None = None) -> None:
        """Find the files and look at their headers.

        Raises:
            DataError: a path is missing, a folder holds no audio, or files are no audio; all
                of those are listed.
            ConfigError: two files would be separated into folders of the same name.
        """
        if self.dataset is None:
            files = self._list_files()
            _refuse_clashes(files)
            _check_all(files)
            self.dataset = SongDataset(files)

    def predict_dataloader(self) -> DataLoader[Song]:
        """Songs one by one; each process gets its share."""
        assert self.dataset is not None, "setup() comes first"
        sampler = EvalSampler(len(self.dataset), pad=False)
        return DataLoader(self.dataset, batch_size=None, sampler=sampler)

    def _list_files(self) -> list[Path]:
        try:
            return find_songs(self.paths, self.recursive)
        except DataError as error:
            raise DataError(f"{setting('paths')}: {error}") from None


def _refuse_clashes(files: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for path in files:
        other = first.setdefault(path.stem, path)
        if other is not path:
            raise ConfigError(
                f"{setting('paths')}: {printable(other)} and {printable(path)} would both be "
                f"written to a folder named {printable(path.stem)}; separate them in two runs"
            )


def _check_all(files: Sequence[Path]) -> None:
    faults = []
    for path in files:
        try:
            song.Song.open(path)
        except DataError as error:
            faults.append(str(error))
    if len(faults) == 1:
        raise DataError(faults[0])
    if faults:
        raise DataError("\n  ".join([f"{len(faults)} of {len(files)} files are bad:", *faults]))
