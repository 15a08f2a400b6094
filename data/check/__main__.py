"""Find every fault of a data set and say so in one report: `python -m data.check ROOT`."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aimless.errors import AimlessError, ConfigError
from data.audio import printable
from data.check.layout import Layout, detect
from data.check.report import exit_status, to_json, to_text
from data.check.survey import survey
from data.listing.atomic import write_whole
from data.listing.rules import Rules

__all__ = ["main"]

_EXAMPLES = """\
ROOT holds train, valid and test (MUSDB18-HQ, SDX23), or tr, cv and tt (DnR), or the folders of
the tracks themselves.

examples:
  python -m data.check data/musdb18hq
  python -m data.check data/dnr_v2 --quick
  python -m data.check data/mine --sources kick,snare,rest --mixture none --missing silence
  python -m data.check data/musdb18hq --segment 10 --json report.json

exit status: 0 nothing found, or only notes; 1 warnings; 2 wrong usage; 3 errors
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(args)
    try:
        return _run(options)
    except AimlessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    root = options.root
    layout = detect(root)
    rules = _rules(options, layout)
    began = time.perf_counter()
    found = survey(root, layout, rules, options.segment, options.quick, options.workers)
    seconds = time.perf_counter() - began
    if options.json == "-":
        sys.stdout.write(to_json(found))
        return exit_status(found)
    if options.json is not None:
        _write(Path(options.json), to_json(found))
    print(to_text(found, shutil.get_terminal_size((100, 24)).columns))
    if found.bytes_read:
        megabytes = found.bytes_read / 1e6
        print(f"read {megabytes:.0f} MB in {seconds:.1f} s, {megabytes / seconds:.0f} MB/s")
    return exit_status(found)


def _rules(options: argparse.Namespace, layout: Layout) -> Rules:
    """What was asked for, and what the layout implies for the rest."""
    mixture = layout.mixture if options.mixture is None else options.mixture
    return Rules(
        options.sources or layout.sources,
        None if mixture == "none" else mixture,
        options.sample_rate,
        options.channels or layout.channels,
        check_samples=False,
        missing=options.missing,
    )


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise ConfigError(f"--json: {printable(path)}: {error.strerror or error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data.check",
        description="Find every fault of a data set and say so in one report.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("root", type=Path, metavar="ROOT", help="folder of the data set")
    add("--sources", type=_names, metavar="A,B,...", help="stems (default: those of the data set)")
    add("--mixture", metavar="NAME", help="recorded mixture, or none (default: mixture; DnR: mix)")
    add("--missing", choices=("error", "silence"), default="error", help="stems without a file are")
    add("--sample-rate", type=_positive, default=44100, metavar="HZ", help="default: 44100")
    add("--channels", type=_positive, metavar="N", help="default: 2; DnR: 1")
    add("--segment", type=_seconds, metavar="SECONDS", help="note tracks that are shorter")
    add("--quick", action="store_true", help="look at the headers only, and read no samples")
    workers = min(8, os.cpu_count() or 1)
    add("--workers", type=_positive, default=workers, metavar="N", help=f"default: {workers}")
    add("--json", metavar="FILE", help="write the report as JSON too; - prints it instead")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of different names")
    return names


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no length in seconds above 0")
    return seconds


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
