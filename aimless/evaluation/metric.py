"""BSSEval v4 of whole songs as a torchmetric, for the test of a training experiment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from aimless.evaluation.song_bss import BSS_METRICS, medians, song_bss
from aimless.evaluation.stems import ArrayStem

__all__ = ["SourceBSSEval"]


class SourceBSSEval(Metric):
    """Median over songs of the median over frames of BSSEval v4, as museval reports it.

    Frames are 1 s; those with a silent reference or estimate are left out, and so are songs
    without a score. Computed on the CPU, in double precision.

    Args:
        targets: sources that are estimated, in the order of the estimates' source axis.
        sources: all sources of the mixture, in the order of the references' source axis.
        sample_rate: in Hz.

    Shape:
        - estimate: (batch, targets, channels, samples), or shorter in the last axis
        - reference: (batch, sources, channels, samples)
    """

    full_state_update = False
    songs: list[Tensor]

    def __init__(
        self, targets: Sequence[str], sources: Sequence[str], sample_rate: int = 44100
    ) -> None:
        super().__init__()
        self.targets, self.sources = tuple(targets), tuple(sources)
        self.sample_rate = sample_rate
        self.add_state("songs", [], dist_reduce_fx="cat")

    def update(self, estimate: Tensor, reference: Tensor) -> None:
        """Add a batch."""
        samples = min(estimate.shape[-1], reference.shape[-1])
        for stems, references in zip(estimate.cpu().numpy(), reference.cpu().numpy()):
            frames = song_bss(
                self._named(self.sources, references), self._named(self.targets, stems), samples
            )
            scores = [list(medians(frames[name]).values()) for name in self.targets]
            # (S*4,): one axis, with which a process without a song can be put together with others
            self.songs.append(torch.tensor(scores, device=self.device).flatten())

    def _named(self, names: Sequence[str], stems: Sequence) -> dict[str, ArrayStem]:
        return {name: ArrayStem(s, self.sample_rate, name) for name, s in zip(names, stems)}

    def compute(self) -> dict[str, Tensor]:
        """`bss_<measure>_<source>`, and the mean over sources under `bss_<measure>`."""
        songs = self.songs if isinstance(self.songs, Tensor) else torch.cat(self.songs)
        songs = songs.double().reshape(-1, len(self.targets), len(BSS_METRICS))
        table = songs.nanquantile(0.5, dim=0)  # (S,4); of two songs their mean
        scores = {}
        for place, measure in enumerate(BSS_METRICS):
            name = f"bss_{measure.lower()}"
            scores[name] = table[:, place].nanmean()
            scores |= {f"{name}_{s}": table[i, place] for i, s in enumerate(self.targets)}
        return scores
