"""Write songs without their vocals, as noise for speech enhancement.

Each is the sum of the other stems, and goes to `OUTPUT/{train,test}/<song>.wav`, where
`data.lightning.SpeechNoise` finds it: `noise_root: OUTPUT/train`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prepare.command import add_common_options, folder, make_parser, run
from prepare.output import Output
from prepare.stems import add_stem_options
from prepare.voiceless import Rest, choose_splits, make_plan, make_rest
from prepare.work import do_all

from aimless.sources import MDX_SOURCES
from data.audio import printable

COMMAND = "musdb_to_voiceless"
_EXAMPLES = """\
  python scripts/musdb_to_voiceless.py data/musdb18hq data/voiceless
  python scripts/musdb_to_voiceless.py data/musdb18hq data/voiceless --splits train --workers 4
  python scripts/musdb_to_voiceless.py data/musdb18hq data/drumless --without drums
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser(), _convert, words)


def _convert(options: argparse.Namespace) -> list[str]:
    """All of it; returns a line for each bad file that was left out."""
    splits = choose_splits(options.root, options.splits)
    output = Output(options.output, splits, [options.root])
    names = ("without", "bits", "sample_rate")
    settings = {"splits": sorted(splits), **{name: getattr(options, name) for name in names}}
    make = (options.root, splits, options.without, options.sample_rate, options.on_bad)
    if options.dry_run:
        plan = output.stored_plan(COMMAND, settings) or make_plan(*make)
        print(f"{printable(options.output)}, not made: {len(plan['tracks'])} songs")
        return plan["skipped"]
    with output.writing():
        plan = output.plan(COMMAND, settings, lambda: make_plan(*make))
        songs = [
            Rest(options.root, options.output / place, stems, options.bits)
            for place, stems in plan["tracks"].items()
        ]
        left = [song for song in songs if not song.place.is_file()]
        notes, failures = do_all(left, make_rest, options.workers, "songs", options.on_bad)
    for note in filter(None, notes):
        print(note)
    done = f", {len(songs) - len(left)} of them there already" if len(left) < len(songs) else ""
    print(f"{printable(options.output)}: {len(songs)} songs without {options.without}{done}")
    return plan["skipped"] + failures


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__ or "", _EXAMPLES)
    parser.add_argument(
        "root", type=folder, metavar="ROOT", help="data set of WAV or FLAC stems, as MUSDB18-HQ"
    )
    parser.add_argument("output", type=folder, metavar="OUTPUT", help="folder for the songs")
    parser.add_argument(
        "--without", choices=MDX_SOURCES, default="vocals", help="stem to leave out (vocals)"
    )
    parser.add_argument(
        "--splits", nargs="+", metavar="NAME", help="of the data set (all that there are)"
    )
    add_stem_options(parser)
    add_common_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
