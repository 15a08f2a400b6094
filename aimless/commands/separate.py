"""`aimless separate`: songs in, stems out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimless import stopping
from aimless.commands.models import add_model_options, model_options
from aimless.errors import AimlessError, DataError
from aimless.memory import keep_freed_memory
from aimless.songs.audio_paths import find_songs, printable
from aimless.songs.song_bar import SongBar
from aimless.songs.stem_format import BITS, CLIP, FORMATS, StemFormat
from aimless.songs.stem_paths import check_template

if TYPE_CHECKING:
    from aimless.separator import Separator

__all__ = ["add_parser"]

_EXAMPLES = """\
examples:
  aimless separate song.mp3 -m model.safetensors -o separated
  aimless separate album/ 'more/*.flac' -m model.safetensors -o separated --format flac
  aimless separate song.wav -m model.safetensors -o separated --two-stems vocals
  aimless separate song.wav -m model.safetensors -o separated --overlap 0.5 --shifts 2

A folder of many goes on after a bad file, and says at the end which failed (exit status 3).
"""
#: Options that are settings of `aimless.Separator` by the same name.
_SETTINGS = (
    *("device", "precision", "compile", "segment", "overlap", "context", "batch_size", "shifts"),
    *("seed", "tta", "two_stems", "residual", "mixture_consistency", "fix_nonfinite"),
)


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of `aimless`."""
    parser = commands.add_parser(
        "separate",
        help="separate songs into stems",
        description="Separate songs of any length, rate and format into stems.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("songs", nargs="+", metavar="SONG", help="file, folder or 'pattern*'")
    parser.add_argument(
        "-m",
        "--model",
        required=True,
        help="checkpoint, folder of a run, recipe, URL, or name of published weights",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the stems")
    add_model_options(parser)
    _add_file_options(parser.add_argument_group("files"))
    _add_stem_options(parser.add_argument_group("which stems"))
    _add_engine_options(parser.add_argument_group("how"))


def _add_file_options(group: Any) -> None:
    group.add_argument("--format", choices=FORMATS, default="wav", help="of the files (wav)")
    group.add_argument("--bits", choices=BITS, help="of a sample: wav float, flac 24")
    group.add_argument(
        "--clip",
        choices=CLIP,
        help="stems beyond full scale: keep them (float), rescale all stems by one factor "
        "(default of the other formats), or clamp the peaks",
    )
    group.add_argument(
        "--template",
        default="{song}/{stem}",
        help="name of a file in the folder ({song}/{stem}); the suffix is added",
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that are there")
    group.add_argument(
        "--fix-nonfinite",
        action="store_true",
        help="put 0 in the place of samples that are NaN or infinite, instead of refusing the song",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="say only what goes wrong")


def _add_stem_options(group: Any) -> None:
    group.add_argument("--two-stems", metavar="STEM", help="write STEM and no_STEM only")
    group.add_argument(
        "--residual", action="store_true", help="also write the mixture without all stems"
    )
    group.add_argument(
        "--mixture-consistency",
        action="store_true",
        help="make the stems sum to the mixture; for networks whose stems cover it",
    )


def _add_engine_options(group: Any) -> None:
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    group.add_argument("--precision", choices=("32", "bf16", "16"), default="32", help="(32)")
    group.add_argument("--compile", action="store_true", help="with torch.compile")
    group.add_argument("--segment", type=float, metavar="S", help="seconds of a segment (10)")
    group.add_argument(
        "--overlap", type=float, metavar="X", help="share that segments have in common (0.25)"
    )
    group.add_argument(
        "--context", type=float, metavar="S", help="seconds at segment edges to discard (0)"
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="segments at once (1)")
    group.add_argument(
        "--shifts", type=int, metavar="N", help="passes, moved by random shifts, to average (1)"
    )
    group.add_argument("--seed", type=int, metavar="N", help="of the random shifts (0)")
    group.add_argument(
        "--tta",
        action="append",
        choices=("polarity", "swap"),
        help="average with inverted polarity, or swapped channels; may be given twice",
    )


def _run(options: argparse.Namespace) -> None:
    # what can be wrong before a network is loaded
    form = StemFormat(options.format, options.bits, options.clip)
    check_template(options.template)
    songs = find_songs(options.songs)
    keep_freed_memory()
    from aimless.separator import Separator

    settings = {name: getattr(options, name) for name in _SETTINGS}
    separator = Separator.load(options.model, **model_options(options), **settings)
    failed: dict[Path, AimlessError] = {}

    def fail(song: Path, error: AimlessError) -> None:
        failed[song] = error
        print(f"error: {error}", file=sys.stderr, flush=True)

    _separate(separator, songs, options, form, fail if len(songs) > 1 else None)
    if failed:
        names = ", ".join(_name(song) for song in failed)
        done = len(songs) - len(failed)
        raise DataError(f"{done} of {len(songs)} songs done; failed: {names}")


def _separate(
    separator: Separator,
    songs: list[Path],
    options: argparse.Namespace,
    form: StemFormat,
    fail: Callable[[Path, AimlessError], None] | None,
) -> None:
    def done(song: Path, stems: dict[str, Path]) -> None:
        bar.close()
        if not options.quiet:
            names = ", ".join(path.name for path in stems.values())
            folder = next(iter(stems.values())).parent
            print(f"{_name(song)} -> {_name(folder)}: {names}", flush=True)

    def report(song: Path, done: float, seconds: float) -> None:
        stopping.check()
        bar(song, done, seconds)

    with SongBar(hidden=options.quiet) as bar:
        separator.separate_files(
            songs,
            options.output,
            format=form,
            template=options.template,
            overwrite=options.overwrite,
            progress=report,
            on_error=fail,
            on_done=done,
        )


def _name(path: Path) -> str:
    return printable(path)
