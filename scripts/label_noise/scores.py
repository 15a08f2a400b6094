"""From measurements to scores and suggested verdicts.

Two ways to tell a stem that is not what its label says:

- *Hearing*: a separator assigns the stem's energy to sources. What it does not assign to the
  label is compared with what is usual for that label in the set, because every separator
  leaks, and more from some sources than from others.
- *Training*: a network that was trained on the set itself fits most of its labels, and those
  that it cannot fit stand out (the "small loss" of B. Han et al., "Co-teaching", NeurIPS 2018).
  Its loss is the SDR of its estimate minus that of the mixture, so that quiet stems do not
  stand out merely for being quiet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from aimless.errors import ConfigError
from label_noise.measure import WINDOW, Energies, Measurement

__all__ = ["MODES", "STRETCH", "VERDICTS", "StemScore", "Thresholds", "score_set"]

MODES = ("hearing", "training")
VERDICTS = ("clean", "bleeding", "wrong label", "silent")
#: Windows of the stretch of a stem that is worth listening to.
STRETCH = 8

_FLOOR = 1e-6  # power of full scale, -60 dB: below it a window is silent
_QUIET = 1e-4  # or 40 dB below the loudest window of the stem
_LEAST_SPREAD = 1.0  # dB; no distribution of SDRs over real songs is narrower
_LIMIT = 30.0  # dB; what is better than this is no reason to think the rest bad


@dataclass(frozen=True)
class Thresholds:
    """Where a verdict begins.

    Args:
        bleeding: by how much more of a stem than is usual for its label (the median over the
            set) goes to other sources, as a share of 1; with training it does not matter.
        wrong: share of the active time in which another source wins, for `wrong label` instead
            of `bleeding`.
        outlier: with training, by how many spreads (1.4826 times the median absolute deviation)
            an SDR must lie below the median of its label.

    Raises:
        ConfigError: a value out of range.
    """

    bleeding: float = 0.1
    wrong: float = 0.5
    outlier: float = 2.5

    def __post_init__(self) -> None:
        for name in ("bleeding", "wrong"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)}; must be between 0 and 1")
        if not 0 < self.outlier < math.inf:
            raise ConfigError(f"outlier: {self.outlier}; must be above 0")


@dataclass(frozen=True)
class StemScore:
    """Scores of one stem; NaN where there is none.

    Attributes:
        song: name of its folder.
        stem: its label.
        verdict: suggested, one of `VERDICTS`.
        suspicion: by which stems are ordered, 0 is usual: with hearing the excess over the usual
            share of other sources, with training the spreads below the usual SDR.
        share: of its energy that goes to its label, 0 to 1; mean of the next two.
        share_alone: the same where the stem is separated by itself.
        share_mixture: where the mixture is separated.
        other: the best other source.
        other_share: of the energy.
        other_time: share of the active time in which another source wins over the label.
        sdr: in dB, of the mixture's estimate against the stem.
        improvement: in dB, of `sdr` over that of the mixture itself.
        active: seconds that are not silent.
        seconds: of the song.
        start: in seconds, of the stretch to listen to.
        shares: source -> share.
        curve: the label's share in each window (with training: its SDR in dB), NaN if silent.
    """

    song: str
    stem: str
    verdict: str = "silent"
    suspicion: float = math.nan
    share: float = math.nan
    share_alone: float = math.nan
    share_mixture: float = math.nan
    other: str = ""
    other_share: float = math.nan
    other_time: float = math.nan
    sdr: float = math.nan
    improvement: float = math.nan
    active: float = 0.0
    seconds: float = 0.0
    start: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[float, ...] = ()


def score_set(
    songs: Mapping[str, Measurement],
    mode: str = "hearing",
    thresholds: Thresholds | None = None,
) -> list[StemScore]:
    """Score all stems of a set, the most suspicious first.

    Args:
        songs: name -> measurement.
        mode: one of `MODES`.
        thresholds: of the verdicts.

    Raises:
        ConfigError: another mode.
    """
    if mode not in MODES:
        raise ConfigError(f"mode: '{mode}'; known: {', '.join(MODES)}")
    scores = [
        _score_stem(name, measurement, index, mode)
        for name, measurement in songs.items()
        for index in range(len(measurement.labels))
    ]
    judged = _judge(scores, mode, thresholds or Thresholds())
    return sorted(judged, key=_rank)


def _rank(score: StemScore) -> tuple[float, str, str]:
    """Worst first, silent stems last."""
    worst = math.inf if math.isnan(score.suspicion) else -score.suspicion
    return worst, score.song, score.stem


def _score_stem(song: str, measured: Measurement, index: int, mode: str) -> StemScore:
    energy = measured.stems[:, index]
    power = energy / measured.counts
    active = power > max(_FLOOR, _QUIET * float(power.max()))
    seconds = WINDOW * len(power)
    score = StemScore(song, measured.labels[index], seconds=seconds)
    if not active.any():
        return score
    own = measured.sources.index(score.stem)
    weights = np.where(active, np.sqrt(power), 0)
    alone = _normalised(measured.alone[:, index])
    mixed = _normalised(measured.products[:, index].clip(0))
    both = _mean_of_measured(alone, mixed)
    ratios = _ratios(energy, measured.products[:, index], measured.estimates)
    shares = _weighted(both, weights)
    others = np.delete(np.arange(len(shares)), own)
    best = int(others[np.argmax(shares[others])])
    wins = ratios if mode == "training" else both
    lost = np.argmax(wins, axis=1) != own
    curve = np.where(active, wins[:, own], np.nan)
    improvement, sdr = _improvement(measured, index, own, active)
    return replace(
        score,
        share=float(shares[own]),
        share_alone=float(_weighted(alone, weights)[own]),
        share_mixture=float(_weighted(mixed, weights)[own]),
        other=measured.sources[best],
        other_share=float(shares[best]),
        other_time=float(np.mean(lost[active])),
        sdr=sdr,
        improvement=improvement,
        active=WINDOW * float(active.sum()),
        start=WINDOW * _worst_stretch(wins[:, own], weights),
        shares=dict(zip(measured.sources, map(float, shares))),
        curve=tuple(curve.tolist()),
    )


def _normalised(energies: Energies) -> Energies:
    """Energies (windows, sources) as shares; equal shares where there is nothing."""
    total = energies.sum(1, keepdims=True)
    equal = 1 / energies.shape[1]
    return np.where(total == 0, equal, energies / np.where(total == 0, 1, total))


def _mean_of_measured(alone: Energies, mixed: Energies) -> Energies:
    if np.isnan(mixed).any():
        return alone
    return mixed if np.isnan(alone).any() else (alone + mixed) / 2


def _weighted(shares: Energies, weights: Energies) -> Energies:
    """Mean (sources,) of shares (windows, sources)."""
    return np.einsum("ws,w->s", shares, weights) / weights.sum()


def _decibels(signal: Energies, error: Energies) -> Energies:
    """Ratio in dB between -30 and 30."""
    floor = 10 ** (-_LIMIT / 10)
    ratio = signal / np.maximum(error, floor * np.maximum(signal, 1e-20))
    return 10 * np.log10(np.maximum(ratio, floor))


def _ratios(energy: Energies, products: Energies, estimates: Energies) -> Energies:
    """SDR (windows, sources) of every estimate against one stem."""
    error = energy[:, None] - 2 * products + estimates
    return _decibels(energy[:, None], error)


def _improvement(
    measured: Measurement, index: int, own: int, active: NDArray[np.bool_]
) -> tuple[float, float]:
    """SDR of the estimate over the active time minus that of the mixture, and the SDR."""
    energy = measured.stems[active, index].sum()
    error = measured.products[active, index, own], measured.estimates[active, own]
    noise = measured.stem_mixture[active, index], measured.mixture[active]
    sdr, before = (
        float(_decibels(energy, energy - 2 * product.sum() + other.sum()))
        for product, other in (error, noise)
    )
    return sdr - before, sdr


def _worst_stretch(good: Energies, weights: Energies) -> int:
    """First window of the stretch in which most is wrong, loud windows counting more."""
    length = min(STRETCH, len(good))
    bad = weights * (good.max() - good + 1e-9)
    sums = np.concatenate([[0.0], np.cumsum(bad)])
    return int(np.argmax(sums[length:] - sums[:-length]))


def _judge(scores: list[StemScore], mode: str, thresholds: Thresholds) -> list[StemScore]:
    """Suspicion and verdict of each stem, against the others of its label."""
    judged = []
    for score in scores:
        alike = [other for other in scores if other.stem == score.stem and other.active]
        if not score.active:
            judged.append(score)
            continue
        if mode == "training":
            usual, spread = _usual([other.improvement for other in alike])
            suspicion = (usual - score.improvement) / max(spread, _LEAST_SPREAD)
            bad = suspicion >= thresholds.outlier
        else:
            usual, _ = _usual([other.share for other in alike])
            suspicion = usual - score.share
            bad = suspicion >= thresholds.bleeding
        wrong = bad and score.other_time >= thresholds.wrong
        verdict = "wrong label" if wrong else "bleeding" if bad else "clean"
        judged.append(replace(score, verdict=verdict, suspicion=suspicion))
    return judged


def _usual(values: list[float]) -> tuple[float, float]:
    """Median, and the spread that a normal distribution with that median deviation has."""
    median = float(np.median(values))
    return median, 1.4826 * float(np.median(np.abs(np.array(values) - median)))
