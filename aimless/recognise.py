"""What plain weights, without a config, are of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from aimless.errors import DataError

__all__ = ["recognise"]

#: Parts of Demucs' Hybrid Demucs, and what torchaudio calls them.
_DEMUCS_PARTS = {
    "encoder.": "freq_encoder.",
    "decoder.": "freq_decoder.",
    "tencoder.": "time_encoder.",
    "tdecoder.": "time_decoder.",
}
_LAST_LAYER = re.compile(r"time_decoder\.\d+\.conv_tr\.weight")


def recognise(path: Path, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tell a Hybrid Demucs, torchaudio's or Demucs' own, and its sizes by its weights' shapes.

    Args:
        path: of the weights, for messages.
        state: the weights.

    Returns:
        The weights under torchaudio's names, and the description of their network, as
        `aimless.checkpoint.export` writes it.

    Raises:
        DataError: they are of something else, or of sources without known names.
    """
    if any(name.startswith("tencoder.") for name in state):
        renamed = {}
        for name, value in state.items():
            part = next((part for part in _DEMUCS_PARTS if name.startswith(part)), "")
            renamed[_DEMUCS_PARTS.get(part, "") + name.removeprefix(part)] = value
        state = renamed
    try:
        channels, folded = state["freq_encoder.0.conv.weight"].shape[:2]
        audio = state["time_encoder.0.conv.weight"].shape[1]
        depth = sum(bool(re.fullmatch(r"freq_encoder\.\d+\.conv\.weight", n)) for n in state)
        last = state[[name for name in state if _LAST_LAYER.fullmatch(name)][-1]]
        bins = state["freq_emb.embedding.weight"].shape[0]
    except (KeyError, IndexError):
        raise DataError(
            f"{path}: holds weights but no config, and they are not of a Hybrid Demucs; "
            "put the config.yaml of the run beside it"
        ) from None
    sources = last.shape[1] // audio
    targets = {4: ["drums", "bass", "other", "vocals"], 3: ["music", "sfx", "speech"]}.get(sources)
    if targets is None or folded != 2 * audio:
        raise DataError(f"{path}: a Hybrid Demucs of {sources} sources, which have no known names")
    return state, {
        "kind": "waveform",
        "class_path": "aimless.models.HDemucs",
        "init_args": {
            "sources": targets,
            "audio_channels": audio,
            "channels": channels,
            "depth": depth,
            "nfft": bins * 8,  # the embedding has a row for each bin after the first stride of 4
        },
        "targets": targets,
        "sample_rate": 44100,
        "pipeline": {},
    }
