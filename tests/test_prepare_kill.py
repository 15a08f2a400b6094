"""The scripts that prepare data are killed, run out of space, and go on: nothing is half there."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aimless.draws import generator
from data.check.__main__ import main as check
from tests.prepare_parts import (
    SCRIPTS,
    dnr,
    dnr_words,
    in_child,
    on_file_events,
    split,
    tree,
    voiceless,
    write_collections,
    write_raw,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
NAMES = ("split", "move", "voiceless", "dnr")


@dataclass
class Command:
    """A script with its sources; `words` gives the command line for an output folder."""

    main: Callable[[list[str]], int]
    words: Callable[[Path], list[str]]
    source: Path

    def run(self, output: Path) -> int:
        return self.main(self.words(output))


@pytest.fixture
def command(request: pytest.FixtureRequest, tmp_path: Path) -> Command:
    source, one = tmp_path / "source", ["--workers", "1"]
    if request.param == "dnr":
        roots = write_collections(source)
        # Each collection is its own source, and the picture takes longest.
        return Command(dnr.main, lambda output: dnr_words(roots, output), source)
    write_raw(source, 4)
    if request.param == "voiceless":
        return Command(voiceless.main, lambda out: [str(source), str(out), *one], source)
    how = ["--how", "move" if request.param == "move" else "copy"]
    return Command(split.main, lambda out: [str(source), str(out), *how, *one], source)


def expected(command: Command, folder: Path) -> tuple[dict[str, str], int, float]:
    """What an undisturbed run makes; how many things it does to files, and how long it takes."""
    backup = shutil.copytree(command.source, folder / "backup")
    output, log = folder / "expected", folder / "events"
    log.touch()

    def work() -> int:
        on_file_events(folder, lambda number: os.truncate(log, number))
        return command.run(output)

    began = time.monotonic()
    assert in_child(work).exitcode == 0
    seconds = time.monotonic() - began
    restore(command, backup)
    return tree(output), log.stat().st_size, seconds


def restore(command: Command, backup: Path) -> None:
    """The source as it was, for what is moved."""
    shutil.rmtree(command.source)
    shutil.copytree(backup, command.source)


def kill_at(command: Command, output: Path, event: int) -> int | None:
    """A run that is killed just before it does the n-th thing to a file; its exit status."""

    def work() -> int:
        place = output.parent  # of the source, too
        on_file_events(place, lambda number: number == event and os.kill(os.getpid(), 9))
        return command.run(output)

    return in_child(work).exitcode


@pytest.mark.slow
@pytest.mark.parametrize("command", NAMES, indirect=True)
def test_killed_anywhere_the_next_run_makes_the_same(
    command: Command, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Five random points for each of four commands: before a file operation, or at any time."""
    whole, events, seconds = expected(command, tmp_path)
    source = tree(command.source)
    rng = generator("kill", request.node.name)
    for number in range(5):
        output = tmp_path / f"killed {number}"
        if number < 3:
            status = kill_at(command, output, int(rng.integers(1, events + 1)))
            assert status == -signal.SIGKILL
        else:
            in_child(lambda output=output: command.run(output), seconds * rng.uniform(0.1, 0.9))
        left = tree(output) if output.exists() else {}
        strange = [name for name in left if name not in whole and ".prepare-" not in name]
        assert not strange
        done = [name for name in left if name.endswith((".wav", ".csv")) and ".part" not in name]
        assert all(left[name] == whole[name] for name in done)
        assert command.run(output) == 0
        assert tree(output) == whole
        if "move" in request.node.name:
            assert [name for name in tree(command.source) if "song" in name] == []
            restore(command, tmp_path / "backup")
        assert tree(command.source) == source


@pytest.mark.parametrize("command", ["move"], indirect=True)
def test_killed_again_and_again(command: Command, tmp_path: Path) -> None:
    """Each run gets a little further, and every stem is always in its old place or its new one."""
    whole, _, _ = expected(command, tmp_path)
    stems = {path.relative_to(command.source).as_posix() for path in command.source.glob("song*/*")}
    output = tmp_path / "out"
    kills = 0
    while kill_at(command, output, 20 + 3 * kills) == -signal.SIGKILL:
        kills += 1
        there = {f"{path.parent.name}/{path.name}" for path in output.glob("*/song*/*")}
        assert stems <= tree(command.source).keys() | there
    assert kills > 5
    assert tree(output) == whole


