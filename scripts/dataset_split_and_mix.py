"""Split raw songs of four stems into train and valid, and add the mixture of each.

What is made is what `data.lightning.Bleed` and `data.lightning.LabelNoise` read:
`OUTPUT/{train,valid}/<song>/{mixture,drums,bass,other,vocals}.wav`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prepare.command import add_common_options, folder, make_parser, number, run, seed
from prepare.output import Output
from prepare.split import HOW, SPLITS, Song, make_plan, make_song
from prepare.stems import add_stem_options
from prepare.work import do_all

from data.audio import printable

COMMAND = "dataset_split_and_mix"
_SOURCES = """The raw songs are only read, but for
--how move, which takes a song away when it is whole in its new place."""
_EXAMPLES = """\
  python scripts/dataset_split_and_mix.py SDXDB23_Bleeding data/bleed
  python scripts/dataset_split_and_mix.py SDXDB23_LabelNoise data/label_noise --how hardlink
  python scripts/dataset_split_and_mix.py raw data/mine --valid 0.2 --seed 7 --on-bad skip
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser(), _split, words)


def _split(options: argparse.Namespace) -> list[str]:
    """All of it; returns a line for each bad file that was left out."""
    output = Output(options.output, SPLITS, [options.raw])
    names = ("valid", "seed", "how", "bits", "sample_rate")
    settings = {name: getattr(options, name) for name in names}
    make = (options.raw, options.valid, options.seed, options.sample_rate, options.on_bad)
    if options.dry_run:
        plan = output.stored_plan(COMMAND, settings) or make_plan(*make)
        return _report(plan, f"{printable(options.output)}, not made: ")
    with output.writing():
        plan = output.plan(COMMAND, settings, lambda: make_plan(*make))
        songs = [
            Song(options.raw, options.output / place, stems, options.how, options.bits)
            for place, stems in plan["tracks"].items()
        ]
        left = [song for song in songs if not song.is_done]
        notes, failures = do_all(left, make_song, options.workers, "songs", options.on_bad)
    for note in filter(None, notes):
        print(note)
    done = f", {len(songs) - len(left)} of them there already" if len(left) < len(songs) else ""
    return _report(plan, f"{printable(options.output)}: ", done) + failures


def _report(plan: dict, start: str, end: str = "") -> list[str]:
    """Say how many songs there are in each split; returns what is wrong with the others."""
    places = [place.split("/")[0] for place in plan["tracks"]]
    counts = ", ".join(f"{split} {places.count(split)}" for split in SPLITS)
    print(f"{start}{len(places)} songs ({counts}){end}")
    return plan["skipped"]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__ or "", _EXAMPLES, _SOURCES)
    parser.add_argument("raw", type=folder, metavar="RAW", help="folder with a folder per song")
    parser.add_argument("output", type=folder, metavar="OUTPUT", help="folder of the data set")
    parser.add_argument(
        "--valid",
        type=number(0.001, 0.999),
        default=0.1,
        metavar="X",
        help="share of the songs for validation (0.1)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the choice of songs (0)")
    parser.add_argument(
        "--how",
        choices=HOW,
        default="copy",
        help="copy the stems (default), or save the space: hard links, symbolic links, or move",
    )
    add_stem_options(parser)
    add_common_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
