"""The command line `python main.py {fit,validate,test,predict}`.

Lightning's command line, with four things changed: settings that belong together are stated
once (`aimless.config.share_settings`), a mistake ends in one line and an exit code, the
resolved config is saved beside the checkpoints and inside them, and only the parser of the
subcommand in use is built, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as pl
import torch
from jsonargparse import set_loader
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from aimless.config import accepted_arguments, parse_yaml, read_yaml, share_settings
from aimless.errors import AimlessError, ConfigError, DataError
from aimless.lightning.excerpts import LogExcerpts
from aimless.lightning.messages import explain, unwrap
from aimless.lightning.progress import AudioProgressBar
from aimless.lightning.writer import StemWriter
from aimless.memory import keep_freed_memory

__all__ = ["SaveConfig", "SeparationCLI", "run"]


class _Parser(LightningArgumentParser):
    """Reports a mistake in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(explain(message)) from ex


class SaveConfig(SaveConfigCallback):
    """Saves the resolved config as `config.yaml` beside the checkpoints, and in each of them.

    A checkpoint carries its config as YAML text under the key `config`, so that it can be
    rebuilt by itself and still loads with `weights_only=True`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})
        self.text = self.parser.dump(self.config, skip_none=False)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the file, once, when a run that makes checkpoints begins."""
        if stage != "fit" or trainer.fast_dev_run:
            return
        callback = trainer.checkpoint_callback
        folder = getattr(callback, "dirpath", None) or trainer.log_dir
        if folder is None:
            return
        os.makedirs(folder, exist_ok=True)
        target = Path(folder) / "config.yaml"
        temporary = target.with_name(".config.yaml.part")
        temporary.write_text(self.text, encoding="utf-8")
        os.replace(temporary, target)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the config into the checkpoint."""
        checkpoint["config"] = self.text


class SeparationCLI(LightningCLI):
    """Trains, validates, tests and uses separators that a config describes.

    Args:
        trainer_defaults: Trainer arguments that hold unless a config says otherwise.
        args: command-line words; None takes those of the process.
    """

    def __init__(self, trainer_defaults: dict[str, Any], args: Sequence[str] | None = None):
        words = list(sys.argv[1:] if args is None else args)
        self._wanted = next((word for word in words if word in self.subcommands()), None)
        set_loader("yaml", parse_yaml, (ConfigError,))
        super().__init__(
            save_config_callback=SaveConfig,
            trainer_defaults=trainer_defaults,
            seed_everything_default=0,
            parser_class=_Parser,
            parser_kwargs={
                "description": "Train, validate, test and use audio source separators.",
                "allow_abbrev": False,
                **{name: {"allow_abbrev": False} for name in self.subcommands()},
            },
            args=words,
        )

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        if subcommand == self._wanted:
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        self._subcommand_method_arguments[subcommand] = []
        return self.init_parser(**kwargs)  # only named in the help: no arguments, at no cost

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what validation logs and what `predict` writes."""
        parser.add_lightning_class_args(LogExcerpts, "excerpts")
        parser.add_lightning_class_args(StemWriter, "stems")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what was stated, share it, then fill in the defaults."""
        for path in _config_files(args):
            read_yaml(path)  # its mistakes are named with the file
        printing = any(word.startswith("--print_config") for word in args)
        words = [word for word in args if not word.startswith("--print_config")]
        stated = parser.parse_args(words, defaults=False).as_dict()
        subcommand = stated["subcommand"]
        config = stated[subcommand]
        config.pop("config", None)
        share_settings(config)
        self._share_seed(config)
        self.config = parser.parse_object(stated)
        if printing:
            chosen = self.config[subcommand]
            print(self._parser(subcommand).dump(chosen, skip_none=False), end="")
            raise SystemExit(0)

    @staticmethod
    def _share_seed(config: dict[str, Any]) -> None:
        """Data and device augmentation draw from the run's seed."""
        seed = config.setdefault("seed_everything", 0)
        if isinstance(seed, bool):
            seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
            config["seed_everything"] = seed
        for key in ("model", "data"):
            entry = config.get(key)
            if isinstance(entry, dict) and "seed" in accepted_arguments(entry["class_path"]):
                entry.setdefault("init_args", {}).setdefault("seed", seed)

    def _parse_ckpt_path(self) -> None:
        """Check the checkpoint; the config alone says what is built."""
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        if path is None:
            if self.config.subcommand != "fit":
                raise ConfigError(
                    f"{self.config.subcommand} needs trained weights: --ckpt_path FILE"
                )
            return
        config["weights_only"] = True  # a checkpoint is data, never code
        if path not in ("last", "best", "hpc"):
            check_checkpoint(path)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Add the progress bar, unless the config brings another or wants none."""
        trainer = self._get(self.config_init, "trainer")
        callbacks = trainer.get("callbacks") or []
        given = callbacks if isinstance(callbacks, list) else [callbacks]
        if trainer.get("enable_progress_bar") is not False and not any(
            isinstance(callback, ProgressBar) for callback in given
        ):
            kwargs["callbacks"] = [*given, AudioProgressBar()]
        return super().instantiate_trainer(**kwargs)

    def after_fit(self) -> None:
        """A run without a step did not do what was asked."""
        trainer = self.trainer
        if trainer.global_step == 0 and trainer.state.finished and trainer.max_epochs != 0:
            raise ConfigError("no training step was made; see the messages above")


def _config_files(words: Sequence[str]) -> Iterator[str]:
    """The files named by --config or -c."""
    for word, following in zip(words, [*words[1:], ""]):
        if word in ("--config", "-c"):
            yield following
        elif word.startswith("--config="):
            yield word.partition("=")[2]


def check_checkpoint(path: str) -> None:
    """Refuse a checkpoint that is missing, damaged, or more than data.

    Raises:
        DataError: with the path and the reason.
    """
    if not Path(path).is_file():
        raise DataError(f"--ckpt_path {path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"--ckpt_path {path}: holds more than weights and settings, and is not loaded: "
            f"{str(error).splitlines()[0]}"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(f"--ckpt_path {path}: damaged or not a checkpoint") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DataError(f"--ckpt_path {path}: not a training checkpoint (no 'state_dict' in it)")


def run(trainer_defaults: dict[str, Any], args: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake ends in one line on stderr.

    Returns:
        The exit status: 0 done, 2 configuration, 3 data, 4 numerical, 130 interrupted.
    """
    torch.set_float32_matmul_precision("medium")
    keep_freed_memory()
    _quiet_lightning()
    try:
        SeparationCLI(trainer_defaults, args)
    except AimlessError as error:
        print(f"error: {unwrap(error)}", file=sys.stderr)
        return error.exit_code
    except MisconfigurationException as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return ConfigError.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _quiet_lightning() -> None:
    """Silence advertisements, and advice that does not apply here."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    for message in (
        ".*does not have many workers.*",
        ".*number of training batches.*smaller than the logging interval.*",
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