@pytest.mark.slow
def test_with_processes_the_run_ends_and_goes_on(tmp_path: Path) -> None:
    """A worker is killed, Ctrl-C comes from the terminal, the main process is killed; and what two
    processes and one make is the same.
    """
    roots = write_collections(tmp_path / "source")
    output = tmp_path / "out"
    words = dnr_words(roots, output, "--workers", 2, "--mixes", 30)
    ends = {"worker": 3, "terminal": 130, "main": -signal.SIGKILL}
    for victim, status in ends.items():
        before = len(list(output.glob("*/0*")))
        process = start(words)
        wait_for(lambda before=before: len(list(output.glob("*/0*"))) > before)
        workers = children(process.pid)
        assert len(workers) >= 2
        if victim == "terminal":
            os.killpg(process.pid, signal.SIGINT)
        else:
            os.kill(process.pid if victim == "main" else workers[-1], signal.SIGKILL)
        said = process.communicate(timeout=120)[1]
        assert process.returncode == status, said
        wait_for(lambda workers=workers: not any(map(is_running, workers)))
        if victim != "main":
            assert said.count("\n") == 1, said
            assert not [path for path in output.rglob("*") if ".part" in path.name]
    assert dnr.main([*words, "--workers", "1"]) == 0
    assert dnr.main(dnr_words(roots, tmp_path / "whole", "--mixes", 30)) == 0
    assert tree(output) == tree(tmp_path / "whole")


def start(words: list[str]) -> subprocess.Popen[str]:
    """The script in a process group of its own, as a terminal has one."""
    command = [sys.executable, str(SCRIPTS / "convert_to_dnr.py"), *words]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, start_new_session=True, **pipes)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def children(process: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_running(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["split"], indirect=True)
def test_a_signal_leaves_nothing_half_written(
    command: Command, tmp_path: Path, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"

    def work() -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        on_file_events(output, lambda event: event == 25 and os.kill(os.getpid(), number))
        return command.run(output)

    assert in_child(work).exitcode == 128 + number
    assert not [name for name in tree(output) if ".part" in name]
    assert "Traceback" not in capfd.readouterr().err
    assert command.run(output) == 0
    assert check([str(output), "--workers", "1"]) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB, which a raw song with its mixture does not fit into five times."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("command", ["split", "voiceless"], indirect=True)
def test_a_full_disk_is_said_and_gone_on_from(
    command: Command, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _, _ = expected(command, tmp_path)
    output = small_disk / "out"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(350 << 10))
    assert command.run(output) == 3
    error = capsys.readouterr().err
    assert os.strerror(errno.ENOSPC) in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    left = tree(output)
    assert all(left[name] == whole[name] for name in left)
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert command.run(output) == 0
    assert tree(output) == whole


@pytest.mark.parametrize("command", NAMES, indirect=True)
def test_a_limit_on_files_is_said_and_gone_on_from(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be written beyond a size: what a quota does, without the rights for one."""
    whole, _, _ = expected(command, tmp_path)
    output = tmp_path / "out"

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        return command.run(output)

    capfd.readouterr()
    assert in_child(work).exitcode == 3
    error = capfd.readouterr().err
    assert os.strerror(errno.EFBIG) in error
    assert error.count("\n") == 1
    left = tree(output)
    assert all(left[name] == whole[name] for name in left)
    assert command.run(output) == 0
    assert tree(output) == whole


@pytest.mark.parametrize("command", ["split"], indirect=True)
def test_two_runs_at_once_are_refused(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    results = []
    from prepare.output import Output

    with Output(output, split.SPLITS, [command.source]).writing():
        results.append(command.run(output))
    results.append(command.run(output))
    assert results == [2, 0]
    assert capsys.readouterr().err == f"error: {output}: another run writes into it\n"
