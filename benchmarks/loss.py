"""Combination losses against the plain loops over all combinations, forward and backward.

Four stereo sources of 6 s, batch 4, spectrograms of 4096 / 1024, without the Wiener filter. The
plain forms are the definitions as the published code computed them, a sum and a product per
combination. The forms take turns in one process.

    python benchmarks/loss.py
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from turns import in_turns, options, report

from aimless.loss.combinations import combination_l1, combination_mse, combination_wsdr


def plain_mse(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean over the combinations of the squared error of their sums."""
    errors = []
    for subset in subsets(estimate.shape[1]):
        residual = torch.view_as_real((estimate[:, subset] - target[:, subset]).sum(1))
        errors.append(2 * residual.square().mean())
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


def plain_l1(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean over the combinations of the absolute error of their sums."""
    errors = [
        (estimate[:, subset].sum(1) - target[:, subset].sum(1)).abs().mean()
        for subset in subsets(estimate.shape[1])
    ]
    return torch.stack(errors).mean()


def subsets(sources: int) -> list[list[int]]:
    """All proper, non-empty ones."""
    return [list(s) for size in range(1, sources) for s in combinations(range(sources), size)]


def main() -> None:
    """Time the parts of CLoss, both of them together, and CL1Loss."""
    parsed = options(__doc__, repeats=7)
    shape = (4, 4, 2, 2049, 259)
    spectrograms = [torch.randn(shape, dtype=torch.complex64) for _ in range(2)]
    waveforms = [torch.randn(4, 4, 2, 6 * 44100) for _ in range(2)]
    cases = {
        "spectral error": (lambda e, t: combination_mse(e - t), plain_mse, spectrograms),
        "weighted SDR": (combination_wsdr, plain_wsdr, [*waveforms, waveforms[1].sum(1)]),
        "absolute error": (combination_l1, plain_l1, waveforms),
    }
    medians = {}
    for title, (ours, plain, inputs) in cases.items():
        inputs[0].requires_grad_()
        forms = {
            "plain": lambda: torch.autograd.grad(plain(*inputs), inputs[0]),  # noqa: B023
            "ours": lambda: torch.autograd.grad(ours(*inputs), inputs[0]),  # noqa: B023
        }
        medians[title] = in_turns(forms, parsed.repeats)
        report(title, parsed.threads, medians[title], "plain")
    parts = [medians["spectral error"], medians["weighted SDR"]]
    both = {form: sum(part[form] for part in parts) for form in ("plain", "ours")}
    report("both parts of CLoss", parsed.threads, both, "plain")


if __name__ == "__main__":
    main()
