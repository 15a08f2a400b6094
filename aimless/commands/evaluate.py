"""`aimless evaluate`: score separated stems, a network or a baseline against references."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimless.commands.models import add_model_options, model_options
from aimless.errors import ConfigError, DataError
from aimless.memory import keep_freed_memory

if TYPE_CHECKING:
    from aimless.evaluate import Estimates, Evaluation
    from aimless.evaluation.tables import Comparison

__all__ = ["add_parser"]

_DESCRIPTION = """\
Score separated stems against references.

REFERENCES has a folder per song with a file per source, and ESTIMATES the same names:
<song>/<source>.wav. Either may have its songs in a folder "test", as MUSDB has.
"""
_EPILOG = """\
measures (dB, higher is better):
  sdr       10 log10((signal + 1e-7) / (error + 1e-7)) over all channels and samples of a song, as
            in the Sound Demixing Challenge 2023; the usual figure is the mean over songs
  si_sdr    scale-invariant SDR, cut to -100 ... 100
  bss_eval  BSSEval v4 of images, as museval: frames of 1 s, median over frames; the usual figure
            is the median over songs
  References below -60 dB of full scale have no sdr and si_sdr; of bss_eval, seconds in which a
  source is silent are left out.

examples:
  aimless evaluate musdb18hq separated
  aimless evaluate musdb18hq -m model.safetensors --html report.html
  aimless evaluate musdb18hq separated --metrics sdr bss_eval --workers 4 --museval-json scores
  aimless evaluate musdb18hq new --compare old --html report.html
  aimless evaluate musdb18hq --baseline irm

exit status: 0 done; 2 a setting is wrong; 3 a file is missing or damaged
"""


#: Options that are settings of `aimless.Separator` by the same name.
_SETTINGS = ("device", "precision", "segment", "overlap", "batch_size", "shifts")


def add_parser(subparsers: Any) -> None:
    """Declare the command; `run` of the parsed options does it."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score stems against references",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("references", type=Path, metavar="REFERENCES")
    parser.add_argument("estimates", type=Path, nargs="?", metavar="ESTIMATES")
    _add_what(parser)
    _add_how(parser)
    output = parser.add_argument_group("output, besides the table")
    output.add_argument("--json", type=Path, metavar="FILE", help="scores and statistics")
    output.add_argument("--csv", type=Path, metavar="FILE", help="a row per song and source")
    output.add_argument(
        "--museval-json", type=Path, metavar="DIR", help="<DIR>/test/<song>.json for museval"
    )
    output.add_argument("--html", type=Path, metavar="FILE", help="report on one page")
    output.add_argument(
        "--worst", type=int, default=2, metavar="N", help="songs per source to hear in it (2)"
    )
    output.add_argument("--overwrite", action="store_true", help="replace files that are there")


def _add_what(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to score, instead of ESTIMATES")
    what.add_argument(
        "-m",
        "--model",
        help="checkpoint, folder of a run, recipe, URL, or name of published weights",
    )
    what.add_argument(
        "--baseline",
        choices=("mixture", "irm"),
        help="the mixture itself, or ideal ratio masks (window 4096, hop 1024)",
    )
    what.add_argument("--alpha", type=int, default=1, help="exponent of the masks, 1 or 2 (1)")
    add_model_options(parser)
    engine = parser.add_argument_group("how the model is run")
    engine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    engine.add_argument("--precision", choices=("32", "bf16", "16"), default="32", help="(32)")
    engine.add_argument("--segment", type=float, metavar="S", help="seconds of a segment (10)")
    engine.add_argument(
        "--overlap", type=float, metavar="X", help="share that segments have in common (0.25)"
    )
    engine.add_argument("--batch-size", type=int, metavar="N", help="segments at once (1)")
    engine.add_argument("--shifts", type=int, metavar="N", help="passes to average (1)")


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--compare",
        type=Path,
        metavar="OTHER",
        help="second folder of estimates: differences with a 95 %% bootstrap interval",
    )
    how.add_argument("--sources", nargs="+", metavar="SOURCE", help="only these")
    how.add_argument(
        "--metrics",
        nargs="+",
        default=["sdr", "si_sdr"],
        metavar="METRIC",
        help="sdr, si_sdr, bss_eval (sdr si_sdr)",
    )
    how.add_argument(
        "--engine", default="aimless", help="of bss_eval: aimless, or museval to check (aimless)"
    )
    how.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
    how.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")


