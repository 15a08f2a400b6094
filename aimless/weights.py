"""State dicts: read as data, named as the network names them, held against the network."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aimless import sealing
from aimless.errors import DataError

__all__ = ["adopt_parameter_order", "compare_weights", "network_weights", "read_checkpoint"]

#: What wraps a network adds these to the names of its weights.
_WRAPPERS = re.compile(r"(^|\.)(module|_orig_mod)\.")


def read_checkpoint(path: str | os.PathLike[str], mmap: bool = True) -> dict[str, Any]:
    """The content of a checkpoint of torch, read as data.

    Args:
        path: of the file.
        mmap: leave tensors in the file until they are looked at, where the format allows it.

    Raises:
        DataError: missing, truncated, with flipped bits, or holding more than data.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        zipped = zipfile.is_zipfile(path)
        _check_sums(path, zipped)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipped)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{path}: holds more than weights and settings, or is no checkpoint; "
            f"not loaded: {reason}"
        ) from error
    except DataError:
        raise
    except Exception as error:  # the unpickler fails in any way on bytes that are no pickle
        raise DataError(f"{path}: damaged or not a checkpoint") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a checkpoint, it holds a {type(content).__name__}")
    return content


def _check_sums(path: str | os.PathLike[str], zipped: bool) -> None:
    """Compare the seal of a file (`aimless.sealing`), or else the checksum of each record."""
    if sealing.is_sealed(path):
        if not sealing.seal_holds(path):
            raise DataError(f"{path}: damaged: its SHA-256 is wrong")
    elif zipped:
        if sealing.is_unsealed(path):
            raise DataError(f"{path}: damaged: its seal is broken")
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise DataError(f"{path}: damaged: the checksum of {damaged} is wrong")
    elif _begins_like_zip(path):
        raise DataError(f"{path}: damaged: its end is missing")


def _begins_like_zip(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def network_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's own weights out of a state dict, in the order they were saved.

    Takes off what wrappers add to the names (`module.` of DDP, `_orig_mod.` of torch.compile,
    `model.` of the separators), and leaves out what separators keep beside the network: windows,
    resampling kernels and the like, which follow from the config.
    """
    bare: dict[str, Tensor] = {}
    for name, value in state.items():
        while (shorter := _WRAPPERS.sub(r"\1", name)) != name:
            name = shorter
        if isinstance(value, Tensor):
            bare[name] = value
    inner = {
        name.removeprefix("model."): v for name, v in bare.items() if name.startswith("model.")
    }
    return inner or bare


def compare_weights(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """What keeps weights from fitting a network, the first few faults in one line; or ""."""
    faults = [f"missing {name}" for name in own if name not in theirs]
    faults += [f"unexpected {name}" for name in theirs if name not in own]
    faults += [
        f"{name} is {tuple(theirs[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in theirs and theirs[name].shape != value.shape
    ]
    more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
    return "; ".join(faults[:5]) + more


def adopt_parameter_order(
    checkpoint: dict[str, Any], saved: Iterable[str], model: nn.Module
) -> None:
    """Renumber the optimizers' state of a checkpoint to the order of a network's parameters.

    Optimizers know parameters by number only. A checkpoint of another implementation with the
    same names may number them otherwise; its state dict tells how.

    Args:
        checkpoint: changed in place.
        saved: names of its weights, in saved order.
        model: the network that goes on training.
    """
    ours = [name for name, _ in model.named_parameters()]
    known = set(ours)
    theirs = [name for name in saved if name in known]
    if theirs == ours:
        return
    number = {name: index for index, name in enumerate(theirs)}
    for optimizer in checkpoint.get("optimizer_states", ()):
        moments = optimizer["state"]
        renumbered = {
            index: moments[number[name]]
            for index, name in enumerate(ours)
            if number[name] in moments
        }
        moments.clear()
        moments.update(renumbered)
