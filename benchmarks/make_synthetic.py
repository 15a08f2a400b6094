"""How quickly the generator of synthetic data makes songs and scenes, on one core.

Seconds of sound per second, from the draw of the notes to the files of all stems and the mixture,
16 bits at 44.1 kHz, in seconds of processor time, which a busy machine lengthens less than those of
the clock. The parts of the work are shown beside it. With --plain without sound font.

    PYTHONPATH=.:scripts OMP_NUM_THREADS=1 python benchmarks/make_synthetic.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from synthetic import mixing
from synthetic.layouts import LAYOUTS, Track
from synthetic.production import make_track
from synthetic.rendering import Sounds, render
from synthetic.song import Song, compose
from synthetic.soundfont import find_font
from synthetic.speech import describe_espeak, find_espeak

from aimless.memory import keep_freed_memory

RATE = 44100


def timed(call: Callable[[], object]) -> float:
    """Seconds of processor time."""
    began = time.process_time()
    call()
    return time.process_time() - began


def whole(layout: str, count: int, seconds: float, sounds: Sounds) -> list[float]:
    """Seconds of processor time for each track, after one that warms up."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "tracks").mkdir()
        return [
            timed(
                lambda number=number: make_track(
                    Track(f"tracks/{number}", ("benchmark", number), seconds),
                    LAYOUTS[layout],
                    root,
                    sounds,
                )
            )
            for number in range(count + 1)
        ][1:]


def play(songs: list[Song], sounds: Sounds) -> None:
    """Instruments and voices alone."""
    for song in songs:
        for part in song.parts:
            render(song, part, sounds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tracks", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    font, described = (None, "plain synthesiser") if options.plain else find_font(None)
    espeak = None if options.plain else find_espeak()
    sounds = Sounds(font, espeak, RATE)
    print(f"{described}; {describe_espeak(espeak)}; tracks of {options.seconds:g} s")
    print("| | seconds of sound per second, median | slowest | all together |")
    print("| --- | --- | --- | --- |")
    for layout in ("musdb", "dnr"):
        took = whole(layout, options.tracks, options.seconds, sounds)
        paces = [options.seconds / seconds for seconds in took]
        total = options.tracks * options.seconds / sum(took)
        print(f"| {layout} | {statistics.median(paces):.0f} | {min(paces):.0f} | {total:.0f} |")
    songs = [compose(options.seconds, "benchmark", number) for number in range(options.tracks)]
    duration = options.tracks * options.seconds
    playing = timed(lambda: play(songs, sounds))
    mixed = timed(lambda: [mixing.mix_song(song, sounds) for song in songs])
    print(f"playing alone {duration / playing:.0f}, playing and mixing {duration / mixed:.0f}")


if __name__ == "__main__":
    main()
