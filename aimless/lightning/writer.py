"""What `predict` leaves on disk: one file per stem of each song."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from aimless.errors import ConfigError
from aimless.songs.song import Song
from aimless.songs.stem_files import StemFiles, refuse_existing
from aimless.songs.stem_format import StemFormat
from aimless.songs.stem_paths import plan_stems

__all__ = ["StemWriter"]


class StemWriter(pl.Callback):
    """Writes the stems that `predict` separates, as `<output_dir>/<song>/<source>.<format>`.

    Args:
        output_dir: folder for the stems; made if missing.
        overwrite: replace stems that are already there.
        format: of the files: wav, flac, mp3 or ogg.
        bits: of a sample: 16, 24 or (WAV) float; null is float for WAV, 24 for FLAC.
        clip: beyond full scale: keep (float), rescale or clamp; see `aimless.StemFormat`.

    Raises:
        ConfigError: a format that does not exist.
    """

    def __init__(
        self,
        output_dir: str = "separated",
        overwrite: bool = False,
        format: str = "wav",
        bits: str | None = None,
        clip: str | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.overwrite = overwrite
        self.format = StemFormat(format, bits, clip)

    def on_predict_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Refuse before any work to replace stems that are already there."""
        try:
            refuse_existing(self._paths(batch.path, pl_module.targets).values(), self.overwrite)
        except ConfigError as error:
            raise ConfigError(f"{error}: --stems.output_dir, --stems.overwrite true") from None

    def write(
        self, song: Song, path: str, targets: Sequence[str], stems: Iterable[Tensor]
    ) -> dict[str, Path]:
        """Write the stems of one song while they are separated.

        Args:
            song: that is being separated.
            path: of its file.
            targets: names of the stems.
            stems: blocks (targets, channels, n).

        Returns:
            Name of the stem -> its file.
        """
        paths = self._paths(path, targets)
        about = song.rate, song.channels, song.frames
        with StemFiles(paths, *about, self.format, self.overwrite) as files:
            for block in stems:
                files.write(block)
        names = ", ".join(file.name for file in paths.values())
        print(f"{path} -> {next(iter(paths.values())).parent}: {names}", flush=True)
        return paths

    def _paths(self, song: str, targets: Sequence[str]) -> dict[str, Path]:
        return plan_stems([Path(song)], targets, self.output_dir, self.format.suffix)[0]
