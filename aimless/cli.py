"""The command `aimless`: what can be done with a trained network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aimless.errors import AimlessError, DataError
from aimless.version import __version__

__all__ = ["main"]

_EXAMPLES = """\
examples:
  aimless info lightning_logs/version_0
  aimless export lightning_logs/version_0/checkpoints/last.ckpt -o model.safetensors

exit status: 0 done; 2 a setting is wrong; 3 a file is missing or damaged
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(args)
    try:
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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="say what a checkpoint holds")
    info.set_defaults(run=_info)
    export = commands.add_parser("export", help="write a network as one safetensors file")
    export.set_defaults(run=_export)
    for command in (info, export):
        command.add_argument("model", help="checkpoint, folder of a run, or URL")
        command.add_argument(
            "--trust",
            action="append",
            default=[],
            metavar="PACKAGE",
            help="package besides aimless whose classes the checkpoint may name",
        )
    export.add_argument("-o", "--output", type=Path, help="file to write (default: beside MODEL)")
    export.add_argument("--half", action="store_true", help="float16 weights, half the size")
    export.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    return parser


def _info(options: argparse.Namespace) -> None:
    from aimless.checkpoint import load

    network = load(options.model, trusted=options.trust)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"network      {network.class_path}")
    print(f"settings     {', '.join(f'{k}={v}' for k, v in network.init_args.items()) or '-'}")
    print(f"sources      {', '.join(network.sources)}")
    print(f"sample rate  {network.sample_rate} Hz")
    print(f"channels     {network.channels or 'any'}")
    print(f"parameters   {parameters:,}")


def _export(options: argparse.Namespace) -> None:
    from aimless.checkpoint import export, load

    network = load(options.model, trusted=options.trust)
    output = options.output
    if output is None:
        source = Path(options.model)
        output = (
            source / "model.safetensors" if source.is_dir() else source.with_suffix(".safetensors")
        )
    if output.exists() and not options.overwrite:
        raise DataError(f"{output} exists; choose another --output, or --overwrite")
    export(network, output, half=options.half)
    print(output)


if __name__ == "__main__":
    sys.exit(main())
