"""From the words of the command line to an exit status.

Imports nothing heavy until a subcommand is known to be wanted and its config files are
readable: `--help` and a mistyped file name answer at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from aimless import stopping
from aimless.config import read_yaml
from aimless.errors import AimlessError, ConfigError
from aimless.lightning.help import SUBCOMMANDS, TOP, subcommand_help
from aimless.lightning.messages import suggest, unwrap
from aimless.memory import keep_freed_memory

__all__ = ["config_files", "run"]


def run(trainer_defaults: dict[str, Any], args: Sequence[str] | None = None) -> int:
    """Run `main.py`; a mistake of the user ends in one line on stderr.

    Args:
        trainer_defaults: arguments of Lightning's Trainer that hold unless a config says
            otherwise.
        args: the words after `main.py`; None takes those of the process.

    Returns:
        The exit status, see `aimless.lightning.help`.
    """
    words = list(sys.argv[1:] if args is None else args)
    keep_freed_memory()
    try:
        wanted = next((word for word in words if word in SUBCOMMANDS), None)
        if wanted is None:
            return _without_subcommand(words)
        if {"-h", "--help"} & set(words):
            print(subcommand_help(wanted), end="")
            return 0
        words = ["--help" if word == "--help_all" else word for word in words]
        for path in config_files(words):
            read_yaml(path)  # so that its mistakes are named with the file
        _run(trainer_defaults, words)
    except AimlessError as error:
        return _fail(error)
    except stopping.Stopped as stopped:
        if stopped.message:
            print(stopped.message, file=sys.stderr, flush=True)
        return int(stopped.code or 0)
    except KeyboardInterrupt:
        return 130
    return 0


def _run(trainer_defaults: dict[str, Any], words: list[str]) -> None:
    """Run a subcommand; while it trains, `SaveRun` takes the signals over."""
    with stopping.stoppable(signal.SIGUSR1):  # which schedulers announce a preemption with
        from aimless.lightning.cli import run_lightning

        try:
            run_lightning(trainer_defaults, words)
        except SystemExit as left:
            if not isinstance(left, stopping.Stopped):
                stopping.check()  # Lightning makes 1 of any Ctrl-C
            raise


def _without_subcommand(words: Sequence[str]) -> int:
    if not words or {"-h", "--help"} & set(words):
        print(TOP, end="")
        return 0 if words else ConfigError.exit_code
    first = next((word for word in words if not word.startswith("-")), words[0])
    raise ConfigError(f"no subcommand '{first}'{suggest(first, SUBCOMMANDS)}")


def config_files(words: Sequence[str]) -> Iterator[str]:
    """The files named by --config or -c."""
    for word, following in zip(words, [*words[1:], ""]):
        if word in ("--config", "-c"):
            yield following
        elif word.startswith("--config="):
            yield word.partition("=")[2]


def _fail(error: AimlessError) -> int:
    print(f"error: {unwrap(error)}", file=sys.stderr, flush=True)
    return error.exit_code
