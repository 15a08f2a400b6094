"""Scores of separated stems, as torchmetrics, so that they are right on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from aimless.loss.time import SILENT_RMS, sdr

__all__ = ["SourceSDR"]


class SourceSDR(Metric):
    """Mean signal-to-distortion ratio of each source, in dB.

    The ratio is global, as the SDX23 challenge defines it: one energy ratio over all channels
    and samples of an item (a segment, or a whole song), then the mean over items. An item
    whose reference is silent (below `aimless.loss.time.SILENT_RMS`) is left out of that source's
    mean; a source that is silent everywhere scores NaN and is left out of the mean over sources.

    Sums and counts are accumulated and added over ranks, so that the result does not depend on
    how items were spread.

    Args:
        sources: names in the order of the source axis.

    Shape:
        - estimate: (batch, sources, channels, samples), or shorter in the last axis
        - reference: (batch, sources, channels, samples)
        - valid: (batch,), bool; items to count

    Example:
        >>> metric = SourceSDR(["vocals"])
        >>> x = torch.ones(1, 1, 2, 100)
        >>> metric.update(0.9 * x, x)
        >>> round(float(metric.compute()["sdr"]), 3)
        20.0
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, sources: Sequence[str]) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.add_state("total", torch.zeros(len(self.sources)), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(len(self.sources)), dist_reduce_fx="sum")

    def update(self, estimate: Tensor, reference: Tensor, valid: Tensor | None = None) -> None:
        """Add a batch."""
        reference = reference[..., : estimate.shape[-1]].float()
        batch, sources = reference.shape[:2]
        scores = sdr(estimate.flatten(0, 1), reference.flatten(0, 1)).view(batch, sources)
        counted = reference.square().mean(dim=(-2, -1)) >= SILENT_RMS**2  # (batch, sources)
        if valid is not None:
            counted &= valid.to(counted.device)[:, None]
        self.total += torch.where(counted, scores, 0).sum(0)
        self.count += counted.sum(0)

    def compute(self) -> dict[str, Tensor]:
        """`sdr`, the mean over sources, and `sdr_<source>` for each."""
        means = self.total / self.count  # 0 / 0 is NaN: nothing to score
        named = {f"sdr_{name}": mean for name, mean in zip(self.sources, means)}
        return {"sdr": means.nanmean(), **named}
