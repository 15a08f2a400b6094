"""Speech and noise: reading parts at another rate, making items, and the listing of many files.

The reference for parts reads and resamples the whole file and cuts the part out. The data set is
made in a temporary folder: recordings of 20 s at 48 kHz, and many tiny ones for the listing.

    PYTHONPATH=. python benchmarks/speech.py
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
from turns import in_turns, options, report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data import audio
from data.dataset.speech import SpeechNoiseDataset
from data.files.resampling import read_at
from data.listing import recordings
from data.listing.recordings import FileRules

RATE, FILE_RATE, SECONDS, SEGMENT = 44100, 48000, 20, 6
FILES = 20000


def main() -> None:
    """Time parts and items in turns, then the listing without and with what is remembered."""
    parsed = options(__doc__, repeats=20)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIMLESS_CACHE"] = str(Path(folder) / "cache")
        time_parts(Path(folder), parsed.repeats, parsed.threads)
        time_listing(Path(folder) / "many")


def time_parts(folder: Path, repeats: int, threads: int) -> None:
    """A part of a file, and a whole item of speech and noise."""
    files = []
    for name in ("speech", "noise"):
        samples = 0.1 * np.random.default_rng(0).standard_normal(SECONDS * FILE_RATE)
        soundfile.write(folder / f"{name}.wav", samples, FILE_RATE)
        files.append(audio.info(folder / f"{name}.wav"))
    start, frames = 10 * RATE, SEGMENT * RATE
    dataset = SpeechNoiseDataset(files[:1], files[1:], RATE, SEGMENT, 1000)

    def whole() -> np.ndarray:
        samples, rate = soundfile.read(files[0], dtype="float32")
        return soxr.resample(samples, rate, RATE)[start : start + frames]

    forms = {
        "whole file": whole,
        "part": lambda: read_at(files[0], start, frames, RATE),
        "item": lambda: dataset[0],
    }
    title = f"{SEGMENT} s at {RATE} Hz out of {SECONDS} s at {FILE_RATE} Hz"
    report(title, threads, in_turns(forms, repeats), "whole file")


def time_listing(folder: Path) -> None:
    """Check many files twice."""
    samples = np.zeros(64)
    for number in range(FILES):
        speaker = folder / f"p{number // 400}"
        speaker.mkdir(parents=True, exist_ok=True)
        soundfile.write(speaker / f"{number}.wav", samples, FILE_RATE)
    for state in ("first", "second"):
        began = time.perf_counter()
        found = recordings.check(folder, recordings.find(folder), FileRules())
        seconds = time.perf_counter() - began
        print(f"{state} listing of {len(found)} files: {seconds:.2f} s")


if __name__ == "__main__":
    main()
