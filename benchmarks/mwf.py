"""The Wiener filter against two other forms in complex128, forward and backward.

One item of 10 s, four stereo sources, 4096 / 1024, one step of expectation-maximisation. "plain"
is the textbook computation, step by step as norbert and Open-Unmix do it: a covariance matrix
and then a filter matrix for every source, bin and frame. "elimination" is the best we know how to
do with complex numbers and automatic differentiation: no matrix per source, and the filtered
mixture by elimination. Prints the error of each form against "plain" beside the times.

    python benchmarks/mwf.py
"""

from __future__ import annotations

import torch
from torch import Tensor
from turns import in_turns, options, report

from aimless.wiener import MWF

EPS = torch.finfo(torch.float64).eps


def elimination_filter(mask: Tensor, mix: Tensor) -> Tensor:
    """Estimates (B,S,C,F,T) of one step, as `MWF()` gives them."""
    x, y, scale = scaled(mask, mix)
    v, r = statistics(y)
    mix_cov = torch.einsum("bsft,bscdf->bcdft", v.to(r.dtype), r)
    w = solve(mix_cov + regulariser(r)[..., None, None], x)
    y = v[:, :, None] * torch.einsum("bscdf,bdft->bscft", r, w)
    return (y * scale[:, None]).to(mix.dtype)


def plain_filter(mask: Tensor, mix: Tensor) -> Tensor:
    """The same from covariances and filters (B,S,C,C,F,T)."""
    x, y, scale = scaled(mask, mix)
    v = y.abs().square().mean(dim=2)
    covariance = y[:, :, :, None] * y[:, :, None].conj()
    r = covariance.sum(-1) / (EPS + v.sum(-1))[:, :, None, None]
    covariance = v[:, :, None, None] * r[..., None]
    mix_cov = covariance.sum(1) + regulariser(r)[..., None, None]
    inverse = torch.linalg.inv(mix_cov.movedim((1, 2), (-2, -1))).movedim((-2, -1), (1, 2))
    gain = torch.stack(
        [
            sum(covariance[:, :, :, k] * inverse[:, None, None, k, c] for k in range(x.shape[1]))
            for c in range(x.shape[1])
        ],
        dim=3,
    )
    y = (gain * x[:, None, None]).sum(3)
    return (y * scale[:, None]).to(mix.dtype)


def scaled(mask: Tensor, mix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mixture and first estimates at the level of the regulariser, and the scale to undo it."""
    x = mix.to(torch.complex128)
    scale = (x.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 10).clamp_min(1)
    return x / scale, mask.double() * (x / scale)[:, None], scale


def statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Power (B,S,F,T) and spatial covariance (B,S,C,C,F)."""
    v = (y.real.square() + y.imag.square()).mean(dim=2)
    r = torch.einsum("bscft,bsdft->bscdf", y, y.conj())
    return v, r / (EPS + v.sum(-1))[:, :, None, None]


def regulariser(r: Tensor) -> Tensor:
    """(C,C)."""
    return EPS**0.5 * torch.eye(r.shape[2], dtype=r.dtype)


def solve(a: Tensor, b: Tensor) -> Tensor:
    """Solve a w = b for Hermitian positive definite a, (B,C,C,F,T) and b, (B,C,F,T)."""
    rows = [list(row.unbind(1)) for row in a.unbind(1)]
    rhs = list(b.unbind(1))
    channels = len(rhs)
    for k in range(channels):
        for i in range(k + 1, channels):
            factor = rows[i][k] / rows[k][k]
            rows[i][k + 1 :] = [
                left - factor * above for left, above in zip(rows[i][k + 1 :], rows[k][k + 1 :])
            ]
            rhs[i] = rhs[i] - factor * rhs[k]
    for k in reversed(range(channels)):
        for j in range(k + 1, channels):
            rhs[k] = rhs[k] - rows[k][j] * rhs[j]
        rhs[k] = rhs[k] / rows[k][k]
    return torch.stack(rhs, dim=1)


def main() -> None:
    """Time all forms."""
    parsed = options(__doc__, repeats=5)
    shape = (1, 4, 2, 2049, 431)
    mix = torch.randn(1, *shape[2:], dtype=torch.complex64)
    mask = torch.rand(shape, requires_grad=True)
    grad = torch.randn(shape, dtype=torch.complex64)
    forms = {
        "plain": plain_filter,
        "elimination": elimination_filter,
        "double": MWF(),
        "single": MWF(precision="single"),
    }
    with torch.no_grad():
        expected = plain_filter(mask, mix.to(torch.complex128))
        for name, form in forms.items():
            error = (form(mask, mix) - expected).norm() / expected.norm()
            print(f"{name}: error {20 * torch.log10(error):.0f} dB")

    def forward(form):
        with torch.no_grad():
            return form(mask, mix)

    for title, call in {
        "forward": forward,
        "forward and backward": lambda form: torch.autograd.grad(form(mask, mix), mask, grad),
    }.items():
        calls = {name: (lambda form=form: call(form)) for name, form in forms.items()}  # noqa: B023
        report(title, parsed.threads, in_turns(calls, parsed.repeats), "plain")


if __name__ == "__main__":
    main()
