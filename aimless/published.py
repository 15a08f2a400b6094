"""Trained networks that others publish, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """Weights on somebody's server.

    Attributes:
        url: where they are.
        title: what they are, in a line.
        training: what they were trained on, and what follows from it.
        licence: under which terms they are given.
        normalise: whether the network expects each input with mean 0 and standard deviation 1.
        sha256: of the file, where its publisher states it.
    """

    url: str
    title: str
    training: str
    licence: str
    normalise: bool = False
    sha256: str | None = None


_TORCHAUDIO = "https://download.pytorch.org/torchaudio/models/"

#: name -> weights; `aimless.checkpoint.load` takes these names.
PUBLISHED: Mapping[str, Published] = {
    "hdemucs_high_musdb": Published(
        url=_TORCHAUDIO + "hdemucs_high_musdbhq_only.pt",
        title="Hybrid Demucs of torchaudio: drums, bass, other, vocals",
        training="the 100 training songs of MUSDB18-HQ",
        licence="MIT, as Demucs; MUSDB18-HQ itself is for non-commercial use",
        normalise=True,
    ),
    "hdemucs_high_musdb_plus": Published(
        url=_TORCHAUDIO + "hdemucs_high_trained.pt",
        title="Hybrid Demucs of torchaudio, with more data: drums, bass, other, vocals",
        training="all 150 songs of MUSDB18-HQ, its test songs included, and 150 of Meta's own: "
        "scores on MUSDB18-HQ's test songs say nothing",
        licence="MIT, as Demucs; MUSDB18-HQ itself is for non-commercial use",
        normalise=True,
    ),
}
