"""Make a data set of songs, or of scenes for Divide and Remaster, without any recordings.

Songs are written by rules and played, stem by stem, with the samples of a General MIDI sound font:
drums, bass, accompaniment and a singing or speaking voice, with the form of a song, in a room,
panned, and mastered. Without a font, or without FluidSynth, a plain synthesiser plays them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from prepare.command import folder, number, positive, run, seed
from prepare.output import Output, write_file
from synthetic.layouts import LAYOUTS, SPLITS, Settings, Track, make_plan, tracks_of
from synthetic.planted import labels_csv, planted_csv
from synthetic.production import make_tracks
from synthetic.rendering import Sounds
from synthetic.soundfont import find_font
from synthetic.speech import describe_espeak, find_espeak

from aimless.memory import keep_freed_memory
from data.audio import printable

COMMAND = "make_synthetic_dataset"
#: Shortest and longest track in seconds.
LENGTHS = 2.0, 7200.0

_EPILOG = """\
layouts:
  musdb        OUTPUT/{train,test}/<song>/{mixture,drums,bass,other,vocals}.wav, stereo; songs for
               validation have the names that MUSDB has for them, up to 14
  dnr          OUTPUT/{tr,cv,tt}/<id>/{mix,music,sfx,speech}.wav, mono
  label_noise  OUTPUT/{train,valid}/<song>/...; some of the songs in train have swapped stems, or a
               part in the wrong stem: planted.csv lists them, labels.csv is what
               data.lightning.LabelNoise reads

examples:
  python scripts/make_synthetic_dataset.py data/synthetic
  python scripts/make_synthetic_dataset.py data/synthetic --train 100 --seconds 30 240
  python scripts/make_synthetic_dataset.py data/scenes --layout dnr --seconds 60
  python scripts/make_synthetic_dataset.py data/noisy --layout label_noise --errors 0.5

All is drawn from --seed: the same command gives the same bytes, with any number of workers, as long
as the sound font and the versions of FluidSynth and eSpeak NG are the same. A run that was stopped
is gone on with by the same command.

exit status: 0 done; 2 a setting is wrong; 3 a file is damaged or cannot be written; 130 and 143
stopped by Ctrl-C and by a signal
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser(), _make, words)


def _make(options: argparse.Namespace) -> list[str]:
    """All of it; nothing can be left out."""
    shortest, longest = _lengths(options)
    font, described = (None, "none") if options.plain else find_font(options.soundfont)
    espeak = None if options.plain else find_espeak()
    print(f"instruments: {described}\nspeech: {describe_espeak(espeak)}", flush=True)
    layout = LAYOUTS[options.layout]
    counts = {split: getattr(options, split) for split in SPLITS}
    settings = Settings(options.layout, counts, shortest, longest, options.seed, options.errors)
    decided = {
        **settings._asdict(),
        "instruments": described,
        "speech": describe_espeak(espeak),
        "sample_rate": options.sample_rate,
    }
    output = Output(options.output, sorted(set(layout.folders.values())), [])
    with output.writing():
        tracks = tracks_of(output.plan(COMMAND, decided, lambda: make_plan(settings)))
        if layout.errors:
            _write_tables(options.output, tracks)
        left = [track for track in tracks if not (options.output / track.place).is_dir()]
        began = time.monotonic()
        keep_freed_memory()
        sounds = Sounds(font, espeak, options.sample_rate)
        make_tracks(left, layout, options.output, sounds, options.workers)
    _report(options.output, tracks, left, time.monotonic() - began)
    return []


def _lengths(options: argparse.Namespace) -> tuple[float, float]:
    low, high = options.seconds[0], options.seconds[-1]
    if len(options.seconds) > 2 or low > high:
        options.fail(f"argument --seconds: {options.seconds} is neither one length nor a range")
    if not any(getattr(options, split) for split in SPLITS):
        options.fail("nothing to make: --train, --validation and --test are all 0")
    return low, high


def _write_tables(root: Path, tracks: list[Track]) -> None:
    songs = {track.name: track.errors for track in tracks if track.place.startswith("train/")}
    write_file(root / "planted.csv", planted_csv(songs).encode())
    write_file(root / "labels.csv", labels_csv(songs).encode())


def _report(root: Path, tracks: list[Track], left: list[Track], took: float) -> None:
    there = f", {len(tracks) - len(left)} of them there already" if len(left) < len(tracks) else ""
    made = sum(track.seconds for track in left)
    pace = f"; {made:.0f} s made in {took:.1f} s, {made / took:.0f} x real time" if left else ""
    print(f"{printable(root)}: {len(tracks)} tracks{there}{pace}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(fail=parser.error)
    add = parser.add_argument
    add("output", type=folder, metavar="OUTPUT", help="folder for the data set")
    add("--layout", choices=tuple(LAYOUTS), default="musdb", help="(musdb)")
    for split, default in zip(SPLITS, (20, 4, 6)):
        add(f"--{split}", type=seed, default=default, metavar="N", help=f"tracks ({default})")
    add(
        "--seconds",
        type=number(*LENGTHS),
        nargs="+",
        default=[60.0],
        metavar="S",
        help="length of every track, or shortest and longest (60)",
    )
    add("--seed", type=seed, default=0, metavar="N", help="of everything (0)")
    sounds = parser.add_mutually_exclusive_group()
    sounds.add_argument(
        "--soundfont",
        type=Path,
        metavar="FILE",
        help="General MIDI sound font, SF2 or SF3 (the one that Debian's packages install)",
    )
    sounds.add_argument(
        "--plain", action="store_true", help="neither font nor eSpeak NG, though they are there"
    )
    add(
        "--errors",
        type=number(0, 1),
        default=0.5,
        metavar="X",
        help="label_noise: share of the training songs with an error (0.5)",
    )
    add("--sample-rate", type=positive, default=44100, metavar="HZ", help="(44100)")
    workers = min(8, os.cpu_count() or 1)
    add("--workers", type=positive, default=workers, metavar="N", help=f"processes ({workers})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
