"""The soak test finds what it is for, and leaves nothing behind; a short one is passed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from aimless.errors import ConfigError
from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from tests.helpers import REPOSITORY

if str(REPOSITORY / "scripts") not in sys.path:  # as it is for a script that is run
    sys.path.append(str(REPOSITORY / "scripts"))

import soak
from soaking.attempt import Attempt
from soaking.checkpoints import damage, differences, find_checkpoints
from soaking.disk import mounted_disk
from soaking.faults import KINDS, draw_faults
from soaking.journal import Entry
from soaking.lap import _saved
from soaking.ledger import Record, table

SOAK = [sys.executable, str(REPOSITORY / "scripts" / "soak.py")]
WRITES = (
    "import itertools, sys, time\n"
    "for number in itertools.count():\n"
    "    try: open(sys.argv[1] + str(number), 'wb').write(bytes(300_000)); print('fits')\n"
    "    except OSError as error: print('full')\n"
    "    sys.stdout.flush(); time.sleep(0.01)\n"
)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, of a short name: sockets lie in it. It is left empty."""
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    monkeypatch.setenv("TMPDIR", str(place))
    yield place
    left = [*place.iterdir(), *(line for line in command_lines() if str(place) in line)]
    with open("/proc/mounts") as mounts:
        left += [line for line in mounts if str(place) in line]
    shutil.rmtree(place)
    assert not left


def command_lines() -> Iterator[str]:
    """Of all processes."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield file.read_bytes().decode(errors="replace")


def checkpoint(step: int) -> dict[str, object]:
    weights = torch.arange(1000.0) + step
    return {"global_step": step, "state_dict": {"weight": weights}, "resume": {"place": "begun"}}


def test_faults_are_drawn_from_the_seed_and_each_kind_comes_in_turn() -> None:
    some = list(islice(draw_faults(3, 1), 2 * len(KINDS)))
    assert some == list(islice(draw_faults(3, 1), 2 * len(KINDS)))
    assert some != list(islice(draw_faults(4, 1), 2 * len(KINDS)))
    for turn in (some[: len(KINDS)], some[len(KINDS) :]):
        assert sorted(fault.kind for fault in turn) == sorted(KINDS)
    assert all(fault.workers for fault in some if fault.kind == "loader killed")


def test_one_changed_bit_of_a_state_is_a_difference() -> None:
    one, other = checkpoint(2), checkpoint(2)
    other["resume"] = {"place": "stepped"}
    assert differences(one, other) == []
    weights = other["state_dict"]["weight"]  # type: ignore[index]
    weights[7] = torch.nextafter(weights[7], torch.tensor(0.0))
    assert differences(one, other) == ["/state_dict/weight"]
    other["optimizer_states"] = [{"step": 1}]
    assert differences(one, other)[:1] == ["/optimizer_states"]


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_damaged_checkpoint_is_no_checkpoint(
    tmp_path: Path, truncated: bool, where: float
) -> None:
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint(checkpoint(step), tmp_path / f"{step}.ckpt")
    newest = find_checkpoints(tmp_path)[-1]
    assert newest.step == 2
    damage(newest.path, where, truncated)
    assert newest.path.stat().st_mtime_ns == newest.modified
    assert [one.step for one in find_checkpoints(tmp_path)] == [1]


def test_what_must_be_saved_follows_from_what_was_over() -> None:
    def entries(*events: tuple[str, int]) -> list[Entry]:
        return [Entry(float(time), 0, 1, *event) for time, event in enumerate(events)]

    # the save after step 4 may not be over before the next batch begins
    seen = entries(("resumed", 0), ("begins", 3), ("done", 4))
    assert _saved(seen, range(0), asynchronous=False) == 2
    seen += entries(("begins", 4))
    assert _saved(seen, range(0), asynchronous=False) == 4
    assert _saved(seen, range(3, 6), asynchronous=False) == 2  # the disk was full
    assert _saved(seen, range(0), asynchronous=True) == 0  # both may be under way
    assert _saved(entries(("resumed", 3), ("begins", 3)), range(0), asynchronous=False) == 3


def test_a_command_that_stays_is_seen_and_ended_with_all_that_it_started(tmp_path: Path) -> None:
    code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork(); time.sleep(60)"
    attempt = Attempt([sys.executable, "-c", code], tmp_path / "attempt", {})
    try:
        while len(attempt.processes()) < 2:
            time.sleep(0.01)
        attempt.send(signal.SIGTERM, attempt.processes())
        assert not attempt.wait(0.3)
    finally:
        attempt.end()
    assert attempt.processes() == []
    assert attempt.main.returncode == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["limit", "tmpfs"])
def test_a_disk_is_full_until_it_is_freed(tmp_path: Path, kind: str) -> None:
    try:
        with mounted_disk(tmp_path / "disk", kind) as disk:
            assert os.path.ismount(disk.folder) == (kind == "tmpfs")
            words = [sys.executable, "-c", WRITES, str(disk.folder / "file")]
            attempt = Attempt(words, tmp_path / "attempt", {})
            try:
                for wanted in ("fits", "full", "fits"):
                    if wanted == "full":
                        disk.fill([attempt.main.pid])
                    else:
                        disk.free([attempt.main.pid])
                    seen = len(attempt.said())
                    until = time.monotonic() + 20
                    while f"{wanted}\n" not in attempt.said()[seen:]:
                        assert time.monotonic() < until, wanted
                        time.sleep(0.01)
            finally:
                attempt.end()
    except ConfigError as error:
        pytest.skip(str(error))
    assert not os.path.ismount(tmp_path / "disk")


def test_the_table_counts_by_kind() -> None:
    some = [
        Record("SIGKILL", "training", 0, 0, -9, 0.5, 7, 6, 1, 4.0),
        Record("SIGKILL", "start", 0, 1, -9, 1.5),
        Record("disk full for a while", "training", 0, 2),
    ]
    _, _, kills, disk = table(some).splitlines()
    assert " ".join(kills.split()) == "SIGKILL 2 -9 1 1 1.0, at most 1.5 4.0, at most 4.0"
    assert " ".join(disk.split()).endswith(" 1 - 0 0 - -")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_soak_loses_nothing(tmp_path: Path, temporary: Path) -> None:
    kinds = ["SIGKILL", "checkpoint truncated", "disk full for a while"]
    words = ["--minutes", "5", "--most", "3", "--steps", "14", "--disk", "limit", "--faults"]
    words += [*kinds, "--json", str(tmp_path / "result.json"), "--patience", "150"]
    done = subprocess.run([*SOAK, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lap 0: ends bit for bit like the quiet run" in done.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["faults"]) == 3
    assert {fault["kind"] for fault in result["faults"]} <= set(kinds)
    assert result["problems"] == []


@pytest.mark.slow
def test_a_soak_that_is_stopped_leaves_nothing(temporary: Path) -> None:
    process = subprocess.Popen(SOAK, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not list(temporary.glob("aimless-soak-*/quiet/attempt0/log.txt")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.kill()
        process.wait()


def test_a_wrong_setting_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        soak.main(["--faults", "earthquake"])
    assert ended.value.code == 2
    (tmp_path / "there").mkdir()
    assert soak.main(["--output", str(tmp_path / "there")]) != 0
    assert "there" in capsys.readouterr().err.splitlines()[-1]
