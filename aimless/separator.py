"""Separate songs from Python.

from aimless import Separator

separator = Separator.load("model.safetensors")
stems = separator.separate("song.mp3")
stems["vocals"], stems.sample_rate
separator.separate_files(["song.mp3", "album/"], "separated")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from aimless.checkpoint import load
from aimless.engine.derived import DerivedStems
from aimless.engine.fifo import collect
from aimless.engine.runner import Runner
from aimless.errors import AimlessError, ConfigError
from aimless.network import AudioNetwork
from aimless.overlap_add import OverlapAdd
from aimless.separate import SecondsDone, separate_blocks
from aimless.songs.audio_paths import find_songs
from aimless.songs.song import Song
from aimless.songs.stem_files import StemFiles, refuse_existing
from aimless.songs.stem_format import StemFormat
from aimless.songs.stem_paths import TEMPLATE, plan_stems

__all__ = ["Separator", "Stems"]

#: (song, seconds done, seconds in all)
SongProgress = Callable[[Path, float, float], None]
PathLike = str | os.PathLike[str]

_FLOAT = StemFormat()


class Stems(Mapping[str, Tensor]):
    """Named stems of one song: a mapping of names to (channels, samples) float32 tensors.

    Args:
        stems: name -> (channels, samples), on the CPU.
        sample_rate: in Hz.
    """

    def __init__(self, stems: Mapping[str, Tensor], sample_rate: int) -> None:
        self._stems = dict(stems)
        self.sample_rate = sample_rate

    def __getitem__(self, name: str) -> Tensor:
        return self._stems[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stems)

    def __len__(self) -> int:
        return len(self._stems)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(stem.shape)}" for name, stem in self.items())
        return f"Stems({shapes}; {self.sample_rate} Hz)"


class Separator:
    """Separates songs with a network.

    Args:
        network: as `aimless.checkpoint.load` gives it.
        device: `auto` for the best there is, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: `32`, or `bf16` or `16` for autocast, which is faster on many GPUs.
        compile: the network, with `torch.compile`: slow for the first segment, then faster.
        segment: see `aimless.overlap_add.OverlapAdd`, also for the next six; None takes what the
            network's recipe says, otherwise the default.
        overlap: share of a segment that the next one repeats.
        context: seconds at the edges of a segment whose output is discarded.
        batch_size: segments that go through the network at once.
        shifts: passes over the song, moved against each other, whose mean is taken.
        seed: of the shifts.
        tta: test-time augmentation, of `polarity` and `swap`.
        two_stems: see `aimless.engine.derived.DerivedStems`, also for the next two.
        residual: add what the stems leave of the mixture as a stem.
        mixture_consistency: make the stems sum to the mixture.
        fix_nonfinite: put 0 in the place of samples that are NaN or infinite, instead of
            refusing the song.

    Attributes:
        stems: names of the stems, in order.

    Raises:
        ConfigError: a setting out of range, or a device that is not there.
    """

    def __init__(
        self,
        network: AudioNetwork,
        *,
        device: str | torch.device = "auto",
        precision: str | int = "32",
        compile: bool = False,
        segment: float | None = None,
        overlap: float | None = None,
        context: float | None = None,
        batch_size: int | None = None,
        shifts: int | None = None,
        seed: int | None = None,
        tta: Iterable[str] | None = None,
        two_stems: str | None = None,
        residual: bool = False,
        mixture_consistency: bool = False,
        fix_nonfinite: bool = False,
    ) -> None:
        given = {
            "segment": segment,
            "overlap": overlap,
            "context": context,
            "batch_size": batch_size,
            "shifts": shifts,
            "seed": seed,
            "tta": tta,
            "fixed": True if compile else None,
        }
        stated = {name: value for name, value in given.items() if value is not None}
        self.overlap_add = _overlap_add(network.engine, stated)
        self.derived = DerivedStems(two_stems, residual, mixture_consistency)
        self.sources = tuple(network.sources)
        self.stems = self.derived.names(self.sources)
        self.sample_rate, self.channels = network.sample_rate, network.channels
        self.fix_nonfinite = fix_nonfinite
        self._runner = Runner(network, device, precision, self.overlap_add.batch_size, compile)

    @classmethod
    def load(
        cls,
        source: PathLike,
        *,
        sha256: str | None = None,
        trusted: Iterable[str] = (),
        checkpoints: Mapping[str, PathLike] | None = None,
        **settings: Any,
    ) -> Separator:
        """Load a network and get ready.

        Args:
            source: a file, a folder of a run, a recipe, a URL, or the name of published weights;
                see `aimless.checkpoint.load`.
            sha256: what the file must hash to; for downloads.
            trusted: packages besides `aimless` whose classes a checkpoint may name.
            checkpoints: name -> file, folder or URL, for a recipe.
            **settings: those of the class.

        Raises:
            DataError: the checkpoint is missing or damaged.
            ConfigError: a setting out of range, or a network that cannot be built.
        """
        network = load(source, sha256=sha256, trusted=trusted, checkpoints=checkpoints)
        return cls(network, **settings)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._runner.device

    def separate(
        self,
        audio: PathLike | Tensor | NDArray,
        sample_rate: int | None = None,
        *,
        progress: SecondsDone | None = None,
    ) -> Stems:
        """Separate one song into memory.

        Args:
            audio: a file; or samples (channels, samples) or (samples,), floats of full scale
                ±1 or integers.
            sample_rate: of samples, in Hz; a file knows its own.
            progress: called with (seconds done, seconds in all).

        Returns:
            The stems, at the song's rate, with its channels and samples.

        Raises:
            DataError: the song cannot be read, or a sample is not finite.
            ConfigError: samples without their rate.
        """
        song = self._song(audio, sample_rate)
        total = collect(self._blocks(song, progress), song.frames)
        return Stems(dict(zip(self.stems, total)), song.rate)

    def separate_files(
        self,
        songs: PathLike | Iterable[PathLike],
        out_dir: PathLike,
        *,
        format: StemFormat = _FLOAT,
        template: str = TEMPLATE,
        overwrite: bool = False,
        progress: SongProgress | None = None,
        on_error: Callable[[Path, AimlessError], None] | None = None,
        on_done: Callable[[Path, dict[str, Path]], None] | None = None,
    ) -> dict[Path, dict[str, Path]]:
        """Separate files into files; memory does not grow with their lengths.

        Args:
            songs: files, folders, or patterns with `*`.
            out_dir: folder for the stems; made if missing.
            format: of the files.
            template: of a file's name in `out_dir`, with `{song}` and `{stem}`.
            overwrite: replace files that are there.
            progress: called with (song, seconds done, seconds in all).
            on_error: called with a song that fails and why, and the next one is separated; None
                raises the error.
            on_done: called with each song that is done, and its files.

        Returns:
            Song -> name of the stem -> file, without songs that failed.

        Raises:
            DataError: a song is missing, or (without `on_error`) cannot be read.
            ConfigError: names that clash, files that are there, or a wrong setting.
        """
        files = find_songs([songs] if isinstance(songs, (str, os.PathLike)) else songs)
        plan = plan_stems(files, self.stems, Path(out_dir), format.suffix, template)
        done: dict[Path, dict[str, Path]] = {}
        for file, paths in zip(files, plan):
            try:
                self._separate_file(file, paths, format, overwrite, progress)
            except AimlessError as error:
                if on_error is None:
                    raise
                on_error(file, error)
                continue
            done[file] = paths
            if on_done:
                on_done(file, paths)
        return done

    def _separate_file(
        self,
        file: Path,
        paths: dict[str, Path],
        format: StemFormat,
        overwrite: bool,
        progress: SongProgress | None,
    ) -> None:
        refuse_existing(paths.values(), overwrite)  # before a long file is looked at
        song = self._song(file)
        report = None if progress is None else lambda done, total: progress(file, done, total)
        with StemFiles(paths, song.rate, song.channels, song.frames, format, overwrite) as files:
            for stems in self._blocks(song, report):
                files.write(stems)

    def _song(self, audio: PathLike | Tensor | NDArray, sample_rate: int | None = None) -> Song:
        if isinstance(audio, (str, os.PathLike)):
            return Song.open(audio, self.fix_nonfinite)
        if sample_rate is None:
            raise ConfigError("sample_rate: needed to separate samples that are no file")
        return Song.from_array(audio, sample_rate, self.fix_nonfinite)

    def _blocks(self, song: Song, progress: SecondsDone | None) -> Iterator[Tensor]:
        """Stems (stems, channels, n) of a song."""
        for mixture, stems in separate_blocks(
            self._runner,
            song,
            sample_rate=self.sample_rate,
            channels=self.channels,
            overlap_add=self.overlap_add,
            device=self.device,
            progress=progress,
        ):
            yield self.derived(mixture, stems, self.sources)


def _overlap_add(engine: Mapping[str, Any], stated: Mapping[str, Any]) -> OverlapAdd:
    """What was stated, what the network's recipe says, and the defaults, in this order."""
    known = [field.name for field in fields(OverlapAdd)]
    for name in engine:
        if name not in known:
            raise ConfigError(f"engine: unknown setting '{name}'; known: {', '.join(known)}")
    settings = {**engine, **stated}
    if "tta" in settings:
        settings["tta"] = tuple(settings["tta"])
    return OverlapAdd(**settings)
