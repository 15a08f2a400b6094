"""BSSEval version 4: how much of an error is filtering, interference and artefacts.

An estimate is taken apart with two least-squares projections: on the delayed copies of its own
reference (0 to taps - 1 samples of delay, all channels), and on those of all references.

    estimate = reference + (own - reference) + (all - own) + (estimate - all)
                           spatial error       interference   artefacts

The filters are fitted once, on the whole song; energies are compared frame by frame. E. Vincent,
R. Gribonval and C. Fevotte, "Performance measurement in blind audio source separation" (IEEE
TASLP 2006); A. Liutkus, F.-R. Stoeter and N. Ito, "The 2018 Signal Separation Evaluation
Campaign" (LVA/ICA 2018). Everything is in double precision. Spectra do the work: correlations are
sums of short cross-spectra, and the energy of a projection is read off its spectrum by Parseval's
theorem, so that no projection is ever heard.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["BSSScores", "bss_eval"]

_FRAMES_AT_ONCE = 8
_BINS_AT_ONCE = 8192  # bounds memory
_BLOCKS_AT_ONCE = 32
_EPS = 2.0**-52
_RIDGE_STEPS = 3


class BSSScores(NamedTuple):
    """Ratios in dB, each (sources, frames): to distortion, spatial, interference, artefacts."""

    sdr: Tensor
    isr: Tensor
    sir: Tensor
    sar: Tensor


@torch.no_grad()
def bss_eval(
    references: Tensor,
    estimates: Tensor,
    window: int = 44100,
    hop: int = 44100,
    taps: int = 512,
) -> BSSScores:
    """BSSEval v4 of source images, with the values of `museval.metrics.bss_eval`.

    Args:
        references: (sources, channels, samples), any float type. Those beyond the number of
            estimates are not scored and count as interference of the others.
        estimates: (scored sources, channels, samples), in the order of the references.
        window: samples in a frame. A signal that is not longer is one frame; samples after
            the last whole frame are fitted, but not scored.
        hop: samples between the starts of frames.
        taps: length of the distortion filters in samples.

    Returns:
        (scored sources, frames) each. A frame in which a reference or an estimate is silent is
        NaN in all of them; silent is, as in museval, a source whose channels sum to zero at
        every sample. Of an error of zero the ratio is infinite.

    Raises:
        ValueError: shapes that do not fit, nothing to score, or samples that are not finite.

    Memory: about 500 MB above the audio for four stereo sources, whatever the length: the matrix
    of the fit and its factor, 8 (sources * channels * taps)^2 bytes each, and spectra.
    """
    _check(references, estimates, window, hop, taps)
    refs, ests = references.flatten(0, 1), estimates.flatten(0, 1)  # (K, T), (R, T)
    channels, samples = references.shape[1:]
    window = min(window, samples)
    ref_frames, est_frames = (x.unfold(-1, window, hop) for x in (refs, ests))  # (K, frames, W)
    shape = (4, estimates.shape[0], ref_frames.shape[1])
    scores = torch.full(shape, torch.nan, dtype=torch.float64, device=refs.device)
    audible = _audible(ref_frames, est_frames, channels)
    if not len(audible):
        return BSSScores(*scores)

    size = _fft_size(window + taps - 1)
    everything, own = _filters(refs, ests, channels, taps)
    responses = torch.cat(
        [_responses(everything, size), _responses(_block_diagonal(own, refs.shape[0]), size)], 1
    )  # (bins, 2 R, K)
    for frames in audible.split(_FRAMES_AT_ONCE):
        ref, est = ref_frames[:, frames].double(), est_frames[:, frames].double()
        scores[:, :, frames] = _frame_scores(ref, est, responses, size, channels)
    return BSSScores(*scores)


def _check(references: Tensor, estimates: Tensor, window: int, hop: int, taps: int) -> None:
    shapes = f"references {tuple(references.shape)} and estimates {tuple(estimates.shape)}"
    if references.ndim != 3 or estimates.ndim != 3 or 0 in (*references.shape, *estimates.shape):
        raise ValueError(f"{shapes}: need (sources, channels, samples), not empty")
    if references.shape[1:] != estimates.shape[1:] or len(references) < len(estimates):
        raise ValueError(
            f"{shapes}: need as many channels and samples, and a reference for each estimate"
        )
    if min(window, hop, taps) < 1:
        raise ValueError(f"window {window}, hop {hop}, taps {taps}: must be at least 1")


def _filters(refs: Tensor, ests: Tensor, channels: int, taps: int) -> tuple[Tensor, Tensor]:
    """Distortion filters that fit the estimates best, from correlations over the whole song.

    Returns:
        Filters from all references, (K, taps, R), and from the estimate's own,
        (scored sources, channels, taps, channels).
    """
    count = refs.shape[0]
    lags = _correlations(refs, ests, taps)  # (K, K + R, taps)
    if not lags.isfinite().all():
        raise ValueError("references or estimates have samples that are not finite")
    gram = _gram(lags[:, :count])  # (K * taps, K * taps)
    target = lags[:, count:].transpose(1, 2)  # (K, taps, R)
    own = []
    for start in range(0, ests.shape[0], channels):
        rows = slice(start * taps, (start + channels) * taps)
        source = slice(start, start + channels)
        right = target[source, :, source].reshape(-1, channels)
        own.append(_solve(gram[rows, rows].clone(), right).view(channels, taps, channels))
    everything = _solve(gram, target.reshape(count * taps, -1)).view(target.shape)
    return everything, torch.stack(own)


def _correlations(refs: Tensor, ests: Tensor, taps: int) -> Tensor:
    """Short-lag correlations: entry (a, b, lag) is the sum over t of refs[a, t] * b[t + lag].

    The song is cut into blocks. With X_i the spectrum of block i padded to twice its length, the
    signal that goes on through the next block has the spectrum X_i + (-1)^k X_(i+1), so that each
    block is transformed once.

    Returns:
        (K, K + R, taps), b running over the references and then the estimates.
    """
    block = max(4096, _fft_size(taps))
    total = torch.zeros(())
    for now, following in _block_spectra(refs, ests, block):  # (bins, K + R, blocks)
        sign = torch.ones(block + 1, 1, 1, dtype=torch.float64, device=refs.device)
        sign[1::2] = -1
        onward = now + sign * following
        total = total + now[:, : len(refs)].conj() @ onward.transpose(1, 2)  # (bins, K, K + R)
    return torch.fft.irfft(total, n=2 * block, dim=0)[:taps].permute(1, 2, 0).contiguous()


def _block_spectra(refs: Tensor, ests: Tensor, block: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Spectra of some blocks at a time, and of the blocks that follow them."""
    samples = refs.shape[-1]
    step = _BLOCKS_AT_ONCE * block
    for start in range(0, samples, step):
        piece = torch.cat([x[:, start : start + step + block].double() for x in (refs, ests)])
        blocks = -(-min(step, samples - start) // block)
        piece = torch.nn.functional.pad(piece, (0, (blocks + 1) * block - piece.shape[-1]))
        spectra = torch.fft.rfft(piece.unflatten(-1, (-1, block)), n=2 * block)
        spectra = spectra.permute(2, 0, 1).contiguous()  # (bins, K + R, blocks + 1)
        yield spectra[..., :-1], spectra[..., 1:]


def _gram(lags: Tensor) -> Tensor:
    """Inner products of all delayed references, (K * taps, K * taps), from (K, K, taps)."""
    count, _, taps = lags.shape
    # two-sided: lag -m of (a, b) is lag m of (b, a)
    both = torch.cat([lags.transpose(0, 1).flip(-1)[..., :-1], lags], dim=-1)
    delay = torch.arange(taps, device=lags.device)
    signal = torch.arange(count, device=lags.device)
    apart = delay[:, None, None] - delay + taps - 1  # (taps, 1, taps)
    gram = both[signal[:, None, None, None], signal[:, None], apart]  # (K, taps, K, taps)
    return gram.view(count * taps, count * taps)


def _solve(gram: Tensor, target: Tensor) -> Tensor:
    """Solve gram @ x = target, (n, n) and (n, m), for a Gram matrix that may be singular.

    Mono sources and sources that repeat each other leave some filters undetermined; whichever
    is taken, the projection is the same. There the matrix gets a ridge so small that it only
    just has a factor, and the bias of the ridge is taken away by iteration (proximal point
    method: x <- (gram + ridge)^-1 (target + ridge x)). The diagonal of `gram` is overwritten.
    """
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not failed:
        return torch.cholesky_solve(target, factor)
    total, ridge = 0.0, _EPS * float(gram.diagonal().sum()) or 1.0  # 1 where all is silent
    while failed:
        gram.diagonal().add_(ridge)
        total += ridge
        ridge *= 10
        factor, failed = torch.linalg.cholesky_ex(gram)
    solution = torch.cholesky_solve(target, factor)
    for _ in range(_RIDGE_STEPS):
        solution = torch.cholesky_solve(target + total * solution, factor)
    return solution


def _block_diagonal(own: Tensor, count: int) -> Tensor:
    """(sources, C, taps, C) as filters from all references, (K, taps, R), zero from others."""
    sources, channels, taps, _ = own.shape
    filters = own.new_zeros(count, taps, sources * channels)
    for index, one in enumerate(own):
        rows = slice(index * channels, (index + 1) * channels)
        filters[rows, :, rows] = one
    return filters


def _responses(filters: Tensor, size: int) -> Tensor:
    """Frequency responses of filters, (K, taps, R) -> (bins, R, K)."""
    return torch.fft.rfft(filters, n=size, dim=1).permute(1, 2, 0).contiguous()


def _audible(ref_frames: Tensor, est_frames: Tensor, channels: int) -> Tensor:
    """Indices of the frames in which no source is silent."""
    audible = []
    for frame in range(ref_frames.shape[1]):
        signals = torch.cat([ref_frames[:, frame], est_frames[:, frame]])
        mono = signals.unflatten(0, (-1, channels)).double().sum(1)
        audible.append(mono.any(1).all())
    return torch.stack(audible).nonzero()[:, 0]


def _frame_scores(ref: Tensor, est: Tensor, responses: Tensor, size: int, channels: int) -> Tensor:
    """Scores of frames, (K, frames, W) and (R, frames, W) -> (4, scored sources, frames)."""
    rows = est.shape[0]
    error = (est - ref[:rows]).square().sum(-1)
    truth = ref[:rows].square().sum(-1)
    energies = _projection_energies(
        torch.fft.rfft(ref, n=size), torch.fft.rfft(est, n=size), responses, size
    )
    per_source = (x.unflatten(0, (-1, channels)).sum(1) for x in (truth, error, *energies))
    truth, error, own, everything, spatial, interference, artefacts = per_source
    return torch.stack(
        [
            _decibels(truth, error),
            _decibels(truth, spatial),
            _decibels(own, interference),
            _decibels(everything, artefacts),
        ]
    )


def _projection_energies(ref: Tensor, est: Tensor, responses: Tensor, size: int) -> Tensor:
    """Energies of the projections and of what lies between them, by Parseval's theorem.

    Args:
        ref: spectra of the references, (K, frames, bins).
        est: spectra of the estimates, (R, frames, bins).
        responses: of both sets of filters, (bins, 2 R, K).
        size: of the transform.

    Returns:
        (5, R, frames): projection on the own reference, on all, and spatial error,
        interference and artefacts.
    """
    rows, _, bins = est.shape
    # each bin stands for two, but for those at zero and at half the sample rate
    weights = torch.full((bins,), 2.0 / size, dtype=torch.float64, device=ref.device)
    weights[0] /= 2
    if size % 2 == 0:
        weights[-1] /= 2
    total = torch.zeros(5, *est.shape[:2], dtype=torch.float64, device=ref.device)
    for start in range(0, bins, _BINS_AT_ONCE):
        part = slice(start, start + _BINS_AT_ONCE)
        x = ref[..., part].permute(2, 0, 1).contiguous()  # (some bins, K, frames)
        y = est[..., part].permute(2, 0, 1)
        everything, own = (responses[part] @ x).split(rows, dim=1)
        pieces = (own, everything, own - x[:, :rows], everything - own, y - everything)
        for index, piece in enumerate(pieces):
            power = torch.view_as_real(piece).square().sum(-1)
            total[index] += torch.tensordot(weights[part], power, 1)
    return total


def _decibels(signal: Tensor, error: Tensor) -> Tensor:
    return torch.where(error == 0, torch.inf, 10 * torch.log10(signal / error))


def _fft_size(least: int) -> int:
    """The smallest product of 2, 3, 5 and 7 with a factor 16 that is not below `least`."""
    size = -(-least // 16) * 16
    while not _is_smooth(size):
        size += 16
    return size


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1
