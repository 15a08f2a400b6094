"""Time several forms of one computation in turns, in one process; used by the benchmarks."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from aimless.memory import keep_freed_memory


def options(description: str, repeats: int) -> argparse.Namespace:
    """Parse --repeats and --threads, and set up the process."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    return parsed


def in_turns(forms: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each form; a first round, which warms up, does not count."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for repeat in range(repeats + 1):
        for name, call in forms.items():
            began = time.perf_counter()
            call()
            if repeat:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, threads: int, medians: dict[str, float], reference: str) -> None:
    """Print medians in ms, and how many times quicker than the reference each is."""
    slow = medians[reference]
    parts = [f"{reference} {1000 * slow:.0f} ms"]
    for name, seconds in medians.items():
        if name != reference:
            parts.append(f"{name} {1000 * seconds:.0f} ms, ratio {slow / seconds:.1f}")
    print(f"{title}, {threads} threads: {'; '.join(parts)}", flush=True)
