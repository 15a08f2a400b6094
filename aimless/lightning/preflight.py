"""`fit --preflight`: tries a run out, forecasts it, and writes nothing.

A few steps at the real sizes on one device, some batches of the validation and of the loader by
itself; then a table of what the run will need, how long it will take, and what will go wrong.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, WeightAveraging
from lightning.pytorch.plugins.environments import LightningEnvironment

from aimless.errors import AimlessError, NumericalError
from aimless.lightning.cli import SeparationCLI
from aimless.lightning.failures import is_out_of_memory, out_of_memory
from aimless.lightning.forecast import (
    Plan,
    check_monitors,
    check_storage,
    duration,
    processes,
)
from aimless.lightning.throughput import MEASURED
from aimless.lightning.trial import LoaderSpeed, Trial, measure_loader, size_of

__all__ = ["PreflightCLI"]

_STEPS = 10
_VAL_BATCHES = 3

# What a run has and a trial has not: files, several devices, an end of its own.
_ONLY_TRIAL = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "max_steps": _STEPS,
    "max_epochs": -1,
    "min_epochs": None,
    "min_steps": None,
    "max_time": None,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 1.0,
    "check_val_every_n_epoch": 10**9,
    "val_check_interval": 1.0,
    "profiler": None,
}


class PreflightCLI(SeparationCLI):
    """The command line of a run that is only tried out; arguments as for `SeparationCLI`.

    Raises:
        AimlessError: the first of the things that would end the run, after the table.
    """

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """A trainer that writes nothing, with what the run's needs time and memory."""
        self.save_config_callback = None
        kwargs["plugins"] = [LightningEnvironment()]  # of one process, whoever started it
        self.run = dict(self._get(self.config_init, "trainer").items())
        callbacks = self.run.get("callbacks") or []
        self.run["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks]
        for name in ("limit_train_batches", "limit_val_batches", "val_check_interval"):
            value = self.run.get(name)
            if isinstance(value, float) and value > 1:  # the command line's 100 comes as 100.0
                self.run[name] = int(value)
        self.trial = Trial()
        kept = [one for one in self.run["callbacks"] if isinstance(one, WeightAveraging)]
        settings: Any = self._get(self.config_init, "trainer")
        for name, value in {**_ONLY_TRIAL, "callbacks": [*kept, self.trial]}.items():
            settings[name] = value
        return super().instantiate_trainer(**kwargs)

    def _follow_launcher(self, trainer: Any) -> dict[str, int]:
        """Be one process, however many there are to be."""
        return {}

    def _run_subcommand(self, subcommand: str) -> None:
        """Measure, print, and end as the run would."""
        with _listening() as said:
            began = time.perf_counter()
            self.datamodule.setup("fit")
            reading = time.perf_counter() - began
            self._fit()
            logged = set(self.trainer.callback_metrics)
            val_batches = self._validate()
            logged |= set(self.trainer.callback_metrics)
            loader = measure_loader(self.datamodule.train_dataloader())
        plan = self._plan(val_batches)
        if self._get(self.config_init, "throughput").every_n_steps:
            logged |= set(MEASURED)  # later than a trial lasts
        errors = [*self._numbers(), *check_monitors(self.run["callbacks"], logged)]
        errors += check_storage(self._folders(), self._kept_bytes(plan))
        rows = [
            ("data", f"read in {reading:.1f} s; {plan.batches} batches an epoch of each process"),
            *self._memory_rows(),
            *self._time_rows(plan, loader),
        ]
        advice = self._advice(plan, loader)
        _print(rows, [*map(str, errors)], [*advice, *dict.fromkeys(said)])
        if errors:
            raise errors[0]

    def _fit(self) -> None:
        try:
            self.trainer.fit(self.model, self.datamodule)
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(self.trainer, self.datamodule) from error
            raise

    def _validate(self) -> int:
        """Score a few batches; how many there are for each process."""
        loader = self.datamodule.val_dataloader()
        total = len(loader) if loader is not None else 0
        limit = self.run.get("limit_val_batches")
        limit = 1.0 if limit is None else limit
        world = processes(self.run, self.trainer.strategy.root_device)
        total = -(-total // world)
        # a number is one for each process
        total = min(total, limit) if isinstance(limit, int) else int(total * limit)
        if total:
            self.trainer.limit_val_batches = min(_VAL_BATCHES, total)
            self.trainer.validate(self.model, self.datamodule, verbose=False)
        return total

    def _numbers(self) -> list[AimlessError]:
        """A run none of whose steps is finite ends when the guard has seen enough of them."""
        skipped = self._get(self.config_init, "guard").skipped
        if not skipped or skipped < self.trainer.global_step:
            return []
        return [NumericalError(f"none of {skipped} training steps was finite")]

    def _plan(self, val_batches: int) -> Plan:
        world = processes(self.run, self.trainer.strategy.root_device)
        limit = self.run.get("limit_train_batches")
        batches = int(self.trainer.num_training_batches)
        if not isinstance(limit, int):  # a number is one for each process
            batches //= world
        return Plan.of(self.run, batches, val_batches)

    # -- what is kept -----------------------------------------------------------------------

    def _folders(self) -> list[Path]:
        """Where the run would write checkpoints."""
        if self.run.get("enable_checkpointing") is False:
            return []
        logger = self.run.get("logger")
        logger = logger[0] if isinstance(logger, list) and logger else logger
        root = getattr(logger, "save_dir", None) or self.run.get("default_root_dir") or "."
        savers = [one for one in self.run["callbacks"] if isinstance(one, ModelCheckpoint)]
        folders = [str(saver.dirpath or root) for saver in savers] or [str(root)]
        return [Path(folder) for folder in folders if "://" not in folder]

    def _kept_bytes(self, plan: Plan) -> int:
        """Of all checkpoints that are kept, and one that is being written."""
        weights = size_of(self.model.state_dict().values())
        averages = any(isinstance(one, WeightAveraging) for one in self.run["callbacks"])
        whole = weights * (2 if averages else 1) + self.trial.optimizer_bytes
        savers = [one for one in self.run["callbacks"] if isinstance(one, Checkpoint)]
        if not savers:
            return 3 * whole
        total = 2 * whole  # last.ckpt, and a temporary file
        for saver in savers:
            kept = getattr(saver, "save_top_k", 1)
            if kept == -1:
                kept = int(plan.validations or plan.epochs or 1)
            total += kept * (weights if getattr(saver, "save_weights_only", False) else whole)
        return total

    # -- the table --------------------------------------------------------------------------

    def _memory_rows(self) -> list[tuple[str, str]]:
        trial, batch = self.trial, getattr(self.datamodule, "batch_size", None)
        weights = list(self.model.model.parameters())
        trained = sum(weight.numel() for weight in weights if weight.requires_grad)
        place = self.trainer.strategy.root_device
        largest = "could not be told" if trial.largest is None else f"{trial.largest} items"
        how = "tried in powers of two" if place.type == "cuda" else "from the free memory"
        count = sum(weight.numel() for weight in weights)
        return [
            ("parameters", f"{count:,}, of which {trained:,} are trained"),
            (
                "memory",
                f"weights {_size(size_of(weights))}, optimizer {_size(trial.optimizer_bytes)}, "
                f"peak {_size(trial.peak)} on {place}",
            ),
            ("largest batch", f"{largest} ({how}); the config's has {batch}"),
        ]

    def _time_rows(self, plan: Plan, loader: LoaderSpeed) -> list[tuple[str, str]]:
        step = self._seconds(loader)
        validation = plan.val_batches * self.trial.val_seconds
        rows = [
            ("step", f"{self.trial.batch_seconds:.3f} s per batch, without its loading"),
            (
                "loader",
                f"{1 / max(loader.batch_seconds, 1e-9):.2f} batches/s with {loader.workers} "
                f"processes; the first after {loader.first_seconds:.1f} s",
            ),
            ("epoch", duration(plan.batches * step)),
            ("validation", f"{duration(validation)}, {plan.val_batches} batches"),
        ]
        if plan.epochs is None or plan.validations is None:
            return [*rows, ("run", "without end")]
        total = plan.epochs * plan.batches * step + plan.validations * validation
        steps = round(plan.epochs * plan.batches) // (self.run.get("accumulate_grad_batches") or 1)
        text = f"{duration(total)}: {plan.epochs:.4g} epochs, {steps:,} steps, "
        return [*rows, ("run", f"{text}{plan.validations:.0f} validations")]

    def _seconds(self, loader: LoaderSpeed) -> float:
        """Of a batch in the run: loading hides behind the step if processes do it."""
        if loader.workers:
            return max(self.trial.batch_seconds, loader.batch_seconds)
        return self.trial.batch_seconds + loader.batch_seconds

    def _advice(self, plan: Plan, loader: LoaderSpeed) -> list[str]:
        """What will not end the run, but is not right either."""
        advice = []
        wait = 1 - self.trial.batch_seconds / self._seconds(loader)
        if wait > 0.2:
            advice.append(
                f"the run will wait for data {wait:.0%} of the time: raise "
                f"data.init_args.num_workers (now {loader.workers}), or move effects to the device"
            )
        if not plan.val_batches:
            advice.append(
                "there is no validation: nothing will say whether the network gets better"
            )
        batch, largest = getattr(self.datamodule, "batch_size", None), self.trial.largest
        if batch is not None and largest is not None and largest < batch:
            advice.append(f"data.init_args.batch_size: {batch}, but memory is for {largest} items")
        return advice


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collects warnings, and keeps Lightning from talking about the trial itself."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    ours = [logging.getLogger(name) for name in ("aimless", "data")]
    theirs = logging.getLogger("lightning.pytorch")
    level = theirs.level
    theirs.setLevel(logging.ERROR)
    for one in ours:
        one.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        theirs.setLevel(level)
        for one in ours:
            one.removeHandler(handler)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _print(rows: list[tuple[str, str]], errors: list[str], advice: list[str]) -> None:
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {text}" for name, text in rows))
    for title, lines in (("this will end the run", errors), ("worth a look", advice)):
        if lines:
            print(f"\n{title}:")
            print("\n".join(f"  - {line}" for line in lines))
    if not errors and not advice:
        print("\nnothing stands against it")
    print(flush=True)
