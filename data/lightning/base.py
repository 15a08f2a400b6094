"""Settings, checks and loaders that all data modules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from aimless.errors import ConfigError, DataError
from data import audio, tracks
from data.augment.base import CPUBase
from data.dataset.base import Item, SegmentDataset, collate
from data.lightning.loaders import LoaderSettings, check_batches
from data.lightning.settings import (
    check_choice,
    check_duration,
    check_level,
    check_number,
    setting,
)
from data.listing import copies, folders
from data.sampling import EvalSampler, Key, TrainSampler
from data.tracks import BadTrackPolicy, MissingPolicy, Rules, Track

__all__ = ["BaseDataModule", "Split"]

SplitName = Literal["train", "val", "test"]


class Split(NamedTuple):
    """Where the tracks of a split lie: a folder under the root, and which of its tracks."""

    folder: str
    select: Callable[[str], bool] | None = None


class BaseDataModule(pl.LightningDataModule):
    """Segments of stems for training, validation and test.

    A subclass sets `sources`, `mixture` and `splits`; the rest is here. All files are checked
    in `setup`, before the first step. A batch is a `data.dataset.Item`.

    Validation and test do no random draws and no effects: the numbers of two validations of
    the same weights are the same.

    Args:
        root: folder of the data set.
        seq_duration: length of a training segment in seconds, from 0.01 to 3600; null: whole
            tracks.
        samples_per_track: training items per track and epoch with `random`.
        random: train on segments at random places; otherwise on consecutive ones.
        random_track_mix: draw track and place for each source by itself, and sum them to the
            mixture. Needs `random`.
        transforms: effects on the training items, see `data.augment`.
        batch_size: items per process and step.
        val_seq_duration: length of the consecutive segments for validation in seconds;
            `same`: as `seq_duration`; null: whole tracks, one at a time.
        test_seq_duration: the same for test.
        num_workers: processes that load data, per training process; null: from the number of
            processor cores, 0 if there are no more than two.
        pin_memory: copy batches to page-locked memory; null: if the trainer uses CUDA.
        on_bad_track: `error` stops if a track is damaged, `skip` goes on without it; of one that
            cannot be read later, random items are drawn anew from the others.
        max_length_difference: allowed between the files of a track, in seconds.
        check_samples: read float files whole before training, for samples that are not finite.
        seed: of the order and of all draws.
        sample_rate: that all files must have, in Hz.
        channels: that items have; mono files are duplicated.
        prefetch: batches that each loader process makes ahead; null: 2.
        persistent_workers: keep loader processes from one epoch to the next; null: yes.
        min_loudness_db: RMS in dB of full scale, below 0, that random training segments must
            reach, for instance -50: each stem by itself with `random_track_mix`, else the
            mixture. Quieter ones are drawn again, up to 10 times; null: any will do.
        max_bad_excerpts: training excerpts of an epoch that may be replaced because they hold
            samples that are not finite, or with `on_bad_track: skip` cannot be read.
        missing: what a stem without a file is: an `error`, or `silence`.
        read_timeout: seconds after which an attempt to read from a file is over; null: never.
        read_retries: attempts after the first, where the storage fails or does not answer.

    Raises:
        ConfigError: a value that is not allowed; names the key.
    """

    sources: tuple[str, ...]
    mixture = "mixture"
    splits: dict[SplitName, Sequence[Split]]
    # Splits that must not share a track with the training split.
    held_out: tuple[SplitName, ...] = ("val", "test")

    def __init__(
        self,
        root: str,
        seq_duration: float | None = 6.0,
        samples_per_track: int = 64,
        random: bool = False,
        random_track_mix: bool = False,
        transforms: Sequence[CPUBase] | None = None,
        batch_size: int = 16,
        val_seq_duration: float | Literal["same"] | None = "same",
        test_seq_duration: float | Literal["same"] | None = None,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
        on_bad_track: BadTrackPolicy = "error",
        max_length_difference: float = 0.1,
        check_samples: bool = True,
        seed: int = 0,
        sample_rate: int = 44100,
        channels: int = 2,
        prefetch: int | None = None,
        persistent_workers: bool | None = None,
        min_loudness_db: float | None = None,
        max_bad_excerpts: int = 10,
        missing: MissingPolicy = "error",
        read_timeout: float | None = 60.0,
        read_retries: int = 3,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.durations: dict[SplitName, float | None] = {
            "train": check_duration("seq_duration", seq_duration),
            "val": check_duration("val_seq_duration", val_seq_duration, seq_duration),
            "test": check_duration("test_seq_duration", test_seq_duration, seq_duration),
        }
        self.samples_per_track = check_number("samples_per_track", samples_per_track)
        self.random = random
        self.random_track_mix = random_track_mix
        if random_track_mix and (not random or seq_duration is None):
            raise ConfigError(f"{setting('random_track_mix')}: true needs random and seq_duration")
        self.transforms = list(transforms or ())
        self.batch_size = check_number("batch_size", batch_size)
        self.loading = LoaderSettings(
            num_workers, prefetch, persistent_workers, pin_memory, read_timeout, read_retries
        )
        self.min_loudness_db = check_level("min_loudness_db", min_loudness_db)
        if min_loudness_db is not None and (not random or seq_duration is None):
            raise ConfigError(
                f"{setting('min_loudness_db')}: {min_loudness_db} needs random and seq_duration"
            )
        self.max_bad_excerpts = check_number("max_bad_excerpts", max_bad_excerpts, low=0)
        self.on_bad_track = check_choice("on_bad_track", on_bad_track, ("error", "skip"))
        self.seed = check_number("seed", seed, low=0)
        self.rules = Rules(
            self.sources,
            self.mixture,
            check_number("sample_rate", sample_rate),
            check_number("channels", channels),
            check_number("max_length_difference", max_length_difference, low=0),
            check_samples,
            check_choice("missing", missing, ("error", "silence")),
        )
        self.datasets: dict[SplitName, SegmentDataset] = {}
        self._position = 0, 0

    @property
    def seq_duration(self) -> float | None:
        """Length of a training segment in seconds; None: whole tracks."""
        return self.durations["train"]

    @property
    def sample_rate(self) -> int:
        """Of all items, in Hz."""
        return self.rules.sample_rate

    @property
    def channels(self) -> int:
        """Of all items."""
        return self.rules.channels

    def setup(self, stage: str | None = None) -> None:
        """Check the files of the splits that the stage needs; done once per split.

        Args:
            stage: fit, validate, test, or None for all.

        Raises:
            DataError: bad or missing tracks, all of them listed; a track in two splits.
            ConfigError: batches that cannot be made.
        """
        needed: dict[str | None, tuple[SplitName, ...]] = {
            "fit": ("train", "val"),
            "validate": ("val",),
            "test": ("test",),
            None: ("train", "val", "test"),
        }
        faults = []
        for split in needed.get(stage, ()):
            if split in self.datasets:
                continue
            try:
                self.datasets[split] = self._make_dataset(split)
            except DataError as error:
                faults.append(str(error))
                continue
            if split == "train":
                check_batches(self.datasets[split], self.batch_size, self._processes())
        if faults:
            raise DataError("\n".join(faults))
        if "train" in needed.get(stage, ()):
            self._check_held_out()

    def train_dataloader(self) -> DataLoader[Item]:
        """Shuffled batches, the incomplete last one left out; see `set_position`."""
        dataset = self.datasets["train"]
        sampler = TrainSampler(len(dataset), self.seed)
        sampler.set_position(*self._position)
        return self.loading.loader(dataset, self.trainer, sampler, self.batch_size, drop_last=True)

    def set_position(self, epoch: int, start: int) -> None:
        """Let `train_dataloader` go on in the middle of an epoch; later ones begin at 0.

        Args:
            epoch: that was interrupted, counted from 0.
            start: items of it that were trained on by all processes together.
        """
        self._position = epoch, start

    def batches_done(self) -> int:
        """Batches of the interrupted epoch that count as done: with those left it is whole."""
        size, world = len(self.datasets["train"]), self._processes()
        left = (size - self._position[1]) // world // self.batch_size
        return size // world // self.batch_size - left

    def items_used(self, epoch: int, batches: int) -> int:
        """Items of an epoch that all processes together have used.

        Args:
            epoch: counted from 0.
            batches: of each process, as the trainer counts them.
        """
        interrupted, start = self._position
        if epoch != interrupted:
            return batches * self.batch_size * self._processes()
        return start + (batches - self.batches_done()) * self.batch_size * self._processes()

    def _processes(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def val_dataloader(self) -> DataLoader[Item]:
        """All of the validation tracks, in order."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Item]:
        """All of the test tracks, in order."""
        return self._eval_loader("test")

    def describe(self, batch: Item) -> list[str]:
        """Where the items of a training batch come from, in a line each.

        Args:
            batch: as `train_dataloader` gives it; only its epochs and indices are used.

        Returns:
            Of each item the files that it was read from, with their offsets in seconds.
        """
        dataset = self.datasets["train"]
        epochs, indices = (torch.as_tensor(field).tolist() for field in (batch.epoch, batch.index))
        return [
            ", ".join(
                f"{audio.printable(excerpt.file)} from {excerpt.start / excerpt.file.rate:.3f} s"
                for excerpts in dataset.describe(Key(epoch, index)).values()
                for excerpt in excerpts
            )
            for epoch, index in zip(epochs, indices)
        ]

    def reload(self, batch: Item) -> Item:
        """Read a training batch again.

        Args:
            batch: as `train_dataloader` gives it; only its epochs and indices are used.

        Raises:
            AudioReadError: a file cannot be read any more.
        """
        epochs, indices = (torch.as_tensor(field).tolist() for field in (batch.epoch, batch.index))
        return collate(self.datasets["train"].__getitems__(list(map(Key, epochs, indices))))

    def _eval_loader(self, split: SplitName) -> DataLoader[Item]:
        dataset = self.datasets[split]
        whole = self.durations[split] is None
        return self.loading.loader(
            dataset,
            self.trainer,
            EvalSampler(len(dataset)),
            1 if whole else self.batch_size,
            whole_songs=whole,
        )

    def _make_dataset(self, split: SplitName) -> SegmentDataset:
        found = self._scan(split)
        duration = self.durations[split]
        if split != "train":
            return SegmentDataset(found, self.sources, duration)
        return SegmentDataset(
            found,
            self.sources,
            duration,
            self.samples_per_track,
            self.random,
            self.random_track_mix,
            **self._draw_settings(),
        )

    def _draw_settings(self) -> dict[str, Any]:
        """What every training data set takes besides the places that it draws from."""
        return {
            "transforms": self.transforms,
            "seed": self.seed,
            "min_loudness_db": self.min_loudness_db,
            "on_bad_track": self.on_bad_track,
            "max_bad_excerpts": self.max_bad_excerpts,
        }

    def _scan(self, split: SplitName) -> list[Track]:
        rules = self._split_rules(split)
        return [
            track
            for folder, select in self.splits[split]
            for track in tracks.scan(self.root / folder, rules, self.on_bad_track, select)
        ]

    def _split_rules(self, split: SplitName) -> Rules:
        if split == "train" and self.random_track_mix:
            return Rules(**{**vars(self.rules), "mixture": None})
        return self.rules

    def _check_held_out(self) -> None:
        """No track of the validation or test split may be trained on, nor a copy of it."""
        training = self._find("train")
        for split in self.held_out:
            try:
                other = self._find(split)
            except DataError:
                continue  # a split that is not there shares no track; its own stage reports it
            copies.check_disjoint(training, other)

    def _find(self, split: SplitName) -> list[folders.TrackFolder]:
        return [
            track
            for folder, select in self.splits[split]
            for track in folders.find(self.root / folder, self.sources, select)
        ]
