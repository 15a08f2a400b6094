"""A process that fails ends the run of all: soon, with its error, and with the last step saved."""

from __future__ import annotations

import pytest
import torch

from tests.distributed.forked import AVERAGING, configure, fault, run_ranks
from tests.helpers import REPOSITORY

pytestmark = pytest.mark.timeout(120)
slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


#: how a process fails: its status, that of the other one, and what both say
KINDS = {
    "data": (3, 3, "rank {}: /somewhere/vocals.wav: cannot be read"),
    "raise": (1, 1, "rank {}: RuntimeError: a fault"),
    "kill": (-9, 1, "rank {}: "),
    "exit": (7, 1, "rank {}: "),
}


def saved_steps(folder):
    return {torch.load(path, weights_only=True)["global_step"] for path in folder.rglob("*.ckpt")}


@pytest.mark.parametrize(
    ("how", "where", "step", "rank", "saved"),
    [
        ("raise", "setup", 0, 0, set()),
        ("exit", "train", 0, 1, set()),
        ("kill", "train", 3, 0, {3}),
        ("kill", "train", 3, 1, {3}),
        ("data", "train", 3, 0, {3}),
        ("data", "validation", 4, 1, {4}),
        *(
            pytest.param(how, where, step, rank, saved, marks=slow)
            for how, where, step, rank, saved in [
                ("data", "setup", 0, 1, set()),
                ("kill", "setup", 0, 1, set()),
                ("exit", "setup", 0, 0, set()),
                ("kill", "train", 0, 0, set()),
                ("raise", "validation", 4, 0, {4}),
                ("kill", "validation", 4, 1, {4}),
            ]
        ),
    ],
)
def test_a_process_that_fails(how, where, step, rank, saved, musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, fault(how, where, step, rank), AVERAGING)
    ended = run_ranks(tmp_path, "fit", "--config", config)
    own, other, text = KINDS[how]
    assert ended.statuses[rank] == own, ended.said
    assert ended.statuses[1 - rank] == other, ended.said
    error = [line for line in ended.said[1 - rank].splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert error[0].startswith(f"error: {text.format(rank)}")
    assert "Traceback" not in ended.said[1 - rank]
    assert saved_steps(tmp_path) == saved


def test_a_process_that_does_not_answer(musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, fault("sleep"))
    ended = run_ranks(tmp_path, "fit", "--config", config, "--processes.timeout", "4")
    assert ended.statuses == [1, 1], ended.said
    assert "another process gave no answer; if it was only slow, raise processes." in ended.said[0]
    assert "error: rank 0: another process gave no answer" in ended.said[1]
    assert saved_steps(tmp_path) == {3}


@pytest.mark.parametrize(
    ("where", "step", "saved"),
    # batches that were made ahead are used first
    [("train", 1, {2}), pytest.param("validation", 4, {4, 8}, marks=slow)],
)
def test_a_loader_process_that_is_killed(where, step, saved, musdb_root, tmp_path):
    workers = {"data__init_args__num_workers": 4}
    config = configure(musdb_root, tmp_path, fault("loader", where, step), **workers)
    ended = run_ranks(tmp_path, "fit", "--config", config)
    assert ended.statuses == [3, 3], ended.said
    for said in ended.said:
        assert "error: rank 1: a loader process died" in said
        assert "Traceback" not in said
    assert saved_steps(tmp_path) <= saved
    assert saved_steps(tmp_path)


def test_a_file_that_vanishes_is_named_by_all(musdb_copy, tmp_path):
    song = next(path for path in (musdb_copy / "train").iterdir() if "Synthetic" in path.name)
    config = configure(musdb_copy, tmp_path, vanishing(song / "drums.wav"))
    ended = run_ranks(tmp_path, "fit", "--config", config, "--data.init_args.read_retries", "0")
    assert ended.statuses == [3, 3], ended.said
    assert all(f"{song}/drums.wav" in said for said in ended.said)
    assert all("Traceback" not in said for said in ended.said)


def vanishing(path):
    settings = {"path": str(path), "step": 2}
    return {"class_path": "tests.distributed.forked.RemoveFile", "init_args": settings}


@slow
def test_shares_of_the_weights_are_not_saved_alone(musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, fault("raise"), trainer__strategy="fsdp2")
    ended = run_ranks(tmp_path, "fit", "--config", config, "--saving.every_n_steps", "2")
    assert ended.statuses == [1, 1], ended.said
    assert "error: rank 1: RuntimeError: a fault" in ended.said[0]
    assert saved_steps(tmp_path) == {2}
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]
