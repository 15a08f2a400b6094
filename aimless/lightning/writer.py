"""What `predict` leaves on disk: one WAV per stem of each song."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from aimless.errors import ConfigError
from aimless.separate import write_stems

__all__ = ["StemWriter"]


class StemWriter(pl.Callback):
    """Writes the stems that `predict` separates, as `<output_dir>/<song>/<source>.wav`.

    Args:
        output_dir: folder for the stems; made if missing.
        overwrite: replace stems that are already there.
    """

    def __init__(self, output_dir: str = "separated", overwrite: bool = False) -> None:
        self.output_dir = Path(output_dir)
        self.overwrite = overwrite

    def on_predict_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Refuse before any work to replace stems that are already there."""
        folder = self._folder(batch)
        there = [name for name in pl_module.targets if (folder / f"{name}.wav").exists()]
        if there and not self.overwrite:
            raise ConfigError(
                f"{folder} already holds {', '.join(there)}; "
                "choose another --stems.output_dir, or --stems.overwrite true"
            )

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the stems of one song."""
        folder = self._folder(batch)
        paths = write_stems(folder, outputs, batch.rate)
        print(f"{batch.path} -> {folder}: {', '.join(path.name for path in paths)}", flush=True)

    def _folder(self, song: Any) -> Path:
        return self.output_dir / Path(song.path).stem
