"""What the guard and the watchers cost, as a share of a training step.

    python benchmarks/watching.py [--repeats 3] [--threads 1]

Trains a small network, and adds up the time that is spent in the hooks of each of them: on a CPU
this is all that they cost. Also: what publishing each read costs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader
from turns import in_turns, options

from aimless.draws import generator
from aimless.lightning.guard import NonFiniteGuard
from aimless.lightning.throughput import Throughput
from aimless.lightning.watch import TrainingWatch
from aimless.lightning.waveform import WaveformSeparator
from aimless.loss.time import L1Loss
from aimless.models import DemucsSplit
from aimless.sources import MDX_SOURCES
from data.files.supervision import ReadPolicy, Slots, supervisor

STEPS, WARM_UP = 60, 10
WATCHERS = (NonFiniteGuard, TrainingWatch, Throughput)
HOOKS = (
    *("on_train_batch_start", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)


class Timer(pl.Callback):
    """Seconds of the steps after the warm-up, and of the hooks of other callbacks in them."""

    def __init__(self, others: list[pl.Callback]) -> None:
        self.hooks = {type(one).__name__: 0.0 for one in others}
        self.running = False
        for one in others:
            for name in HOOKS:
                setattr(one, name, self.timed(type(one).__name__, getattr(one, name)))

    def timed(self, owner: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        """The hook, with its time added up."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return hook(*args, **kwargs)
            finally:
                if self.running:
                    self.hooks[owner] += time.perf_counter() - began

        return call

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Note the times between which the steps count."""
        if trainer.global_step == WARM_UP:
            self.running, self.began = True, time.perf_counter()
        elif trainer.global_step == STEPS:
            self.seconds = time.perf_counter() - self.began


class Separator(WaveformSeparator):
    """With an optimizer of its own."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 1e-3)


def batches() -> list[list[torch.Tensor]]:
    """Four batches of two segments of half a second."""
    made = []
    for index in range(4):
        noise = generator("watching", index).standard_normal((2, 4, 2, 22050))
        stems = torch.from_numpy(0.1 * noise).float()
        made.append([stems.sum(1), stems])
    return made


def train(data: list[list[torch.Tensor]]) -> Timer:
    """A run of its own."""
    torch.manual_seed(0)
    separator = Separator(DemucsSplit(channels=8, depth=4), L1Loss(), targets=list(MDX_SOURCES))
    watchers = [watcher() for watcher in WATCHERS]
    timer = Timer(watchers)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*watchers, timer],
    )
    trainer.fit(separator, DataLoader(data, batch_size=None))
    return timer


def watchers(repeats: int, threads: int) -> None:
    """Print what each takes of a step."""
    data = batches()
    timers = [train(data) for _ in range(repeats)]
    step = statistics.median(timer.seconds for timer in timers) / (STEPS - WARM_UP)
    print(f"step, {threads} threads: {1000 * step:.1f} ms")
    for watcher in WATCHERS:
        name = watcher.__name__
        share = statistics.median(timer.hooks[name] / timer.seconds for timer in timers)
        print(f"  {name}: {100 * share:.2f} % of it, {1000 * share * step:.2f} ms")


def reads(repeats: int) -> None:
    """Print what publishing a read and arming its alarm cost."""
    supervisor.begin(ReadPolicy(), Slots(1), 1)
    path = "/data/train/Some Artist - Some Song/vocals.wav"

    def supervised() -> None:
        for _ in range(1000):
            with supervisor.reading(path):
                pass

    seconds = in_turns({"supervised": supervised}, repeats)["supervised"] / 1000
    print(f"publishing a read, and its alarm: {1e6 * seconds:.1f} us")


if __name__ == "__main__":
    chosen = options(__doc__ or "", repeats=3)
    reads(chosen.repeats)
    watchers(chosen.repeats, chosen.threads)
