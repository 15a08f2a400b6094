"""What saving and agreeing about signals cost, as a share of a training step.

    python benchmarks/checkpointing.py [--repeats 10] [--threads 1]

Saves a network with the state of Adam, three times its weights: how long training stands still
with Lightning's way of saving, with ours, and with ours behind the training; and how much longer
a step takes while a checkpoint is being written. Then what happens at each step: keeping the random
state, and asking one process, or two, whether a signal came.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor, distributed
from turns import in_turns, options, report

from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from aimless.lightning.random_state import random_state
from aimless.lightning.signals import Signals
from aimless.models import DemucsSplit

CALLS = 2000
MINUTES = 15.0  # the default of saving.every_minutes
CPU = torch.device("cpu")


def make_training() -> tuple[torch.nn.Module, torch.optim.Optimizer, Callable[[], Tensor]]:
    """A network of millions of weights, its optimizer, and a step on two segments of a second."""
    network = DemucsSplit(channels=32, depth=5)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    mixture = torch.randn(2, 2, 44100)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = network(mixture).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return network, optimizer, step


def measure_saves(
    checkpoint: dict[str, Any], step: Callable[[], Tensor], repeats: int, threads: int
) -> float:
    """Print how long each way holds training up; returns the seconds of a step."""
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours, behind = TorchCheckpointIO(), AtomicCheckpointIO(), AtomicCheckpointIO(True)
        paths = [str(Path(folder) / f"{name}.ckpt") for name in ("theirs", "ours", "behind")]
        held: list[float] = []

        def save_behind() -> None:
            began = time.perf_counter()
            behind.save_checkpoint(checkpoint, paths[2])
            held.append(time.perf_counter() - began)
            behind.flush()

        forms = {
            "Lightning's": lambda: theirs.save_checkpoint(checkpoint, paths[0]),
            "ours": lambda: ours.save_checkpoint(checkpoint, paths[1]),
            "async until it is down": save_behind,
        }
        medians = in_turns(forms, repeats)
        megabytes = os.path.getsize(paths[1]) / 1e6
        medians["async until training goes on"] = statistics.median(held[1:])
        report(f"saving {megabytes:.0f} MB", threads, medians, "Lightning's")

        quiet, busy = step_times(step, behind, checkpoint, paths[2], repeats)
        behind.teardown()
    print(
        f"a step: {1000 * quiet:.0f} ms; while a checkpoint is written {1000 * busy:.0f} ms, "
        f"ratio {busy / quiet:.2f}"
    )
    for name in ("ours", "async until training goes on"):
        share = medians[name] / (60 * MINUTES)
        print(f"{name}, every {MINUTES:.0f} minutes: {100 * share:.4f} % of the time")
    return quiet


def step_times(
    step: Callable[[], Tensor],
    behind: AtomicCheckpointIO,
    checkpoint: dict[str, Any],
    path: str,
    repeats: int,
) -> tuple[float, float]:
    """Median seconds of a step by itself, and of the one after a save was begun, in turns."""

    def timed() -> float:
        began = time.perf_counter()
        step()
        return time.perf_counter() - began

    quiet, busy = [timed()], [timed()]
    for _ in range(repeats):
        quiet.append(timed())
        behind.save_checkpoint(checkpoint, path)
        busy.append(timed())
        behind.flush()
    return statistics.median(quiet[1:]), statistics.median(busy[1:])


def seconds_per_call(call: Callable[[], object]) -> float:
    """Median of 10 rounds, after one that warms up."""
    rounds = []
    for _ in range(11):
        began = time.perf_counter()
        for _ in range(CALLS // 10):
            call()
        rounds.append((time.perf_counter() - began) / (CALLS // 10))
    return statistics.median(rounds[1:])


def agree_in_turn(rank: int, processes: int, port: int, results: Any) -> None:
    """One of several processes that ask each other."""
    torch.set_num_threads(1)
    where = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=processes)
    signals = Signals()
    signals.install()
    seconds = seconds_per_call(lambda: signals.agree(False))
    if rank == 0:
        results.put(seconds)
    distributed.destroy_process_group()


def agree_between(processes: int) -> float:
    """Seconds that a question to all processes takes."""
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    port = 29500 + os.getpid() % 1000
    ranks = [
        spawn.Process(target=agree_in_turn, args=(rank, processes, port, results))
        for rank in range(processes)
    ]
    for process in ranks:
        process.start()
    seconds = results.get(timeout=120)
    for process in ranks:
        process.join()
    return float(seconds)


def main() -> None:
    """Print all figures."""
    settings = options(__doc__ or "", repeats=10)
    network, optimizer, step = make_training()
    step()  # so that the optimizer has a state
    checkpoint = {
        "global_step": 1,
        "state_dict": network.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
    }
    quiet = measure_saves(checkpoint, step, settings.repeats, settings.threads)
    signals = Signals()
    at_each_step = {
        "random state": seconds_per_call(lambda: random_state(CPU)),
        "agreeing, 1 process": seconds_per_call(lambda: signals.agree(False)),
        "agreeing, 2 processes": agree_between(2),
    }
    for name, seconds in at_each_step.items():
        share = 100 * seconds / quiet
        print(f"{name}: {1e6 * seconds:.1f} us, {share:.3f} % of this step")


if __name__ == "__main__":
    main()
