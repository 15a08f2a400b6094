"""The one place that opens training audio.

`info` looks at a header, `read` takes exact frames out of a file, `load` decodes a whole song
of any format. All of them raise `AudioReadError` with one line that names the file.

WAV and FLAC go through libsndfile. 16-bit files are read as integers and converted here,
which is about three times as fast as libsndfile's own conversion to float; everything else is
read as float32 and not clipped, so that float files may pass full scale.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from aimless.errors import DataError
from data.riff import DataChunk, find_data

__all__ = [
    "AudioFile",
    "AudioReadError",
    "check",
    "check_samples",
    "info",
    "load",
    "may_be_nonfinite",
    "printable",
    "read",
]

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

_BLOCK_FRAMES = 1 << 18
_INT16_SCALE = np.float32(1 / 32768)

# FFmpeg also reads playlists, which name other files and addresses; these formats hold sound only.
_AV_FORMATS = "aac,ac3,aiff,amr,ape,asf,au,caf,flac,matroska,webm,mov,mp3,ogg,tta,w64,wav,wv"


class AudioReadError(DataError):
    """An audio file cannot be read, or not as many frames of it as were asked for."""

    def __init__(self, message: str) -> None:
        # A DataLoader rebuilds the error of a worker from the text of its traceback;
        # the last line of that is the message.
        super().__init__(message.rstrip().rsplit(f"{type(self).__name__}: ", 1)[-1])


@dataclass(frozen=True)
class AudioFile(os.PathLike[str]):
    """An audio file whose header has been read; it can be used wherever a path can.

    `frames` counts samples per channel, `rate` is in Hz, `format` and `subtype` are
    libsndfile's words. `size` (bytes) and `mtime_ns` tell whether the file has changed since.
    `data_offset` is the byte at which a RIFF, RF64 or BW64 file's samples begin, else None.
    """

    path: Path
    frames: int
    rate: int
    channels: int
    format: str
    subtype: str
    size: int
    mtime_ns: int
    data_offset: int | None

    def __fspath__(self) -> str:
        return os.fspath(self.path)


def info(path: PathLike) -> AudioFile:
    """Read the header of a WAV or FLAC file and check that its audio is there.

    Raises:
        AudioReadError: missing, unreadable, no audio file, empty, or cut off before the end
            that its header promises.
    """
    status, chunk = _inspect(path)
    if chunk is not None and chunk.present < chunk.promised:
        raise AudioReadError(f"{printable(path)}: {_describe_cut(chunk)}")
    with _open(path) as file:
        if file.frames == 0:
            raise AudioReadError(f"{printable(path)}: holds no audio (0 frames)")
        if chunk is None:
            _check_end(path, file)
        return AudioFile(
            Path(path),
            file.frames,
            file.samplerate,
            file.channels,
            file.format,
            file.subtype,
            status.st_size,
            status.st_mtime_ns,
            chunk.offset if chunk else None,
        )


def read(
    path: PathLike, start: int, frames: int, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Read exactly `frames` frames from frame `start` of a WAV or FLAC file.

    Args:
        path: the file.
        start: first frame, counted from 0.
        frames: how many frames.
        out: where to write them, (channels, frames) float32, of any strides. One channel in
            the file fills all channels of `out`. None makes a new array with the file's channels.

    Returns:
        Samples (channels, frames), full scale is ±1; `out` if it was given.

    Raises:
        AudioReadError: the file cannot be opened, has fewer frames than asked for or other
            channels than `out`, or holds NaN or infinite samples there.
    """
    with _open(path) as file:
        is_int16 = file.subtype == "PCM_16"
        try:
            file.seek(start)
            block = file.read(frames, dtype="int16" if is_int16 else "float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioReadError(_excerpt_message(path, start, frames, _reason(error))) from None
    if len(block) != frames:
        raise AudioReadError(_excerpt_message(path, start, frames, f"got {len(block)}"))
    if out is None:
        out = np.empty((block.shape[1], frames), np.float32)
    if block.shape[1] not in (1, len(out)):
        reason = f"found {block.shape[1]} channels, wanted {len(out)}"
        raise AudioReadError(_excerpt_message(path, start, frames, reason))
    if is_int16:
        return np.multiply(block.T, _INT16_SCALE, out=out)
    if not np.isfinite(block).all():
        reason = f"frame {start + _first_bad_frame(block.T)} is not finite (NaN or infinite)"
        raise AudioReadError(_excerpt_message(path, start, frames, reason))
    out[...] = block.T
    return out


def check_samples(path: PathLike) -> None:
    """Read a whole WAV or FLAC file and make sure that all samples are finite.

    Only float encodings can hold anything else; `may_be_nonfinite` tells them.

    Raises:
        AudioReadError: names the first frame that is NaN or infinite.
    """
    with _open(path) as file:
        start = 0
        for block in file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
            if not np.isfinite(block).all():
                frame = start + _first_bad_frame(block.T)
                raise AudioReadError(
                    f"{printable(path)}: frame {frame} is not finite (NaN or infinite)"
                )
            start += len(block)


def may_be_nonfinite(header: AudioFile) -> bool:
    """Whether the encoding of a file has numbers that are not finite."""
    return header.subtype in ("FLOAT", "DOUBLE")


def load(path: PathLike) -> tuple[NDArray[np.float32], int]:
    """Decode a whole file of any format that libsndfile or FFmpeg knows.

    A WAV file that was cut off gives what is left of it, with a warning.

    Returns:
        Samples (channels, frames), not clipped, and the sample rate in Hz.

    Raises:
        AudioReadError: missing, unreadable, no audio, empty, or with samples that are NaN
            or infinite.
    """
    _, chunk = _inspect(path)
    if chunk is not None and chunk.present < chunk.promised:
        logger.warning("%s: %s", printable(path), _describe_cut(chunk))
    try:
        with soundfile.SoundFile(_native(path)) as file:
            audio, rate = file.read(dtype="float32", always_2d=True).T, file.samplerate
    except soundfile.LibsndfileError as error:
        audio, rate = _decode_with_av(path, _reason(error))
    if audio.shape[1] == 0:
        raise AudioReadError(f"{printable(path)}: holds no audio (0 frames)")
    if not np.isfinite(audio).all():
        position = _first_bad_frame(audio)
        raise AudioReadError(f"{printable(path)}: frame {position} is not finite")
    return np.ascontiguousarray(audio), rate


def check(path: PathLike) -> None:
    """Make sure that `load` will find an audio stream, without decoding it.

    Raises:
        AudioReadError: missing, unreadable, or no audio file.
    """
    _inspect(path)
    try:
        soundfile.info(_native(path))
    except soundfile.LibsndfileError as error:
        next(_av_frames(path, _reason(error)), None)


def printable(path: PathLike) -> str:
    """A path as text that any terminal takes, also if its name is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _native(path: PathLike) -> str | bytes:
    # soundfile encodes text strictly, so that names which are not UTF-8 need to go as bytes.
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def _inspect(path: PathLike) -> tuple[os.stat_result, DataChunk | None]:
    """What the operating system has to say against a file; then its status and RIFF data."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size == 0:
                raise AudioReadError(f"{printable(path)}: empty file (0 bytes)")
            return status, find_data(file)
    except FileNotFoundError:
        reason = "link to nowhere" if os.path.islink(path) else "no such file"
    except OSError as error:
        reason = error.strerror or str(error)
    raise AudioReadError(f"{printable(path)}: {reason}")


def _open(path: PathLike) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(_native(path))
    except soundfile.LibsndfileError as error:
        _inspect(path)  # libsndfile says "System error" where the system says why
        raise AudioReadError(f"{printable(path)}: not readable audio ({_reason(error)})") from None


def _check_end(path: PathLike, file: soundfile.SoundFile) -> None:
    """Compressed data has no size to compare: the last frame must be there."""
    try:
        file.seek(file.frames - 1)
        got = len(file.read(1, dtype="int16"))
    except soundfile.LibsndfileError:
        got = 0
    if got != 1:
        reason = f"cut off: the header promises {file.frames} frames, the last one is missing"
        raise AudioReadError(f"{printable(path)}: {reason}")


def _describe_cut(chunk: DataChunk) -> str:
    return (
        f"cut off: the header promises {chunk.promised} bytes of audio, "
        f"the file holds {chunk.present}"
    )


def _excerpt_message(path: PathLike, start: int, frames: int, reason: str) -> str:
    return f"{printable(path)}: wanted {frames} frames from frame {start}: {reason}"


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(".") or "damaged"


def _first_bad_frame(audio: NDArray[np.float32]) -> int:
    return int(np.argmin(np.isfinite(audio).all(0)))


def _decode_with_av(path: PathLike, reason: str) -> tuple[NDArray[np.float32], int]:
    blocks, rate = [], 0
    for block, rate in _av_frames(path, reason):  # noqa: B007 the rate is the same for all
        blocks.append(block)
    if not blocks:
        raise AudioReadError(f"{printable(path)}: holds no audio (0 frames)")
    return np.concatenate(blocks, axis=1), rate


def _av_frames(path: PathLike, reason: str) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Decoded blocks (channels, frames) and the rate; `reason` is why libsndfile refused."""
    import av  # only formats that libsndfile does not know need FFmpeg

    try:
        with open(path, "rb") as file:
            options = {"format_whitelist": _AV_FORMATS}
            with av.open(file, "r", options=options) as container:
                if not container.streams.audio:
                    raise AudioReadError(f"{printable(path)}: holds no audio stream")
                planar = av.AudioResampler(format="fltp")
                for frame in container.decode(audio=0):
                    for part in planar.resample(frame):
                        yield part.to_ndarray().astype(np.float32, copy=False), part.sample_rate
    except av.error.FFmpegError as error:
        detail = f"{reason}; {error.strerror or error}"
        raise AudioReadError(f"{printable(path)}: not readable audio ({detail})") from None
