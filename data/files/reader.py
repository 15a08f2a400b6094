"""Exact frames out of an audio file, quickly and again if the storage stumbles.

Uncompressed WAV files whose header is known are read by byte offset: no header is parsed again,
and each piece is converted while it is in the processor's cache. All others go through
libsndfile. Nothing is clipped, so that float files may pass full scale.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from io import FileIO
from itertools import count
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from data.files import pcm
from data.files.audio_file import (
    AudioFile,
    AudioReadError,
    NonFiniteError,
    PathLike,
    describe_os_error,
    open_sound,
    printable,
    reason,
)
from data.files.supervision import supervisor

__all__ = ["first_bad_frame", "read"]

logger = logging.getLogger(__name__)

# Long enough that the rounds cost little, short enough for a processor's cache: 512 kB of CD sound.
_BLOCK_FRAMES = 1 << 17
# What network storage answers in a bad moment.
_TRANSIENT = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT})
_DELAYS = (0.05, 0.4, 2.0, 10.0)  # seconds before each retry, the last before all others
_SYSTEM_ERROR = 2  # libsndfile's SF_ERR_SYSTEM


def read(
    path: PathLike, start: int, frames: int, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Read exactly `frames` frames from frame `start` of a WAV or FLAC file.

    Where the storage answers EIO, ESTALE or ETIMEDOUT, or not at all for `ReadPolicy.timeout`
    seconds, the file is opened and read again up to `ReadPolicy.retries` times, after 0.05,
    0.4, 2 and then always 10 s; each retry is logged with their number so far.

    Args:
        path: the file. An `AudioFile` must be what it was when its header was read.
        start: first frame, counted from 0.
        frames: how many frames.
        out: where to write them, (channels, frames) float32, of any strides. One channel in
            the file fills all channels of `out`. None makes a new array with the file's channels.

    Returns:
        Samples (channels, frames), full scale is ±1; `out` if it was given.

    Raises:
        AudioReadError: the file cannot be opened, has changed, has fewer frames than asked for
            or other channels than `out`; `NonFiniteError` if samples are NaN or infinite.
    """
    retries = supervisor.policy.retries
    for attempt in count():
        try:
            with supervisor.reading(path):
                return _read_once(path, start, frames, out)
        except OSError as error:
            line = describe_os_error(path, error)
            if error.errno not in _TRANSIENT or attempt >= retries:
                tried = f" ({attempt + 1} attempts)" if attempt else ""
                raise AudioReadError(line + tried) from None
            text = "%s, reading again (%d of %d; %d in this process)"
            logger.warning(text, line, attempt + 1, retries, supervisor.count_retry())
            time.sleep(_DELAYS[min(attempt, len(_DELAYS) - 1)])
    raise AssertionError("unreachable")


def first_bad_frame(audio: NDArray[np.float32]) -> int:
    """The first frame of (channels, frames) that is not finite."""
    return int(np.argmin(np.isfinite(audio).all(0)))


def _read_once(
    path: PathLike, start: int, frames: int, out: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    if not isinstance(path, AudioFile):
        return _read_sound(path, start, frames, out)
    with open(path, "rb", buffering=0) as file:
        _check_unchanged(path, file)
        if path.data_offset is not None and pcm.sample_bytes(path.subtype):
            blocks = _raw_blocks(file, path, start, frames)
            return _convert(blocks, path, start, frames, path.channels, out)
    return _read_sound(path, start, frames, out)


def _read_sound(
    path: PathLike, start: int, frames: int, out: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    with open_sound(path) as sound:
        try:
            blocks = _sound_blocks(sound, start, frames)
            return _convert(blocks, path, start, frames, sound.channels, out)
        except soundfile.LibsndfileError as error:
            if error.code == _SYSTEM_ERROR:
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
            raise AudioReadError(_excerpt_message(path, start, frames, reason(error))) from None


def _check_unchanged(header: AudioFile, file: FileIO) -> None:
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (header.size, header.mtime_ns):
        text = f"was {header.size} bytes, is {status.st_size}, or was written since"
        raise AudioReadError(f"{printable(header)}: changed since it was checked ({text})")


def _raw_blocks(file: FileIO, header: AudioFile, start: int, frames: int) -> Iterator[NDArray[Any]]:
    """Blocks (frames, channels) of the file's own numbers."""
    if not 0 <= start < header.frames or header.data_offset is None:
        return
    width = (pcm.sample_bytes(header.subtype) or 0) * header.channels
    left = min(frames, header.frames - start)
    position = header.data_offset + start * width
    if hasattr(os, "posix_fadvise"):  # a disk then reads ahead while the first blocks convert
        os.posix_fadvise(file.fileno(), position, left * width, os.POSIX_FADV_WILLNEED)
    file.seek(position)
    buffer = np.empty(min(left, _BLOCK_FRAMES) * width, np.uint8)
    while left > 0:
        wanted = min(left, _BLOCK_FRAMES) * width
        whole = _read_into(file, buffer.data[:wanted]) // width
        yield pcm.unpack(buffer[: whole * width], header.subtype, header.channels)
        if whole * width < wanted:
            return
        left -= whole


def _read_into(file: FileIO, view: memoryview) -> int:
    """Fill a buffer from a file; bytes read, fewer only at the file's end."""
    got = 0
    while got < len(view) and (step := file.readinto(view[got:])):
        got += step
    return got


def _sound_blocks(sound: soundfile.SoundFile, start: int, frames: int) -> Iterator[NDArray[Any]]:
    """Blocks (frames, channels) as libsndfile decodes them; its own way to float is slow."""
    dtype = "int16" if sound.subtype == "PCM_16" else "float32"
    sound.seek(start)
    left = frames
    while left > 0:
        block = sound.read(min(left, _BLOCK_FRAMES), dtype=dtype, always_2d=True)
        yield block
        if len(block) < min(left, _BLOCK_FRAMES):
            return
        left -= len(block)


def _convert(
    blocks: Iterator[NDArray[Any]],
    path: PathLike,
    start: int,
    frames: int,
    channels: int,
    out: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Write blocks to `out` one after the other, and check them."""
    if out is None:
        out = np.empty((channels, frames), np.float32)
    if channels not in (1, len(out)):
        text = f"found {channels} channels, wanted {len(out)}"
        raise AudioReadError(_excerpt_message(path, start, frames, text))
    done = 0
    for block in blocks:
        part = out[:, done : done + len(block)]
        pcm.to_float(block, part[:channels])
        if block.dtype.kind == "f" and not np.isfinite(part[:channels]).all():
            frame = start + done + first_bad_frame(part[:channels])
            text = f"frame {frame} is not finite (NaN or infinite)"
            raise NonFiniteError(_excerpt_message(path, start, frames, text))
        part[channels:] = part[:1]
        done += len(block)
    if done != frames:
        raise AudioReadError(_excerpt_message(path, start, frames, f"got {done}"))
    return out


def _excerpt_message(path: PathLike, start: int, frames: int, text: str) -> str:
    return f"{printable(path)}: wanted {frames} frames from frame {start}: {text}"
