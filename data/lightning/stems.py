"""Stems of any kind, from any number of folders and lists, as a Lightning data module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aimless.errors import ConfigError, DataError
from data.audio import printable
from data.dataset.base import SegmentDataset
from data.dataset.excerpts import Pool
from data.lightning.base import BaseDataModule, Split, SplitName
from data.lightning.checks import check_share, require_duration
from data.lightning.settings import check_number, setting
from data.lightning.stem_settings import (
    check_range,
    check_sources,
    parse_mixup,
    parse_presence,
    parse_roots,
)
from data.listing import recordings
from data.listing.roots import Contents, load
from data.pools import FilePool, MixupPool, PresencePool, TogetherPool, WeightedPool

__all__ = ["StemFiles"]


class StemFiles(BaseDataModule):
    """Training on stems that are drawn from many places, validation on tracks.

    Each item takes a stem of each source from a file and place of its own, or now and then all
    stems from one track and place; the mixture is their sum. Validation and test are folders of
    track folders, `<folder>/<track>/{mixture,<source>,...}.wav`.

    Args:
        sources: names of the stems, the order of the source axis.
        train: a path or a list of them, each a path or `{path, weight, layout}`. The layout is
            `tracks` (a folder of track folders with `<source>.wav`), `stems` (a folder per source
            with files at any depth) or `csv` (a table with the columns source, or instrum, and
            path); it is `csv` for a path that ends so, else `tracks`. A root is drawn in
            proportion to its weight (1) among those that have files of the source.
        validation: a folder of track folders, or a list of them.
        test: the same; null: there is no test.
        root: folder that relative paths begin at.
        seq_duration: length of a training segment in seconds, from 0.01 to 3600.
        samples_per_epoch: training items per epoch.
        mixup: probabilities that one, two, and so on more draws are added to a stem, for
            instance `[0.2, 0.02]`; a mapping gives them by source.
        mixup_gain_db: lowest and highest gain of what is added, in dB.
        aligned_p: share of items whose stems are all from the same track and place; only roots
            with the layout `tracks` take part.
        presence: probability by source that its stem is drawn at all; otherwise it is silent. A
            source that is not named is as frequent as it is in the tracks.
        balance: draw every source as often as the most frequent one, `presence` aside.
        mixture: name of the recorded mixture's file in validation and test.
        **kwargs: settings of all data modules, see `BaseDataModule`.

    Raises:
        ConfigError: a value that is not allowed; names the key.
    """

    def __init__(
        self,
        sources: list[str],
        train: str | list[str | dict[str, Any]],
        validation: str | list[str],
        test: str | list[str] | None = None,
        root: str = ".",
        seq_duration: float = 6.0,
        samples_per_epoch: int = 1000,
        mixup: list[float] | dict[str, list[float]] | None = None,
        mixup_gain_db: tuple[float, float] = (-6.0, 3.0),
        aligned_p: float = 0.0,
        presence: dict[str, float] | None = None,
        balance: bool = False,
        mixture: str = "mixture",
        **kwargs: Any,
    ) -> None:
        self.sources = check_sources(sources)
        self.mixture = mixture
        require_duration(seq_duration)
        super().__init__(
            root, seq_duration, samples_per_track=1, random=True, random_track_mix=True, **kwargs
        )
        self.roots = parse_roots(train, self.root)
        self.splits = {
            "train": [
                Split(str(root.path.absolute()))  # not joined to `root` once more
                for root in self.roots
                if root.layout == "tracks"
            ],
            "val": _as_splits(validation),
            "test": _as_splits(test or []),
        }
        self.samples_per_epoch = check_number("samples_per_epoch", samples_per_epoch)
        self.mixup = parse_mixup(mixup, self.sources)
        self.mixup_gain_db = check_range("mixup_gain_db", mixup_gain_db)
        self.aligned_p = check_share("aligned_p", aligned_p)
        self.presence = parse_presence(presence, self.sources)
        self.balance = balance
        self._contents: list[Contents] = []
        if aligned_p and not self.splits["train"]:
            raise ConfigError(f"{setting('aligned_p')}: {aligned_p} needs a root of layout tracks")

    def _make_dataset(self, split: SplitName) -> SegmentDataset:
        if split == "train":
            return self._make_training_dataset()
        if not self.splits[split]:
            raise ConfigError(f"{setting(split)}: none given; name a folder of track folders")
        return super()._make_dataset(split)

    def _make_training_dataset(self) -> SegmentDataset:
        rules = replace(self.rules, mixture=None)
        self._contents = [load(root, rules, self.on_bad_track) for root in self.roots]
        return SegmentDataset(
            [],
            self.sources,
            self.seq_duration,
            random=True,
            random_track_mix=True,
            pools=self._make_pools(),
            aligned=self._make_together_pool() if self.aligned_p else None,
            aligned_p=self.aligned_p,
            samples=self.samples_per_epoch,
            rate=self.sample_rate,
            channels=self.channels,
            **self._draw_settings(),
        )

    def _make_together_pool(self) -> TogetherPool:
        found = [
            (contents.tracks, root.weight)
            for root, contents in zip(self.roots, self._contents)
            if contents.tracks
        ]
        return TogetherPool(*zip(*found))

    def _make_pools(self) -> dict[str, Pool]:
        """A pool for each source: how often it is there, from where, and how many times."""
        roots = {source: self._find_source(source) for source in self.sources}
        usual = {source: _presence(source, found) for source, found in roots.items()}
        if self.balance:
            usual = dict.fromkeys(usual, max(usual.values()))
        pools: dict[str, Pool] = {}
        for source, found in roots.items():
            pool: Pool = WeightedPool(
                [FilePool(contents.files[source]) for _, contents in found],
                [weight for weight, _ in found],
            )
            if source in self.mixup:
                pool = MixupPool(pool, self.mixup[source], self.mixup_gain_db)
            pools[source] = PresencePool(pool, self.presence.get(source, usual[source]))
        return pools

    def _find_source(self, source: str) -> list[tuple[float, Contents]]:
        """Weight and contents of the roots that have files of a source."""
        found = [
            (root.weight, contents)
            for root, contents in zip(self.roots, self._contents)
            if contents.files.get(source)
        ]
        if not found:
            roots = ", ".join(printable(root.path) for root in self.roots)
            raise DataError(f"{setting('train')}: no file of the source {source} in {roots}")
        return found

    def _check_held_out(self) -> None:
        """No file of the validation or test split may be trained on."""
        super()._check_held_out()
        training = [
            file
            for contents in self._contents
            for files in contents.files.values()
            for file in files
        ]
        for split in self.held_out:
            recordings.check_disjoint(training, self._list_files(split))

    def _list_files(self, split: SplitName) -> list[str]:
        """Paths of the files of a split; none if it is not there, which its own stage reports."""
        try:
            tracks = self._find(split)
        except DataError:
            return []
        return [file.path for track in tracks for files in track.files.values() for file in files]


def _presence(source: str, roots: Sequence[tuple[float, Contents]]) -> float:
    """How often a source is there if a root is drawn by weight, and then a track."""
    total = sum(weight for weight, _ in roots)
    return sum(weight * contents.presence(source) for weight, contents in roots) / total


def _as_splits(given: str | list[str]) -> list[Split]:
    return [Split(folder) for folder in ([given] if isinstance(given, str) else given)]
