"""Names of the files in the folder of a job. Imports nothing."""

from __future__ import annotations

__all__ = ["MIXTURE", "PREVIEW", "STEMS", "STOP", "picture_name", "piece_name"]

MIXTURE, STEMS, PREVIEW = "mixture.wav", "stems", "preview"
#: A job whose folder holds it ends.
STOP = "stop"


def piece_name(track: int, piece: int) -> str:
    """A few seconds of a track, for the browser; track 0 is the mixture."""
    return f"{track}-{piece}.flac"


def picture_name(track: int) -> str:
    """The spectrogram of a track."""
    return f"{track}.png"
