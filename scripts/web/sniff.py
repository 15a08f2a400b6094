"""What a file is, by its first bytes; its name is the visitor's and says nothing."""

from __future__ import annotations

from pathlib import Path

from aimless.errors import DataError

__all__ = ["KINDS", "sniff"]

#: Kinds of files that are taken, as a visitor calls them.
KINDS = ("WAV", "FLAC", "MP3", "OGG", "M4A")


def sniff(path: Path) -> str:
    """The kind of an audio file.

    Returns:
        One of `KINDS`.

    Raises:
        DataError: it is empty or nothing that is taken.
    """
    with open(path, "rb") as file:
        head = file.read(16)
    if not head:
        raise DataError("The file is empty (0 bytes).")
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"fLaC":
        return "FLAC"
    if head[:4] == b"OggS":
        return "OGG"
    if head[4:8] == b"ftyp":
        return "M4A"
    if head[:3] == b"ID3" or _is_mpeg_frame(head):
        return "MP3"
    raise DataError(f"This is no audio file that can be read here: {', '.join(KINDS)} only.")


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether a frame of MPEG-1, -2 or -2.5 Layer III begins here, by the bits of its header."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bitrate not in (0, 15) and rate != 3
