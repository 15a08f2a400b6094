"""Do a training step again that went wrong: `python -m aimless.lightning.replay DUMP`.

Builds the separator from the config in the dump, which names classes and so is code, like any
config: replay only your own dumps.
"""

from __future__ import annotations

import argparse
import sys
from collections import namedtuple
from contextlib import ExitStack
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor, nn

from aimless.config import parse_yaml
from aimless.errors import AimlessError, DataError
from aimless.lightning.random_state import set_random_state
from aimless.weights import read_checkpoint

__all__ = ["Replayed", "replay"]


class Replayed(NamedTuple):
    """What a batch of the step did.

    Attributes:
        loss: of this time.
        recorded: of the run, as far as it was recorded.
        logged: name -> value, such as the parts of the loss.
        inputs_finite: whether the batch itself is finite.
        first_module: the first module whose output is not finite, with its class; None if
            there is none.
        gradients: parameters whose gradient is not finite.
    """

    loss: float
    recorded: float | None
    logged: dict[str, float]
    inputs_finite: bool
    first_module: str | None
    gradients: list[str]


def replay(path: str, device: str = "cpu") -> list[Replayed]:
    """Do the step of a dump again, up to the gradients.

    Args:
        path: of a dump that `aimless.lightning.dump` wrote.
        device: to compute on. Only the device of the run, with as many threads, gives the
            same numbers to the last bit.

    Returns:
        One result per batch of the dump.

    Raises:
        DataError: the file is missing, damaged, no dump, or holds no config.
    """
    dump = read_checkpoint(path)
    if not {"batches", "state_dict", "config"} <= dump.keys():
        raise DataError(f"{path}: not a dump of a training step")
    if dump["config"] is None:
        raise DataError(f"{path}: holds no config; only runs of main.py can be replayed")
    module = _build(dump, torch.device(device))
    precision = pl.Trainer(
        accelerator=torch.device(device).type,
        devices=1,
        precision=dump["precision"],
        logger=False,
        enable_checkpointing=False,
    ).precision_plugin
    converted = precision.convert_module(module)
    return [_step(converted, entry, precision) for entry in dump["batches"]]


class _Alone:
    """Stands in for a trainer: where the run was, and what the step logs."""

    current_epoch = global_step = global_rank = 0
    logged: dict[str, Tensor]

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Keep a value."""
        self.logged[name] = torch.as_tensor(value)

    def log_dict(self, values: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Keep several."""
        for name, value in values.items():
            self.log(name, value)


def _build(dump: dict[str, Any], device: torch.device) -> pl.LightningModule:
    """The separator of a dump in training mode, which takes itself to be where the run was."""
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(pl.LightningModule, "model", subclass_mode=True)
    config = parser.parse_object({"model": parse_yaml(dump["config"])["model"]})
    module: Any = parser.instantiate_classes(config).model
    module.load_state_dict(dump["state_dict"])
    place = {
        "current_epoch": dump["epoch"],
        "global_step": dump["global_step"],
        "global_rank": dump["rank"],
        "logged": {},
    }
    module.__class__ = type("Replayed", (_Alone, type(module)), place)
    return module.to(device).train()


def _step(module: Any, entry: dict[str, Any], precision: Any) -> Replayed:
    """Forward and backward of one batch."""
    batch = _batch(entry, module.device)
    signals = [value for value in entry["values"] if isinstance(value, Tensor)]
    module.zero_grad()
    module.logged.clear()
    set_random_state(entry["random"], module.device)
    with ExitStack() as stack:
        found = _watch_outputs(module, stack)
        stack.enter_context(precision.train_step_context())
        loss = module.training_step(precision.convert_input(batch), entry["batch_idx"])
    loss.backward()
    return Replayed(
        float(loss.detach()),
        entry["loss"],
        {name: float(value) for name, value in module.logged.items()},
        all(bool(signal.isfinite().all()) for signal in signals),
        found[0] if found else None,
        [
            name
            for name, weight in module.named_parameters()
            if weight.grad is not None and not bool(weight.grad.isfinite().all())
        ],
    )


def _batch(entry: dict[str, Any], device: torch.device) -> Any:
    """The batch as the separator got it."""
    values = [v.to(device) if isinstance(v, Tensor) else v for v in entry["values"]]
    return namedtuple("Batch", entry["fields"])(*values) if entry["fields"] else values


def _watch_outputs(module: nn.Module, stack: ExitStack) -> list[str]:
    """Collects the modules whose outputs are not finite, the first one first."""
    found: list[str] = []

    def look(name: str, part: nn.Module, output: Any) -> None:
        outputs = output if isinstance(output, (tuple, list)) else [output]
        tensors = [one for one in outputs if isinstance(one, Tensor)]
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            found.append(f"{name} ({type(part).__name__})")

    for name, part in module.named_modules():
        if name:

            def hook(part: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                look(name, part, output)

            stack.callback(part.register_forward_hook(hook).remove)
    return found


def _print(dump: str, results: list[Replayed]) -> None:
    for number, result in enumerate(results):
        recorded = "" if result.recorded is None else f", {result.recorded:g} in the run"
        print(f"{dump}, batch {number + 1} of {len(results)}: loss {result.loss:g}{recorded}")
        for name, value in result.logged.items():
            print(f"  {name} {value:g}")
        print(f"  the batch is {'' if result.inputs_finite else 'not '}finite")
        print(f"  first output that is not finite: {result.first_module or 'none'}")
        named = ", ".join(result.gradients[:5]) or "none"
        more = f" and {len(result.gradients) - 5} more" if len(result.gradients) > 5 else ""
        print(f"  gradients that are not finite: {named}{more}")


def main(words: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m aimless.lightning.replay", description=__doc__)
    parser.add_argument("dump", help="a file that the guard wrote into dumps/ of a run")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    options = parser.parse_args(words)
    try:
        _print(options.dump, replay(options.dump, options.device))
    except AimlessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
