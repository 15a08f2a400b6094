"""Losses on waveforms: forward(pred, gt, mix) -> (loss, parts to log)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aimless.loss.combinations import combination_l1
from aimless.transforms import at_least_float32, no_autocast

__all__ = ["SDR", "SILENT_RMS", "CL1Loss", "L1Loss", "NegativeSDR", "match_lengths", "sdr"]

#: A target with a smaller root mean square (-60 dB of full scale) counts as silent.
SILENT_RMS = 1e-3


def match_lengths(pred: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate and target at the shorter length of both, in at least float32.

    Args:
        pred: estimate, (..., samples).
        gt: target, the same shape but for the number of samples.

    Raises:
        ValueError: the shapes differ elsewhere; nothing is broadcast.
    """
    if pred.shape[:-1] != gt.shape[:-1]:
        raise ValueError(
            f"estimate of shape {tuple(pred.shape)} compared with target of shape "
            f"{tuple(gt.shape)}: all axes but the last must agree"
        )
    length = min(pred.shape[-1], gt.shape[-1])
    return at_least_float32(pred[..., :length]), at_least_float32(gt[..., :length])


def sdr(est: Tensor, ref: Tensor) -> Tensor:
    """Signal-to-distortion ratio of each item, in dB.

    10 log10(sum(ref^2) + 1e-7) - 10 log10(sum((ref - est)^2) + 1e-7), the sums over
    everything but the first axis; the SDR of the Sound Demixing Challenge.

    Args:
        est: estimate, (batch, ..., samples).
        ref: target, the same shape; the longer of the two is cut to the other's samples.

    Returns:
        (batch,), in at least float32.

    Raises:
        ValueError: the shapes differ in more than the number of samples.
    """
    with no_autocast(est):
        est, ref = match_lengths(est, ref)
        signal = ref.square().flatten(1).sum(1)
        distortion = (ref - est).square().flatten(1).sum(1)
        return 10 * (torch.log10(signal + 1e-7) - torch.log10(distortion + 1e-7))


class SDR(nn.Module):
    """Signal-to-distortion ratio in dB of each item of a batch, see `sdr`.

    Shape:
        est, ref (batch, ..., samples) -> (batch,)
    """

    def forward(self, est: Tensor, ref: Tensor) -> Tensor:
        """SDR of each item."""
        return sdr(est, ref)


class L1Loss(nn.Module):
    """Mean absolute error between estimated and true waveforms.

    Shape:
        pred, gt (batch, sources, channels, samples); pred may be shorter. mix is not used.
    """

    def forward(self, pred: Tensor, gt: Tensor, mix: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, and nothing further to log; raises ValueError where the shapes differ."""
        with no_autocast(pred):
            pred, gt = match_lengths(pred, gt)
            return (pred - gt).abs().mean(), {}


class CL1Loss(nn.Module):
    """Mean absolute error between sums of sources, over all of their combinations.

    The mean over all proper non-empty subsets of the sources of the L1 between the sum of a
    subset's estimates and the sum of its targets; see `aimless.loss.combinations`. Of a single
    source it is `L1Loss`.

    Shape:
        pred, gt (batch, sources, channels, samples); pred may be shorter. mix is not used.
    """

    def forward(self, pred: Tensor, gt: Tensor, mix: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, and nothing further to log; raises ValueError where the shapes differ."""
        with no_autocast(pred):
            pred, gt = match_lengths(pred, gt)
            if pred.dim() != 4:
                raise ValueError(
                    f"estimate of shape {tuple(pred.shape)} is not (batch, sources, channels, "
                    "samples)"
                )
            return combination_l1(pred, gt), {}


class NegativeSDR(nn.Module):
    """Minus the mean SDR in dB of the items whose targets can be heard.

    The SDR of a silent target says only how silent the estimate is, to as much as 70 dB, and
    would drown the rest of the batch. Items with a target of RMS below 1e-3 (-60 dB of full
    scale) are left out of the mean; where all are silent, the loss and its gradient are 0.

    Shape:
        pred, gt (batch, sources, channels, samples); pred may be shorter. An item's SDR is over
        all its sources. mix is not used.
    """

    def forward(self, pred: Tensor, gt: Tensor, mix: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and the share of silent items; raises ValueError where the shapes differ."""
        with no_autocast(pred):
            pred, gt = match_lengths(pred, gt)
            audible = gt.square().flatten(1).mean(1) >= SILENT_RMS**2
            values = torch.where(audible, sdr(pred, gt), 0.0)
            loss = -values.sum() / audible.sum().clamp_min(1)
            return loss, {"silent_share": 1 - audible.float().mean()}
