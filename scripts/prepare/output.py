"""The folder that a data set is written into, and the plan of what is to be in it.

The plan is made and written before anything else, so that a run that was stopped goes on with the
same one. Each track, a folder or a file, is made under a temporary name beside its place and
renamed when it is whole and on the disk: what has its name is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aimless.errors import ConfigError, DataError
from aimless.songs.audio_paths import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Output", "making", "to_json", "write_file"]

PLAN = "plan.json"
_TEMPORARY = re.compile(r"\.prepare-[0-9a-f]{16}\.part")


class Output:
    """A data set that is being written, by one process at a time.

    Args:
        root: its folder; made when something is written.
        folders: that hold its tracks, relative to `root`, `.` for the root itself.
        sources: what it is made from.

    Raises:
        ConfigError: `root` is one of the sources, or in one.
    """

    def __init__(self, root: Path, folders: Iterable[str], sources: Iterable[Path]) -> None:
        self.root, self.folders = root, [root / folder for folder in folders]
        real = Path(os.path.realpath(root))
        for source in sources:
            if real.is_relative_to(os.path.realpath(source)):
                raise ConfigError(
                    f"{printable(root)}: lies in the source {printable(source)}, which is only "
                    "read; choose another folder"
                )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other runs out, and take away what a killed one left behind.

        Raises:
            ConfigError: another run writes into the folder.
            OSError: the folder cannot be made.
        """
        is_new = not self.root.exists()
        self.root.mkdir(parents=True, exist_ok=True)
        with _lock(self.root):
            self._clean()
            try:
                yield
            finally:
                self._clean()
                if is_new:
                    with contextlib.suppress(OSError):  # unless there is something in it
                        self.root.rmdir()

    def stored_plan(self, command: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The plan that an earlier run with these settings left; None if there is none.

        Raises:
            ConfigError: the folder holds something else, or was planned with other settings.
        """
        path = self.root / PLAN
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._refuse_strangers()
            return None
        except ValueError as error:
            raise ConfigError(f"{printable(path)}: not a plan: {error}") from None
        if not isinstance(plan, dict) or plan.get("command") != command:
            raise ConfigError(f"{printable(path)}: not a plan of {command}; choose another folder")
        planned = plan.get("settings", {})
        for name, value in settings.items():
            if planned.get(name) != value:
                raise ConfigError(
                    f"{name}: {value}, but what is in {printable(self.root)} was planned with "
                    f"{planned.get(name)}; choose another folder"
                )
        return plan

    def plan(
        self, command: str, settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The stored plan, or a new one, which is stored; and the folders of the tracks.

        Args:
            command: that makes the data set.
            settings: all that decides what is in it, as JSON holds them.
            make: makes the rest of the plan, which must depend on nothing else but the sources.

        Raises:
            ConfigError: see `stored_plan`.
            DataError: it cannot be written.
            OSError: the folders cannot be made.
        """
        plan = self.stored_plan(command, settings)
        if plan is None:
            plan = {"command": command, "settings": dict(settings), **make()}
            write_file(self.root / PLAN, to_json(plan))
        self.make_folders()
        return plan

    def make_folders(self) -> None:
        """Make the folders that hold tracks, those that are not there yet.

        Raises:
            OSError: a folder cannot be made.
        """
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)

    def _refuse_strangers(self) -> None:
        for folder in self.folders:
            if not folder.is_dir():
                continue
            for entry in sorted(os.listdir(folder)):
                path = folder / entry
                if path not in self.folders and not _TEMPORARY.fullmatch(entry):
                    raise ConfigError(
                        f"{printable(path)}: is there, but no {PLAN} that says from where; "
                        "choose another folder"
                    )

    def _clean(self) -> None:
        for folder in {self.root, *self.folders}:
            for entry in os.listdir(folder) if folder.is_dir() else ():
                if _TEMPORARY.fullmatch(entry):
                    _remove(folder / entry)


@contextlib.contextmanager
def making(path: Path) -> Iterator[Path]:
    """Make a file or a folder that is whole or not there.

    Yields:
        A temporary path beside `path`, free to be made a file or a folder.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".prepare-{secrets.token_hex(8)}.part")
    try:
        yield part
        _sync(part)
        os.rename(part, path)
        _sync_one(path.parent)  # before a caller removes what it was made of
    finally:
        _remove(part)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole.

    Raises:
        DataError: it cannot be written.
    """
    try:
        with making(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be written: {error.strerror}") from error


def to_json(content: object) -> bytes:
    """A JSON file; the same content gives the same bytes."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder; the kernel frees that of a dead process."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{printable(folder)}: another run writes into it") from None
        except OSError:  # some network file systems have no locks
            yield
            return
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder and the files in it, are on the disk."""
    for entry in [*(path.iterdir() if path.is_dir() else ()), path]:
        if not entry.is_symlink():
            _sync_one(entry)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Take a temporary file or folder away; a dying worker may add to it, so once more."""
    for _ in range(3):
        if not os.path.lexists(path):
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
