"""Train three small separators on synthetic songs, and say how well they separate unseen ones.

Makes 30 songs, trains X-UMX, Band-split RNN and Hybrid Demucs for a fixed number of steps, and
scores them on songs that they have not seen, synthetic ones and a recorded one, against the mixture
taken for every source. Every step is a command, printed before it runs. `make experiment` calls
this script; a run that was stopped goes on with the model that it was at.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import make_synthetic_dataset
import numpy as np
import soundfile
from demo import SONG, decode, find_song
from prepare.command import folder, positive, run
from prepare.output import making, to_json, write_file
from synthetic.learning import (
    BASELINE,
    Curve,
    draw,
    insert,
    means,
    read_curves,
    read_scores,
    table,
)

import aimless.cli
from aimless.errors import AimlessError, NumericalError

REPOSITORY = Path(__file__).resolve().parent.parent
#: Model -> what to call it; its config is cfg/experiment/<model>.yaml.
MODELS = {"xumx": "X-UMX", "bandsplit_rnn": "Band-split RNN", "hdemucs": "Hybrid Demucs"}
_GENERATOR = "python scripts/make_synthetic_dataset.py"
#: What every model must reach in mean SDR: dB above the mixture, and above that of silence, 0 dB.
LEAST_GAIN, LEAST_SDR = 3.0, 0.0
DOCUMENT, PICTURE = REPOSITORY / "docs/experiments.md", REPOSITORY / "docs/pictures/learning.png"


class Size(NamedTuple):
    """How much is made and trained.

    Attributes:
        songs: options of make_synthetic_dataset.py.
        training: options of `main.py fit`.
        steps: of the optimizer; None: as the config says.
    """

    songs: tuple[str, ...]
    training: tuple[str, ...] = ()
    steps: int | None = None


FULL = Size(("--train", "24", "--validation", "2", "--test", "4", "--seconds", "30", "40"))
QUICK = Size(
    ("--train", "3", "--validation", "1", "--test", "1", "--seconds", "5", "--plain"),
    ("--data.init_args.seq_duration", "1", "--data.init_args.batch_size", "2"),
    24,
)


class FailedError(AimlessError):
    """A command has failed, and has said why."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the last command ended with status {status}")
        self.exit_code = status


