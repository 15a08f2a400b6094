"""Runs that Lightning or torchrun has started: what the launcher says, and that nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.distributed.forked import configure, fault
from tests.helpers import REPOSITORY

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def launch(config, *launcher):
    """(exit status, what was said) of a run with two processes."""
    words = [*launcher, "main.py", "fit", "--config", config, "--trainer.devices", "2"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert_none_left(config)
    return done.returncode, done.stderr


def assert_none_left(config, seconds=20):
    deadline = time.monotonic() + seconds
    while left := [pid for pid in Path("/proc").glob("[0-9]*") if config in command_of(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def command_of(process):
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""  # it has ended


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_under_lightning(musdb_root, tmp_path):
    """The process that the user started passes on the status of the one that failed."""
    status, said = launch(configure(musdb_root, tmp_path, fault("kill", rank=1)))
    assert status == 137, said
    assert "error: rank 1: was killed by SIGKILL; rank 0 ends with it" in said
    assert "zombies" not in said
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_under_torchrun(musdb_root, tmp_path):
    """Torchrun's own status is always 1; its report names the process, its status and error."""
    status, said = launch(configure(musdb_root, tmp_path, fault("data")), *TORCHRUN)
    assert status == 1, said
    assert "error: rank 1: /somewhere/vocals.wav: cannot be read" in said
    report = said.partition("Root Cause")[2]
    assert "exitcode  : 3" in report
    assert "DataError: /somewhere/vocals.wav: cannot be read" in report
