"""Scores of one song: what `aimless evaluate` computes for each, in whichever process."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import soundfile

from aimless.errors import ConfigError
from aimless.evaluation.ratios import EnergyRatios
from aimless.evaluation.song_bss import medians, song_bss
from aimless.evaluation.songs import Song, check_alike
from aimless.evaluation.stems import Stem

__all__ = ["BSS_KEYS", "METRICS", "Excerpt", "SongScores", "columns", "score_song"]

METRICS = ("sdr", "si_sdr", "bss_eval")
BSS_KEYS = ("bss_sdr", "bss_isr", "bss_sir", "bss_sar")
EXCERPT_SECONDS = 10


@dataclass(frozen=True)
class Excerpt:
    """The worst stretch of a stem, as FLAC files with one common gain.

    Attributes:
        start: in seconds from the start of the song.
        reference: FLAC file, 16 bits.
        estimate: likewise.
        gain: both were multiplied by it, so that neither clips; at most 1.
    """

    start: float
    reference: bytes
    estimate: bytes
    gain: float


@dataclass
class SongScores:
    """Scores of one song.

    Attributes:
        name: of the song.
        seconds: that were compared.
        values: source -> column -> dB, NaN where there is no score.
        frames: source -> (4, frames), BSSEval's SDR, ISR, SIR and SAR of each second; empty
            unless asked for.
        excerpts: source -> its worst stretch; empty unless asked for.
    """

    name: str
    seconds: float
    values: dict[str, dict[str, float]]
    frames: dict[str, np.ndarray] = field(default_factory=dict)
    excerpts: dict[str, Excerpt] = field(default_factory=dict)


def columns(metrics: Sequence[str]) -> list[str]:
    """Names of the values that metrics give, in the order of `METRICS`.

    Raises:
        ConfigError: none, or an unknown one.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise ConfigError(f"metrics: '{metric}'; known: {', '.join(METRICS)}")
    if not metrics:
        raise ConfigError(f"metrics: none given; known: {', '.join(METRICS)}")
    simple = [metric for metric in METRICS[:2] if metric in metrics]
    return simple + (list(BSS_KEYS) if "bss_eval" in metrics else [])


def score_song(
    song: Song,
    estimates: Mapping[str, Stem],
    metrics: Sequence[str] = METRICS[:2],
    engine: str = "aimless",
    excerpts: bool = False,
) -> SongScores:
    """Score the estimates of one song.

    Files that differ in length by up to 0.1 s are compared over the shortest.

    Args:
        song: with its references.
        estimates: source -> stem, of the sources to score.
        metrics: some of `METRICS`.
        engine: of BSSEval, `aimless` or `museval`.
        excerpts: cut the worst 10 s out of each stem.

    Raises:
        ConfigError: an unknown metric.
        DataError: stems that cannot be read or do not fit together.
    """
    wanted = columns(metrics)
    samples = check_alike([*song.references.values(), *estimates.values()])
    scores = SongScores(song.name, samples / song.rate, {source: {} for source in estimates})
    if excerpts or set(wanted) & {"sdr", "si_sdr"}:
        ratios = _energy_ratios(song, estimates, samples)
        for source, ratio in ratios.items():
            simple = {"sdr": ratio.sdr, "si_sdr": ratio.si_sdr}
            scores.values[source] |= {key: simple[key] for key in wanted if key in simple}
    if excerpts:
        for source, ratio in ratios.items():
            if not ratio.silent:
                pair = song.references[source], estimates[source]
                scores.excerpts[source] = _cut(*pair, ratio, samples)
    if "bss_eval" in metrics:
        scores.frames = song_bss(song.references, estimates, samples, engine)
        for source, frames in scores.frames.items():
            scores.values[source] |= medians(frames, BSS_KEYS)
    return scores


def _energy_ratios(
    song: Song, estimates: Mapping[str, Stem], samples: int
) -> dict[str, EnergyRatios]:
    """Sums over the song in blocks of about a second, all sources of a block together."""
    ratios = {source: EnergyRatios() for source in estimates}
    for start in range(0, samples, song.rate):
        stop = min(start + song.rate, samples)
        for source, estimate in estimates.items():
            reference = song.references[source].read(start, stop)
            ratios[source].add(reference, estimate.read(start, stop))
    return ratios


def _cut(reference: Stem, estimate: Stem, ratio: EnergyRatios, samples: int) -> Excerpt:
    rate = reference.rate
    first = ratio.worst_stretch(EXCERPT_SECONDS)
    start, stop = first * rate, min((first + EXCERPT_SECONDS) * rate, samples)
    pair = [stem.read(start, stop) for stem in (reference, estimate)]
    peak = max(float(np.abs(audio).max()) for audio in pair)
    gain = min(1.0, math.nextafter(1.0, 0.0) / peak) if peak else 1.0
    heard = [_flac(gain * audio, rate) for audio in pair]
    return Excerpt(float(first), heard[0], heard[1], gain)


def _flac(audio: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    audio = audio[:8]  # FLAC takes no more channels
    soundfile.write(file, audio.T, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()
