"""Songs that libsndfile does not read, decoded by FFmpeg through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from aimless.errors import DataError

__all__ = ["blocks", "read_header"]

# FFmpeg also reads playlists, which name other files and addresses; these formats hold sound only.
_FORMATS = "aac,ac3,aiff,amr,ape,asf,au,caf,flac,matroska,webm,mov,mp3,ogg,tta,w64,wav,wv"


def read_header(path: Path, name: str, reason: str) -> tuple[int, int, int]:
    """Rate in Hz, channels, and about how many frames there are; 0 if the file does not tell.

    Args:
        path: the file.
        name: of the file in messages.
        reason: why libsndfile did not read it.

    Raises:
        DataError: no audio that FFmpeg reads.
    """
    with _stream(path, name, reason) as (container, stream):
        frame = next(container.decode(stream), None)
        if frame is None:
            raise DataError(f"{name}: holds no audio (0 frames)")
        frames = _frames(container, stream, frame.sample_rate)
        return frame.sample_rate, frame.layout.nb_channels, frames


def blocks(path: Path, name: str) -> Iterator[NDArray[np.float32]]:
    """Decode the first audio stream: (channels, n) float32 each.

    Raises:
        DataError: damaged, or rate or channels change within the stream.
    """
    with _stream(path, name, "") as (container, stream):
        planar = av.AudioResampler(format="fltp")
        shape: tuple[int, int] | None = None
        for frame in container.decode(stream):
            shape = shape or (frame.sample_rate, frame.layout.nb_channels)
            if shape != (frame.sample_rate, frame.layout.nb_channels):
                raise DataError(f"{name}: rate or channels change within the stream")
            for part in planar.resample(frame):
                yield part.to_ndarray().astype(np.float32, copy=False)


@contextmanager
def _stream(path: Path, name: str, reason: str) -> Iterator[tuple[Any, Any]]:
    """The opened container and its first audio stream; FFmpeg's errors in one line."""
    try:
        with (
            open(path, "rb") as file,
            av.open(file, "r", options={"format_whitelist": _FORMATS}) as container,
        ):
            if not container.streams.audio:
                raise DataError(f"{name}: holds no audio stream")
            yield container, container.streams.audio[0]
    except av.error.FFmpegError as error:
        detail = "; ".join(filter(None, [reason, error.strerror or str(error)]))
        raise DataError(f"{name}: not readable audio ({detail})") from None


def _frames(container: Any, stream: Any, rate: int) -> int:
    if container.duration:
        return round(container.duration / av.time_base * rate)
    if stream.duration:
        return round(stream.duration * stream.time_base * rate)
    return 0
