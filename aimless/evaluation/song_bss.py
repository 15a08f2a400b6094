"""BSSEval v4 of one song, with our engine or museval's."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from aimless.errors import ConfigError
from aimless.evaluation.bss_eval import bss_eval
from aimless.evaluation.stems import Stem, SumStem

__all__ = ["BSS_METRICS", "ENGINES", "song_bss"]

BSS_METRICS = ("SDR", "ISR", "SIR", "SAR")
ENGINES = ("aimless", "museval")


def song_bss(
    references: Mapping[str, Stem],
    estimates: Mapping[str, Stem],
    samples: int,
    engine: str = "aimless",
) -> dict[str, np.ndarray]:
    """BSSEval v4 with frames of 1 s, held in memory as float32.

    References without an estimate count as one source, their sum: a song with estimated vocals
    only is scored as vocals and accompaniment. A stem that is silent in the whole song is not
    scored (NaN), and neither spoils the frames of the others, which museval refuses.

    Args:
        references: of all sources of the mixture.
        estimates: of the sources to score.
        samples: of the song to use.
        engine: `aimless` or `museval`.

    Returns:
        Per source (4, frames) in dB: SDR, ISR, SIR, SAR.

    Raises:
        ConfigError: museval cannot be used.
        DataError: a stem cannot be read.
    """
    rate = next(iter(references.values())).rate
    scored, refs, ests = _load(references, estimates, samples)
    frames = max(1, samples // rate)
    scores = {source: np.full((4, frames), np.nan) for source in estimates}
    if scored:
        run = _museval if engine == "museval" else _aimless
        for source, values in zip(scored, run(refs, ests, rate)):
            scores[source] = values
    return scores


def _load(
    references: Mapping[str, Stem], estimates: Mapping[str, Stem], samples: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read what is not silent.

    Returns:
        The sources that have both reference and estimate; the references, theirs first,
        (sources, C, samples); their estimates, (scored sources, C, samples).
    """
    refs = {source: _read(references[source], samples) for source in estimates}
    ests = {source: _read(stem, samples) for source, stem in estimates.items()}
    rest = [stem for source, stem in references.items() if source not in estimates]
    if rest:
        refs["the rest"] = _read(SumStem(rest, "sum of the stems without an estimate"), samples)
    audible = [source for source, audio in refs.items() if not _silent(audio)]
    scored = [source for source in audible if source in ests and not _silent(ests[source])]
    order = scored + [source for source in audible if source not in scored]
    if not scored:
        return [], np.empty(0), np.empty(0)
    return scored, np.stack([refs[s] for s in order]), np.stack([ests[s] for s in scored])


def _read(stem: Stem, samples: int, block: int = 1 << 18) -> np.ndarray:
    """A whole stem, float32 (C, samples), without a copy in double precision."""
    audio = np.empty((stem.channels, samples), np.float32)
    for start in range(0, samples, block):
        stop = min(start + block, samples)
        audio[:, start:stop] = stem.read(start, stop)
    return audio


def _silent(audio: np.ndarray) -> bool:
    """Whether the channels sum to zero at every sample, which is what museval calls silent."""
    return not audio.sum(0, dtype=np.float64).any()


def _aimless(refs: np.ndarray, ests: np.ndarray, rate: int) -> np.ndarray:
    """(scored sources, 4, frames)."""
    scores = bss_eval(torch.from_numpy(refs), torch.from_numpy(ests), window=rate, hop=rate)
    return torch.stack(scores, dim=1).numpy()


def _museval(refs: np.ndarray, ests: np.ndarray, rate: int) -> np.ndarray:
    """(scored sources, 4, frames)."""
    museval = import_museval()
    count = len(ests)
    # it wants an estimate for every reference; one that is perfect changes no other's score
    filled = np.concatenate([ests, refs[count:]])
    refs, filled = (x.transpose(0, 2, 1).astype(np.float64) for x in (refs, filled))
    scores = museval.metrics.bss_eval(refs, filled, window=rate, hop=rate)[:4]
    return np.stack(scores, axis=1)[:count]


def import_museval() -> types.ModuleType:
    """museval, or one line on what to install.

    Raises:
        ConfigError: it, or the ffmpeg that it asks for, is missing.
    """
    try:
        import museval
    except ImportError as error:
        raise ConfigError(
            f"engine: museval cannot be imported ({error}); pip install 'aimless[eval]'"
        ) from error
    except RuntimeError as error:  # of stempeg, which looks for ffmpeg when imported
        raise ConfigError(
            "engine: museval needs the programs ffmpeg and ffprobe on the PATH; "
            "install ffmpeg, or use the engine aimless"
        ) from error
    return museval


def require_engine(engine: str) -> None:
    """Find out before any work whether an engine is there.

    Raises:
        ConfigError: it is unknown, or cannot be used.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine: '{engine}'; known: {', '.join(ENGINES)}")
    if engine == "museval":
        import_museval()


def medians(frames: np.ndarray, names: Sequence[str] = BSS_METRICS) -> dict[str, float]:
    """Median over frames of each measure, (4, frames) -> name -> dB; NaN and infinity left out."""
    finite = [row[np.isfinite(row)] for row in frames]
    return {n: float(np.median(row)) if row.size else float("nan") for n, row in zip(names, finite)}
