"""The song that the package stempeg carries, if it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["TITLE", "find_demo_song"]

TITLE = "The Easton Ellises - Falcon 69"


def find_demo_song() -> Path | None:
    """The multitrack file; its first stream is the mixture. None where it is not there.

    stempeg itself is not imported: it looks for an ffmpeg command.
    """
    spec = importlib.util.find_spec("stempeg")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / f"{TITLE}.stem.mp4"
    return path if path.is_file() else None
