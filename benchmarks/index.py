"""Start of a run on a large data set: the first scan of its files, and every later one.

Makes tracks of five tiny WAV files in a temporary folder, with a cache of its own, and removes
both. "First scan" opens every file; "listing" is the floor of a later one: the names and times of
all files, from the system alone. Files and folders are in the page cache.

    PYTHONPATH=. python benchmarks/index.py --tracks 10000
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from aimless.sources import MDX_SOURCES
from data import tracks
from data.tracks import Rules

RULES = Rules(MDX_SOURCES)


def make(root: Path, count: int) -> None:
    """Tracks with a stereo file of 10 ms for each name."""
    first = root / "0"
    first.mkdir(parents=True)
    soundfile.write(first / "mixture.wav", np.zeros((441, 2)), 44100, subtype="PCM_16")
    content = (first / "mixture.wav").read_bytes()
    for number in range(count):
        folder = root / str(number)
        folder.mkdir(exist_ok=True)
        for name in RULES.files:
            (folder / f"{name}.wav").write_bytes(content)


def list_only(root: Path) -> int:
    """Count the files, and ask the system for size and time of each."""
    with os.scandir(root) as folders:
        paths = [folder.path for folder in folders]
    return sum(entry.stat().st_mtime_ns > 0 for path in paths for entry in os.scandir(path))


def seconds(call: Callable[[], object]) -> float:
    """Wall clock of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Print the times, medians in turns where a thing can be done again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="aimless-index-"))
    os.environ["AIMLESS_CACHE"] = str(work / "cache")
    try:
        root = work / "train"
        make(root, options.tracks)
        first = seconds(lambda: tracks.scan(root, RULES))
        forms = {
            "without the cache": lambda: tracks.scan(root, RULES, cache=False),
            "later scan": lambda: tracks.scan(root, RULES),
            "listing": lambda: list_only(root),
        }
        times: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(options.repeats):
            for name, call in forms.items():
                times[name].append(seconds(call))
        print(f"{options.tracks} tracks, {list_only(root)} files: first scan {first:.2f} s")
        for name, values in times.items():
            print(f"{name}: {statistics.median(values):.2f} s")
        size = sum(path.stat().st_size for path in (work / "cache").rglob("*.gz"))
        print(f"cache: {size / 1e6:.1f} MB")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
