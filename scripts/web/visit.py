"""One visitor: a song, the job that splits it, and what came out."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aimless.errors import ConfigError, DataError
from aimless.songs.stem_format import StemFormat
from web.child import Children
from web.downloads import Downloads
from web.files import MIXTURE, PREVIEW, STEMS
from web.jobs import Job, Queue
from web.options import Limits
from web.sniff import sniff
from web.workplace import Workplace

__all__ = ["FORMATS", "Song", "Take", "Visit", "write"]

#: How often a song may be gone through: more would keep all others waiting for hours.
_MOST_WORK = 10

#: Key in addresses -> (what the page calls it, format, bits).
FORMATS: Mapping[str, tuple[str, str, str | None]] = {
    "wav-float": ("WAV, 32-bit float", "wav", "float"),
    "wav-24": ("WAV, 24-bit", "wav", "24"),
    "wav-16": ("WAV, 16-bit", "wav", "16"),
    "flac": ("FLAC, 24-bit", "flac", "24"),
    "mp3": ("MP3", "mp3", None),
}


@dataclass(frozen=True)
class Song:
    """A song that was decoded.

    Args:
        name: the visitor's; only to be shown.
        path: WAV file.
        kind: of file that it came as.
        rate: in Hz.
        channels: of the song.
        frames: per channel.
    """

    name: str
    path: Path
    kind: str
    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """Length."""
        return self.frames / self.rate


@dataclass(frozen=True)
class Take:
    """What came out of a separation.

    Args:
        folder: with its files.
        name: of the song.
        stems: names, in order.
        rate: in Hz.
        channels: of each stem.
        frames: per channel.
        preview: see `web.preview`.
    """

    folder: Path
    name: str
    stems: tuple[str, ...]
    rate: int
    channels: int
    frames: int
    preview: Mapping[str, Any]

    def track(self, index: int) -> Path:
        """The mixture (0) and the stems (from 1) as WAV files.

        Raises:
            IndexError: there is no such track.
        """
        if not 0 <= index <= len(self.stems):
            raise IndexError(index)
        return self.folder / (STEMS + f"/{self.stems[index - 1]}.wav" if index else MIXTURE)

    @property
    def preview_folder(self) -> Path:
        """Where pieces of sound and pictures are."""
        return self.folder / PREVIEW

    def formats(self) -> dict[str, str]:
        """Key -> name of the formats that can hold it."""
        fitting = {}
        for key, (name, form, bits) in FORMATS.items():
            try:
                StemFormat(form, bits).sound_file(self.rate, self.channels, self.frames)
            except ConfigError:
                continue
            fitting[key] = name
        return fitting


class Visit:
    """What one visitor has here. Its address is a secret that only the visitor's page knows.

    Args:
        workplace: where its files go.
        queue: that its jobs go to.
        decoders: processes for its songs.
        limits: for its songs.
        alive: whether the page is open.
        left: called in the end.
    """

    def __init__(
        self,
        workplace: Workplace,
        queue: Queue,
        decoders: Children,
        limits: Limits,
        alive: Callable[[], bool],
        left: Callable[[], None],
    ) -> None:
        self.workplace, self.queue, self.decoders = workplace, queue, decoders
        self.limits, self.alive, self._left = limits, alive, left
        self.downloads = Downloads()
        self.token = secrets.token_urlsafe(24)
        self.folder = workplace.new_folder()
        self.seen = time.monotonic()
        self.song: Song | None = None
        self.job: Job | None = None
        self.take: Take | None = None

    def receive(self, name: str, file: BinaryIO) -> Song:
        """Keep a song in the place of the one before.

        Args:
            name: of the file, to be shown.
            file: its bytes.

        Raises:
            DataError: it is no song that is taken, or there is no room.
        """
        self.workplace.check_space()
        upload = self.folder / f"{uuid.uuid4().hex}.upload"
        try:
            write(file, upload)
            return self.open(name, upload)
        except OSError as error:
            sys.stderr.write(f"a song cannot be kept: {error}\n")
            raise DataError("The server has no room for a song just now.") from None
        finally:
            upload.unlink(missing_ok=True)

    def open(self, name: str, path: Path) -> Song:
        """Like `receive`, for a file that is here already."""
        self.forget_song()
        sniff(path)  # most of what is no song needs no process to be found out
        target = self.folder / f"{uuid.uuid4().hex}.wav"
        request = {
            "source": str(path),
            "target": str(target),
            "max_seconds": self.limits.seconds,
            "max_bytes": self.limits.pcm_bytes,
        }
        try:
            info = self.decoders.run("decode", request, self.limits.pcm_bytes + (1 << 20))
        except DataError:
            target.unlink(missing_ok=True)
            raise
        self.song = Song(name, target, **info)
        return self.song

    def split(
        self,
        model: str,
        settings: Mapping[str, Any],
        start: float = 0.0,
        seconds: float | None = None,
    ) -> Job:
        """Queue the song; what came out before is removed.

        Args:
            model: what `aimless.checkpoint.load` takes.
            settings: of `aimless.Separator`.
            start: of the excerpt, in seconds.
            seconds: of the excerpt; None for the whole song.

        Raises:
            web.jobs.Busy: too many wait.
            ConfigError: it would take too long.
            DataError: there is no song, or no room.
        """
        if self.song is None:
            raise DataError("There is no song yet.")
        _check_work(settings.get("overlap") or 0.0, settings.get("shifts", 1))
        self.workplace.check_space()
        job = self.queue.submit(
            self.folder,
            song=str(self.song.path),
            model=model,
            settings=dict(settings),
            start=start,
            seconds=seconds,
        )
        self.forget_take()
        self.job = job
        return job

    def collect(self) -> Take | None:
        """What the job made, once it is done; the job is then forgotten."""
        if self.job is not None and self.job.state == "done" and self.song is not None:
            result = {**self.job.result, "stems": tuple(self.job.result["stems"])}
            self.take = Take(self.job.folder, self.song.name, **result)
            self.job = None
        return self.take

    def stop(self) -> None:
        """Let the job end."""
        if self.job is not None:
            self.queue.stop(self.job)
            self.job = None

    def forget_take(self) -> None:
        """Remove the stems."""
        if self.take is not None:
            shutil.rmtree(self.take.folder, ignore_errors=True)
            self.take = None

    def forget_song(self) -> None:
        """Remove the song and all that was made of it."""
        self.stop()
        self.forget_take()
        if self.song is not None:
            self.song.path.unlink(missing_ok=True)
            self.song = None

    def close(self) -> None:
        """Remove everything."""
        try:
            self.stop()
            self._left()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _check_work(overlap: float, passes: int) -> None:
    if passes > _MOST_WORK * (1 - overlap) + 1e-6:  # 0.9 is not quite 9 / 10
        raise ConfigError(
            f"Overlap of segments {overlap:g} with {passes} passes takes too long here: "
            "make one of the two smaller."
        )


def write(file: BinaryIO, path: Path) -> None:
    """All bytes of an upload, on disk when this returns."""
    with open(path, "wb") as target:
        shutil.copyfileobj(file, target, 1 << 20)
