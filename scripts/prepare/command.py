"""The frame of a command that makes a data set: options that all have, and how it ends."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aimless import stopping
from aimless.errors import AimlessError, DataError

__all__ = ["add_common_options", "folder", "make_parser", "number", "positive", "run", "seed"]

_ENDINGS = """
A run that was stopped, by Ctrl-C, by a signal or by a power cut, is gone on with by the same
command, and ends with the same files. What is there is kept: take a file or folder away to have it
made again. {sources}

exit status: 0 done; 2 a setting is wrong; 3 a file is damaged or cannot be written, all are named;
130 and 143 stopped by Ctrl-C and by a signal
"""


def make_parser(
    document: str, examples: str, sources: str = "The sources are only read."
) -> argparse.ArgumentParser:
    """A parser whose help begins with a module's first line and ends with examples.

    Args:
        document: of the module.
        examples: commands, one per line.
        sources: what is done to them.
    """
    return argparse.ArgumentParser(
        description=document.splitlines()[0],
        epilog=f"examples:\n{examples}{_ENDINGS.format(sources=sources)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """`--on-bad`, `--workers`, `--dry-run`, which `prepare.work.Work.of` and the scripts read."""
    workers = min(8, os.cpu_count() or 1)
    parser.add_argument(
        "--on-bad",
        choices=("stop", "skip"),
        default="stop",
        help="a damaged file stops the command before anything is written, or is named and left "
        "out, with exit status 3 at the end (stop)",
    )
    parser.add_argument(
        "--workers", type=positive, default=workers, metavar="N", help=f"processes ({workers})"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be made, no more")


def run(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], Sequence[str]],
    words: Sequence[str] | None = None,
) -> int:
    """Parse the words and do the work.

    Args:
        parser: of the command.
        work: gets the options; returns a line for each thing that could not be made.
        words: the command line; None: that of the process.

    Returns:
        The exit status. Errors that a user can mend end in one line.
    """
    options = parser.parse_args(words)
    try:
        with stopping.stoppable():
            failures = work(options)
        if failures:
            raise DataError(f"{len(failures)} left out:\n  " + "\n  ".join(failures))
    except AimlessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return DataError.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def seed(text: str) -> int:
    """A whole number from 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def number(low: float, high: float) -> Callable[[str], float]:
    """A type for argparse: a number from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return parse


def folder(text: str) -> Path:
    """An absolute path, for argparse; nothing is looked up."""
    return Path(os.path.abspath(text))
