"""The global random generators: seeded for each batch, and as plain data in checkpoints.

Draws of aimless come from keys (`aimless.draws`) and need none of them; dropout and parts that
others bring draw from these generators.
"""

from __future__ import annotations

import random
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from aimless.draws import generator

__all__ = ["SeedBatches", "random_state", "set_random_state"]


class SeedBatches(pl.Callback):
    """Seeds the generators before each training batch from (seed, epoch, batch, rank).

    What a batch draws does not depend on what was drawn before it. A run therefore goes on exactly
    from a checkpoint that one process has saved after another had failed, without the state of
    that one's generators. The seed is that of the module, as of `SourceSeparator`, or else 0.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed Python's, NumPy's and torch's generators, and those of all devices."""
        seed: Any = getattr(pl_module, "seed", 0)
        rng = generator("batch", seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        python, torchs = rng.integers(2**63, size=2).tolist()
        random.seed(python)
        np.random.seed(rng.integers(2**32, dtype=np.uint32))  # noqa: NPY002
        torch.manual_seed(torchs)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of Python's, NumPy's and torch's generators, and of the device's.

    Args:
        device: that this process trains on.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    state = {
        # several times quicker than torch makes a tensor of a tuple
        "python": [version, torch.from_numpy(np.array(words, np.int64)), gauss],
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put the generators into a state that `random_state` gave.

    The part of a device of another kind is passed over.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    legacy = (name, keys.numpy().astype(np.uint32), position, has_gauss, cached)
    np.random.set_state(legacy)  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
