"""The config of a run, beside its checkpoints and in each of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from aimless.lightning.checkpoint_io import AtomicCheckpointIO

__all__ = ["SaveConfig"]


class SaveConfig(pl.Callback):
    """Saves the resolved config as `config.yaml` beside the checkpoints, and in each of them.

    A checkpoint carries its config as YAML text under the key `config`, so that it can be
    rebuilt by itself and still loads with `weights_only=True`.

    Args:
        parser: of the subcommand.
        config: the parsed config.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace) -> None:
        self.text = parser.dump(config, skip_unset=False)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file when a run begins; by now the checkpoint folder is known."""
        if isinstance(io := trainer.strategy.checkpoint_io, AtomicCheckpointIO):
            io.hooks.append(self.add)
        folder = getattr(trainer.checkpoint_callback, "dirpath", None) or trainer.log_dir
        if folder is None or getattr(trainer, "fast_dev_run", False) or not trainer.is_global_zero:
            return
        os.makedirs(folder, exist_ok=True)
        temporary = Path(folder) / ".config.yaml.part"
        temporary.write_text(self.text, encoding="utf-8")
        os.replace(temporary, Path(folder) / "config.yaml")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the config into the checkpoint."""
        self.add(checkpoint)

    def add(self, checkpoint: dict[str, Any]) -> None:
        """Put the config into a checkpoint, also one that holds weights only."""
        checkpoint["config"] = self.text
