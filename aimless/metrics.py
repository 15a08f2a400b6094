"""Scores of separated stems, as torchmetrics, so that they are right on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from aimless.errors import ConfigError
from aimless.loss.time import SILENT_RMS, match_lengths, sdr
from aimless.transforms import no_autocast

__all__ = ["SourceChunkSDR", "SourceSDR", "SourceSISDR", "chunk_sdr", "si_sdr"]


def si_sdr(est: Tensor, ref: Tensor, zero_mean: bool = False) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of each item, in dB.

    10 log10(|a ref|^2 / |a ref - est|^2) with a = <est, ref> / |ref|^2, over everything but the
    first axis: one scale for all channels of an item. Le Roux, Wisdom, Erdogan and Hershey,
    "SDR - half-baked or well done?" (ICASSP 2019). In double precision, where the device has
    it. Of a silent reference it is NaN.

    Args:
        est: estimate, (batch, ..., samples).
        ref: target, the same shape; the longer of the two is cut to the other's samples.
        zero_mean: subtract each channel's mean over the samples first, as the paper assumes.

    Returns:
        (batch,), in at least float32. A silent estimate scores minus infinity, a perfect one
        about 300 dB or plus infinity.

    Raises:
        ValueError: the shapes differ in more than the number of samples.
    """
    with no_autocast(est):
        est, ref = match_lengths(est, ref)
        dtype = torch.promote_types(est.dtype, ref.dtype)
        est, ref = _exact(est), _exact(ref)
        if zero_mean:
            est, ref = (x - x.mean(-1, keepdim=True) for x in (est, ref))
        est, ref = est.flatten(1), ref.flatten(1)
        scale = (est * ref).sum(1, keepdim=True) / ref.square().sum(1, keepdim=True)
        target = scale * ref
        ratio = target.square().sum(1) / (target - est).square().sum(1)
        # of a silent estimate 0 / 0: nothing of the reference is in it
        silent = (est == 0).all(1) & ~ref.eq(0).all(1)
        return 10 * torch.log10(torch.where(silent, 0.0, ratio)).to(dtype)


def chunk_sdr(est: Tensor, ref: Tensor, chunk: int) -> Tensor:
    """Median over chunks of the signal-to-distortion ratio of each item, in dB.

    `aimless.loss.time.sdr` of each whole chunk of `chunk` samples, over all channels. Chunks
    whose reference is silent (RMS below `aimless.loss.time.SILENT_RMS`) are left out, and so
    are the samples after the last whole chunk. Of an even number of chunks the median is the
    mean of the middle two.

    Args:
        est: estimate, (batch, ..., samples).
        ref: target, the same shape; the longer of the two is cut to the other's samples.
        chunk: samples in a chunk.

    Returns:
        (batch,), in at least float32; NaN for an item without a chunk to score.

    Raises:
        ValueError: the shapes differ in more than the number of samples, or chunk is not
            positive.
    """
    if chunk < 1:
        raise ValueError(f"chunk: {chunk} samples; must be at least 1")
    with no_autocast(est):
        est, ref = match_lengths(est, ref)
        count = ref.shape[-1] // chunk
        if not count:
            return ref.new_full(ref.shape[:1], torch.nan)
        est, ref = (_chunks(x, chunk, count) for x in (est, ref))
        audible = ref.square().flatten(1).mean(1) >= SILENT_RMS**2
        scores = torch.where(audible, sdr(est, ref), torch.nan)
        # nanquantile, and not nanmedian, which takes the lower of the middle two
        return scores.view(-1, count).nanquantile(0.5, dim=1)


def _chunks(x: Tensor, chunk: int, count: int) -> Tensor:
    """(batch, ..., samples) -> (batch * count, ..., chunk)."""
    pieces = x[..., : count * chunk].unflatten(-1, (count, chunk))
    return pieces.movedim(-2, 1).flatten(0, 1)


