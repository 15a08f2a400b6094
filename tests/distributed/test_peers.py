"""Processes that wait for nobody in a collective operation still learn that another one is gone."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import distributed

from aimless.errors import ConfigError, DataError
from aimless.lightning import peers
from aimless.lightning.launcher import Failure, ScriptLauncher
from aimless.lightning.peers import Peers
from aimless.lightning.processes import Processes, is_lost
from aimless.lightning.resume import check_agreement

pytestmark = pytest.mark.timeout(120)
WORLD = 3


def be_rank(rank, port, behave, timeout):
    distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=30),
    )
    peers._SUDDEN = peers._ANNOUNCED = 0.5
    one = Peers(rank, WORLD, timeout)
    one.begin()
    one.meet()
    behave(one)
    os._exit(0)


def run_ranks(behave, timeout=20):
    """Exit statuses of processes that behave in a way."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=be_rank, args=(rank, port, behave, timeout)) for rank in range(WORLD)
    ]
    try:
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(30)
        return [process.exitcode for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.join()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_gone_ends_those_that_are_busy(lost):
    def behave(one):
        if one.rank == lost:
            os._exit(9)
        time.sleep(100)

    statuses = run_ranks(behave)
    assert statuses == [9 if rank == lost else 1 for rank in range(WORLD)]


@pytest.mark.parametrize("failing", [0, 2])
def test_all_end_with_the_status_that_was_announced(failing):
    def behave(one):
        if one.rank == failing:
            one.announce(Failure(failing, 3, "some.wav: cannot be read"))
            one.end(well=False)
            os._exit(3)
        time.sleep(100)

    assert run_ranks(behave) == [3] * WORLD


def test_the_first_failure_counts_and_all_see_it():
    def behave(one):
        one.leaving.set()
        time.sleep(0.3 * one.rank)
        one.announce(Failure(one.rank, 4 + one.rank, "its own"))
        time.sleep(0.3 * WORLD)
        assert one.failure() == Failure(0, 4, "its own")
        one.end(well=False)
        os._exit(0)

    assert run_ranks(behave) == [0] * WORLD


def test_a_process_that_is_done_is_not_missed():
    """The first waits for the last, and takes nobody for lost who is done."""

    def behave(one):
        time.sleep(2 * (one.rank == 1))
        assert one.end(well=True) is None

    assert run_ranks(behave) == [0] * WORLD


def test_who_is_done_waits_for_as_long_as_the_others_live():
    """Songs to separate are of different lengths."""

    def behave(one):
        time.sleep(3 * (one.rank == 1))
        assert one.end(well=True) is None

    assert run_ranks(behave, timeout=0.5) == [0] * WORLD


def test_a_store_that_does_not_answer_is_waited_for_a_while_only(monkeypatch):
    """Process 0 has stopped, and each thread "peers" is in the middle of asking its store."""
    monkeypatch.setattr(peers, "_HEARING", 1.0)

    def behave(one):
        one._ask("set", f"ready/{one.rank}", "1")
        if one.rank == 0:
            while not one._ask("check", ["ready/1", "ready/2"]):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(3)
        began = time.monotonic()
        assert one.first("save") == (one.rank == 1)
        assert one.failure() == Failure(0, 1, "gives no answer")
        one.end(well=False)
        assert time.monotonic() - began < 20
        if one.rank == 1:
            os.kill(one._neighbours[0][0], signal.SIGKILL)

    assert run_ranks(behave) == [-signal.SIGKILL, 0, 0]


def test_a_process_that_cannot_be_looked_at_is_not_gone(monkeypatch):
    start = peers._start_of(os.getpid())
    assert not peers._has_ended(os.getpid(), start)

    def refuse(path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(peers.Path, "read_text", refuse)
    assert not peers._has_ended(os.getpid(), start)


def test_all_must_go_on_from_the_same_file(tmp_path):
    for name in ("a.ckpt", "b.ckpt"):
        (tmp_path / name).write_bytes(b"same size")

    def behave(one):
        check_agreement(tmp_path / "a.ckpt")
        with pytest.raises(DataError, match=r"0 would begin from a\.ckpt, process 1 from b\.ckpt;"):
            check_agreement(tmp_path / ("b.ckpt" if one.rank == 1 else "a.ckpt"))
        with pytest.raises(DataError, match=r"from a\.ckpt, process 2 from the start; all need to"):
            check_agreement(None if one.rank == 2 else tmp_path / "a.ckpt")
        one.end(well=True)

    assert run_ranks(behave) == [0] * WORLD


def test_a_process_that_fails_at_the_end_is_not_passed_over():
    def behave(one):
        if one.rank == 1:
            time.sleep(0.5)
            os._exit(7)
        found = one.end(well=True)
        assert (found is None) == (one.rank == 2)
        if one.rank == 0:
            assert found.rank == 1

    assert run_ranks(behave) == [0, 7, 0]


def test_one_process_alone_is_the_first():
    def behave(one):
        mine = one.first("save")
        assert one.end(well=True) is None  # process 0 waits until the others have asked
        os._exit(10 + mine)

    assert sorted(run_ranks(behave)) == [10] * (WORLD - 1) + [11]


# its first thread ends, the second one a moment later, as when a busy machine kills a process
ENDS_SLOWLY = """
import ctypes, os, signal, threading, time
def end():
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=end).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_process_is_gone_before_its_status_is_there():
    launcher = ScriptLauncher(LightningEnvironment(), num_processes=2, num_nodes=1)
    with subprocess.Popen([sys.executable, "-c", ENDS_SLOWLY]) as process:
        launcher.procs = [process]
        while peers._start_of(process.pid) is not None:
            time.sleep(0.01)
        assert launcher.failures() == []
        assert launcher.failure_of(1) == Failure(1, 137, "was killed by SIGKILL")
        assert launcher.failures() == [launcher.failure_of(1)]
        assert launcher.failure_of(2) is None


def test_who_had_to_be_killed_is_told():
    launcher = ScriptLauncher(LightningEnvironment(), num_processes=3, num_nodes=1)
    commands = ["", "import time; time.sleep(100)"]
    launcher.procs = [subprocess.Popen([sys.executable, "-c", command]) for command in commands]
    launcher.procs[0].wait()
    assert launcher.wait(0.1) == [Failure(2, 1, "did not end within 0.1 s")]


def test_what_counts_as_lost():
    assert is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    assert is_lost(RuntimeError("Application timeout caused pair closure"))
    assert is_lost(distributed.DistNetworkError("Broken pipe"))
    assert not is_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_lost(ValueError("gloo"))


def test_a_timeout_must_be_above_0():
    with pytest.raises(ConfigError, match=r"processes\.timeout: 0; must be above 0"):
        Processes(0)