def run(options: argparse.Namespace) -> None:
    """Score, print the table, write the files.

    Raises:
        ConfigError: a setting is out of range.
        DataError: nothing could be scored or written; or, after everything else was done,
            some songs could not be scored.
    """
    _check(options)
    keep_freed_memory()
    from aimless.evaluate import compare
    from aimless.evaluation.tables import comparison_text, table_text

    estimates = _estimates(options)
    evaluation = _evaluate(options, estimates)
    print(table_text(evaluation))
    other, comparison = None, None
    if options.compare:
        other = _evaluate(options, options.compare, evaluation.sources)
        print(f"\n{table_text(other)}\n")
        scores = evaluation.songs, other.songs, evaluation.sources, evaluation.columns
        comparison = compare(*scores, seed=options.seed)
        print(comparison_text(comparison, evaluation.label, other.label))
    _write(options, evaluation, other, comparison)
    failed = {**evaluation.failed, **(other.failed if other else {})}
    songs = len(evaluation.songs) + len(evaluation.failed)
    if failed:
        raise DataError(f"{len(failed)} of {songs} songs not scored: {', '.join(failed)}")


def _check(options: argparse.Namespace) -> None:
    """Refuse before any work what cannot be done after it."""
    given = [options.estimates, options.model, options.baseline]
    if sum(one is not None for one in given) != 1:
        raise ConfigError("give one of ESTIMATES, --model and --baseline")
    if options.museval_json and "bss_eval" not in options.metrics:
        raise ConfigError("museval-json: needs --metrics with bss_eval")
    if options.worst < 0:
        raise ConfigError(f"worst: {options.worst}; must be 0 or more")
    if options.seed < 0:
        raise ConfigError(f"seed: {options.seed}; must be 0 or more")
    if options.overwrite:
        return
    folder = options.museval_json / "test" if options.museval_json else None
    for path in (options.json, options.csv, options.html, folder):
        if path is not None and path.exists():
            raise DataError(f"{path} exists; choose another name, or --overwrite")


def _estimates(options: argparse.Namespace) -> Path | Estimates:
    if options.estimates is not None:
        return options.estimates
    from aimless.evaluate import IdealMaskEstimates, MixtureEstimates, NetworkEstimates

    if options.baseline == "mixture":
        return MixtureEstimates()
    if options.baseline == "irm":
        return IdealMaskEstimates(options.alpha)
    from aimless.separator import Separator

    settings = {name: getattr(options, name) for name in _SETTINGS}
    separator = Separator.load(options.model, **model_options(options), **settings)
    return NetworkEstimates(separator, Path(options.model).name)


def _evaluate(
    options: argparse.Namespace, estimates: Path | Estimates, sources: list[str] | None = None
) -> Evaluation:
    """Score with a progress bar; what could not be scored is said where it happens."""
    from tqdm import tqdm

    from aimless.evaluate import evaluate

    with tqdm(unit="song", disable=None, leave=False) as bar:

        def progress(done: int, songs: int, name: str, reason: str | None) -> None:
            if reason:
                bar.write(f"{name}: {reason}", file=sys.stderr)
            bar.total = songs
            bar.update(done - bar.n)
            bar.refresh()

        evaluation = evaluate(
            options.references,
            estimates,
            metrics=options.metrics,
            sources=sources or options.sources,
            engine=options.engine,
            workers=options.workers,
            excerpts=bool(options.html and options.worst),
            progress=progress,
        )
    for note in evaluation.notes:
        print(f"note: {note}", file=sys.stderr)
    return evaluation


def _write(
    options: argparse.Namespace,
    evaluation: Evaluation,
    other: Evaluation | None,
    comparison: Comparison | None,
) -> None:
    from aimless.evaluation import report, tables

    if options.json:
        tables.write_text(options.json, tables.json_text(evaluation, other, comparison))
    if options.csv:
        tables.write_text(options.csv, tables.csv_text(evaluation, other))
    if options.museval_json:
        tables.write_museval(options.museval_json, evaluation)
    if options.html:
        page = report.html_text(evaluation, other, comparison, options.worst)
        tables.write_text(options.html, page)
