"""Runs that torchrun, SLURM or several machines start: none needs to be told how many they are."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

import pytest
import torch

from aimless.errors import ConfigError
from aimless.lightning.launched import follow_launcher
from tests.distributed.forked import run_ranks
from tests.distributed.parts import recorded, records
from tests.helpers import REPOSITORY, main

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def launcher(*options):
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", *options]


def start(words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def finish(processes, seconds=200):
    """What each of them said; none is left."""
    try:
        said = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.terminate()  # torchrun takes its own with it
            process.wait(30)
    assert [process.returncode for process in processes] == [0] * len(processes), "".join(said)
    return "".join(said)


def check(folder, said, processes=2):
    """One run of all processes, which said everything once, and saved once."""
    saved = torch.load(next(folder.rglob("last.ckpt")), weights_only=True)
    assert saved["global_step"] == 8 // (2 * processes)  # items, and those of a step
    assert saved["resume"]["processes"] == processes
    assert len(list(folder.rglob("metrics.csv"))) == 1
    assert len(list(folder.rglob("*.ckpt"))) == 2  # the best, and the last
    assert len(records(folder)) == processes
    if said is not None:
        for once in ("Separates drums, bass, other, vocals", "Total params", "max_epochs=1"):
            assert said.count(once) == 1, said
        assert "Warning" not in said, said


@pytest.mark.slow
def test_torchrun_on_one_machine(musdb_root, tmp_path):
    words = ["main.py", "fit", "--config", recorded(musdb_root, tmp_path)]
    check(tmp_path, finish([start([*launcher("2"), "--standalone", *words])]))


@pytest.fixture
def machines():
    """Two network namespaces that only a cable connects: names and addresses."""
    tag = secrets.token_hex(3)
    names = [f"aimless-{tag}-{number}" for number in range(2)]
    ends = [f"aim{tag}{number}" for number in range(2)]
    addresses = ["10.213.7.1", "10.213.7.2"]
    commands = [f"ip netns add {name}" for name in names]
    commands.append(f"ip link add {ends[0]} type veth peer name {ends[1]}")
    for name, end, address in zip(names, ends, addresses):
        commands.append(f"ip link set {end} netns {name}")
        commands.append(f"ip -n {name} address add {address}/24 dev {end}")
        commands += [f"ip -n {name} link set {device} up" for device in (end, "lo")]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        remove(names)
        pytest.skip(f"no network namespaces: {getattr(error, 'stderr', None) or error}")
    yield list(zip(names, ends, addresses))
    remove(names)


def remove(names):
    """The cable goes with its ends."""
    for name in names:
        if os.path.exists(f"/var/run/netns/{name}"):
            subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.slow
def test_torchrun_on_two_machines(machines, musdb_root, tmp_path):
    words = ["main.py", "fit", "--config", recorded(musdb_root, tmp_path)]
    meet = ["--nnodes", "2", "--master-addr", machines[0][2], "--master-port", "29400"]
    started = []
    for rank, (name, end, address) in enumerate(machines):
        inside = ["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={end}"]
        about = ["--node-rank", str(rank), "--local-addr", address]
        started.append(start([*inside, *launcher("1"), *meet, *about, *words]))
    check(tmp_path, finish(started))


def slurm(rank, world, port):
    """What srun tells the tasks of a job of one node."""
    return {
        "SLURM_JOB_ID": 4711,
        "SLURM_JOB_NAME": "aimless",
        "SLURM_NTASKS": world,
        "SLURM_NTASKS_PER_NODE": world,
        "SLURM_NNODES": 1,
        "SLURM_NODELIST": "localhost",
        "SLURM_NODEID": 0,
        "SLURM_PROCID": rank,
        "SLURM_LOCALID": rank,
        "MASTER_PORT": port,
    }


def test_slurm(musdb_root, tmp_path):
    config = recorded(musdb_root, tmp_path)
    ended = run_ranks(tmp_path, "fit", "--config", config, launcher=slurm, seconds=200)
    assert ended.statuses == [0, 0], ended.said
    check(tmp_path, None)


class TestFollowLauncher:
    @pytest.fixture(params=["torchrun", "SLURM"])
    def launched(self, request, monkeypatch):
        """Two processes on each of three machines."""
        said = {
            "torchrun": {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"},
            "SLURM": {"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "3"},
        }
        for name, value in said[request.param].items():
            monkeypatch.setenv(name, value)
        return request.param

    @pytest.mark.parametrize("devices", [None, "auto", -1, "-1"])
    def test_what_the_config_leaves_open(self, launched, devices):
        assert follow_launcher({"devices": devices}) == {"devices": 2, "num_nodes": 3}

    @pytest.mark.parametrize("devices", [2, "2", [0, 3], "0,3"])
    def test_what_the_config_says(self, launched, devices):
        assert follow_launcher({"devices": devices, "num_nodes": 3}) == {}

    @pytest.mark.parametrize(
        ("stated", "message"),
        [
            ({"devices": 4}, r"trainer.devices: 4, but \w+ has started 2 processes per machine"),
            ({"devices": "0,"}, "trainer.devices: 0,, but .* say 2"),
            ({"num_nodes": 2}, r"trainer.num_nodes: 2, but \w+ has started 3 machines"),
        ],
    )
    def test_what_does_not_fit(self, launched, stated, message):
        with pytest.raises(ConfigError, match=message):
            follow_launcher(stated)

    def test_without_a_launcher(self, monkeypatch):
        for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"):
            monkeypatch.delenv(name, raising=False)
        assert follow_launcher({"devices": 2}) == {}

    def test_uneven_machines(self, monkeypatch):
        for name, value in {"RUN_ID": "a"}.items():
            monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        monkeypatch.setenv("WORLD_SIZE", "3")
        with pytest.raises(ConfigError, match="the same on all machines"):
            follow_launcher({})

    def test_a_mismatch_is_one_line(self, monkeypatch, musdb_root, tmp_path, capsys):
        for name, value in {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2", "RANK": "0"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
        config = recorded(musdb_root, tmp_path)
        assert main("fit", "--config", config, "--trainer.devices", "3") == 2
        said = capsys.readouterr().err
        assert "error: trainer.devices: 3, but torchrun has started 2" in said
        assert "Traceback" not in said
