"""A fixed set of separated excerpts at every validation, to listen to and look at."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from aimless.errors import ConfigError
from aimless.lightning.logs import steady
from aimless.plot import png_bytes, spectrogram_figure
from aimless.separate import write_stems

__all__ = ["LogExcerpts"]

#: source -> {"target", "estimate", "residual"} -> (channels, samples)
Excerpt = dict[str, dict[str, Tensor]]


class LogExcerpts(pl.Callback):
    """Logs the first validation items as audio and as spectrogram pictures.

    They are the same items at every validation, so that progress can be heard. TensorBoard
    and W&B show them beside the curves; any other logger gets files in `excerpts/step_<n>` of
    its folder.

    Args:
        count: number of excerpts; 0 logs none.
        seconds: length of an excerpt, from the middle of the item.
        every_n_validations: from the first one on. Nothing is removed: with four stereo sources
            of 6 s an excerpt takes 4 MB in TensorBoard, and 17 MB as files.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, count: int = 2, seconds: float = 6.0, every_n_validations: int = 1) -> None:
        if count < 0:
            raise ConfigError(f"excerpts.count: {count}; must be 0 or more")
        if not seconds > 0:
            raise ConfigError(f"excerpts.seconds: {seconds}; must be above 0")
        if every_n_validations < 1:
            text = f"excerpts.every_n_validations: {every_n_validations}; must be 1 or more"
            raise ConfigError(text)
        self.count = count
        self.seconds = seconds
        self.every_n_validations = every_n_validations
        self._validations = 0
        self._seen = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin again with the first item, if this validation is one to log."""
        self._seen = 0 if self._validations % self.every_n_validations == 0 else self.count
        self._validations += not trainer.sanity_checking

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the items of this batch that belong to the set."""
        trial = trainer.sanity_checking or getattr(trainer, "fast_dev_run", False)
        if trial or not trainer.is_global_zero or not trainer.loggers or not outputs:
            return
        for stems, estimates in zip(outputs["stems"], outputs["estimates"]):
            if self._seen >= self.count:
                return
            excerpt = self._cut(pl_module, stems, estimates)
            self._log(trainer, pl_module, f"excerpt_{self._seen}", excerpt)
            self._seen += 1

    def _cut(self, pl_module: Any, stems: Tensor, estimates: Tensor) -> Excerpt:
        samples = estimates.shape[-1]
        length = min(samples, round(self.seconds * pl_module.sample_rate))
        start = (samples - length) // 2
        excerpt = {}
        for name, stem, estimate in zip(pl_module.targets, stems, estimates):
            target = stem[..., start : start + length].float().cpu()
            guess = estimate[..., start : start + length].float().cpu()
            excerpt[name] = {"target": target, "estimate": guess, "residual": target - guess}
        return excerpt

    def _log(self, trainer: pl.Trainer, pl_module: Any, name: str, excerpt: Excerpt) -> None:
        rate = pl_module.sample_rate
        picture = png_bytes(spectrogram_figure(excerpt, rate, f"step {trainer.global_step}"))
        for logger in trainer.loggers:
            with steady(logger):
                if isinstance(logger, TensorBoardLogger):
                    _to_tensorboard(logger, name, excerpt, picture, rate, trainer.global_step)
                elif isinstance(logger, WandbLogger):
                    _to_wandb(logger, name, excerpt, picture, rate)
                else:
                    step = f"step_{trainer.global_step:07d}"
                    _to_files(_folder(logger) / "excerpts" / step / name, excerpt, picture, rate)


def _waveforms(excerpt: Excerpt) -> dict[str, Tensor]:
    """What is worth hearing: `<source>_<kind>` -> (channels, samples)."""
    return {
        f"{source}_{kind}": kinds[kind]
        for source, kinds in excerpt.items()
        for kind in ("target", "estimate")
    }


def _to_tensorboard(
    logger: TensorBoardLogger, name: str, excerpt: Excerpt, picture: bytes, rate: int, step: int
) -> None:
    import matplotlib.image

    pixels = matplotlib.image.imread(io.BytesIO(picture))[..., :3]
    logger.experiment.add_image(f"{name}/spectrograms", pixels, step, dataformats="HWC")
    for label, waveform in _waveforms(excerpt).items():
        mono = waveform.mean(0, keepdim=True).clamp(-1, 1)  # TensorBoard plays one channel
        logger.experiment.add_audio(f"{name}/{label}", mono, step, sample_rate=rate)


def _to_wandb(logger: WandbLogger, name: str, excerpt: Excerpt, picture: bytes, rate: int) -> None:
    import wandb
    from PIL import Image

    media: dict[str, Any] = {
        f"{name}/{label}": wandb.Audio(np.asarray(waveform.T), sample_rate=rate)
        for label, waveform in _waveforms(excerpt).items()
    }
    media[f"{name}/spectrograms"] = wandb.Image(Image.open(io.BytesIO(picture)))
    logger.experiment.log(media)


def _to_files(folder: Path, excerpt: Excerpt, picture: bytes, rate: int) -> None:
    write_stems(folder, _waveforms(excerpt), rate)
    (folder / "spectrograms.png").write_bytes(picture)


def _folder(logger: Logger) -> Path:
    folder = getattr(logger, "log_dir", None) or logger.save_dir or "."
    return Path(folder)
