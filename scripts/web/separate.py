"""The worker process: separates one song after the other, with the network kept in memory.

It reads a line of JSON for each job and answers with lines: what it does, seconds done, and in
the end the result or what went wrong. A job stops when a file `stop` appears in its folder, which
is looked at after each segment.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import soundfile

from aimless.errors import AimlessError, DataError
from aimless.memory import keep_freed_memory
from aimless.network import AudioNetwork
from aimless.separator import Separator
from web.child import keep_stdout
from web.files import MIXTURE, PREVIEW, STEMS, STOP
from web.preview import make_preview

__all__ = ["Worker", "main"]


class Stopped(Exception):
    """Nobody waits for the job any more."""


class Worker:
    """Keeps the network that was used last, and runs jobs with it.

    Args:
        device: see `aimless.Separator`.
        server: where it reads what is said here.
    """

    def __init__(self, device: str, server: TextIO) -> None:
        self.device, self.server = device, server
        self._parent = os.getppid()
        self._model: str | None = None
        self._network: AudioNetwork | None = None

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Separate a song.

        Args:
            job: `song`, a WAV file; `folder` for what is made of it; `model`; `start` and
                `seconds` of the excerpt, None for the whole; `settings` of `aimless.Separator`.

        Returns:
            `stems`, `rate`, `channels`, `frames`, and `preview`; see `web.preview`.

        Raises:
            AimlessError: the model cannot be loaded, a setting is wrong, or the song is damaged.
            Stopped: the folder says so.
        """
        folder = Path(job["folder"])
        self.say(state="loading")
        separator = Separator(self._load(job["model"]), device=self.device, **job["settings"])
        mixture = _cut(Path(job["song"]), folder / MIXTURE, job["start"], job["seconds"])
        self._check(folder)

        def report(song: Path, done: float, total: float) -> None:
            self._check(folder)
            self.say(state="separating", done=done, total=total)

        self.say(state="separating", done=0.0, total=soundfile.info(mixture).duration)
        files = separator.separate_files(
            mixture, folder / STEMS, template="{stem}", progress=report
        )
        stems = files[mixture]
        self.say(state="drawing")
        (folder / PREVIEW).mkdir()
        tracks = {"mixture": mixture, **stems}
        preview = make_preview(tracks, folder / PREVIEW, lambda: self._check(folder))
        info = soundfile.info(mixture)
        return {
            "stems": list(stems),
            "rate": info.samplerate,
            "channels": info.channels,
            "frames": info.frames,
            "preview": preview,
        }

    def say(self, **words: Any) -> None:
        """One line to the server."""
        print(json.dumps(words), file=self.server, flush=True)

    def _load(self, model: str) -> AudioNetwork:
        from aimless.checkpoint import load

        if self._network is None or model != self._model:
            self._network = None  # before another one needs its memory
            try:
                self._network, self._model = load(model), model
            except AimlessError as error:
                print(f"model left out: {error}", file=sys.stderr)  # with a path of the server
                raise DataError("The model cannot be loaded now. Choose another one.") from error
        return self._network

    def _check(self, folder: Path) -> None:
        if os.getppid() != self._parent:
            raise SystemExit("the server is gone")
        if not folder.is_dir() or (folder / STOP).exists():
            raise Stopped


def _cut(source: Path, target: Path, start: float, seconds: float | None) -> Path:
    """The excerpt as a file of its own; the whole song under another name."""
    if seconds is None:
        os.link(source, target)
        return target
    info = soundfile.info(source)
    first = round(start * info.samplerate)
    frames = min(round(seconds * info.samplerate), info.frames - first)
    if frames < 1:
        raise DataError(f"The excerpt begins at {start:g} s, after the song's end.")
    with soundfile.SoundFile(source) as file:
        file.seek(first)
        with soundfile.SoundFile(
            target, "w", info.samplerate, info.channels, format=info.format, subtype=info.subtype
        ) as cut:
            for block in file.blocks(1 << 18, frames=frames, dtype="float32", always_2d=True):
                cut.write(block)
    return target


def main() -> None:
    """Run jobs until the server closes the pipe."""
    worker = Worker(sys.argv[1], keep_stdout())
    keep_freed_memory()
    worker.say(state="ready")
    for line in sys.stdin:
        job = json.loads(line)
        try:
            worker.say(state="done", result=worker.run(job))
        except Stopped:
            worker.say(state="stopped")
        except AimlessError as error:
            worker.say(state="failed", error=str(error).replace(job["folder"] + "/", ""))
        except Exception:  # a fault of ours: the next job has a right to a worker all the same
            traceback.print_exc()
            worker.say(
                state="failed", error="The song could not be separated: a fault of the server."
            )


if __name__ == "__main__":
    main()
