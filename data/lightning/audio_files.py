"""Audio files of any kind as a Lightning data module for `predict`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from aimless.errors import ConfigError, DataError
from data import audio
from data.audio import printable
from data.lightning.settings import setting
from data.sampling import EvalSampler, Key

__all__ = ["AUDIO_SUFFIXES", "AudioFiles", "Song", "SongDataset"]

# What folders are searched for; a file that is named itself may have any suffix.
AUDIO_SUFFIXES = frozenset(
    "." + name
    for name in (
        *("wav", "flac", "aif", "aiff", "aifc", "caf", "w64"),
        *("mp3", "ogg", "oga", "opus", "m4a", "mp4", "aac", "wma", "webm"),
    )
)


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
        paths: a file or folder, or a list of them. Folders are searched for audio files, in
            the order of their names; hidden files and folders are skipped.
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
        """All files, each real file once."""
        unique: dict[str, Path] = {}
        for given in map(Path, self.paths):
            if not os.path.lexists(given):
                raise DataError(f"{setting('paths')}: {printable(given)}: no such file")
            found = list(self._search(given)) if given.is_dir() else [given]
            if not found:
                raise DataError(f"{setting('paths')}: {printable(given)}: no audio in it")
            for path in found:
                unique.setdefault(os.path.realpath(path), path)
        return list(unique.values())

    def _search(self, folder: Path) -> Iterator[Path]:
        for place, inner, names in os.walk(folder):
            inner[:] = sorted(name for name in inner if self.recursive and name[0] != ".")
            for name in sorted(names):
                if name[0] != "." and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                    yield Path(place, name)


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
            audio.check(path)
        except audio.AudioReadError as error:
            faults.append(str(error))
    if len(faults) == 1:
        raise DataError(faults[0])
    if faults:
        raise DataError("\n  ".join([f"{len(faults)} of {len(files)} files are bad:", *faults]))
