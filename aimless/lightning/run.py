"""From the words of the command line to an exit status.

Imports nothing heavy until a subcommand is known to be wanted and its config files are
readable: `--help` and a mistyped file name answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from aimless.config import read_yaml
from aimless.errors import AimlessError, ConfigError
from aimless.lightning.messages import suggest, unwrap
from aimless.memory import keep_freed_memory

__all__ = ["SUBCOMMANDS", "config_files", "run"]

SUBCOMMANDS = {
    "fit": "Train a separator.",
    "validate": "Score a checkpoint on the validation songs.",
    "test": "Score a checkpoint on the test songs.",
    "predict": "Separate songs: one WAV per stem.",
}

USAGE = """\
usage: python main.py {fit,validate,test,predict} --config FILE [options]

Train, validate, test and use audio source separators.

subcommands:
  fit        train:     python main.py fit --config cfg/xumx.yaml --data.init_args.root DIR
  validate   score:     python main.py validate --config cfg/xumx.yaml --ckpt_path FILE
                          --data.init_args.root DIR
  test       score on the test songs: as validate
  predict    separate:  python main.py predict --config cfg/xumx.yaml --ckpt_path FILE
                          --data data.lightning.AudioFiles --data.init_args.paths song.mp3

options of all subcommands:
  --config FILE, -c FILE     an experiment in YAML (cfg/ holds some); later options override it
  --KEY VALUE                any setting of the experiment, e.g. --trainer.max_steps 1000
  --print_config             show the experiment with all defaults filled in, and stop
  --model.help CLASS         show the settings of a class; also --data.help, --optimizer.help
  --help, -h                 `python main.py fit --help` shows all options of fit

exit status: 0 done; 2 a setting is wrong; 3 files are missing or damaged; 4 numbers that are
not finite; 130 interrupted
"""


def run(trainer_defaults: dict[str, Any], args: Sequence[str] | None = None) -> int:
    """Run `main.py`; a mistake of the user ends in one line on stderr.

    Args:
        trainer_defaults: arguments of Lightning's Trainer that hold unless a config says
            otherwise.
        args: the words after `main.py`; None takes those of the process.

    Returns:
        The exit status, see `USAGE`.
    """
    words = list(sys.argv[1:] if args is None else args)
    keep_freed_memory()
    try:
        if not any(word in SUBCOMMANDS for word in words):
            return _without_subcommand(words)
        for path in config_files(words):
            read_yaml(path)  # so that its mistakes are named with the file
        from aimless.lightning.cli import run_lightning

        run_lightning(trainer_defaults, words)
    except AimlessError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return 130
    return 0


def _without_subcommand(words: Sequence[str]) -> int:
    if not words or {"-h", "--help"} & set(words):
        print(USAGE, end="")
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
