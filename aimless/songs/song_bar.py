"""A bar per song on the terminal, in seconds of audio."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from aimless.songs.audio_paths import printable

__all__ = ["SongBar"]

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]"


class SongBar:
    """Shows how much of a song is done, and how many times quicker than it plays.

    A context manager; a callback of `aimless.Separator.separate_files`. Shown on a terminal only.

    Args:
        hidden: show nothing.
    """

    def __init__(self, hidden: bool = False) -> None:
        self.hidden = hidden or not sys.stderr.isatty()
        self._song: Path | None = None
        self._bar: Any = None  # a tqdm
        self._began = time.monotonic()  # the first word comes when a part is done

    def __call__(self, song: Path, done: float, seconds: float) -> None:
        """`done` of `seconds` seconds of the song are separated."""
        if self.hidden:
            return
        if self._bar is None or song != self._song:
            from tqdm import tqdm

            self.close()
            self._song = song
            self._bar = tqdm(
                total=seconds,
                desc=printable(song.name),
                bar_format=_FORMAT,
                leave=False,
                mininterval=0,  # a segment takes longer than drawing the bar
                file=sys.stderr,
            )
        rate = done / max(time.monotonic() - self._began, 1e-6)
        self._bar.total = seconds
        self._bar.set_postfix_str(f"{rate:.1f} x real time", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._began = time.monotonic()

    def __enter__(self) -> SongBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
