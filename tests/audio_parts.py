"""Audio files that tests make."""

from __future__ import annotations

from pathlib import Path


def forget_length(path):
    """Leave out of a FLAC file how long it is, as an encoder does that writes into a pipe."""
    content = bytearray(Path(path).read_bytes())
    content[21] &= 0xF0  # of STREAMINFO: 36 bits that count the samples
    content[22:26] = bytes(4)
    Path(path).write_bytes(content)