def _exact(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()


class _SourceScore(Metric):
    """Mean over items of each source's score; subclasses say how an item is scored.

    An item whose reference is silent (RMS below `aimless.loss.time.SILENT_RMS`) is left out of that
    source's mean, and so is one that has no score (NaN); a source without any item scores
    NaN and is left out of the mean over sources.

    Sums and counts are accumulated and added over ranks, so that the result does not depend on
    how items were spread.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    #: What the results are called.
    score_name = ""

    def __init__(self, sources: Sequence[str]) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.add_state("total", torch.zeros(len(self.sources)), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(len(self.sources)), dist_reduce_fx="sum")

    def score(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Scores of stems, (stems, channels, samples) -> (stems,)."""
        raise NotImplementedError

    def update(self, estimate: Tensor, reference: Tensor, valid: Tensor | None = None) -> None:
        """Add a batch."""
        reference = reference[..., : estimate.shape[-1]].float()
        batch, sources = reference.shape[:2]
        stems = estimate.flatten(0, 1), reference.flatten(0, 1)
        scores = self.score(*stems).view(batch, sources)
        counted = reference.square().mean(dim=(-2, -1)) >= SILENT_RMS**2  # (batch, sources)
        counted &= ~scores.isnan()
        if valid is not None:
            counted &= valid.to(counted.device)[:, None]
        self.total += torch.where(counted, scores, 0).sum(0)
        self.count += counted.sum(0)

    def compute(self) -> dict[str, Tensor]:
        """The mean over sources under the score's name, and `<name>_<source>` for each."""
        return self.name(self.total, self.count)

    def name(self, total: Tensor, count: Tensor) -> dict[str, Tensor]:
        """What `compute` gives for other sums of scores and numbers of them, (sources,) each."""
        means = total / count  # 0 / 0 is NaN: nothing to score
        named = {f"{self.score_name}_{name}": mean for name, mean in zip(self.sources, means)}
        return {self.score_name: means.nanmean(), **named}


class SourceSDR(_SourceScore):
    """Mean signal-to-distortion ratio of each source, in dB.

    The ratio is global, as the SDX23 challenge defines it: one energy ratio over all channels
    and samples of an item (a segment, or a whole song), then the mean over items. An item
    whose reference is silent (below `aimless.loss.time.SILENT_RMS`) is left out of that source's
    mean; a source that is silent everywhere scores NaN and is left out of the mean over sources.

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

    score_name = "sdr"

    def score(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """`aimless.loss.time.sdr`."""
        return sdr(estimate, reference)


class SourceSISDR(_SourceScore):
    """Mean scale-invariant signal-to-distortion ratio of each source, in dB; see `si_sdr`.

    Items with a silent reference are left out, as in `SourceSDR`.

    Args:
        sources: names in the order of the source axis.
        zero_mean: subtract each channel's mean over the samples first.

    Shape:
        As in `SourceSDR`; the results are called `si_sdr` and `si_sdr_<source>`.
    """

    score_name = "si_sdr"

    def __init__(self, sources: Sequence[str], zero_mean: bool = False) -> None:
        super().__init__(sources)
        self.zero_mean = zero_mean

    def score(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """`si_sdr`, the scores of perfect and silent estimates cut to +-100 dB."""
        # one infinite score would be the mean
        return si_sdr(estimate, reference, self.zero_mean).clamp(-100, 100)


class SourceChunkSDR(_SourceScore):
    """Mean over items of the median over chunks of the SDR of each source; see `chunk_sdr`.

    Chunks with a silent reference are left out, and items with a silent reference or without
    a chunk to score.

    Args:
        sources: names in the order of the source axis.
        sample_rate: in Hz.
        seconds: length of a chunk.

    Shape:
        As in `SourceSDR`; the results are called `chunk_sdr` and `chunk_sdr_<source>`.

    Raises:
        ConfigError: a chunk is shorter than a sample.
    """

    score_name = "chunk_sdr"

    def __init__(
        self, sources: Sequence[str], sample_rate: int = 44100, seconds: float = 1.0
    ) -> None:
        super().__init__(sources)
        self.chunk = round(seconds * sample_rate)
        if self.chunk < 1:
            raise ConfigError(
                f"seconds: {seconds} at sample_rate {sample_rate} is less than a sample"
            )

    def score(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """`chunk_sdr`."""
        return chunk_sdr(estimate, reference, self.chunk)
