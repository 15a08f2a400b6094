"""The filter's gradient on near-mono input against arithmetic of 60 digits.

There a gradient by automatic differentiation through an explicit inverse in complex128 is
itself wrong by about -85 dB, so that it cannot serve for comparison.
"""

import itertools

import pytest
import torch

from aimless.wiener import MWF

mpmath = pytest.importorskip("mpmath")
EPS = 2.0**-52


def exact(array):
    """A tensor as nested lists of numbers with many digits."""
    if array.dim():
        return [exact(part) for part in array]
    number = array.item()
    if isinstance(number, complex):
        return mpmath.mpc(number.real, number.imag)
    return mpmath.mpf(number)


def shifted(x, step, direction):
    if isinstance(x, list):
        return [shifted(a, step, b) for a, b in zip(x, direction)]
    return x + step * direction


def projected_estimate(mask, mix, weight):
    """Re <weight, filtered sources> in one bin; mask [s][c][t], mix [c][t], two channels."""
    sources, frames, channels = range(len(mask)), range(len(mix[0])), range(2)
    scale = max(1, max(abs(value) for channel in mix for value in channel) / 10)
    x = [[value / scale for value in channel] for channel in mix]
    y = [[[m * value for m, value in zip(mask[s][c], x[c])] for c in channels] for s in sources]
    v = [[sum(abs(y[s][c][t]) ** 2 for c in channels) / 2 for t in frames] for s in sources]

    def spatial(s, c, d):
        return sum(y[s][c][t] * y[s][d][t].conjugate() for t in frames) / (EPS + sum(v[s]))

    r = [[[spatial(s, c, d) for d in channels] for c in channels] for s in sources]
    total = mpmath.mpf(0)
    for t in frames:
        a, b, c, d = (
            sum(v[s][t] * r[s][i][j] for s in sources) + (mpmath.sqrt(EPS) if i == j else 0)
            for i, j in itertools.product(channels, channels)
        )
        left, right = x[0][t], x[1][t]
        w = [(d * left - b * right) / (a * d - b * c), (a * right - c * left) / (a * d - b * c)]
        for s, i in itertools.product(sources, channels):
            estimate = v[s][t] * (r[s][i][0] * w[0] + r[s][i][1] * w[1]) * scale
            total += (weight[s][i][t].conjugate() * estimate).real
    return total


@pytest.mark.parametrize("level", [1.0, 1e4])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_exact(seed, level):
    rng = torch.Generator().manual_seed(seed)
    frames = 40
    mid, side = torch.randn(2, 1, 1, frames, dtype=torch.complex128, generator=rng) * level
    mix = torch.stack([mid + 1e-4 * side, mid - 1e-4 * side], dim=1)  # side 80 dB below mid
    mask = torch.rand(1, 3, 1, 1, frames, dtype=torch.float64, generator=rng).repeat(1, 1, 2, 1, 1)
    direction = torch.randn(mask.shape, dtype=torch.float64, generator=rng)
    weight = torch.randn(mask.shape, dtype=torch.complex128, generator=rng)

    mask.requires_grad_()
    (grad,) = torch.autograd.grad(MWF()(mask, mix), mask, weight)
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -20
        x, w, m, d = (exact(z.detach()[0, ..., 0, :]) for z in (mix, weight, mask, direction))
        ends = [projected_estimate(shifted(m, sign * step, d), x, w) for sign in (1, -1)]
        expected = float((ends[0] - ends[1]) / (2 * step))
    assert (grad * direction).sum().item() == pytest.approx(expected, rel=1e-6)  # -120 dB
