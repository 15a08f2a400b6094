"""The ideal ratio mask: what soft masks on the mixture's spectrogram can reach at best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from aimless.evaluation.stems import Stem
from aimless.transforms import STFT

__all__ = ["ideal_masks"]

N_FFT, HOP = 4096, 1024


def ideal_masks(references: Mapping[str, Stem], mixture: Stem, alpha: int) -> dict[str, Stem]:
    """Estimates by ideal ratio masks, computed where they are read.

    Source s is the mixture's spectrogram times |S_s|^alpha / sum_j |S_j|^alpha, each channel on
    its own; Hann window of 4096 samples, hop 1024. Where all references are zero the mask is
    too. The ratio mask of magnitudes (alpha 1) and of powers (alpha 2, Wiener's); A. Liutkus and
    R. Badeau, "Generalized Wiener filtering with fractional power spectrograms" (ICASSP 2015).

    Args:
        references: of all sources of the mixture.
        mixture: to be masked.
        alpha: exponent of the magnitudes.
    """
    masker = _Masker(references, mixture, alpha)
    return {source: _MaskedStem(masker, source) for source in references}


class _Masker:
    """Masks a stretch of the mixture for all sources at once, and remembers the last one."""

    def __init__(self, references: Mapping[str, Stem], mixture: Stem, alpha: int) -> None:
        self.references, self.mixture, self.alpha = references, mixture, alpha
        self.samples = min(mixture.samples, *(stem.samples for stem in references.values()))
        self._stretch = (-1, -1)
        self._estimates: dict[str, np.ndarray] = {}

    def read(self, source: str, start: int, stop: int) -> np.ndarray:
        """Samples of one source's estimate, (channels, stop - start)."""
        if self._stretch != (start, stop):
            self._estimates = self._mask(start, stop)
            self._stretch = (start, stop)
        return self._estimates[source]

    def _mask(self, start: int, stop: int) -> dict[str, np.ndarray]:
        # whole hops, so that the frames are those of the whole song; one window of context on
        # both sides covers every frame that the edges' reflection has touched
        first = max(0, start // HOP * HOP - N_FFT)
        last = min(self.samples, -(-stop // HOP) * HOP + N_FFT)
        stft = STFT(N_FFT, HOP)
        stems = np.stack([stem.read(first, last) for stem in self.references.values()])
        power = stft(torch.from_numpy(stems)).abs() ** self.alpha  # (S, C, bins, frames)
        masks = power / power.sum(0).clamp_min(torch.finfo(power.dtype).tiny)
        masked = masks * stft(torch.from_numpy(self.mixture.read(first, last)))
        audio = stft.inverse(masked, last - first)[..., start - first : stop - first]
        return dict(zip(self.references, audio.numpy()))


class _MaskedStem(Stem):
    """One source's view of a `_Masker`."""

    def __init__(self, masker: _Masker, source: str) -> None:
        self.where = f"ideal ratio mask of {source}"
        self.rate, self.channels = masker.mixture.rate, masker.mixture.channels
        self.samples, self.source, self._masker = masker.samples, source, masker

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`, float64 (channels, stop - start)."""
        return self._masker.read(self.source, start, stop)
