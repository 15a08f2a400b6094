"""Stems on disk: written block by block, and there under their names only when all are whole."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
import torch
from torch import Tensor

from aimless.errors import ConfigError, DataError
from aimless.songs.audio_paths import printable
from aimless.songs.stem_format import StemFormat

__all__ = ["StemFiles", "write_stems"]

logger = logging.getLogger(__name__)

_FLOAT = StemFormat()


class StemFiles:
    """Files of the stems of one song, a context manager.

    Blocks go into files under temporary names in the same folders. Leaving the context without
    an error renames them; an error or an interruption removes them, and folders made for them.

    Args:
        paths: name of the stem -> its file; folders are made as needed.
        rate: in Hz.
        channels: of each stem.
        frames: about how many there will be, to know whether they fit into a WAV file.
        format: of the files.
        overwrite: replace files that are there.

    Raises:
        ConfigError: a file is there already, or the format cannot hold the song.
        DataError: the files cannot be written.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        rate: int,
        channels: int,
        frames: int,
        format: StemFormat = _FLOAT,
        overwrite: bool = False,
    ) -> None:
        self.paths, self.format = dict(paths), format
        self.rate, self.channels, self.frames = rate, channels, frames
        self.peak = 0.0
        self._arguments = format.sound_file(rate, channels, frames)
        refuse_existing(self.paths.values(), overwrite)
        # for one common gain the whole song must be known: it is kept in float until then
        self._spools = format.clipping == "rescale"
        self._files: dict[Path, soundfile.SoundFile] = {}
        self._made: list[Path] = []

    def __enter__(self) -> StemFiles:
        arguments = self._float_arguments() if self._spools else self._arguments
        try:
            for path in self.paths.values():
                self._make_folder(path.parent)
                self._open(_temporary(path), arguments)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()  # after success only what was spooled is left

    def write(self, stems: Tensor) -> None:
        """Append a block.

        Shape:
            - stems: (stems, channels, n), in the order of `paths`

        Raises:
            DataError: it cannot be written.
        """
        self.peak = max(self.peak, float(stems.abs().max()))
        if self.format.clipping == "clamp":
            stems = stems.clamp(-1, 1)
        for path, stem in zip(self.paths.values(), stems):
            self._append(_temporary(path), stem.T.cpu().numpy())

    def _open(self, path: Path, arguments: Mapping[str, object]) -> None:
        with _one_line(path):
            path.unlink(missing_ok=True)
            path.touch()  # says why it cannot, which libsndfile does not
            self._files[path] = soundfile.SoundFile(os.fsencode(path), "w", **arguments)

    def _append(self, path: Path, samples: np.ndarray) -> None:
        # libsndfile crashes on long blocks of Vorbis
        with _one_line(path):
            for start in range(0, len(samples), self.rate):
                self._files[path].write(samples[start : start + self.rate])

    def _finish(self) -> None:
        """Complete all files, then rename them."""
        gain = self._gain()
        for path in self.paths.values():
            source = _temporary(path)
            with _one_line(source):
                self._files[source].close()
            if self._spools:
                self._encode(source, _encoded(path), gain)
        for path in self.paths.values():
            with _one_line(path):
                os.replace(_encoded(path) if self._spools else _temporary(path), path)
        self._made.clear()

    def _encode(self, source: Path, target: Path, gain: float) -> None:
        self._open(target, self._arguments)
        with soundfile.SoundFile(os.fsencode(source)) as file:
            for block in file.blocks(self.rate, dtype="float32", always_2d=True):
                self._append(target, block * np.float32(gain))
        with _one_line(target):
            self._files[target].close()
            source.unlink()

    def _gain(self) -> float:
        """The factor for all stems, and a word about the peak where it is beyond full scale."""
        if self.peak <= 1:
            return 1.0
        # the largest positive number of 16 bits is a little below 1
        gain = 32767 / 32768 / self.peak if self._spools else 1.0
        done = {
            "keep": "kept, as float samples may",
            "rescale": f"all stems scaled by {gain:.4f} ({20 * math.log10(gain):.2f} dB)",
            "clamp": "clipped to full scale",
        }
        logger.warning(
            "%s: stems reach a peak of %.3f (%+.2f dBFS): %s",
            *(_common_folder(self.paths.values()), self.peak, 20 * math.log10(self.peak)),
            done[self.format.clipping],
        )
        return gain

    def _float_arguments(self) -> dict[str, object]:
        return StemFormat().sound_file(self.rate, self.channels, self.frames)

    def _make_folder(self, folder: Path) -> None:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        with _one_line(folder):
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
                self._made.append(path)

    def _discard(self) -> None:
        for path, file in self._files.items():
            with contextlib.suppress(soundfile.SoundFileError):
                file.close()
            path.unlink(missing_ok=True)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # something else is in it by now
                folder.rmdir()


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse to replace files, unless it is wanted.

    Raises:
        ConfigError: names the files that are there.
    """
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        names = ", ".join(printable(path.name) for path in there)
        folder = _common_folder(there)
        raise ConfigError(f"{folder} already holds {names}; choose another folder, or overwrite")


def write_stems(folder: Path, stems: Mapping[str, Tensor], rate: int) -> list[Path]:
    """Write one 32-bit float WAV per stem, so that nothing clips, over what is there.

    Args:
        folder: made if missing.
        stems: name -> (channels, samples), all of one shape.
        rate: in Hz.

    Returns:
        The paths, `folder/<name>.wav`.

    Raises:
        DataError: the folder cannot be written to.
    """
    paths = {name: folder / f"{name}.wav" for name in stems}
    block = torch.stack([stem.detach().cpu().float() for stem in stems.values()])
    _, channels, frames = block.shape
    with StemFiles(paths, rate, channels, frames, overwrite=True) as files:
        files.write(block)
    return list(paths.values())


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _encoded(path: Path) -> Path:
    return path.with_name(f".{path.name}.encoded.part")


def _common_folder(paths: Iterable[Path]) -> str:
    return printable(os.path.commonpath([path.parent for path in paths]))


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What goes wrong in writing, as a DataError that says why."""
    folder = printable(path.parent)
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{folder}: stems cannot be written: {reason}") from error
    except soundfile.SoundFileError as error:
        reason = _system_reason(path) or getattr(error, "error_string", str(error)).rstrip(".")
        raise DataError(f"{folder}: stems cannot be written: {reason}") from error


def _system_reason(path: Path) -> str | None:
    """Why nothing can be appended to a file; libsndfile only says "System error"."""
    try:
        with open(path, "ab") as file:
            file.write(bytes(1 << 16))
    except OSError as error:
        return error.strerror
    return None
