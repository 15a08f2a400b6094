"""A song to separate, block by block: from a file of any format, or from memory.

WAV, FLAC, Ogg, MP3, AIFF and what else libsndfile reads goes through it; the rest (M4A, WebM,
video files) through FFmpeg. The delay that an encoder adds is removed where the file tells it:
MP3 with a LAME header, Ogg, and MP4 with an edit list; a bare AAC stream starts 1024 samples late.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimless.errors import DataError
from aimless.songs.audio_paths import printable
from aimless.songs.sound_stream import SoundStream, told_frames

__all__ = ["MAX_CHANNELS", "RATES", "Song"]

logger = logging.getLogger(__name__)

MAX_CHANNELS = 8
#: Lowest and highest sample rate in Hz.
RATES = (4000, 384_000)
#: Samples further from zero than this are taken for damage: their energy leaves float32.
_LARGEST = 1e10
_BLOCK = 1 << 16
# What libsndfile notes of a chunk that is longer than the file; from 2 GiB on the size stands for
# "unknown" in files that were written to a pipe.
_CUT = re.compile(r"(?:data|SSND) *: (\d{1,10}) \(should be (\d+)\)")

#: (channels, samples) float32
_Block = NDArray[np.float32]


class Song:
    """Audio that can be read once or more, in blocks; see `open` and `from_array`.

    Args:
        name: for messages.
        rate: in Hz, from 4000 to 384 000.
        channels: from 1 to 8.
        frames: samples per channel as far as they are known before reading; compressed files
            may hold more or fewer.
        read: starts reading: blocks (channels, n).
        fix_nonfinite: put 0 in the place of samples that are NaN, infinite or beyond 1e10, and
            say how many; otherwise they are an error.

    Raises:
        DataError: rate or channels out of range.
    """

    def __init__(
        self,
        name: str,
        rate: int,
        channels: int,
        frames: int,
        read: Callable[[], Iterator[_Block]],
        fix_nonfinite: bool = False,
    ) -> None:
        if not 1 <= channels <= MAX_CHANNELS:
            raise DataError(f"{name}: {channels} channels; must be 1 to {MAX_CHANNELS}")
        if not RATES[0] <= rate <= RATES[1]:
            raise DataError(f"{name}: {rate} Hz; must be {RATES[0]} to {RATES[1]} Hz")
        self.name, self.rate, self.channels, self.frames = name, rate, channels, frames
        self.fix_nonfinite = fix_nonfinite
        self._read = read

    @classmethod
    def open(cls, path: str | os.PathLike[str], fix_nonfinite: bool = False) -> Song:
        """Look at the header of a file; it is opened again for each reading.

        Raises:
            DataError: missing, unreadable, no audio, empty, or rate or channels out of range.
        """
        path = Path(path)
        name = printable(path)
        _check_file(path, name)
        try:
            with soundfile.SoundFile(_native(path)) as file:
                rate, channels, frames = file.samplerate, file.channels, told_frames(file)
                empty = file.frames == 0
                _warn_if_cut(name, file.extra_info)
        except soundfile.LibsndfileError as error:
            return _open_with_av(path, name, _reason(error), fix_nonfinite)
        if empty:
            raise DataError(f"{name}: holds no audio (0 frames)")
        return cls(name, rate, channels, frames, lambda: _sound_blocks(path, name), fix_nonfinite)

    @classmethod
    def from_array(
        cls,
        audio: Tensor | NDArray,
        rate: int,
        fix_nonfinite: bool = False,
        name: str = "audio",
    ) -> Song:
        """A song in memory.

        Args:
            audio: (channels, samples) or, mono, (samples,), not empty; integers are scaled to ±1.
            rate: in Hz.
            fix_nonfinite: see the class.
            name: for messages.

        Raises:
            DataError: another shape, empty, or rate or channels out of range.
        """
        samples = torch.as_tensor(audio).detach()
        if samples.ndim == 1:
            samples = samples[None]
        if samples.ndim != 2 or 0 in samples.shape:
            raise DataError(
                f"{name} of shape {tuple(samples.shape)}; needs (channels, samples), not empty"
            )
        scale = 1.0
        if not samples.is_floating_point():
            scale = 1 / (torch.iinfo(samples.dtype).max + 1)

        def read() -> Iterator[_Block]:
            for block in samples.split(_BLOCK, dim=-1):
                yield (block.to("cpu", torch.float32) * scale).numpy()

        channels, frames = samples.shape
        return cls(name, int(rate), channels, frames, read, fix_nonfinite)

    @property
    def seconds(self) -> float:
        """Length as far as it is known before reading."""
        return self.frames / self.rate

    def blocks(self) -> Iterator[Tensor]:
        """Read it, from the beginning.

        Yields:
            (channels, n) float32, n at least 1; full scale is ±1 and nothing is clipped.

        Raises:
            DataError: a sample is not finite, or the file is damaged or holds no sample.
        """
        done = fixed = 0
        for block in self._read():
            bad = ~(np.abs(block) <= _LARGEST)
            if bad.any():
                if not self.fix_nonfinite:
                    raise DataError(f"{self.name}: {self._describe(block, bad, done)}")
                block = np.where(bad, np.float32(0), block)
                fixed += int(bad.sum())
            done += block.shape[-1]
            yield torch.from_numpy(block)
        if not done:
            raise DataError(f"{self.name}: holds no audio (0 frames)")
        if fixed:
            logger.warning("%s: %d samples that were not finite are now 0", self.name, fixed)

    def _describe(self, block: _Block, bad: NDArray[np.bool_], done: int) -> str:
        first = int(np.argmax(bad.any(0)))
        channel = int(np.argmax(bad[:, first]))
        frame = done + first
        return (
            f"frame {frame} ({frame / self.rate:.3f} s), channel {channel + 1} is "
            f"{block[channel, first]:g}; samples must be finite and below {_LARGEST:g} "
            "(fix_nonfinite replaces them by 0)"
        )


def _check_file(path: Path, name: str) -> None:
    """What the operating system has to say against the file."""
    if path.is_dir():
        raise DataError(f"{name}: is a folder")
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise DataError(f"{name}: empty file (0 bytes)")
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            reason = "link to nowhere" if path.is_symlink() else "no such file"
        raise DataError(f"{name}: {reason}") from None


def _native(path: Path) -> str | bytes:
    # soundfile encodes text strictly, so that names which are not UTF-8 need to go as bytes
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(".: ") or "damaged"


def _warn_if_cut(name: str, log: str) -> None:
    """Libsndfile shortens a WAV or AIFF file that was cut off, and only notes it."""
    match = _CUT.search(log)
    if match and int(match[2]) < int(match[1]) < 1 << 31:
        logger.warning(
            "%s: cut off: the header promises %s bytes of audio, %s are there",
            *(name, match[1], match[2]),
        )


def _sound_blocks(path: Path, name: str) -> Iterator[_Block]:
    done = 0
    with SoundStream(_native(path)) as file:
        while True:
            try:
                block = file.read(_BLOCK, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                seconds = done / file.samplerate
                raise DataError(
                    f"{name}: cut off or damaged after {seconds:.1f} s ({_reason(error)})"
                ) from None
            if not len(block):
                break
            done += len(block)
            yield np.ascontiguousarray(block.T)
        if done < told_frames(file):
            logger.warning(
                "%s: cut off: the header promises %d frames, %d are there",
                *(name, file.frames, done),
            )


def _open_with_av(path: Path, name: str, reason: str, fix_nonfinite: bool) -> Song:
    """A song that FFmpeg decodes; `reason` is why libsndfile did not."""
    from aimless.songs import av_song  # only formats that libsndfile does not know need FFmpeg

    header = av_song.read_header(path, name, reason)
    return Song(name, *header, lambda: av_song.blocks(path, name), fix_nonfinite)
