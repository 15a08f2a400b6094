"""`aimless info` and `aimless export`: what a checkpoint holds, and in one file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aimless.errors import ConfigError, DataError

__all__ = ["add_model_options", "add_parser", "model_options"]


def add_parser(commands: Any) -> None:
    """Add both commands to the subparsers of `aimless`."""
    info = commands.add_parser("info", help="say what a checkpoint holds")
    info.set_defaults(run=_info)
    export = commands.add_parser("export", help="write a network as one safetensors file")
    export.set_defaults(run=_export)
    for command in (info, export):
        command.add_argument(
            "model", help="checkpoint, folder of a run, recipe, URL, or name of published weights"
        )
        add_model_options(command)
    export.add_argument("-o", "--output", type=Path, help="file to write (default: beside MODEL)")
    export.add_argument("--half", action="store_true", help="float16 weights, half the size")
    export.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what `aimless.checkpoint.load` takes besides the model."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="package besides aimless whose classes the checkpoint may name",
    )
    group.add_argument("--sha256", metavar="HEX", help="what a downloaded file must hash to")
    group.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a checkpoint of a recipe",
    )


def model_options(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments for `aimless.checkpoint.load`.

    Raises:
        ConfigError: a `--checkpoint` without name or file.
    """
    checkpoints = {}
    for word in options.checkpoint:
        name, _, file = word.partition("=")
        if not name or not file:
            raise ConfigError(f"--checkpoint {word}: must be NAME=FILE")
        checkpoints[name] = file
    return {"trusted": options.trust, "sha256": options.sha256, "checkpoints": checkpoints}


def _info(options: argparse.Namespace) -> None:
    from aimless.checkpoint import load

    network = load(options.model, **model_options(options))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"network      {network.class_path or type(network).__name__}")
    print(f"settings     {', '.join(f'{k}={v}' for k, v in network.init_args.items()) or '-'}")
    print(f"sources      {', '.join(network.sources)}")
    print(f"sample rate  {network.sample_rate} Hz")
    print(f"channels     {network.channels or 'any'}")
    print(f"parameters   {parameters:,}")


def _export(options: argparse.Namespace) -> None:
    from aimless.checkpoint import export, load
    from aimless.network import SeparationNetwork

    network = load(options.model, **model_options(options))
    if not isinstance(network, SeparationNetwork):
        raise ConfigError(f"{options.model}: is made of several networks; export each of them")
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
