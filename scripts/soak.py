"""Train for minutes under kills, signals, full disks and damage, and lose nothing.

A small network trains on synthetic songs, once in quiet, and then again and again while faults
come at random: SIGKILL, SIGTERM, SIGUSR1, Ctrl-C, a full disk, a damaged newest checkpoint, a
deleted track, a killed loader process. After each the same command goes on. At the end weights,
optimizer state and averaged weights must be those of the quiet run, bit for bit, and no more may
have been done twice than the steps since the last save. `make soak MINUTES=10` calls this script.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice, pairwise
from pathlib import Path

import make_synthetic_dataset
from prepare.command import folder, number, positive, run, seed
from prepare.output import to_json, write_file
from soaking.checkpoints import differences, find_checkpoints, load
from soaking.disk import Disk, mounted_disk
from soaking.experiment import REPOSITORY, songs_words
from soaking.faults import KINDS, Fault, draw_faults
from soaking.lap import Lap, Settings
from soaking.ledger import Record, as_json, table
from soaking.sabotage import Saboteur

from aimless.errors import AimlessError

_EPILOG = """\
All faults and their moments are drawn from --seed, but where in a step they hit depends on the
machine. Everything that is started is ended, also by Ctrl-C and SIGTERM. The working folder is
removed, unless --output names it or something went wrong.

exit status: 0 nothing was lost; 1 something was, or hung; 2 a setting is wrong; 130 and 143 stopped
by Ctrl-C and by a signal
"""


class LostError(AimlessError):
    """The run did not survive."""

    exit_code = 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the test; returns its exit status."""
    return run(_parser(), _soak, words)


def _soak(options: argparse.Namespace) -> list[str]:
    began = time.monotonic()
    with _workplace(options.output) as place, mounted_disk(place / "disk", options.disk) as disk:
        settings = _prepare(place, options)
        quiet, step_seconds, start_seconds = _run_quietly(settings)
        print(
            f"quiet: {settings.steps} steps, {step_seconds:.2f} s each, start {start_seconds:.1f} s"
        )
        songs = sorted((settings.songs / "train").glob("Synthetic*"))
        saboteur = Saboteur(disk, songs, step_seconds, start_seconds, options.patience)
        until = time.monotonic() + 60 * options.minutes
        records: list[Record] = []
        problems: list[str] = []
        for lap in count():
            more = options.most and options.most - len(records)
            faults = islice(draw_faults(options.seed, lap, options.faults), more)
            problems += _disturb(lap, settings, disk, saboteur, _in_time(faults, until), records)
            problems += _compare(lap, quiet, disk, settings) if not problems else []
            shutil.rmtree(disk.folder / f"lap{lap}")
            if problems or time.monotonic() > until or len(records) >= (options.most or math.inf):
                break
        _report(options, disk, records, problems, lap + 1, time.monotonic() - began)
        if problems:
            raise LostError("\n  ".join([f"{len(problems)} problems; see {place}", *problems]))
    return []


@contextlib.contextmanager
def _workplace(wanted: Path | None) -> Iterator[Path]:
    """A folder to work in; one of ours is kept if something was lost."""
    if wanted is not None:
        wanted.mkdir(parents=True)
        yield wanted
        return
    place = Path(tempfile.mkdtemp(prefix="aimless-soak-"))
    try:
        yield place
    except LostError:
        raise
    except BaseException:
        shutil.rmtree(place)
        raise
    shutil.rmtree(place)


def _prepare(place: Path, options: argparse.Namespace) -> Settings:
    (place / "tmp").mkdir()
    path = [str(REPOSITORY / "scripts"), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "AIMLESS_CACHE": str(place / "cache"),
        "TMPDIR": str(place / "tmp"),
    }
    with contextlib.redirect_stdout(None):
        if status := make_synthetic_dataset.main(songs_words(place / "songs")):
            raise AimlessError(f"the songs could not be made, status {status}")
    return Settings(
        place,
        place / "songs",
        options.processes,
        options.steps,
        options.patience,
        environment,
        _say,
    )


