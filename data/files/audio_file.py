"""An audio file by its header, and what is said when it cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import soundfile

from aimless.errors import DataError
from data.files.riff import DataChunk, find_data

__all__ = [
    "AudioFile",
    "AudioReadError",
    "NonFiniteError",
    "describe_os_error",
    "inspect",
    "native",
    "open_sound",
    "printable",
    "reason",
]

PathLike = str | os.PathLike[str]


class AudioReadError(DataError):
    """An audio file cannot be read, or not as many frames of it as were asked for."""

    def __init__(self, message: str) -> None:
        # A DataLoader rebuilds the error of a worker from the text of its traceback;
        # the last line of that is the message.
        super().__init__(message.rstrip().rsplit(f"{type(self).__name__}: ", 1)[-1])


class NonFiniteError(AudioReadError):
    """The frames that were asked for hold NaN or infinite samples."""


class AudioFile(NamedTuple):
    """An audio file whose header has been read; it can be used wherever a path can.

    `frames` counts samples per channel, `rate` is in Hz, `format` and `subtype` are
    libsndfile's words. `size` (bytes) and `mtime_ns` tell whether the file has changed since.
    `data_offset` is the byte at which a RIFF, RF64 or BW64 file's samples begin, else None.

    A data set may have a hundred thousand of them: a tuple with the path as text is made in a
    quarter of the time of an object with a `Path`.
    """

    location: str
    frames: int
    rate: int
    channels: int
    format: str
    subtype: str
    size: int
    mtime_ns: int
    data_offset: int | None

    @property
    def path(self) -> Path:
        """Where it was found."""
        return Path(self.location)

    def __fspath__(self) -> str:
        return self.location


def printable(path: PathLike) -> str:
    """A path as text that any terminal takes, also if its name is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def native(path: PathLike) -> str | bytes:
    """A path as soundfile takes it, which encodes text strictly: other names go as bytes."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def inspect(path: PathLike) -> tuple[os.stat_result, DataChunk | None]:
    """The status of a file and where its RIFF data lie.

    Raises:
        AudioReadError: what the operating system has to say against the file.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size == 0:
                raise AudioReadError(f"{printable(path)}: empty file (0 bytes)")
            return status, find_data(file)
    except OSError as error:
        raise AudioReadError(describe_os_error(path, error)) from None


def describe_os_error(path: PathLike, error: OSError) -> str:
    """One line that names the file and what the operating system has against it."""
    text = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        text = "link to nowhere" if os.path.islink(path) else "no such file"
    return f"{printable(path)}: {text}"


def open_sound(path: PathLike) -> soundfile.SoundFile:
    """Open a file with libsndfile.

    Raises:
        AudioReadError: missing, unreadable, or no audio file.
    """
    try:
        return soundfile.SoundFile(native(path))
    except soundfile.LibsndfileError as error:
        inspect(path)  # libsndfile says "System error" where the system says why
        raise AudioReadError(f"{printable(path)}: not readable audio ({reason(error)})") from None


def reason(error: Exception) -> str:
    """What libsndfile says, without its full stop."""
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(".") or "damaged"
