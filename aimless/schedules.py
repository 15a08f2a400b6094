"""Learning-rate schedules."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aimless.errors import ConfigError

__all__ = ["WarmupCosine"]


class WarmupCosine(LRScheduler):
    """Linear warm-up, then half a cosine; by optimizer steps.

    The factor on the optimizer's learning rate before step k = 0, 1, ... is

        k / warmup_steps                                        for k < warmup_steps,
        r + (1 - r) (1 + cos(pi (k - warmup_steps) / (total_steps - warmup_steps))) / 2
                                                                up to total_steps,
        r = final_ratio                                         from there on

    (SGDR's cosine without restarts: Loshchilov and Hutter, 2017; warm-up: Goyal et al., 2017).
    A run that goes on from a checkpoint goes on at its step; the lengths and the ratio are
    always those of the config, so that a run can be extended.

    Args:
        optimizer: its learning rates, one per parameter group, are the peaks.
        warmup_steps: length of the warm-up, 0 or more; the first step of one has rate 0.
        total_steps: step at which the cosine ends; above warmup_steps.
        final_ratio: of the final to the peak learning rate, from 0 to 1.

    Raises:
        ConfigError: a value out of its range; names the key.
    """

    #: What one call of `step` counts: the command line calls it once per optimizer step.
    interval = "step"

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        final_ratio: float = 0.0,
    ) -> None:
        if warmup_steps < 0:
            raise ConfigError(f"{_key('warmup_steps')}: {warmup_steps}; must be 0 or more")
        if total_steps <= warmup_steps:
            raise ConfigError(
                f"{_key('total_steps')}: {total_steps}; must be above warmup_steps, {warmup_steps}"
            )
        if not 0 <= final_ratio <= 1:
            raise ConfigError(f"{_key('final_ratio')}: {final_ratio}; must be from 0 to 1")
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.final_ratio = final_ratio
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """Of the peak learning rate, before optimizer step `step` (from 0)."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        done = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        cosine = (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return self.final_ratio + (1 - self.final_ratio) * cosine

    def get_lr(self) -> list[float | Tensor]:
        """Learning rate of each parameter group."""
        factor = self.factor(self.last_epoch)  # which counts steps here
        return [factor * peak for peak in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """How far it is; not what the config says."""
        ours = ("warmup_steps", "total_steps", "final_ratio")
        return {name: value for name, value in super().state_dict().items() if name not in ours}


def _key(name: str) -> str:
    return f"lr_scheduler.init_args.{name}"
