"""Separators that predict masks on the magnitude spectrogram."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from aimless.lightning.separator import LossOutput, SourceSeparator
from aimless.network import MaskPipeline
from aimless.transforms import STFT
from aimless.utils import MWF

__all__ = ["MaskPredictor"]


class MaskPredictor(MaskPipeline, SourceSeparator):
    """A network from the mixture's magnitude spectrogram to masks, and a Wiener filter.

    Args:
        model: magnitude (batch, channels, bins, frames) -> masks (batch, targets, channels,
            bins, frames); one target may lack its axis.
        criterion: called with (masks, stem spectrograms, mixture spectrogram, stems, mixture).
        n_fft: FFT length in samples; network and criterion follow it.
        hop_length: samples between frames; the criterion follows it.
        residual_model: see `aimless.utils.MWF`.
        softmask: see `aimless.utils.MWF`.
        alpha: see `aimless.utils.MWF`.
        n_iter: iterations of the Wiener filter that follows the masks.
        **kwargs: those of `SourceSeparator`.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module,
        n_fft: int = 4096,
        hop_length: int = 1024,
        residual_model: bool = False,
        softmask: bool = False,
        alpha: float = 1.0,
        n_iter: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, criterion, **kwargs)
        self.spec = STFT(n_fft, hop_length)
        self.filter = MWF(residual_model, softmask, alpha, n_iter)

    def compute_loss(self, mixture: Tensor, stems: Tensor) -> LossOutput:
        """The criterion's loss of the masks."""
        spectrogram = self.spec(mixture)
        masks = self.masks(spectrogram)
        loss, parts = self.criterion(masks, self.spec(stems), spectrogram, stems, mixture)
        return loss, parts, lambda: self.apply_masks(masks, spectrogram, mixture.shape[-1])
