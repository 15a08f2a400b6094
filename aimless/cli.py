"""The command `aimless`: what can be done with a trained network.

Imports nothing heavy until a command runs: `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from aimless import commands
from aimless.errors import AimlessError
from aimless.stopping import stoppable
from aimless.version import __version__

__all__ = ["main"]

_EXAMPLES = """\
examples:
  aimless info lightning_logs/version_0
  aimless export lightning_logs/version_0/checkpoints/last.ckpt -o model.safetensors
  aimless separate song.mp3 -m model.safetensors -o separated
  aimless separate --help

exit status: 0 done; 2 a setting is wrong; 3 a file is missing or damaged; 130 and 143 stopped by
Ctrl-C and by a signal
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(args)
    try:
        with stoppable():
            options.run(options)
    except AimlessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aimless",
        description="Use trained source separators.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in iter_modules(commands.__path__):
        # a file of the package that is a command says so by `add_parser`
        add_parser = getattr(import_module(f"aimless.commands.{module.name}"), "add_parser", None)
        if add_parser:
            add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
