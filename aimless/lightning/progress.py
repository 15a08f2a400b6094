"""The progress bar: batches in training, seconds of audio where songs are separated."""

from __future__ import annotations

import sys
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from aimless.lightning.throughput import Throughput

__all__ = ["AudioProgressBar"]


class AudioProgressBar(TQDMProgressBar):
    """Lightning's bar, without the version number; `predict` shows one bar per song.

    Args:
        refresh_rate: update every so many batches; 0 shows no bar. None: every batch on a
            terminal, every 50 in a log file.
    """

    def __init__(self, refresh_rate: int | None = None) -> None:
        if refresh_rate is None:
            refresh_rate = 1 if sys.stderr.isatty() else 50
        super().__init__(refresh_rate=refresh_rate, leave=False)
        self._song: tqdm | None = None

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The logged values, without the logger's version, and the speed of the training."""
        shown = {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput):
                shown |= callback.shown()
        return shown

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar to `song`."""

    def on_predict_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Leave the bar to `song`."""

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Close the song's bar."""
        if self._song is not None:
            self._song.close()
            self._song = None

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is open."""

    def song(self, name: str, done: float, seconds: float) -> None:
        """Show that `done` of `seconds` seconds of the song are separated."""
        if self.is_disabled:
            return
        if self._song is None:
            bar_format = (
                "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
            )
            self._song = tqdm(total=seconds, desc=name, bar_format=bar_format)
        self._song.update(done - self._song.n)
