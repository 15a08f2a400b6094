"""Test-time augmentation: the mean over variants of a segment that should separate alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aimless.engine.segments import Network

__all__ = ["TTA_VARIANTS", "augmented"]

#: Each is its own inverse, on (batch, ..., channels, samples).
TTA_VARIANTS = {
    "polarity": torch.neg,
    "swap": lambda audio: audio.flip(-2),
}


def augmented(network: Network, variants: Sequence[str]) -> Network:
    """A network whose output is the mean over the segment itself and its variants.

    Args:
        network: (batch, channels, samples) -> (batch, sources, channels, samples or fewer).
        variants: names out of `TTA_VARIANTS`; `swap` is left out where there are not two
            channels.
    """
    if not variants:
        return network

    def call(segments: Tensor) -> Tensor:
        total, count = network(segments).float(), 1
        for name in variants:
            if name == "swap" and segments.shape[-2] != 2:
                continue
            change = TTA_VARIANTS[name]
            total = total + change(network(change(segments)).float())
            count += 1
        return total / count

    return call
