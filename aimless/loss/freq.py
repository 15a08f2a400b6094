"""Losses on masks: forward(msk_hat, gt_spec, mix_spec, gt, mix) -> (loss, parts to log)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from aimless.loss.combinations import combination_mse, combination_wsdr
from aimless.transforms import STFT, at_least_float32, no_autocast
from aimless.wiener import MWF

__all__ = ["CLoss"]


class CLoss(nn.Module):
    """Combination loss of X-UMX: spectral error plus weighted SDR, over all subsets of sources.

    loss = loss_f + mcoeff * loss_t. loss_f is the mean squared error of the spectrograms,
    loss_t is 1 + the weighted SDR term of the waveforms (0 for a perfect estimate), each
    averaged over all proper non-empty subsets of the sources; see `aimless.loss.combinations`.

    The Wiener filter is part of the loss if any of its four arguments is given; those
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
