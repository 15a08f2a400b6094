"""Sources for the scripts that prepare data, small and quick to read, and what is made of them."""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from aimless.sources import MDX_SOURCES, SDX_SOURCES
from tests.conftest import synthesise_stem
from tests.helpers import REPOSITORY

SCRIPTS = REPOSITORY / "scripts"
if str(SCRIPTS) not in sys.path:  # as it is for a script that is run
    sys.path.append(str(SCRIPTS))

split, voiceless, dnr = (
    importlib.import_module(name)
    for name in ("dataset_split_and_mix", "musdb_to_voiceless", "convert_to_dnr")
)
#: What Python tells of each file that it opens, makes, renames or removes.
FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.listdir"}


def write_raw(root: Path, songs: int = 4, seconds: float = 0.3, **options: object) -> Path:
    """Raw songs of four stems, and what archives of other systems bring along."""
    for number in range(songs):
        write_stems(root / f"song {number}", seconds, seed=number, **options)
    for name in ("__MACOSX", ".hidden"):
        write_stems(root / name, seconds)
    (root / "empty").mkdir()
    (root / "readme.txt").write_text("about")
    return root


def write_stems(
    folder: Path,
    seconds: float = 0.3,
    seed: int = 0,
    gain: float = 1.0,
    suffix: str = ".wav",
    subtype: str = "PCM_16",
) -> Path:
    folder.mkdir(parents=True)
    for source in MDX_SOURCES:
        stem = gain * synthesise_stem(source, round(seconds * 44100), seed=seed)
        soundfile.write(folder / (source + suffix), stem.T, 44100, subtype=subtype)
    return folder


def write_collections(root: Path, formats: Sequence[str] = ("wav", "flac")) -> dict[str, Path]:
    """Music, effects and speech in files of several rates, lengths and channels, in folders."""
    roots = {kind: root / kind for kind in SDX_SOURCES}
    seconds = {"music": 4.0, "sfx": 0.3, "speech": 1.0}
    for kind, folder in roots.items():
        for number in range(6):
            rate, channels = (44100, 22050, 48000)[number % 3], 1 + number % 2
            frames = round(seconds[kind] * (1 + 0.3 * number) * rate)
            sound = synthesise_stem(kind, frames, rate, channels, number)
            place = folder / f"part {number % 3}"
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"{kind} {number}.{formats[number % len(formats)]}"
            soundfile.write(path, sound.T, rate)
    return roots


def dnr_words(roots: dict[str, Path], output: Path, *more: object) -> list[str]:
    """A small set: six mixes of three seconds with few segments."""
    words = [word for kind, root in roots.items() for word in (f"--{kind}", root)]
    counts = ("--music-count", 1, "--sfx-count", 2, "--speech-count", 1.5)
    size = ("--mixes", 6, "--seconds", 3, "--workers", 1)
    return list(map(str, (*words, output, *counts, *size, *more)))


def tree(root: Path) -> dict[str, str]:
    """All that is below a folder: what is in the files, where links lead."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def read(path: Path) -> np.ndarray:
    """Samples (channels, frames) in float64, which holds all encodings exactly."""
    return soundfile.read(path, dtype="float64", always_2d=True)[0].T


def in_child(
    work: Callable[[], int | None], seconds: float | None = None
) -> multiprocessing.process.BaseProcess:
    """Do it in a fork of this process, and kill that after a time, if one is given."""
    child = multiprocessing.get_context("fork").Process(target=_leave_with, args=(work,))
    child.start()
    child.join(seconds)
    if child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    return child


def _leave_with(work: Callable[[], int | None]) -> None:
    sys.exit(work() or 0)


def on_file_events(place: Path, act: Callable[[int], None]) -> None:
    """Call `act` with the number of each thing that is about to happen to a file below `place`.

    A hook cannot be taken away again: for children only.
    """
    count = 0

    def hook(event: str, values: tuple) -> None:
        nonlocal count
        path = values[0] if event in FILE_EVENTS and values else None
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(str(place)):
            count += 1
            act(count)

    sys.addaudithook(hook)