def main(words: Sequence[str] | None = None) -> int:
    """Run the experiment; returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--output", type=folder, default=folder("experiment"), metavar="DIR", help="(experiment)")
    add("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS), help="(all)")
    add("--steps", type=positive, metavar="N", help="training steps (those of each config)")
    add("--quick", action="store_true", help="a minute: few steps, short songs; only that it runs")
    add(
        "--document",
        action="store_true",
        help="write table and curves to docs/experiments.md and docs/pictures",
    )
    return run(parser, _experiment, words)


def _experiment(options: argparse.Namespace) -> list[str]:
    began = time.monotonic()
    size = QUICK if options.quick else FULL
    size = size._replace(steps=options.steps or size.steps)
    output: Path = options.output
    songs = {"synthetic": output / "songs", "recorded": output / "recorded"}
    _call(make_synthetic_dataset.main, _GENERATOR, songs["synthetic"], *size.songs)
    _write_recorded(songs["recorded"])
    for model in options.models:
        if not (output / model / "last.ckpt").exists():
            _train(model, output, songs["synthetic"], size)
    for name, root in songs.items():
        _score(output, name, root, BASELINE, "--baseline", "mixture")
        for model in options.models:
            _score(output, name, root, model, "--model", str(output / model / "last.ckpt"))
    _report(options, time.monotonic() - began)
    return []


def _write_recorded(root: Path) -> None:
    """The recorded song as a data set of one song to test on."""
    place = root / "test" / SONG
    if place.is_dir():
        return
    streams, rate = decode(find_song())
    place.parent.mkdir(parents=True, exist_ok=True)
    with making(place) as part:
        part.mkdir()
        for name, samples in streams.items():
            soundfile.write(part / f"{name}.wav", samples, rate, subtype="FLOAT")


def _train(model: str, output: Path, songs: Path, size: Size) -> None:
    """Train a model from the beginning; `last.ckpt` and `curves` are there when it is done."""
    here = output / model
    shutil.rmtree(here, ignore_errors=True)
    words = ["--config", f"cfg/experiment/{model}.yaml", "--data.init_args.root", songs]
    words += ["--trainer.default_root_dir", here, "--trainer.logger.init_args.save_dir", here]
    if size.steps is not None:
        words += ["--trainer.max_steps", size.steps, "--trainer.val_check_interval", size.steps]
        schedule = "--lr_scheduler.init_args."
        words += [f"{schedule}total_steps", size.steps, f"{schedule}warmup_steps", size.steps // 8]
    _train_apart("fit", *words, *size.training)
    log = next(here.glob("lightning_logs/version_0"))
    (here / "curves").mkdir()
    shutil.copyfile(log / "metrics.csv", here / "curves" / "metrics.csv")
    with making(here / "last.ckpt") as part:
        shutil.copyfile(log / "checkpoints" / "last.ckpt", part)


def _score(output: Path, name: str, songs: Path, what: str, *estimates: str) -> None:
    """Scores as JSON, unless they are newer than what they are of."""
    path = output / "scores" / name / f"{what}.json"
    checkpoint = output / what / "last.ckpt"
    newest = checkpoint.stat().st_mtime if checkpoint.exists() else 0
    if path.exists() and path.stat().st_mtime > newest:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    words = ["--metrics", "sdr", "bss_eval", "--json", path, "--overwrite"]
    _call(aimless.cli.main, "aimless", "evaluate", songs, *estimates, *words)


def _call(command: Callable[[list[str]], int], name: str, *words: object) -> None:
    """A command in this process, shown before it runs."""
    texts = [str(word) for word in words]
    print(f"\n$ {name} {shlex.join(texts)}", flush=True)
    status = command(texts)
    if status:
        raise FailedError(status)


def _train_apart(*words: object) -> None:
    """A command of main.py, which sets up a process for itself."""
    texts = ["main.py", *map(str, words)]
    print(f"\n$ python {shlex.join(texts)}", flush=True)
    status = subprocess.run([sys.executable, *texts], cwd=REPOSITORY).returncode
    if status:
        raise FailedError(status)


def _report(options: argparse.Namespace, seconds: float) -> None:
    """Table, curves, and whether everything learned something."""
    output: Path = options.output
    titles = {model: MODELS[model] for model in options.models}
    scores = read_scores(output / "scores", options.models)
    curves = {model: read_curves(output / model / "curves/metrics.csv") for model in titles}
    text, picture = table(scores, titles), draw(curves, titles)
    write_file(output / "table.md", (text + "\n").encode())
    write_file(output / "table.json", to_json(scores))
    write_file(output / "learning.png", picture)
    print(f"\n{text}\n\n{output}: table.md, table.json, learning.png ({seconds:.0f} s in all)")
    if options.document:
        write_file(DOCUMENT, insert(DOCUMENT.read_text(), "experiment", text).encode())
        PICTURE.parent.mkdir(exist_ok=True)
        write_file(PICTURE, picture)
    if options.quick:
        _require_falling_losses({model: named["train/loss"] for model, named in curves.items()})
    else:
        require_learning(means(scores))


def _require_falling_losses(losses: dict[str, Curve]) -> None:
    for model, loss in losses.items():
        quarter = max(1, len(loss.values) // 4)
        first, last = (np.mean(part) for part in (loss.values[:quarter], loss.values[-quarter:]))
        if not last < first:
            raise NumericalError(f"{model}: the loss did not fall, {first:.3g} to {last:.3g}")


def require_learning(sdr: dict[str, float]) -> None:
    """Check that models separate.

    Args:
        sdr: mean SDR of the mixture and of each model on unseen songs, dB.

    Raises:
        NumericalError: a model is not better than silence, or not clearly than the mixture.
    """
    for model in (name for name in sdr if name != BASELINE):
        gain = sdr[model] - sdr[BASELINE]
        if not sdr[model] > LEAST_SDR:
            raise NumericalError(
                f"{model}: mean SDR {sdr[model]:.2f} dB on unseen songs, wanted above "
                f"{LEAST_SDR:g} dB, which silence has"
            )
        if not gain >= LEAST_GAIN:
            raise NumericalError(
                f"{model}: mean SDR {gain:.2f} dB above the mixture on unseen songs, wanted at "
                f"least {LEAST_GAIN:g} dB"
            )


if __name__ == "__main__":
    sys.exit(main())
