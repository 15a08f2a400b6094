"""Training with two processes against one: the whole of `main.py fit`, samples per second.

    python benchmarks/scaling.py [--config cfg/xumx.yaml] [--batch 2] [--steps 8] [--rounds 3]
        [options of main.py fit]

Each form is a run of its own on synthetic songs; they take turns. A process takes as many items
per step whatever the form. Two runs that know nothing of each other, at the same time, are the
most that two processes of this machine can do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl

REPOSITORY = Path(__file__).resolve().parent.parent
WARM_UP = 2  # steps that do not count


class Form(NamedTuple):
    """A way to use the machine: runs at the same time, of so many processes, with threads each."""

    runs: int
    processes: int
    threads: int


FORMS = {
    "1 process, 1 thread": Form(1, 1, 1),
    "1 process, 2 threads": Form(1, 1, 2),
    "2 processes, 1 thread each": Form(1, 2, 1),
    "2 runs of 1 process, 1 thread each": Form(2, 1, 1),
}


class StepTimes(pl.Callback):
    """Writes down when each step of process 0 ended.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.ended: list[float] = []

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        self.ended.append(time.perf_counter())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the seconds of each step but the first ones."""
        if trainer.is_global_zero:
            seconds = [after - before for before, after in zip(self.ended, self.ended[1:])]
            Path(self.path).write_text(json.dumps(seconds[WARM_UP - 1 :]))


def write_config(settings: argparse.Namespace, root: Path, path: Path) -> None:
    """What differs from the experiment: small data, and nothing but training."""
    config = {
        "data": {
            "init_args": {
                "root": str(root),
                "seq_duration": settings.seconds,
                "samples_per_track": 4 * settings.batch * settings.steps,
                "batch_size": settings.batch,
                "num_workers": 0,
            }
        },
        "excerpts": {"count": 0},
        "trainer": {
            "accelerator": "cpu",
            "max_steps": settings.steps,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "logger": False,
            "default_root_dir": str(path.parent),  # where the config goes
        },
    }
    path.write_text(json.dumps(config))  # which is YAML, too


def start(
    form: Form, settings: argparse.Namespace, small: Path, result: Path
) -> subprocess.Popen[bytes]:
    """Start a run that writes the seconds of its steps to a file."""
    words = ["fit", "--config", settings.config, "--config", str(small), *settings.options]
    devices = ["--trainer.devices", str(form.processes)]
    callback = ["--trainer.callbacks", "benchmarks.scaling.StepTimes"]
    callback += ["--trainer.callbacks.path", str(result)]
    return subprocess.Popen(
        [sys.executable, "main.py", *words, *devices, *callback],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": str(form.threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def measure(form: Form, settings: argparse.Namespace, folder: Path) -> float:
    """Samples per second of a form, from the median step of each of its runs."""
    results = [folder / f"{number}.json" for number in range(form.runs)]
    runs = [start(form, settings, folder / "small.yaml", result) for result in results]
    try:
        for run in runs:
            if run.wait():
                raise SystemExit(f"main.py fit ended with status {run.returncode}")
    finally:
        for run in runs:
            run.terminate()
            run.wait()
    medians = [statistics.median(json.loads(result.read_text())) for result in results]
    return sum(form.processes * settings.batch / seconds for seconds in medians)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default="cfg/xumx.yaml", help="an experiment with MUSDB")
    parser.add_argument("--batch", type=int, default=2, help="items per process and step")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of an item")
    parser.add_argument("--steps", type=int, default=8, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each form")
    parsed, options = parser.parse_known_args()
    parsed.options = options
    if parsed.steps < WARM_UP + 1:
        parser.error(f"--steps: {parsed.steps}; the first {WARM_UP} do not count")
    return parsed


def main() -> None:
    """Print medians over the rounds, and the ratios that matter."""
    settings = parse()
    rates: dict[str, list[float]] = {name: [] for name in FORMS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        songs = ["--train", "1", "--validation", "1", "--test", "1", "--seconds", "8", "--plain"]
        maker = [sys.executable, "scripts/make_synthetic_dataset.py", str(folder / "songs")]
        subprocess.run([*maker, *songs], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        write_config(settings, folder / "songs", folder / "small.yaml")
        for _ in range(settings.rounds):
            for form_name, form in FORMS.items():
                rates[form_name].append(measure(form, settings, folder))
    medians = {form: statistics.median(values) for form, values in rates.items()}
    for form_name, rate in medians.items():
        print(f"{form_name}: {rate:.2f} samples/s")
    one, threads, two, apart = medians.values()
    print(f"2 processes: {two / one:.2f} times one process, of at most {apart / one:.2f}")
    print(f"2 processes of 1 thread against 1 process of 2 threads: {two / threads:.2f}")


if __name__ == "__main__":
    main()
