"""The command line `python main.py {fit,validate,test,predict}`.

Lightning's command line, with four things changed: settings that belong together are stated
once (`aimless.config.share_settings`), a mistake ends in one line and an exit code, the
resolved config is saved beside the checkpoints and inside them, and only the parser of the
subcommand in use is built, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentError, set_loader
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from aimless.config import accepted_arguments, parse_yaml, share_settings
from aimless.errors import ConfigError, DataError
from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from aimless.lightning.excerpts import LogExcerpts
from aimless.lightning.failures import (
    disk_full,
    is_disk_full,
    is_out_of_memory,
    out_of_memory,
    unused_weights,
)
from aimless.lightning.guard import NonFiniteGuard
from aimless.lightning.help import SUBCOMMANDS
from aimless.lightning.launched import follow_launcher
from aimless.lightning.logs import SteadyLogs
from aimless.lightning.messages import explain, locate
from aimless.lightning.processes import Processes
from aimless.lightning.progress import AudioProgressBar
from aimless.lightning.random_state import SeedBatches
from aimless.lightning.resume import check_checkpoint, choose_checkpoint
from aimless.lightning.run import config_files
from aimless.lightning.run_config import SaveConfig
from aimless.lightning.saving import SaveRun
from aimless.lightning.sharding import ShardedStrategy
from aimless.lightning.sync_batch_norm import layer_sync
from aimless.lightning.throughput import Throughput
from aimless.lightning.watch import TrainingWatch
from aimless.lightning.writer import StemWriter

__all__ = ["SaveConfig", "SeparationCLI", "run_lightning"]


def _subparser(name: str) -> dict[str, Any]:
    return {
        "description": SUBCOMMANDS[name],
        "usage": f"python main.py {name} --config FILE [options]",
        "allow_abbrev": False,
        "exit_on_error": False,
    }


class SeparationCLI(LightningCLI):
    """Trains, validates, tests and uses separators that a config describes.

    Args:
        trainer_defaults: Trainer arguments that hold unless a config says otherwise.
        args: the words of the command line, a subcommand among them.
    """

    def __init__(self, trainer_defaults: dict[str, Any], args: Sequence[str]) -> None:
        self._saved_config: Any = None
        self._wanted = next(word for word in args if word in SUBCOMMANDS)
        set_loader("yaml", parse_yaml, (ConfigError,))
        super().__init__(
            save_config_callback=SaveConfig,  # type: ignore[arg-type] # as good as its subclass
            trainer_defaults=trainer_defaults,
            seed_everything_default=0,
            parser_kwargs={
                "allow_abbrev": False,
                "exit_on_error": False,
                **{name: _subparser(name) for name in SUBCOMMANDS},
            },
            args=list(args),
        )

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        if subcommand == self._wanted:
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        self._subcommand_method_arguments[subcommand] = []
        return self.init_parser(**kwargs)  # only named in the help: no arguments, at no cost

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what guards training, what validation logs and what `predict` writes."""
        parser.add_lightning_class_args(NonFiniteGuard, "guard")
        parser.add_lightning_class_args(Processes, "processes")
        parser.add_lightning_class_args(SaveRun, "saving")
        parser.add_lightning_class_args(TrainingWatch, "watch")
        parser.add_lightning_class_args(Throughput, "throughput")
        parser.add_lightning_class_args(LogExcerpts, "excerpts")
        parser.add_lightning_class_args(StemWriter, "stems")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what was stated, share it, then fill in the defaults."""
        printing = [word for word in args if word.startswith("--print_config")]
        words = [word for word in args if not word.startswith("--print_config")]
        try:
            self._parse(parser, words, printing)
        except (ArgumentError, ConfigError) as error:
            known = {action.dest for action in self._parser(self._wanted)._actions}
            message = explain(str(error), known)
            raise ConfigError(locate(message, config_files(words), words)) from error

    def _parse(
        self, parser: LightningArgumentParser, words: list[str], printing: list[str]
    ) -> None:
        stated = parser.parse_args(words, defaults=False).as_dict()
        subcommand = stated["subcommand"]
        config = stated[subcommand]
        config.pop("config", None)
        share_settings(config)
        self._share_seed(config)
        self.config = parser.parse_object(stated)
        if printing:
            text = self._parser(subcommand).dump(
                self.config[subcommand],
                skip_unset="skip_unset" in printing[-1],
                skip_default="skip_default" in printing[-1],
            )
            print(text, end="")
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
        if path in ("best", "hpc"):
            return
        training = self.config.subcommand == "fit"
        file = choose_checkpoint(str(path), config.as_dict(), training)
        config["ckpt_path"] = None if file is None else str(file)
        if file is not None:
            self._saved_config = check_checkpoint(file, training).get("config")

    def instantiate_classes(self) -> None:
        """Build network, loss, data and trainer; what their constructors refuse is one line."""
        try:
            super().instantiate_classes()
        except (ArgumentError, TypeError, ValueError) as error:
            if "Does not validate" not in str(error) and "Parser key" not in str(error):
                raise
            raise ConfigError(explain(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Add the progress bar and the way of saving, unless the config brings another."""
        trainer = self._get(self.config_init, "trainer")
        plugins = trainer.get("plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            saving = self._get(self.config_init, "saving")
            plugins = [*plugins, AtomicCheckpointIO(saving.async_save)]
        plugins = [*kwargs.get("plugins", ()), *plugins]
        kwargs["plugins"] = [*plugins, *layer_sync(trainer.get("sync_batchnorm"))]
        kwargs |= self._follow_launcher(trainer)
        callbacks = trainer.get("callbacks") or []
        given = callbacks if isinstance(callbacks, list) else [callbacks]
        kwargs["callbacks"] = [SeedBatches(), SteadyLogs(), *given]
        if trainer.get("enable_progress_bar") is not False and not any(
            isinstance(callback, ProgressBar) for callback in given
        ):
            kwargs["callbacks"].append(AudioProgressBar())
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, RuntimeError, MisconfigurationException) as error:
            text = " ".join(str(error).split())
            hint = (
                f"; {ShardedStrategy.strategy_name} does not" if "strategy `fsdp`" in text else ""
            )
            raise ConfigError(f"trainer: {text}{hint}") from error

    def _follow_launcher(self, trainer: Any) -> dict[str, int]:
        return follow_launcher(trainer)

    def _run_subcommand(self, subcommand: str) -> None:
        processes = self._get(self.config_init, "processes")
        with processes.together(self.trainer):
            try:
                super()._run_subcommand(subcommand)
            except Exception as error:
                ended = self._explain(subcommand, processes, error)
                if ended is None:
                    raise
                raise ended from error

    def _explain(
        self, subcommand: str, processes: Processes, error: Exception
    ) -> BaseException | None:
        """What an error means that is not for the user as it is; None for any other."""
        saving = self._get(self.config_init, "saving")
        stopped = saving.stopped_by(self.trainer) if subcommand == "fit" else None
        if lost := processes.lost(self.trainer, error, stopped is not None):
            return lost
        if stopped is not None:
            return stopped  # what a signal did to a loader process, for instance
        if is_out_of_memory(error):
            return out_of_memory(self.trainer, self.datamodule)
        if isinstance(error, OSError) and is_disk_full(error):
            return disk_full(self.trainer, error)
        if "find_unused_parameters" in str(error):  # DDP's page about it
            return unused_weights()
        if isinstance(error, DataError) and "do not fit" in str(error):
            return DataError(f"{error}{self._differing_argument()}")
        return None

    def _differing_argument(self) -> str:
        """Where the network of the checkpoint's config differs from that of this run."""
        if not isinstance(self._saved_config, str):
            return ""
        theirs = parse_yaml(self._saved_config)["model"]["init_args"]["model"]
        ours = self.config[self.config.subcommand].as_dict()["model"]["init_args"]["model"]
        if theirs["class_path"] != ours["class_path"]:
            return f"; it holds a {theirs['class_path']}"
        for name, value in theirs.get("init_args", {}).items():
            if (mine := ours.get("init_args", {}).get(name)) != value:
                return f"; its {name} is {value}, the config says {mine}"
        return ""

    @staticmethod
    def configure_optimizers(
        lightning_module: pl.LightningModule, optimizer: Optimizer, lr_scheduler: Any = None
    ) -> Any:
        """Step a schedule that counts optimizer steps, `interval = "step"`, after each of them."""
        if getattr(lr_scheduler, "interval", "epoch") == "step":
            scheduler = {"scheduler": lr_scheduler, "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}
        return LightningCLI.configure_optimizers(lightning_module, optimizer, lr_scheduler)

    def after_fit(self) -> None:
        """A run without a step did not do what was asked."""
        trainer = self.trainer
        if trainer.global_step == 0 and trainer.state.finished and trainer.max_epochs != 0:
            raise ConfigError("no training step was made; see the messages above")


def run_lightning(trainer_defaults: dict[str, Any], words: Sequence[str]) -> None:
    """Run a subcommand.

    Raises:
        AimlessError: a mistake of the user, Lightning's own complaints about settings included.
    """
    torch.set_float32_matmul_precision("medium")
    _quiet_lightning()
    command = SeparationCLI
    if "--preflight" in words:
        from aimless.lightning.preflight import PreflightCLI as command  # which is one of these

        if "fit" not in words:
            raise ConfigError("--preflight: only fit can be tried out")
        if int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0) > 0:
            return  # one process of those that torchrun or SLURM has started is enough
        words = [word for word in words if word != "--preflight"]
    try:
        command(trainer_defaults, words)
    except MisconfigurationException as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _quiet_lightning() -> None:
    """Silence advertisements, and advice that does not apply here."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    saving = logging.getLogger("lightning.pytorch.trainer.connectors.checkpoint_connector")
    saving.addFilter(lambda record: "was not set" not in record.getMessage())
    for message in (
        ".*does not have many workers.*",
        ".*number of training batches.*smaller than the logging interval.*",
        ".*LeafSpec.*is deprecated.*",
        ".*dirpath has changed from.*",
        ".*your dataloader is not resumable.*",  # the data module is
        ".*loading a checkpoint outside the 'fit' stage.*",
    ):
        warnings.filterwarnings("ignore", message)
