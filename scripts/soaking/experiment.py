"""The training run that is disturbed: small, with everything that must survive."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml

__all__ = ["REPOSITORY", "SAVE_EVERY", "command", "songs_words", "write_config"]

REPOSITORY = Path(__file__).resolve().parent.parent.parent
#: Optimizer steps between two saves.
SAVE_EVERY = 2


def songs_words(folder: Path) -> list[str]:
    """The words of `make_synthetic_dataset.py` for the songs: 20 MB, in two seconds."""
    sizes = ["--train", "4", "--validation", "1", "--test", "0", "--seconds", "4"]
    return [str(folder), *sizes, "--plain", "--workers", "1"]


def write_config(path: Path, songs: Path, output: Path, steps: int, one_folder: bool) -> None:
    """Write the config of a run.

    The network has dropout and running statistics, gradients are accumulated, weights averaged;
    effects draw in the loader and on the device; a validation comes twice in an epoch of nine
    optimizer steps.

    Args:
        path: of the file.
        songs: the data set.
        output: folder of the run.
        steps: optimizer steps of the whole run.
        one_folder: whether all checkpoints go to one folder, or each start makes one of its own.
    """
    folder = {"dirpath": str(output / "kept")} if one_folder else {}
    config = {
        "trainer": {
            "accelerator": "cpu",
            "max_steps": steps,
            "max_epochs": -1,
            "default_root_dir": str(output),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accumulate_grad_batches": 2,
            "val_check_interval": 0.5,
            "logger": _part(
                "lightning.pytorch.loggers.CSVLogger",
                save_dir=str(output),
                flush_logs_every_n_steps=3,
            ),
            "callbacks": [
                _part("soaking.journal.Journal"),
                _part("lightning.pytorch.callbacks.EMAWeightAveraging", decay=0.9),
                _keep("best-{step}", monitor="val/sdr", save_top_k=2, **folder),
                _keep("step-{step}", monitor="step", every_n_train_steps=3, save_top_k=2, **folder),
            ],
        },
        "excerpts": {"count": 0},
        "saving": {"every_n_steps": SAVE_EVERY},
        "model": _model(),
        "data": _data(songs),
        "optimizer": _part("torch.optim.Adam", lr=1e-3),
        "lr_scheduler": _part("aimless.schedules.WarmupCosine", warmup_steps=5, total_steps=steps),
    }
    path.write_text(yaml.safe_dump(config))


def _part(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


def _keep(filename: str, **settings: Any) -> dict[str, Any]:
    settings = {"filename": filename, "auto_insert_metric_name": False, "mode": "max", **settings}
    return _part("lightning.pytorch.callbacks.ModelCheckpoint", **settings)


def _model() -> dict[str, Any]:
    return _part(
        "aimless.lightning.freq_mask.MaskPredictor",
        targets=["drums", "bass", "other", "vocals"],
        n_fft=1024,
        hop_length=256,
        model=_part("aimless.models.xumx.X_UMX", hidden_channels=8, nb_layers=2),
        criterion=_part("aimless.loss.freq.CLoss"),
        transforms=[_part("aimless.augment.Pan", p=0.5)],
    )


def _data(songs: Path) -> dict[str, Any]:
    return _part(
        "data.lightning.MUSDB",
        root=str(songs),
        seq_duration=0.5,
        samples_per_track=18,
        random=True,
        random_track_mix=True,
        transforms=[_part("data.augment.RandomGain"), _part("data.augment.RandomSwapLR")],
    )


def command(config: Path, processes: int, *more: str) -> list[str]:
    """The command line of a run; four items in each batch, whatever the number of processes."""
    words = [sys.executable, os.fspath(REPOSITORY / "main.py"), "fit", "--config", str(config)]
    words += ["--data.init_args.batch_size", str(4 // processes)]
    if processes > 1:
        words += ["--trainer.devices", str(processes), "--trainer.strategy", "ddp"]
    return [*words, *more]
