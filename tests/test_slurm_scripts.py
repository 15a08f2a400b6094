"""The templates for SLURM, with stand-ins for its commands."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time

import pytest

from tests.helpers import REPOSITORY

TEMPLATES = sorted((REPOSITORY / "scripts" / "slurm").glob("*.sbatch"))


def stand_in(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def slurm(tmp_path):
    """`srun` that notes its arguments and ends as told, `scontrol` that notes its own."""
    stand_in(
        tmp_path,
        "srun",
        f'echo "$@" > {tmp_path}/srun.txt; echo $SRUN_CPUS_PER_TASK > {tmp_path}/cores.txt; '
        "sleep $LASTS; exit $STATUS",
    )
    stand_in(tmp_path, "scontrol", f'echo "$@" > {tmp_path}/scontrol.txt')
    return tmp_path


def start(template, folder, status, lasts=0):
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_CPUS_PER_TASK": "8",
        "STATUS": str(status),
        "LASTS": str(lasts),
    }
    words = ["bash", template, "--config", "a file.yaml"]
    return subprocess.Popen(words, env=environment, cwd=folder)


def test_there_are_templates_for_one_node_and_several():
    assert [path.stem for path in TEMPLATES] == ["train", "train_multinode"]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("status", [0, 2, 3, 130, 143])
def test_only_a_run_that_was_preempted_is_queued_again(template, status, slurm):
    assert start(template, slurm, status).wait(20) == status
    words = (slurm / "srun.txt").read_text().split()
    assert words[:4] == ["--kill-on-bad-exit=0", "python", "main.py", "fit"]
    assert "--config a file.yaml --ckpt_path auto" in " ".join(words)
    assert (slurm / "cores.txt").read_text() == "8\n"
    assert words[-4:] == ["--trainer.num_nodes", "2", "--trainer.devices", "4"]
    requeued = slurm / "scontrol.txt"
    assert requeued.exists() == (status == 143)
    if status == 143:
        assert requeued.read_text() == "requeue 1234\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_shell_outlives_the_signal_of_the_preemption(number, slurm):
    job = start(TEMPLATES[0], slurm, 143, lasts=1)
    while not (slurm / "srun.txt").exists():
        time.sleep(0.01)
    job.send_signal(number)
    assert job.wait(20) == 143
    assert (slurm / "scontrol.txt").exists()
