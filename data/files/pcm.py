"""Uncompressed samples as they lie in a file, to float32 channels of full scale ±1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["sample_bytes", "to_float", "unpack"]

# By libsndfile's word for the encoding: bytes per sample, and how NumPy names them.
_ENCODINGS = {
    "PCM_U8": (1, "u1"),
    "PCM_16": (2, "<i2"),
    "PCM_24": (3, "<i4"),  # as the upper three bytes
    "PCM_32": (4, "<i4"),
    "FLOAT": (4, "<f4"),
    "DOUBLE": (8, "<f8"),
}
_SCALES = {1: 2.0**-7, 2: 2.0**-15, 4: 2.0**-31}  # by bytes of an integer


def sample_bytes(subtype: str) -> int | None:
    """Bytes that a sample takes in a WAV file; None for an encoding that is not plain numbers."""
    return _ENCODINGS[subtype][0] if subtype in _ENCODINGS else None


def unpack(raw: NDArray[np.uint8], subtype: str, channels: int) -> NDArray[Any]:
    """Bytes of a WAV file as numbers (frames, channels); a view of them, but for 24 bits."""
    width, dtype = _ENCODINGS[subtype]
    if width == 3:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = raw.reshape(-1, 3)
        raw = padded.reshape(-1)
    return raw.view(dtype).reshape(-1, channels)


def to_float(block: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Convert a block of samples, exactly wherever float32 can.

    Args:
        block: (frames, channels); unsigned bytes, int16, int32 or floats. Quickest if it is
            so short that it stays in the processor's cache.
        out: (channels, frames) of any strides.
    """
    if block.dtype == np.int16 and block.shape[1] == 2 and block.flags.c_contiguous:
        _split_pairs(block, out)
    elif block.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a float64 out of range becomes infinite, and is found
            np.copyto(out, block.T, casting="same_kind")
    else:
        out[...] = block.T
        if block.dtype.kind == "u":
            out -= 128
        out *= np.float32(_SCALES[block.dtype.itemsize])


def _split_pairs(block: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    """Channels of 16-bit stereo, nearly twice as quick as by strides.

    A frame is one int32: shifted or masked, either sample stands in the upper half alone, which
    float32 holds exactly. All loops run over neighbours in memory, so that they vectorise.
    """
    frames = block.reshape(-1).view(np.int32)
    first, second = out if np.little_endian else out[::-1]
    scale = np.float32(_SCALES[4])
    first[...] = np.left_shift(frames, 16)
    first *= scale
    second[...] = np.bitwise_and(frames, -65536)
    second *= scale