def _run_quietly(settings: Settings) -> tuple[Path, float, float]:
    """The run as it should be: its last checkpoint, seconds per step, seconds to the first."""
    output = settings.folder / "quiet-run"
    lap = Lap("quiet", -1, settings, output)
    attempt = lap.start()
    try:
        finished = attempt.wait(10 * settings.patience)
    finally:
        attempt.end()
    found = find_checkpoints(output)
    if not finished or attempt.main.returncode or not found:
        raise LostError(f"the quiet run did not finish: see {attempt.log}")
    first: dict[int, float] = {}
    for entry in attempt.entries("begins"):
        first.setdefault(entry.step, entry.seconds)
    times = [first[step] for step in sorted(first)]
    steps = statistics.median(after - before for before, after in pairwise(times))
    return found[-1].path, steps, times[0] - attempt.began


def _disturb(
    lap: int,
    settings: Settings,
    disk: Disk,
    saboteur: Saboteur,
    faults: Iterator[Fault],
    records: list[Record],
) -> list[str]:
    """One training run under faults; what must not be."""
    output = disk.folder / f"lap{lap}"
    one = Lap(f"lap{lap}", lap, settings, output, one_folder=lap % 2 == 0)
    try:
        one.run_through(faults, saboteur)
    finally:
        records += one.records
    return one.problems


def _in_time(faults: Iterator[Fault], until: float) -> Iterator[Fault]:
    """Faults as long as there is time."""
    for fault in faults:
        if time.monotonic() > until:
            return
        yield fault


def _compare(lap: int, quiet: Path, disk: Disk, settings: Settings) -> list[str]:
    newest = find_checkpoints(disk.folder / f"lap{lap}")[-1].path
    names = differences(load(quiet), load(newest))
    if not names:
        _say(f"lap {lap}: ends bit for bit like the quiet run")
        return []
    log = settings.folder / f"lap{lap}" / "differences.txt"
    log.write_text("\n".join(names) + "\n")
    return [f"{log}: {len(names)} values differ from the quiet run's, {names[0]} among them"]


def _report(
    options: argparse.Namespace,
    disk: Disk,
    records: list[Record],
    problems: list[str],
    laps: int,
    seconds: float,
) -> None:
    print(f"\n{table(records)}\n")
    print(
        f"{len(records)} faults in {laps} runs of {options.steps} steps on {options.processes} "
        f"process{'es'[: 2 * (options.processes > 1)]}, {seconds / 60:.1f} minutes; full disks by "
        f"{disk.name}; {len(problems)} problems"
    )
    if options.json:
        settings = {name: getattr(options, name) for name in ("seed", "steps", "processes")}
        more = {**settings, "laps": laps, "disk": disk.name, "seconds": seconds}
        write_file(options.json, to_json(as_json(records, problems=problems, **more)))


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=number(0, 1e6), default=10.0, metavar="M", help="of faults (10)")
    add("--processes", type=int, choices=(1, 2), default=1, help="that train (1)")
    add("--seed", type=seed, default=0, metavar="N", help="of the faults (0)")
    patience = number(1, 3600)
    add("--patience", type=patience, default=60.0, metavar="S", help="for a run to leave (60)")
    add("--steps", type=positive, default=48, metavar="N", help="of each training run (48)")
    add("--faults", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help="(all)")
    add("--most", type=positive, metavar="N", help="faults, whatever the time")
    add(
        "--disk",
        choices=("auto", "tmpfs", "limit"),
        default="auto",
        help="what gets full: a small file system, which root may mount, or a limit on the size of "
        "files (tmpfs for root)",
    )
    add("--output", type=folder, metavar="DIR", help="new folder to work in, and to be kept")
    add("--json", type=folder, metavar="FILE", help="write each fault and what came of it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
