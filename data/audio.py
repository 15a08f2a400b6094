"""The one place that opens training audio.

`info` looks at a header, `read` takes exact frames out of a file, `load` decodes a whole song
of any format. All of them raise `AudioReadError` with one line that names the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from data.files import pcm
from data.files.audio_file import (
    AudioFile,
    AudioReadError,
    NonFiniteError,
    PathLike,
    inspect,
    native,
    open_sound,
    printable,
    reason,
)
from data.files.reader import first_bad_frame, read
from data.files.riff import DataChunk

__all__ = [
    "AudioFile",
    "AudioReadError",
    "NonFiniteError",
    "check",
    "check_samples",
    "info",
    "load",
    "may_be_nonfinite",
    "printable",
    "read",
]

logger = logging.getLogger(__name__)

_BLOCK_FRAMES = 1 << 18

# FFmpeg also reads playlists, which name other files and addresses; these formats hold sound only.
_AV_FORMATS = "aac,ac3,aiff,amr,ape,asf,au,caf,flac,matroska,webm,mov,mp3,ogg,tta,w64,wav,wv"


def info(path: PathLike) -> AudioFile:
    """Read the header of a WAV or FLAC file and check that its audio is there.

    Raises:
        AudioReadError: missing, unreadable, no audio file, empty, or cut off before the end
            that its header promises.
    """
    status, chunk = inspect(path)
    if chunk is not None and chunk.present < chunk.promised:
        raise AudioReadError(f"{printable(path)}: {_describe_cut(chunk)}")
    with open_sound(path) as file:
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
            chunk.offset if chunk and _fits(file, chunk) else None,
        )


def check_samples(path: PathLike) -> None:
    """Read a whole WAV or FLAC file and make sure that all samples are finite.

    Only float encodings can hold anything else; `may_be_nonfinite` tells them.

    Raises:
        AudioReadError: names the first frame that is NaN or infinite.
    """
    with open_sound(path) as file:
        start = 0
        for block in file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
            if not np.isfinite(block).all():
                frame = start + first_bad_frame(block.T)
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
    _, chunk = inspect(path)
    if chunk is not None and chunk.present < chunk.promised:
        logger.warning("%s: %s", printable(path), _describe_cut(chunk))
    try:
        with soundfile.SoundFile(native(path)) as file:
            audio, rate = file.read(dtype="float32", always_2d=True).T, file.samplerate
    except soundfile.LibsndfileError as error:
        audio, rate = _decode_with_av(path, reason(error))
    if audio.shape[1] == 0:
        raise AudioReadError(f"{printable(path)}: holds no audio (0 frames)")
    if not np.isfinite(audio).all():
        position = first_bad_frame(audio)
        raise AudioReadError(f"{printable(path)}: frame {position} is not finite")
    return np.ascontiguousarray(audio), rate


def check(path: PathLike) -> None:
    """Make sure that `load` will find an audio stream, without decoding it.

    Raises:
        AudioReadError: missing, unreadable, or no audio file.
    """
    inspect(path)
    try:
        soundfile.info(native(path))
    except soundfile.LibsndfileError as error:
        next(_av_frames(path, reason(error)), None)


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


def _fits(file: soundfile.SoundFile, chunk: DataChunk) -> bool:
    """Whether plain samples fill the data chunk without gaps, so that they can be counted off."""
    width = pcm.sample_bytes(file.subtype)
    return not width or chunk.promised // (width * file.channels) == file.frames


def _describe_cut(chunk: DataChunk) -> str:
    return (
        f"cut off: the header promises {chunk.promised} bytes of audio, "
        f"the file holds {chunk.present}"
    )


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
