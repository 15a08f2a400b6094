"""What a separator makes of the stems of a song and of its mixture, window by window.

All that is kept of a song are sums of products over windows of a second: every score and verdict
follows from them without separating again.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aimless import stopping
from aimless.errors import ConfigError, DataError
from aimless.evaluation.songs import Song, check_alike
from aimless.evaluation.stems import Stem
from aimless.separator import Separator

__all__ = ["HEARD", "WINDOW", "Measurement", "measure"]

#: What a separator may be given: each stem by itself, and the mixture.
HEARD = ("stem", "mixture")
#: Seconds of a window.
WINDOW = 1.0
#: Windows that are in memory at once.
_PIECE = 30

Energies = NDArray[np.float64]


@dataclass(frozen=True)
class Measurement:
    """Energies and inner products over windows, summed over channels and samples.

    Args:
        labels: stems of the song that the separator knows; axis "labels".
        sources: what the separator tells apart, `residual` last; axis "sources".
        counts: values in each window, channels times samples: (windows,).
        stems: energy of each stem: (windows, labels).
        mixture: energy of the mixture: (windows,).
        stem_mixture: products of stems and mixture: (windows, labels).
        alone: energy of each estimate of each stem separated by itself: (windows, labels,
            sources); NaN if that was not measured.
        estimates: energy of the estimates of the mixture: (windows, sources); NaN likewise.
        products: of stems and estimates of the mixture: (windows, labels, sources); NaN likewise.
    """

    labels: tuple[str, ...]
    sources: tuple[str, ...]
    counts: Energies
    stems: Energies
    mixture: Energies
    stem_mixture: Energies
    alone: Energies
    estimates: Energies
    products: Energies

    def to_bytes(self, key: str) -> bytes:
        """As a NumPy archive, with the key of what it was measured from."""
        file = BytesIO()
        arrays: dict[str, Any] = {f.name: np.array(getattr(self, f.name)) for f in fields(self)}
        np.savez_compressed(file, key=np.array(key), **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, key: str) -> Measurement | None:
        """The measurement in an archive; None if it has another key or is damaged."""
        try:
            with np.load(BytesIO(content), allow_pickle=False) as arrays:
                if str(arrays["key"]) != key:
                    return None
                values = {field.name: arrays[field.name] for field in fields(cls)}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        for name in ("labels", "sources"):
            values[name] = tuple(map(str, values[name]))
        return cls(**values)


def measure(song: Song, separator: Separator, heard: Sequence[str] = HEARD) -> Measurement:
    """Separate a song's stems and mixture, half a minute at a time.

    Args:
        song: opened; stems that the separator has no name for are left out.
        separator: with `residual`, so that its stems sum to what it hears.
        heard: some of `HEARD`.

    Raises:
        DataError: a file cannot be read, or the song has none of the separator's stems.
        ConfigError: a word that `HEARD` does not have, or none.
    """
    if not heard or set(heard) - set(HEARD):
        raise ConfigError(f"hear: {', '.join(heard) or 'nothing'}; known: {', '.join(HEARD)}")
    labels = tuple(name for name in separator.sources if name in song.references)
    if not labels:
        known = ", ".join(separator.sources)
        raise DataError(f"{song.name}: has no stem of {known}, which the separator knows")
    stems = [song.references[name] for name in labels]
    samples = check_alike([*stems, song.mixture])
    window = max(1, round(WINDOW * song.rate))
    rows: list[dict[str, Energies]] = []
    for start in range(0, samples, _PIECE * window):
        stopping.check()
        span = start, min(start + _PIECE * window, samples)
        rows += _measure_piece(stems, song.mixture, span, window, separator, heard)
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Measurement(labels, separator.stems, **columns)


def _measure_piece(
    stems: Sequence[Stem],
    mixture: Stem,
    span: tuple[int, int],
    window: int,
    separator: Separator,
    heard: Sequence[str],
) -> list[dict[str, Energies]]:
    """The sums of each window of a piece."""
    references = np.stack([stem.read(*span) for stem in stems])  # (labels, C, n)
    whole = mixture.read(*span)
    estimates = _separate(separator, whole, mixture.rate) if "mixture" in heard else None
    alone = None
    if "stem" in heard:
        alone = [_separate(separator, stem, mixture.rate) for stem in references]
    starts = range(0, whole.shape[-1], window)
    return [
        _sums(
            references[..., start : start + window],
            whole[..., start : start + window],
            None if estimates is None else estimates[..., start : start + window],
            None if alone is None else [stem[..., start : start + window] for stem in alone],
            len(separator.stems),
        )
        for start in starts
    ]


def _separate(separator: Separator, audio: np.ndarray, rate: int) -> np.ndarray:
    """Estimates (sources, C, n) of audio (C, n); silence is not given to the network."""
    if not audio.any():
        return np.zeros((len(separator.stems), *audio.shape), np.float32)
    stems = separator.separate(audio.astype(np.float32), rate)
    return np.stack([stem.numpy() for stem in stems.values()])


def _sums(
    references: np.ndarray,
    mixture: np.ndarray,
    estimates: np.ndarray | None,
    alone: Sequence[np.ndarray] | None,
    sources: int,
) -> dict[str, Energies]:
    """Sums of one window; see `Measurement` for their axes."""
    labels = len(references)
    missing = np.full((labels, sources), np.nan)
    row = {
        "counts": np.array(float(mixture.size)),
        "stems": _energy(references),
        "mixture": _energy(mixture[None])[0],
        "stem_mixture": np.einsum("lcn,cn->l", references, mixture),
        "alone": missing,
        "estimates": missing[0],
        "products": missing,
    }
    if alone is not None:
        row["alone"] = np.stack([_energy(stem) for stem in alone])
    if estimates is not None:
        row["estimates"] = _energy(estimates)
        row["products"] = np.einsum("lcn,scn->ls", references, estimates.astype(np.float64))
    return row


def _energy(audio: np.ndarray) -> Energies:
    # einsum, as its loops do not wait for other processes' BLAS threads on busy cores
    audio = audio.astype(np.float64, copy=False)
    return np.einsum("scn,scn->s", audio, audio)
