"""Child process: an uploaded file of any kind becomes a WAV file of 32-bit floats.

Limits hold for what is decoded, not for what a header claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from aimless.errors import DataError
from aimless.songs.sound_stream import SoundStream, told_frames
from aimless.songs.stem_format import StemFormat
from web.child import answer
from web.sniff import sniff

__all__ = ["work"]

_BLOCK = 1 << 16
_CHANNELS, _RATES = 8, (4000, 384_000)
#: Samples further from zero than this are taken for damage.
_LARGEST = 1e10
_Block = NDArray[np.float32]


def work(source: str, target: str, max_seconds: float, max_bytes: int) -> dict[str, Any]:
    """Decode a file.

    Args:
        source: the file; its name is not looked at.
        target: WAV file to write.
        max_seconds: of audio.
        max_bytes: of decoded samples.

    Returns:
        `kind`, `rate` in Hz, `channels`, `frames`.

    Raises:
        DataError: nothing that is read here, damaged, or beyond a limit.
    """
    path = Path(source)
    kind = sniff(path)
    rate, channels, claimed, blocks = _open(path)
    if not (1 <= channels <= _CHANNELS and _RATES[0] <= rate <= _RATES[1]):
        raise DataError(
            f"The file has {channels} channels at {rate} Hz; up to {_CHANNELS} channels and "
            f"{_RATES[0]} to {_RATES[1]} Hz are taken."
        )
    longest = min(int(max_seconds * rate), max_bytes // (4 * channels))
    if claimed > longest:  # what it claims is not believed, but saves the work
        raise DataError(_too_long(longest / rate))
    frames = 0
    arguments = StemFormat().sound_file(rate, channels, longest)
    with soundfile.SoundFile(target, "w", **arguments) as file:
        for block in blocks:
            frames += len(block)
            if frames > longest:
                raise DataError(_too_long(longest / rate))
            _check(block, frames, rate)
            file.write(block)
    if not frames:
        raise DataError("The file holds no sound.")
    return {"kind": kind, "rate": rate, "channels": channels, "frames": frames}


def _too_long(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return (
        f"The song is too long: at its rate and channels, {minutes} min {rest} s are taken. "
        "Cut it, and come back."
    )


def _check(block: _Block, frames: int, rate: int) -> None:
    if not (np.abs(block) <= _LARGEST).all():
        second = (frames - len(block)) / rate
        raise DataError(f"The file is damaged: numbers that are no sound after {second:.1f} s.")


def _open(path: Path) -> tuple[int, int, int, Iterator[_Block]]:
    """Rate, channels, frames as far as the header tells (or 0), and blocks (n, channels)."""
    try:
        with soundfile.SoundFile(path) as file:
            return file.samplerate, file.channels, told_frames(file), _sound_blocks(path)
    except soundfile.LibsndfileError:
        return _open_with_av(path)


def _sound_blocks(path: Path) -> Iterator[_Block]:
    try:
        with SoundStream(path) as file:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                yield block
    except soundfile.LibsndfileError:
        raise DataError("The file is damaged: it cannot be read to its end.") from None


def _open_with_av(path: Path) -> tuple[int, int, int, Iterator[_Block]]:
    from aimless.songs import av_song  # only formats that libsndfile does not know need FFmpeg

    rate, channels, frames = av_song.read_header(path, "The file", "")
    return rate, channels, frames, (block.T for block in av_song.blocks(path, "The file"))


if __name__ == "__main__":
    answer(work)
