"""One step of expectation-maximisation of the local Gaussian model, and its gradient by hand.

Source s has in bin f and frame t the covariance v_s(f,t) R_s(f), of its variance v_s, the mean
power over the C channels, and its spatial covariance R_s = sum_t y y^H / (eps + sum_t v_s). With
C_x = sum_s v_s R_s + reg I and w = C_x^-1 x, the estimate is y_s = v_s R_s w. Bins do not touch
each other; they are the leading axis N here, with the items of a batch. Vectors and matrices
over the channels are planes of real numbers, see `aimless.hermitian`.

With g the gradient of y, h = g - C_x^-1 sum_s R_s v_s g_s and E_s the gradient of
Re(h_s^H R_s w) with respect to R_s, the gradients of v_s and R_s are <R_s, E_s> and
sum_t v_s E_s.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aimless.hermitian import (
    combine,
    correlate,
    invert,
    multiply,
    outer_gradient,
    pairs,
    products,
    real_matrix,
)

__all__ = [
    "EPS",
    "Step",
    "estimate",
    "estimate_statistics",
    "estimate_statistics_gradient",
    "mask_statistics",
    "mask_statistics_gradient",
    "mixture_statistics_gradient",
    "step",
    "step_gradient",
]

#: Machine epsilon of float64, in every precision; the regulariser is its square root.
EPS = torch.finfo(torch.float64).eps


class Step(NamedTuple):
    """What a step's gradient needs.

    Shape:
        power v (N,S,T), norm eps + sum_t v (N,S), spatial R (N,C^2,S), inverse C_x^-1
        (N,C^2,T) and filtered w (N,2C,T); matrix is R as a real matrix (N,2C*S,2C)
    """

    power: Tensor
    norm: Tensor
    spatial: Tensor
    matrix: Tensor
    inverse: Tensor
    filtered: Tensor


def step(power: Tensor, covariance: Tensor, x: Tensor) -> Step:
    """Fit the model and filter the mixture.

    Args:
        power: v, (N,S,T).
        covariance: sum_t y y^H, (N,C^2,S).
        x: the mixture, (N,2C,T).
    """
    channels = x.shape[1] // 2
    norm = EPS + power.sum(-1)
    spatial = covariance / norm[:, None]
    mix_cov = combine(spatial, power)
    mix_cov[:, :channels] += EPS**0.5
    inverse = invert(mix_cov)
    w = multiply(inverse.split(1, 1), x)
    return Step(power, norm, spatial, real_matrix(spatial), inverse, w)


def estimate(fitted: Step) -> Tensor:
    """The sources' estimates v_s R_s w, (N,2C,S,T)."""
    y = combine(fitted.matrix, fitted.filtered).unflatten(1, (-1, fitted.power.shape[1]))
    return y.mul_(fitted.power[:, None])


def step_gradient(fitted: Step, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `estimate(step(...))` with respect to `step`'s arguments.

    Args:
        fitted: the step.
        grad: gradient of the estimates, (N,2C,S,T); overwritten.
    """
    power, norm, spatial, matrix, inverse, w = fitted
    grad_w = combine(matrix.mT, (power[:, None] * grad).flatten(1, 2))
    grad_x = multiply(inverse.split(1, 1), grad_w)
    grad -= grad_x[:, :, None]
    outer = outer_gradient(grad, w[:, :, None])  # E, (N,C^2,S,T)
    planes = outer.unbind(1)
    grad_power = planes[0] * spatial[:, 0, :, None]
    for k in range(1, len(planes)):
        grad_power.addcmul_(planes[k], spatial[:, k, :, None])
    # sum_t v E is the gradient of R; over the norm that of sum_t y y^H
    grad_cov = outer.mul_(power[:, None]).sum(-1) / norm[:, None]
    grad_norm = -(grad_cov * spatial).sum(1)
    return grad_power.add_(grad_norm[..., None]), grad_cov, grad_x


def mask_statistics(mask: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Power and covariance of the estimates mask * x.

    Args:
        mask: (N,C,S,T).
        x: the mixture, (N,2C,T).

    Returns:
        power (N,S,T) and covariance (N,C^2,S).
    """
    n, channels, sources = mask.shape[:3]
    xx = products(x)
    covariance = x.new_empty(n, channels**2, sources)
    own = mask.square().mul_(xx[:, :channels, None])  # (N,C,S,T)
    covariance[:, :channels] = own.sum(-1)
    for c, d, k in pairs(channels):
        both = mask[:, c] * mask[:, d]
        covariance[:, k : k + 2] = correlate(xx[:, k : k + 2], both)
    return own.mean(1), covariance


def mask_statistics_gradient(
    mask: Tensor, x: Tensor, grad_power: Tensor, grad_cov: Tensor
) -> Tensor:
    """Gradient of `mask_statistics` with respect to the mask."""
    channels = mask.shape[1]
    xx = products(x)
    grad_mask = torch.empty_like(mask)
    for c in range(channels):
        factor = _diagonal_gradient(grad_power, grad_cov, c, channels)
        torch.mul(factor.mul_(mask[:, c]), xx[:, c, None], out=grad_mask[:, c])
    for c, d, k in pairs(channels):
        grad_both = combine(grad_cov[:, k : k + 2].mT, xx[:, k : k + 2])
        grad_mask[:, c].addcmul_(grad_both, mask[:, d])
        grad_mask[:, d].addcmul_(grad_both, mask[:, c])
    return grad_mask


def mixture_statistics_gradient(
    mask: Tensor, x: Tensor, grad_power: Tensor, grad_cov: Tensor
) -> Tensor:
    """Gradient of `mask_statistics` with respect to the mixture."""
    channels = mask.shape[1]
    planes = []
    for c in range(channels):
        factor = _diagonal_gradient(grad_power, grad_cov, c, channels)
        planes.append((factor * mask[:, c].square()).sum(1, keepdim=True))
    for c, d, k in pairs(channels):
        planes += combine(grad_cov[:, k : k + 2], mask[:, c] * mask[:, d]).split(1, 1)
    return multiply(planes, x)


def estimate_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Power (N,S,T) and covariance (N,C^2,S) of estimates y (N,2C,S,T)."""
    yy = products(y)
    return yy[:, : y.shape[1] // 2].mean(1), yy.sum(-1)


def estimate_statistics_gradient(y: Tensor, grad_power: Tensor, grad_cov: Tensor) -> Tensor:
    """Gradient of `estimate_statistics` with respect to y."""
    channels = y.shape[1] // 2
    planes = list(grad_cov[..., None].split(1, 1))
    for c in range(channels):
        planes[c] = _diagonal_gradient(grad_power, grad_cov, c, channels)[:, None]
    return multiply(planes, y)


def _diagonal_gradient(grad_power: Tensor, grad_cov: Tensor, c: int, channels: int) -> Tensor:
    """Twice the gradient of |y_c|^2, which is the factor of y_c in its own; (N,S,T)."""
    return torch.add(2 * grad_cov[:, c, :, None], grad_power, alpha=2 / channels)
