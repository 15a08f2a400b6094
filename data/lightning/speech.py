"""Speech and noise as a Lightning data module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch.distributions import Distribution

from aimless.errors import ConfigError, DataError
from aimless.sources import SE_SOURCES
from data.audio import AudioFile, printable
from data.dataset.speech import SpeechNoiseDataset
from data.lightning.base import BaseDataModule, SplitName
from data.lightning.checks import check_fraction, check_share, require_duration
from data.lightning.settings import check_number, setting
from data.listing import recordings
from data.listing.holdout import held_out
from data.listing.recordings import FileRules
from data.snr import SnrSampler

__all__ = ["SpeechNoise"]

Kind = Literal["speech", "noise"]


class _Roots(NamedTuple):
    """Where the recordings of a kind are; `val` is None if some of `train` are held out."""

    train: Path
    val: Path | None

    @classmethod
    def of(cls, train: str, val: str | None) -> _Roots:
        return cls(Path(train), None if val is None else Path(val))


class SpeechNoise(BaseDataModule):
    """Speech in noise, mixed anew each time; sources speech and noise.

    WAV and FLAC files of any sample rate and length, anywhere below two folders. Those of another
    rate than `sample_rate` are resampled, only in the part that is needed. How an item is
    made is described at `data.dataset.speech.SpeechNoiseDataset`.

    Validation and test have the same draws each time. Recordings below one folder of the root,
    for instance those of a speaker, are all trained on or all held out; so is a file that lies in
    the root itself.

    Args:
        speech_root: folder with recordings of speech.
        noise_root: folder with recordings of noise.
        seq_duration: length of a training segment in seconds, from 0.01 to 3600.
        samples_per_track: training items per speech file and epoch.
        least_overlap_ratio: share of the segment, from 0 to 1, that speech overlaps at least;
            shorter speech is always there as a whole.
        snr_sampler: distribution of the signal-to-noise ratio in dB, for instance
            `torch.distributions.Uniform`; `{low: 0, high: 20}` is uniform; null: from 0 to 20 dB.
        mono: average the channels of each file; otherwise mono files are doubled.
        val_fraction: share of the speakers and of the noises that is held out for validation,
            where no folder of its own is given.
        val_speech_root: folder with speech for validation; null: part of `speech_root`.
        val_noise_root: folder with noise for validation; null: part of `noise_root`.
        split_seed: of the choice of what is held out, and of the draws of validation and test;
            apart from `seed`, so that runs with different draws are validated on the same items.
        channels: of the items; null: 1 with `mono`, else 2.
        **kwargs: settings of all data modules, see `BaseDataModule`.

    Raises:
        ConfigError: a value that is not allowed; names the key.
    """

    sources = SE_SOURCES

    def __init__(
        self,
        speech_root: str,
        noise_root: str,
        seq_duration: float = 6.0,
        samples_per_track: int = 64,
        least_overlap_ratio: float = 0.5,
        snr_sampler: Distribution | dict[str, float] | None = None,
        mono: bool = True,
        val_fraction: float = 0.1,
        val_speech_root: str | None = None,
        val_noise_root: str | None = None,
        split_seed: int = 0,
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        require_duration(seq_duration)
        super().__init__(
            root=speech_root,
            seq_duration=seq_duration,
            samples_per_track=samples_per_track,
            random=True,
            channels=_count_channels(mono, channels),
            **kwargs,
        )
        self.roots: dict[Kind, _Roots] = {
            "speech": _Roots.of(speech_root, val_speech_root),
            "noise": _Roots.of(noise_root, val_noise_root),
        }
        self.least_overlap_ratio = check_share("least_overlap_ratio", least_overlap_ratio)
        self.snr = SnrSampler({"low": 0.0, "high": 20.0} if snr_sampler is None else snr_sampler)
        self.val_fraction = check_fraction("val_fraction", val_fraction)
        self.split_seed = check_number("split_seed", split_seed, low=0)
        self.file_rules = FileRules(
            channels=None if mono else self.channels,
            check_samples=self.rules.check_samples,
            on_bad=self.on_bad_track,
        )
        self._listed: dict[tuple[Kind, bool], list[AudioFile]] = {}

    def _make_dataset(  # type: ignore[override] # the base class names the one that it makes
        self, split: SplitName
    ) -> SpeechNoiseDataset:
        training = split == "train"
        # Runs with different seeds are validated on the same items.
        held_out = {"seed": self.split_seed, "max_bad_excerpts": None}
        drawing = self._draw_settings() if training else held_out
        return SpeechNoiseDataset(
            self._files("speech", split),
            self._files("noise", split),
            self.sample_rate,
            self.durations[split],
            self.samples_per_track if training else 1,
            self.least_overlap_ratio,
            self.snr,
            self.channels,
            **drawing,
        )

    def _files(self, kind: Kind, split: SplitName) -> list[AudioFile]:
        """The recordings of a kind that a split has; validation and test have the same."""
        training = split == "train"
        if (kind, training) not in self._listed:
            train, val = self.roots[kind]
            if val is not None:
                self._listed[kind, training] = self._check(train if training else val)
            else:
                self._divide(kind, train)
        return self._listed[kind, training]

    def _divide(self, kind: Kind, root: Path) -> None:
        """List the recordings below a folder, and hold some out."""
        files = self._check(root)
        parts = [_part(root, file) for file in files]
        chosen = held_out(parts, self.val_fraction, self.split_seed)
        if not chosen:
            raise DataError(
                f"{setting('val_fraction')}: {self.val_fraction:g} of {printable(root)} cannot be "
                f"held out, all is in one part, {parts[0]}; name the folder of the parts, or set "
                f"val_{kind}_root"
            )
        for training in (True, False):
            self._listed[kind, training] = [
                file for file, part in zip(files, parts) if (part not in chosen) == training
            ]

    def _check(self, root: Path) -> list[AudioFile]:
        return recordings.check(root, recordings.find(root), self.file_rules)

    def _check_held_out(self) -> None:
        """No recording of the validation split may be trained on."""
        kinds: tuple[Kind, ...] = ("speech", "noise")
        for kind in kinds:
            recordings.check_disjoint(self._files(kind, "train"), self._files(kind, "val"))


def _part(root: Path, file: AudioFile) -> str:
    """What is held out together with a file: its first folder below the root, or itself."""
    parts = file.path.parts[len(root.parts) :]
    return parts[0] if len(parts) > 1 else file.path.stem


def _count_channels(mono: bool, channels: int | None) -> int:
    wanted = 1 if mono else 2
    if channels is not None and (channels == 1) != mono:
        raise ConfigError(
            f"{setting('mono')}: {str(mono).lower()} does not fit {setting('channels')}: {channels}"
        )
    return wanted if channels is None else channels
