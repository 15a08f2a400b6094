"""Separators that work on the waveform."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from aimless.lightning.separator import LossOutput, SourceSeparator
from aimless.network import WaveformPipeline

__all__ = ["WaveformSeparator"]


class WaveformSeparator(WaveformPipeline, SourceSeparator):
    """A network from the mixture's waveform to the stems' waveforms.

    Args:
        model: (batch, channels, samples) -> (batch, targets, channels, samples or fewer).
        criterion: called with (estimates, stems, mixture).
        use_sdx_targets: an older way to say `target_track: sdx`.
        **kwargs: those of `SourceSeparator`.
    """

    def __init__(
        self, model: nn.Module, criterion: nn.Module, use_sdx_targets: bool = False, **kwargs: Any
    ) -> None:
        if use_sdx_targets and kwargs.get("target_track") is None:
            warnings.warn("use_sdx_targets is old; write target_track: sdx", FutureWarning, 2)
            kwargs["target_track"] = "sdx"
        super().__init__(model, criterion, **kwargs)

    def compute_loss(self, mixture: Tensor, stems: Tensor) -> LossOutput:
        """The criterion's loss of the estimates."""
        estimates = self(mixture)
        loss, parts = self.criterion(estimates, stems, mixture)
        return loss, parts, estimates.detach
