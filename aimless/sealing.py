"""Files that carry their own SHA-256, so that damage anywhere in them is seen.

A zip archive, which is what `torch.save` writes, may end in a comment that readers pass over.
A sealed file ends in the comment `sha256=<64 hex digits>`, the digest of all bytes before those
digits. File and digest are therefore one file, and appear under their name in one rename.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import BinaryIO

__all__ = ["SEAL_BYTES", "SealingWriter", "is_sealed", "is_unsealed", "seal_holds"]

_MARK = b"sha256="
_DIGITS = 64
#: Length of a seal.
SEAL_BYTES = len(_MARK) + _DIGITS
_BLOCK = 1 << 20


class SealingWriter:
    """Passes a zip archive on to a file and seals it, in one pass.

    `torch.save` loses the cause of a failed write. An error is therefore kept, what follows it
    is dropped, and `finish` raises it.

    Args:
        file: opened for writing, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._tail = b""  # the last two bytes: of an archive, the length of its comment
        self._size = 0
        self._error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Take the next bytes."""
        size = len(data)
        if size >= 2:
            self._put(self._tail)
            self._put(memoryview(data)[:-2])
            self._tail = bytes(data[-2:])
        else:
            joined = self._tail + bytes(data)
            self._put(joined[:-2])
            self._tail = joined[-2:]
        return size

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is whole."""

    def finish(self) -> int:
        """Write the seal, and give the length of the file.

        Raises:
            OSError: a write failed.
            ValueError: what was written is no archive without a comment.
        """
        if self._error is None and self._tail != b"\0\0":
            raise ValueError("only a zip archive without a comment can be sealed")
        self._put(SEAL_BYTES.to_bytes(2, "little") + _MARK)
        self._put(self._hash.hexdigest().encode())
        if self._error is not None:
            raise self._error
        return self._size

    def _put(self, data: bytes | memoryview) -> None:
        if self._error is not None:
            return
        try:
            self._file.write(data)
        except OSError as error:
            self._error = error
        self._hash.update(data)
        self._size += len(data)


def is_sealed(path: str | os.PathLike[str]) -> bool:
    """Whether a file ends in a seal; says nothing about what stands before it.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return _read_seal(file) is not None


def seal_holds(path: str | os.PathLike[str]) -> bool:
    """Whether a file ends in a seal that fits every byte before it.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        digits = _read_seal(file)
        if digits is None:
            return False
        left = Path(path).stat().st_size - _DIGITS
        file.seek(0)
        digest = hashlib.sha256()
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest().encode() == digits


def is_unsealed(path: str | os.PathLike[str]) -> bool:
    """Whether an archive had a seal once that is cut off or broken: torch makes no comments.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: it is no archive.
    """
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        file.seek(-2, os.SEEK_END)
        return bool(archive.comment) or file.read(2) != b"\0\0"


def _read_seal(file: BinaryIO) -> bytes | None:
    """The digits at the end of a file; None if there is no seal."""
    file.seek(0, os.SEEK_END)
    if file.tell() < SEAL_BYTES:
        return None
    file.seek(-SEAL_BYTES, os.SEEK_END)
    seal = file.read(SEAL_BYTES)
    return seal[len(_MARK) :] if seal.startswith(_MARK) else None
