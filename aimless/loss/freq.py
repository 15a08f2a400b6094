"""Losses on masks: forward(msk_hat, gt_spec, mix_spec, gt, mix) -> (loss, parts to log)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from aimless.loss.combinations import combination_mse, combination_wsdr, subset_sums
from aimless.transforms import STFT, at_least_float32, no_autocast
from aimless.wiener import MWF

__all__ = ["CLoss", "MDLoss", "bce_loss"]

# How near to 0 and 1 an estimated share of power counts.
_SHARE_MARGIN = 1e-6


class CLoss(nn.Module):
    """Combination loss of X-UMX: spectral error plus weighted SDR, over all subsets of sources.

    loss = loss_f + mcoeff * loss_t. loss_f is the mean squared error of the spectrograms,
    loss_t is 1 + the weighted SDR term of the waveforms (0 for a perfect estimate), each
    averaged over all proper non-empty subsets of the sources; see `aimless.loss.combinations`.

    The Wiener filter is part of the loss if any of its five arguments is given; those
    that are not take its defaults. A residual source that it appends is not compared.

    Args:
        mcoeff: weight of the time-domain part.
        n_fft: FFT length of the spectrograms.
        hop_length: hop length of the spectrograms, in samples.
        complex_mse: compare complex spectrograms; otherwise sums of magnitudes.
        residual_model: see `aimless.wiener.MWF`.
        softmask: see `aimless.wiener.MWF`.
        alpha: see `aimless.wiener.MWF`.
        n_iter: see `aimless.wiener.MWF`.
        precision: see `aimless.wiener.MWF`.

    Shape:
        msk_hat and complex gt_spec (batch, sources, channels, bins, frames), complex mix_spec
        (batch, channels, bins, frames), gt (batch, sources, channels, samples), mix (batch,
        channels, samples). Masks are not negative.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        mcoeff: float = 10,
        n_fft: int = 4096,
        hop_length: int = 1024,
        complex_mse: bool = True,
        residual_model: bool | None = None,
        softmask: bool | None = None,
        alpha: float | None = None,
        n_iter: int | None = None,
        precision: Literal["double", "single"] | None = None,
    ) -> None:
        super().__init__()
        self.mcoeff = mcoeff
        self.complex_mse = complex_mse
        self.stft = STFT(n_fft, hop_length)
        options: dict[str, Any] = {
            "residual_model": residual_model,
            "softmask": softmask,
            "alpha": alpha,
            "n_iter": n_iter,
            "precision": precision,
        }
        given = {name: value for name, value in options.items() if value is not None}
        self.mwf = MWF(**given) if given else None

    def forward(
        self, msk_hat: Tensor, gt_spec: Tensor, mix_spec: Tensor, gt: Tensor, mix: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss with its parts loss_f and loss_t; raises ValueError where shapes do not fit."""
        _check_shapes(msk_hat, gt_spec, mix_spec, gt, mix)
        with no_autocast(gt):
            spec_hat = self._estimate(at_least_float32(msk_hat), at_least_float32(mix_spec))
            if self.complex_mse:
                loss_f = combination_mse(spec_hat - gt_spec)
            else:
                loss_f = combination_mse(spec_hat.abs() - gt_spec.abs())
            gt_hat = self.stft.inverse(spec_hat, gt.shape[-1])
            loss_t = 1 + combination_wsdr(gt_hat, gt, mix)
            return loss_f + self.mcoeff * loss_t, {"loss_f": loss_f, "loss_t": loss_t}

    def _estimate(self, mask: Tensor, mix_spec: Tensor) -> Tensor:
        if self.mwf is None:
            return mask * mix_spec[:, None]
        return self.mwf(mask, mix_spec)[:, : mask.shape[1]]


class MDLoss(CLoss):
    """Multi-domain loss of one target: spectral error plus weighted SDR.

    loss = loss_f + mcoeff * loss_t, as in `CLoss` with the target alone for a combination;
    Sawata et al., "All for one and one for all" (ICASSP 2021).

    Args:
        mcoeff: weight of the time-domain part.
        n_fft: FFT length of the spectrograms.
        hop_length: hop length of the spectrograms, in samples.

    Shape:
        msk_hat and complex gt_spec, each with or without
        the source axis: (batch, 1, channels, bins, frames) or (batch, channels, bins, frames);
        gt (batch, 1, channels, samples) or (batch, channels, samples); mix_spec and mix as in
        `CLoss`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, mcoeff: float = 10, n_fft: int = 4096, hop_length: int = 1024) -> None:
        super().__init__(mcoeff, n_fft, hop_length)

    def forward(
        self, msk_hat: Tensor, gt_spec: Tensor, mix_spec: Tensor, gt: Tensor, mix: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss with its parts loss_f and loss_t; raises ValueError where shapes do not fit."""
        msk_hat, gt_spec = (_with_source_axis(x, mix_spec) for x in (msk_hat, gt_spec))
        gt = _with_source_axis(gt, mix)
        if msk_hat.shape[1] != 1:
            raise ValueError(f"MDLoss compares one target, and got {msk_hat.shape[1]}; use CLoss")
        return super().forward(msk_hat, gt_spec, mix_spec, gt, mix)


def _with_source_axis(x: Tensor, mix: Tensor) -> Tensor:
    return x[:, None] if x.dim() == mix.dim() else x


def bce_loss(
    msk_hat: Tensor,
    gt_spec: Tensor,
    mix_spec: Tensor,
    gt: Tensor | None = None,
    mix: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Binary cross-entropy of shares of the mixture's power, over all combinations of sources.

    For a combination J (see `aimless.loss.combinations`) the target is the share
    p = min(1, |sum_J Y_s|^2 / |X|^2) of the mixture X in each bin, and the estimate that of the
    masked mixture, q = (sum_J m_s)^2. The loss is the mean over bins, channels, items and
    combinations of -p log q - (1 - p) log(1 - q), with q cut to [1e-6, 1 - 1e-6]; there
    it has no gradient. It is meant for masks whose sums lie between 0 and 1, as a softmax
    or, of one source, a sigmoid gives them. A silent bin of the mixture has the share p = 0.

    Args:
        msk_hat: non-negative masks, (batch, sources, channels, bins, frames).
        gt_spec: the sources' spectrograms, complex, the same shape.
        mix_spec: the mixture's, complex (batch, channels, bins, frames).
        gt: not used.
        mix: not used.

    Returns:
        The loss, and nothing further to log.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if msk_hat.shape != gt_spec.shape or msk_hat[:, 0].shape != mix_spec.shape:
        shapes = [tuple(x.shape) for x in (msk_hat, gt_spec, mix_spec)]
        raise ValueError(
            "shapes of masks, target spectrograms and mixture spectrogram do not fit each "
            f"other: {', '.join(map(str, shapes))}"
        )
    with no_autocast(msk_hat):
        power = _power(at_least_float32(mix_spec))
        power = power.clamp_min(torch.finfo(power.dtype).tiny)
        targets = subset_sums(at_least_float32(gt_spec))
        parts = []
        for mask, target in zip(subset_sums(at_least_float32(msk_hat)), targets):
            share = (_power(target) / power).clamp_max(1)
            guess = mask.square().clamp(_SHARE_MARGIN, 1 - _SHARE_MARGIN)
            parts.append(nn.functional.binary_cross_entropy(guess, share))
        return torch.stack(parts).mean(), {}


def _power(spec: Tensor) -> Tensor:
    return torch.view_as_real(spec).square().sum(-1)


def _check_shapes(
    msk_hat: Tensor, gt_spec: Tensor, mix_spec: Tensor, gt: Tensor, mix: Tensor
) -> None:
    if (
        msk_hat.dim() != 5
        or msk_hat.shape != gt_spec.shape
        or msk_hat[:, 0].shape != mix_spec.shape
        or gt.shape[:-1] != msk_hat.shape[:3]
        or gt[:, 0].shape != mix.shape
    ):
        shapes = [tuple(x.shape) for x in (msk_hat, gt_spec, mix_spec, gt, mix)]
        raise ValueError(
            "shapes of masks, target spectrograms, mixture spectrogram, targets and mixture "
            f"do not fit each other: {', '.join(map(str, shapes))}"
        )
