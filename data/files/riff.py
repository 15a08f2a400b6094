"""What the header of a WAV file promises, against what the file holds.

libsndfile quietly shortens a WAV file that was cut off: it reports and reads the frames that
are left. A half-copied data set then trains without a word, so the header is compared here.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, NamedTuple

__all__ = ["DataChunk", "find_data"]

# In RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088) this 32-bit size means "see the ds64 chunk";
# in a plain RIFF file it is what programs write that stream to a pipe and never learn the size.
_UNKNOWN = 0xFFFFFFFF


class DataChunk(NamedTuple):
    """Where a file's samples begin, and how many bytes of them there are.

    `promised` is what the header says, `present` what follows it in the file: more where other
    chunks come after the samples, less where the file was cut off.
    """

    offset: int
    promised: int
    present: int


def find_data(file: BinaryIO) -> DataChunk | None:
    """Find the samples of a WAVE file.

    Args:
        file: a file opened for binary reading; its position is moved.

    Returns:
        None if the file is no RIFF, RF64 or BW64 WAVE file, has no data chunk, or does not
        state its size.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        return None
    data_size_64: int | None = None
    while len(header := file.read(8)) == 8:
        tag, length = struct.unpack("<4sI", header)
        start = file.tell()
        if tag == b"ds64":
            fields = file.read(16)
            if len(fields) == 16:
                data_size_64 = struct.unpack("<QQ", fields)[1]
        if tag == b"data":
            promised = data_size_64 if length == _UNKNOWN else length
            return None if promised is None else DataChunk(start, promised, size - start)
        file.seek(start + length + length % 2)  # chunks are padded to an even size
    return None
