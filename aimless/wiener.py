"""Multichannel Wiener filter from masks, refined by expectation-maximisation.

The model is the local Gaussian one of Duong, Vincent and Gribonval, "Under-determined
reverberant audio source separation using a full-rank spatial covariance model" (2010), as it
is used after a network by Nugraha, Liutkus and Vincent (2016) and by Open-Unmix: source s
has, in bin f and frame t, the covariance v_s(f,t) R_s(f), and its estimate is the mean of the
source given the mixture.

All of it is computed in double precision. The regulariser of the mixture's covariance is the
square root of the machine epsilon: in single precision it would be so large that recordings
that are close to mono come out wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aimless.errors import ConfigError

__all__ = ["MWF"]

_EPS = torch.finfo(torch.float64).eps


class MWF(nn.Module):
    """Spectrograms of the sources from masks and the mixture's spectrogram.

    With neither flag and no iteration the estimates are mask times mixture. Otherwise a first
    estimate, mask times mixture or a soft mask, is refined by `n_iter` steps of
    expectation-maximisation (see the module's docstring).

    Args:
        residual_model: append a source for what the masks leave of the mixture,
            max(0, |mix|^alpha - sum of the sources' |mask * mix|^alpha). It is the last source
            of the output. A single source always gets one, except with neither flag and
            `n_iter` 0: alone it would explain the whole mixture.
        softmask: start from the ratio of |mask * mix|^alpha to its sum over the sources, so
            that the first estimates add up to the mixture.
        alpha: exponent of the magnitudes in `softmask` and in the residual beside it: 1 for
            magnitudes, 2 for powers. Without `softmask` magnitudes are taken as they are.
        n_iter: steps of expectation-maximisation, 0 or more.

    Shape:
        mask (batch, sources, channels, bins, frames), non-negative, and mix, complex
        (batch, channels, bins, frames) -> complex (batch, sources or sources + 1, channels,
        bins, frames), in the precision of mix.

    Raises:
        ConfigError: n_iter is negative or alpha is not positive.
    """

    def __init__(
        self,
        residual_model: bool = False,
        softmask: bool = False,
        alpha: float = 1.0,
        n_iter: int = 1,
    ) -> None:
        super().__init__()
        if n_iter < 0:
            raise ConfigError(f"n_iter: {n_iter} is negative; the Wiener filter takes 0 or more")
        if not alpha > 0:
            raise ConfigError(f"alpha: {alpha} is not positive")
        self.residual_model = residual_model
        self.softmask = softmask
        self.alpha = alpha
        self.n_iter = n_iter

    def extra_repr(self) -> str:
        """What `print` shows of the module."""
        return (
            f"residual_model={self.residual_model}, softmask={self.softmask}, "
            f"alpha={self.alpha}, n_iter={self.n_iter}"
        )

    def forward(self, mask: Tensor, mix: Tensor) -> Tensor:
        """Filter the mixture; raises ValueError where the shapes do not fit each other."""
        if mask.dim() != 5 or mask[:, 0].shape != mix.shape:
            raise ValueError(
                f"mask {tuple(mask.shape)} is not (batch, sources, channels, bins, frames) "
                f"for a mixture of {tuple(mix.shape)}"
            )
        if not (self.n_iter or self.softmask or self.residual_model):
            return (mask * mix[:, None]).to(mix.dtype)
        x = mix.to(torch.complex128)
        y = self._first_estimate(mask.to(torch.float64), x)
        if self.n_iter:
            y = _expectation_maximisation(y, x, self.n_iter)
        return y.to(mix.dtype)

    def _first_estimate(self, mask: Tensor, x: Tensor) -> Tensor:
        """Estimates with the phase of the mixture, the residual's included."""
        # The magnitude |x|^alpha is common to all sources, so that it can be left out of the
        # residual, and without softmask out of everything.
        weight = _power(mask, self.alpha) if self.softmask else mask
        if self.residual_model or mask.shape[1] == 1:
            residual = (1 - weight.sum(1, keepdim=True)).clamp_min(0)
            weight = torch.cat([weight, residual], dim=1)
        if self.softmask:
            weight = weight * _power(x.abs(), self.alpha)[:, None]
            weight = weight / (_EPS + weight.sum(1, keepdim=True))
        return weight * x[:, None]


def _power(x: Tensor, exponent: float) -> Tensor:
    """Non-negative x ** exponent, with gradient 0 at 0, where an exponent below 1 has none."""
    if exponent == 1:
        return x
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0) ** exponent, 0.0)


def _expectation_maximisation(y: Tensor, x: Tensor, n_iter: int) -> Tensor:
    """Refine estimates y (B,S,C,F,T) of the sources of a mixture x (B,C,F,T)."""
    # Bring every item to one level, that the regulariser is made for. The estimates follow
    # the scale of the mixture, so that the scale needs no gradient.
    scale = (x.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 10).clamp_min(1)
    x, y = x / scale, y / scale[:, None]
    for _ in range(n_iter):
        y = _em_step(y, x)
    return y * scale[:, None]


def _em_step(y: Tensor, x: Tensor) -> Tensor:
    """Fit each source's variance and covariance to y, then filter x with them."""
    # v: mean power over the channels, (B,S,F,T); r: spatial covariance, (B,S,C,C,F)
    v = (y.real.square() + y.imag.square()).mean(dim=2)
    r = torch.einsum("bscft,bsdft->bscdf", y, y.conj())
    r = r / (_EPS + v.sum(-1))[:, :, None, None]
    # covariance of the mixture, sum_s v_s R_s + regulariser, (B,C,C,F,T)
    mix_cov = torch.einsum("bsft,bscdf->bcdft", v.to(r.dtype), r)
    identity = torch.eye(x.shape[1], dtype=r.dtype, device=r.device)
    mix_cov = mix_cov + _EPS**0.5 * identity[:, :, None, None]
    w = _solve(mix_cov, x)
    return v[:, :, None] * torch.einsum("bscdf,bdft->bscft", r, w)


def _solve(a: Tensor, b: Tensor) -> Tensor:
    """Solve a w = b for Hermitian positive definite a, (B,C,C,F,T) and b, (B,C,F,T).

    Gaussian elimination written out over the few channels and vectorised over bins and
    frames; positive definite matrices need no pivoting.
    """
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
