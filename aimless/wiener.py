"""Multichannel Wiener filter from masks, refined by expectation-maximisation.

The model is the local Gaussian one of Duong, Vincent and Gribonval, "Under-determined
reverberant audio source separation using a full-rank spatial covariance model" (2010), as it
is used after a network by Nugraha, Liutkus and Vincent (2016) and by Open-Unmix: source s
has, in bin f and frame t, the covariance v_s(f,t) R_s(f), and its estimate is the mean of the
source given the mixture.

All of it is computed in double precision, in blocks of bins that stay in the processor's
cache (`aimless.local_gaussian` has the formulas). The regulariser of the mixture's covariance is
the square root of the machine epsilon of float64: at that of float32 it would be so large
that recordings that are close to mono come out wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aimless import local_gaussian as model
from aimless.errors import ConfigError
from aimless.transforms import at_least_float32, no_autocast

__all__ = ["MWF"]

# Bytes in a plane (item, source, bin, frame) of a block, on a CPU for each thread. There the
# planes that are at work shall stay in the cache; other devices want few, large operations.
_CPU_BLOCK, _DEVICE_BLOCK = 2**20, 2**27


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
        precision: "double" or "single", of the steps. Single precision is quicker and, on stereo
            music, within -110 dB of double. It has a limit: where the channels are nearly the
            same, their difference is lost. On music with a side signal 20 dB below its level
            in stereo the error is about -85 dB, at 40 dB below about -45 dB, and at 60 dB
            below the result is useless. On the device type mps, which has no double
            precision, single is used.

    Shape:
        mask (batch, sources, channels, bins, frames), non-negative, and mix, complex
        (batch, channels, bins, frames) -> complex (batch, sources or sources + 1, channels,
        bins, frames), in the precision of mix.

    Raises:
        ConfigError: n_iter is negative, alpha is not positive, or the precision is another word.
    """

    def __init__(
        self,
        residual_model: bool = False,
        softmask: bool = False,
        alpha: float = 1.0,
        n_iter: int = 1,
        precision: Literal["double", "single"] = "double",
    ) -> None:
        super().__init__()
        if n_iter < 0:
            raise ConfigError(f"n_iter: {n_iter} is negative; the Wiener filter takes 0 or more")
        if not alpha > 0:
            raise ConfigError(f"alpha: {alpha} is not positive")
        if precision not in ("double", "single"):
            raise ConfigError(f"precision: {precision!r}; allowed are double and single")
        self.residual_model = residual_model
        self.softmask = softmask
        self.alpha = alpha
        self.n_iter = n_iter
        self.precision = precision

    def extra_repr(self) -> str:
        """What `print` shows of the module."""
        return (
            f"residual_model={self.residual_model}, softmask={self.softmask}, "
            f"alpha={self.alpha}, n_iter={self.n_iter}, precision={self.precision}"
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
        with no_autocast(mix):
            dtype = self._working_precision(mix)
            weight = self._weights(at_least_float32(mask), mix, dtype)
            if not self.n_iter:
                return (weight * mix[:, None]).to(mix.dtype)
            # Bring every item to one level, that the regulariser is made for. The estimates
            # follow the scale of the mixture, so that the scale needs no gradient.
            peak = mix.detach().abs().amax(dim=(1, 2, 3)).to(dtype)
            scale = (peak / 10).clamp_min(1)[:, None, None, None]
            keep = torch.is_grad_enabled() and (weight.requires_grad or mix.requires_grad)
            return _ExpectationMaximisation.apply(weight, mix, scale, self.n_iter, keep)

    def _working_precision(self, mix: Tensor) -> torch.dtype:
        single = self.precision == "single" or mix.device.type == "mps"
        return torch.float32 if single else torch.float64

    def _weights(self, mask: Tensor, mix: Tensor, dtype: torch.dtype) -> Tensor:
        """Factors (B,S,C,F,T) of the mixture in the first estimates, the residual's included."""
        residual_model = self.residual_model or mask.shape[1] == 1
        if not (self.softmask or residual_model):
            return mask
        # The magnitude |x|^alpha is common to all sources, so that it can be left out of the
        # residual, and without softmask out of everything.
        mask = mask.to(dtype)
        weight = _power(mask, self.alpha) if self.softmask else mask
        if residual_model:
            residual = (1 - weight.sum(1, keepdim=True)).clamp_min(0)
            weight = torch.cat([weight, residual], dim=1)
        if self.softmask:
            magnitude = mix.to(dtype.to_complex()).abs()
            weight = weight * _power(magnitude, self.alpha)[:, None]
            weight = weight / (model.EPS + weight.sum(1, keepdim=True))
        return weight


def _power(x: Tensor, exponent: float) -> Tensor:
    """Non-negative x ** exponent, with gradient 0 at 0, where an exponent below 1 has none."""
    if exponent == 1:
        return x
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0) ** exponent, 0.0)


