"""Find the stems of a data set that are not what their labels say.

A separator hears every stem and every mixture of a data set, second by second. A stem much of
whose energy it assigns to another source is suspicious: another instrument bleeds into it, or
its label is wrong. Where there is no separator yet, `--from-training` takes one that was
trained on the set itself, and looks for the labels that it could not learn to reproduce.

Written are OUTPUT/scores.csv and scores.json (a row per stem), label_noise.csv (a row per song, as
`data.lightning.LabelNoise` reads it; kept once you have changed it) and index.html, a page to
listen and decide.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prepare.command import folder, make_parser, positive, run
from prepare.output import Output

from aimless.commands.models import add_model_options, model_options
from aimless.memory import keep_freed_memory
from aimless.songs.audio_paths import printable

if TYPE_CHECKING:
    from label_noise.scores import StemScore, Thresholds
    from label_noise.survey import Separation, Survey

_EXAMPLES = """\
  python scripts/find_label_noise.py sdx23/train -m hdemucs_high_musdb -o noise
  python scripts/find_label_noise.py sdx23 -m model.safetensors -o noise --hear mixture
  python scripts/find_label_noise.py sdx23 -m lightning_logs/version_0 -o noise --from-training
"""
#: Options that are settings of `aimless.Separator` by the same name.
_SETTINGS = ("device", "precision", "segment", "overlap", "batch_size", "shifts")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_parser(), _find, words)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__ or "", _EXAMPLES)
    parser.add_argument("root", type=folder, metavar="ROOT", help="folder of <song>/<stem>.wav")
    parser.add_argument(
        "-m",
        "--model",
        required=True,
        help="checkpoint, folder of a run, recipe, URL, or name of published weights",
    )
    parser.add_argument("-o", "--output", type=folder, required=True, help="folder for the results")
    add_model_options(parser)
    _add_what_options(parser.add_argument_group("what is suspicious"))
    _add_engine_options(parser.add_argument_group("how the model is run"))
    parser.add_argument(
        "--listen", type=_count, default=50, metavar="N", help="stems on the page (50)"
    )
    return parser


def _add_what_options(group: Any) -> None:
    group.add_argument(
        "--from-training",
        action="store_true",
        help="the model was trained on this set: score by its loss on the set's labels",
    )
    group.add_argument(
        "--hear",
        nargs="+",
        choices=("stem", "mixture"),
        default=["stem", "mixture"],
        help="separate each stem by itself, the mixture, or both (both); one run of the model per "
        "stem and per mixture",
    )
    group.add_argument(
        "--bleeding",
        type=float,
        default=0.1,
        metavar="X",
        help="share of a stem that goes to other sources, more than is usual for its label (0.1)",
    )
    group.add_argument(
        "--wrong",
        type=float,
        default=0.5,
        metavar="X",
        help="share of the active time in which another source wins, for 'wrong label' (0.5)",
    )
    group.add_argument(
        "--outlier",
        type=float,
        default=2.5,
        metavar="X",
        help="with --from-training: spreads below the usual SDR of the label (2.5)",
    )


def _add_engine_options(group: Any) -> None:
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    group.add_argument("--precision", choices=("32", "bf16", "16"), default="32", help="(32)")
    group.add_argument("--segment", type=float, metavar="S", help="seconds of a segment (10)")
    group.add_argument(
        "--overlap", type=float, metavar="X", help="share that segments have in common (0.25)"
    )
    group.add_argument("--batch-size", type=positive, metavar="N", help="segments at once (1)")
    group.add_argument("--shifts", type=positive, metavar="N", help="passes to average (1)")
    group.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes, for the CPU (1)"
    )


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def _find(options: argparse.Namespace) -> list[str]:
    """All of it; returns a line for each song that could not be measured."""
    from label_noise.scores import Thresholds, score_set
    from label_noise.survey import find_labelled, survey

    thresholds = Thresholds(options.bleeding, options.wrong, options.outlier)
    songs = find_labelled(options.root)
    output = Output(options.output, ["measured", "excerpts"], [options.root])
    keep_freed_memory()
    mode = "training" if options.from_training else "hearing"
    heard = ("mixture",) if options.from_training else tuple(options.hear)
    separation = _separation(options)
    separation.load()  # a wrong checkpoint is an error before anything is written
    with output.writing():
        output.make_folders()
        found = survey(songs, separation, options.output / "measured", heard, options.workers)
        scores = score_set(found.songs, mode, thresholds)
        _write(options, found, scores, mode, thresholds, separation)
    return [f"{printable(name)}: {reason}" for name, reason in found.failed.items()]


def _separation(options: argparse.Namespace) -> Separation:
    from label_noise.survey import Separation

    model = model_options(options)
    settings = {name: getattr(options, name) for name in _SETTINGS}
    return Separation(
        options.model,
        model["sha256"],
        tuple(model["trusted"]),
        tuple(sorted(model["checkpoints"].items())),
        tuple(settings.items()),
        max(1, (os.cpu_count() or 1) // options.workers) if options.workers > 1 else 0,
    )


def _write(
    options: argparse.Namespace,
    found: Survey,
    scores: list[StemScore],
    mode: str,
    thresholds: Thresholds,
    separation: Separation,
) -> None:
    """The tables, the page, and a word about them."""
    from label_noise.excerpts import cut_excerpts
    from label_noise.page import html_text
    from label_noise.tables import json_text, labels_csv, scores_csv, summary_text

    from aimless.evaluation.tables import write_text

    output = options.output
    sources = separation.load().stems
    settings = {"model": options.model, "hear": options.hear, **dict(separation.settings)}
    write_text(output / "scores.csv", scores_csv(scores, sources))
    write_text(output / "scores.json", json_text(scores, found.failed, mode, thresholds, settings))
    _write_labels(output, labels_csv(scores, found.failed))
    audible = [score for score in scores if score.active][: options.listen]
    excerpts = cut_excerpts(audible, found.files, output / "excerpts")
    title = f"{printable(options.root.name)} heard by {options.model}"
    page = (scores, excerpts, found.failed, mode, thresholds, "excerpts", title)
    write_text(output / "index.html", html_text(*page))
    print(summary_text(scores))
    again = f", {found.kept} of them measured before" if found.kept else ""
    print(f"{len(found.songs)} songs{again}; listen and decide: {printable(output / 'index.html')}")


def _write_labels(folder: Path, text: str) -> None:
    """What is suggested; labels that somebody has decided on since the last run are kept."""
    from aimless.evaluation.tables import write_text

    labels, suggested = folder / "label_noise.csv", folder / "suggested.csv"
    decided = labels.exists() and not (
        suggested.exists() and labels.read_bytes() == suggested.read_bytes()
    )
    write_text(suggested, text)
    if not decided:
        write_text(labels, text)
    elif labels.read_bytes() != suggested.read_bytes():
        print(f"{printable(labels)} was changed and is kept; suggested.csv has the new verdicts")


if __name__ == "__main__":
    sys.exit(main())
