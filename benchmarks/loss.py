"""CLoss in closed form against the plain loop over all combinations, forward and backward.

Four stereo sources of 6 s, batch 4, spectrograms of 4096 / 1024, without the Wiener filter. The
plain form is the definition as the published code computed it, a sum and a product per
combination. The two take turns in one process.

    python benchmarks/loss.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import combinations

import torch
from torch import Tensor

from aimless.loss.combinations import combination_mse, combination_wsdr
from aimless.memory import keep_freed_memory


def plain_mse(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean over the combinations of the squared error of their sums."""
    errors = []
    for subset in subsets(estimate.shape[1]):
        residual = torch.view_as_real((estimate[:, subset] - target[:, subset]).sum(1))
        errors.append(residual.square().mean())
    return torch.stack(errors).mean()


def plain_wsdr(estimate: Tensor, target: Tensor, mix: Tensor) -> Tensor:
    """Mean over the combinations of the weighted SDR term."""
    terms = []
    for subset in subsets(estimate.shape[1]):
        x, guess = target[:, subset].sum(1), estimate[:, subset].sum(1)
        signal, rest = x.square().sum(-1), (mix - x).square().sum(-1)
        weight = signal / (signal + rest + 1e-10)
        terms.append(-weight * cosine(x, guess) - (1 - weight) * cosine(mix - x, mix - guess))
    return torch.stack(terms).mean()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between waveforms."""
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-8)


def subsets(sources: int) -> list[list[int]]:
    """All proper, non-empty ones."""
    return [list(s) for size in range(1, sources) for s in combinations(range(sources), size)]


def timed(call, inputs: list[Tensor]) -> float:
    """Seconds for one value and its gradient."""
    began = time.perf_counter()
    torch.autograd.grad(call(*inputs), inputs[0])
    return time.perf_counter() - began


def main() -> None:
    """Time both parts of the loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()

    torch.manual_seed(0)
    shape = (4, 4, 2, 2049, 259)
    spectrograms = [torch.randn(shape, dtype=torch.complex64) for _ in range(2)]
    waveforms = [torch.randn(4, 4, 2, 6 * 44100) for _ in range(2)]
    mix = waveforms[1].sum(1)
    cases = {
        "spectral error": (
            lambda e, t: combination_mse(e - t),
            plain_mse,
            spectrograms,
        ),
        "weighted SDR": (combination_wsdr, plain_wsdr, [*waveforms, mix]),
    }
    for name, (ours, plain, inputs) in cases.items():
        inputs[0].requires_grad_()
        times: dict[str, list[float]] = {"ours": [], "plain": []}
        for repeat in range(options.repeats + 1):
            for form, call in (("ours", ours), ("plain", plain)):
                seconds = timed(call, inputs)
                if repeat:  # the first warms up
                    times[form].append(seconds)
        mine, reference = statistics.median(times["ours"]), statistics.median(times["plain"])
        print(
            f"{name}, {options.threads} threads: {1000 * mine:.0f} ms closed form, "
            f"{1000 * reference:.0f} ms plain, ratio {reference / mine:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