class _ExpectationMaximisation(torch.autograd.Function):
    """Refine the estimates weight * mix, block of bins by block of bins.

    Takes weights (B,S,C,F,T), mixture (B,C,F,T), its scale (B,1,1,1) in the precision to work
    in, the number of steps, and whether to keep what the gradient needs.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, mix: Tensor, scale: Tensor, n_iter: int, keep: bool
    ) -> Tensor:
        out = torch.empty(weight.shape, dtype=mix.dtype, device=mix.device)
        kept: list[Tensor] = []
        for bins in _blocks(weight, scale):
            x = _load_mixture(mix[:, :, bins], scale)
            statistics = model.mask_statistics(_load_weights(weight[..., bins, :], x), x)
            steps = [model.step(*statistics, x)]
            y = model.estimate(steps[0])
            for _ in range(n_iter - 1):
                steps.append(model.step(*model.estimate_statistics(y), x))
                y = model.estimate(steps[-1])
            _store_vectors(y.mul_(_per_bin(scale, y)), out[..., bins, :])
            if keep:
                kept.extend(chain.from_iterable(steps))
        ctx.save_for_backward(weight, mix, scale, *kept)
        ctx.n_iter = n_iter
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, mix, scale, *kept = ctx.saved_tensors
        grad_weight = torch.empty_like(weight)
        grad_mix = torch.empty_like(mix) if ctx.needs_input_grad[1] else None
        remaining = iter(kept)
        for bins in _blocks(weight, scale):
            x = _load_mixture(mix[:, :, bins], scale)
            m = _load_weights(weight[..., bins, :], x)
            steps = [_next_step(remaining) for _ in range(ctx.n_iter)]
            g = _load_vectors(grad[..., bins, :], x)
            power, covariance, grad_x = model.step_gradient(steps.pop(), g)
            while steps:
                y = model.estimate(steps[-1])
                g = model.estimate_statistics_gradient(y, power, covariance)
                power, covariance, through_filter = model.step_gradient(steps.pop(), g)
                grad_x += through_filter
            grad_m = model.mask_statistics_gradient(m, x, power, covariance)
            _store_weights(grad_m.mul_(_per_bin(scale, grad_m)), grad_weight[..., bins, :])
            if grad_mix is not None:
                grad_x += model.mixture_statistics_gradient(m, x, power, covariance)
                _store_vectors(grad_x[:, :, None], grad_mix[:, None, :, bins])
        return grad_weight, grad_mix, None, None, None


def _blocks(weight: Tensor, scale: Tensor) -> list[slice]:
    """Slices of bins."""
    batch, sources, _, bins, frames = weight.shape
    on_cpu = weight.device.type == "cpu"
    size = _CPU_BLOCK * torch.get_num_threads() if on_cpu else _DEVICE_BLOCK
    step = max(1, size // max(1, batch * sources * frames * scale.element_size()))
    return [slice(start, start + step) for start in range(0, bins, step)]


def _next_step(tensors: Iterator[Tensor]) -> model.Step:
    return model.Step(*islice(tensors, len(model.Step._fields)))


def _per_bin(scale: Tensor, x: Tensor) -> Tensor:
    """Scale of the items (B,1,1,1) -> (N,1,1,1), for N = B * bins."""
    return scale.expand(-1, len(x) // len(scale), 1, 1).reshape(-1, 1, 1, 1)


def _load_mixture(mix: Tensor, scale: Tensor) -> Tensor:
    """Complex (B,C,F,T) -> planes (N,2C,T), over the scale, in its precision."""
    batch, channels, bins, frames = mix.shape
    x = scale.new_empty(batch, bins, channels, 2, frames)
    x.copy_(torch.view_as_real(mix.resolve_conj()).permute(0, 2, 1, 4, 3))
    return x.div_(scale[..., None]).view(-1, 2 * channels, frames)


def _load_weights(weight: Tensor, like: Tensor) -> Tensor:
    """(B,S,C,F,T) -> (N,C,S,T)."""
    batch, sources, channels, bins, frames = weight.shape
    m = like.new_empty(batch, bins, channels, sources, frames)
    return m.copy_(weight.permute(0, 3, 2, 1, 4)).flatten(0, 1)


def _store_weights(m: Tensor, out: Tensor) -> None:
    """(N,C,S,T) -> (B,S,C,F,T)."""
    out.copy_(m.unflatten(0, (len(out), -1)).permute(0, 3, 2, 1, 4))


def _load_vectors(vectors: Tensor, like: Tensor) -> Tensor:
    """Complex (B,S,C,F,T) -> planes (N,2C,S,T)."""
    batch, sources, channels, bins, frames = vectors.shape
    y = like.new_empty(batch, bins, channels, 2, sources, frames)
    y.copy_(torch.view_as_real(vectors.resolve_conj()).permute(0, 3, 2, 5, 1, 4))
    return y.view(-1, 2 * channels, sources, frames)


def _store_vectors(y: Tensor, out: Tensor) -> None:
    """Planes (N,2C,S,T) -> complex (B,S,C,F,T)."""
    planes = y.unflatten(1, (-1, 2)).unflatten(0, (len(out), -1))  # (B,F,C,2,S,T)
    re, im = planes.permute(3, 0, 4, 2, 1, 5)
    out.real.copy_(re)
    out.imag.copy_(im)
