"""The one place that opens training audio.

`info` looks at a header, `read` takes exact frames out of a file; both raise `AudioReadError` with
one line that names the file. Songs of any format, to be separated, are `aimless.songs`' business.
"""

from __future__ import annotations

import os

import numpy as np
import soundfile

from aimless.songs.sound_stream import told_frames
from data.files import pcm
from data.files.audio_file import (
    AudioFile,
    AudioReadError,
    NonFiniteError,
    PathLike,
    inspect,
    open_sound,
    printable,
)
from data.files.reader import first_bad_frame, read
from data.files.riff import DataChunk

__all__ = [
    "AudioFile",
    "AudioReadError",
    "NonFiniteError",
    "check_samples",
    "info",
    "may_be_nonfinite",
    "printable",
    "read",
]

_BLOCK_FRAMES = 1 << 18
_NO_LENGTH = "its header tells no length, as if written into a pipe; encode it again into a file"


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
        if not told_frames(file):
            raise AudioReadError(f"{printable(path)}: {_NO_LENGTH}")
        if chunk is None:
            _check_end(path, file)
        return AudioFile(
            os.fspath(path),
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
