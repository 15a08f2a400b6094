"""What keeping freed memory gains on a CPU: a training step with and without the setting.

The setting holds for a whole process, so that each form runs in a child process of its own;
the two take turns. Prints the median time of a step and the ratio.

    python benchmarks/malloc.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

FORMS = ("default", "kept")


def make_step(workload: str):
    """A call that does one training step on 6 s of stereo noise, batch 1."""
    import torch

    from aimless.loss import CLoss, L1Loss
    from aimless.models import X_UMX, DemucsSplit
    from aimless.transforms import STFT

    torch.manual_seed(0)
    stems = 0.1 * torch.randn(1, 4, 2, 6 * 44100)
    mixture = stems.sum(1)
    if workload == "xumx":
        network, criterion, stft = X_UMX(4096, 512, 1487, 2, 3), CLoss(n_iter=1), STFT(4096, 1024)

        def loss():
            spectrogram = stft(mixture)
            masks = network(spectrogram.abs())
            return criterion(masks, stft(stems), spectrogram, stems, mixture)[0]
    else:
        network, criterion = DemucsSplit(48), L1Loss()

        def loss():
            return criterion(network(mixture), stems, mixture)[0]

    def step():
        network.zero_grad()
        loss().backward()

    return step


def child(workload: str, form: str, steps: int) -> None:
    """Time steps in this process; prints one number, the median in seconds."""
    from aimless.memory import keep_freed_memory

    if form == "kept" and not keep_freed_memory():
        sys.exit("error: this C library has no such setting, or the environment sets it")
    step = make_step(workload)
    step()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    print(statistics.median(times))


def main() -> None:
    """Run the children in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="children of each form")
    parser.add_argument("--steps", type=int, default=3, help="timed steps per child")
    parser.add_argument("--child", nargs=2, metavar=("WORKLOAD", "FORM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child, options.steps)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    for workload in ("xumx", "demucs"):
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        for _ in range(options.rounds):
            for form in FORMS:
                command = [sys.executable, __file__, "--child", workload, form]
                command += ["--steps", str(options.steps)]
                output = subprocess.run(
                    command, env=environment, stdout=subprocess.PIPE, check=True
                )
                times[form].append(float(output.stdout))
        default, kept = (statistics.median(times[form]) for form in FORMS)
        print(
            f"{workload}: {1000 * default:.0f} ms default, {1000 * kept:.0f} ms kept, "
            f"ratio {default / kept:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
