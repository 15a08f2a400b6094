"""How many planted label errors `scripts/find_label_noise.py` finds, and how many it makes up.

Makes two synthetic sets of different songs, one clean and one with swapped stems and parts in the
wrong stem. A small X-UMX is trained on each: the first hears the stems of the second set, the
second is asked which labels of its own training set it could not learn. A run that was stopped is
gone on with; another folder, or no folder, begins anew.

    python benchmarks/label_noise.py --folder runs/label_noise
"""

from __future__ import annotations

import argparse
import csv
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = "cfg/experiment/xumx.yaml"
RATE = 16000
#: What is smaller than in the config, so that training takes minutes on one core.
SMALL = {
    "data.init_args.sample_rate": RATE,
    "data.init_args.seq_duration": 2.0,
    "model.init_args.sample_rate": RATE,
    "model.init_args.n_fft": 1024,
    "model.init_args.hop_length": 256,
    "model.init_args.n_iter": 0,
    "model.init_args.softmask": True,
    "model.init_args.model.init_args.hidden_channels": 64,
    "model.init_args.model.init_args.max_bins": 513,
    "model.init_args.model.init_args.nb_layers": 1,
    "model.init_args.criterion.init_args.n_iter": 0,
    "model.init_args.criterion.init_args.softmask": True,
    "trainer.limit_val_batches": 0,
}
#: kind of error -> what it should be called
CALLED = {"swap": "wrong label", "misplaced": "bleeding"}

Stem = tuple[str, str]


def run(*arguments: str | Path) -> None:
    """One command of Python, shown before it runs."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    began = time.monotonic()
    subprocess.run([sys.executable, *words], cwd=REPOSITORY, check=True)
    print(f"({time.monotonic() - began:.0f} s)", flush=True)


def make_sets(folder: Path, options: argparse.Namespace) -> None:
    """`clean`, as MUSDB, and `noisy`, as SDX23's label-noise set."""
    make = "scripts/make_synthetic_dataset.py"
    length = ["--seconds", str(options.seconds), "--sample-rate", str(RATE)]
    length += ["--workers", str(options.workers)]
    few = ["--validation", "1", "--test", "1"]
    train = ["--train", str(options.songs)]
    run(make, folder / "clean", "--seed", "1", *train, *few, *length)
    noisy = ["--layout", "label_noise", "--errors", str(options.errors), "--seed", "2"]
    run(make, folder / "noisy", *noisy, *train, *few, *length)


def train(folder: Path, data: str, root: Path, steps: int) -> Path:
    """A checkpoint of the small X-UMX, trained on a set."""
    done = folder / f"{steps}.done"
    if not done.exists():
        settings = {
            **SMALL,
            "data.init_args.root": root,
            "trainer.max_steps": steps,
            "lr_scheduler.init_args.total_steps": steps,
            "trainer.default_root_dir": folder,
            "trainer.logger.init_args.save_dir": folder,
        }
        words = [f"--{key}={value}" for key, value in settings.items()]
        run("main.py", "fit", "--config", CONFIG, "--data", data, *words)
        done.touch()
    return max(folder.rglob("last.ckpt"), key=os.path.getmtime)


def planted(path: Path) -> dict[Stem, str]:
    """Stems that hold what is not theirs -> kind of the error."""
    errors: dict[Stem, str] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            errors[row["ID"], row["other"]] = row["kind"]
            if row["kind"] == "swap":
                errors[row["ID"], row["stem"]] = "swap"
    return errors


def suggested(path: Path) -> dict[Stem, tuple[str, float]]:
    """Stem -> suggested verdict and suspicion, of stems that are not silent."""
    with open(path, newline="") as file:
        return {
            (row["song"], row["stem"]): (row["verdict"], float(row["suspicion"]))
            for row in csv.DictReader(file)
            if row["verdict"] != "silent"
        }


def rates(found: set[Stem], there: set[Stem]) -> str:
    """Precision and recall, in per cent."""
    hits = len(found & there)
    precision = f"{100 * hits / len(found):.0f}" if found else "-"
    recall = f"{100 * hits / len(there):.0f}" if there else "-"
    return f"{precision:>5} / {recall:<5}"


def average_precision(scores: dict[Stem, tuple[str, float]], there: set[Stem]) -> float:
    """Mean over the errors of the precision at their rank by suspicion, 1 at best."""
    ranked = sorted(scores, key=lambda stem: -scores[stem][1])
    hits = np.array([stem in there for stem in ranked])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def report(name: str, scores: dict[Stem, tuple[str, float]], errors: dict[Stem, str]) -> str:
    """A row of the table: errors at all, then each kind under its own verdict."""
    there = {stem for stem in errors if stem in scores}
    cells = [rates({stem for stem, (verdict, _) in scores.items() if verdict != "clean"}, there)]
    for kind, called in CALLED.items():
        found = {stem for stem, (verdict, _) in scores.items() if verdict == called}
        cells.append(rates(found, {stem for stem in there if errors[stem] == kind}))
    return f"{name:<32} {'  '.join(cells)}  {average_precision(scores, there):.2f}"


def main() -> None:
    """The benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/label_noise"))
    parser.add_argument("--songs", type=int, default=40, help="in each set (40)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a song (30)")
    parser.add_argument("--errors", type=float, default=0.5, help="share of songs with one (0.5)")
    parser.add_argument("--steps", type=int, default=600, help="of training, a multiple of 50")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    folder = Path(os.path.abspath(options.folder))
    make_sets(folder, options)
    musdb = train(
        folder / "trained on clean", "data.lightning.MUSDB", folder / "clean", options.steps
    )
    own = train(
        folder / "trained on noisy", "data.lightning.Bleed", folder / "noisy", options.steps
    )
    errors = planted(folder / "noisy" / "planted.csv")
    trials = {
        "hearing stems": (musdb, ["--hear", "stem"]),
        "hearing mixtures": (musdb, ["--hear", "mixture"]),
        "hearing both": (musdb, []),
        "from training on the set": (own, ["--from-training"]),
        "hearing both, trained on the set": (own, []),
    }
    rows = []
    for name, (model, words) in trials.items():
        output = folder / name.replace(" ", "_").replace(",", "")
        find = ["scripts/find_label_noise.py", folder / "noisy", "-m", model, "-o", output]
        run(*find, "--listen", "0", "--workers", str(options.workers), *words)
        rows.append(report(name, suggested(output / "scores.csv"), errors))
    kinds = list(errors.values())
    print(f"\n{options.songs} songs of {options.seconds:g} s, {options.steps} steps of training;")
    print(", ".join(f"{kinds.count(kind)} stems {kind}" for kind in CALLED))
    print(
        f"{'precision / recall in %':<32} {'any error':^13}  {'swapped':^13}  {'misplaced':^13}  AP"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
