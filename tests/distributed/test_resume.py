"""Runs of several processes that go on where they were killed, and with another number of them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from tests.distributed.forked import AVERAGING, configure, run_ranks
from tests.helpers import REPOSITORY, assert_same_state

pytestmark = pytest.mark.timeout(200)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def callback(name, **settings):
    return {"class_path": f"tests.helpers.{name}", "init_args": settings}


def prepared(root, folder, *callbacks, **overrides):
    """Two epochs of 16 items, a network with dropout and batch norm, a checkpoint per step."""
    recorder = callback("RecordItems", path=str(folder / "items.txt"))
    settings = {"saving__every_n_steps": 1, "model__init_args__model__init_args__nb_layers": 2}
    config = configure(root, folder, recorder, AVERAGING, *callbacks, **{**settings, **overrides})
    return "fit", "--config", config, "--ckpt_path", "auto"


def last_of(folder):
    newest = max(folder.rglob("last*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return torch.load(newest, weights_only=True)


def items(folder):
    """(rank, epoch, items, sum of the audio) of each batch."""
    return sorted(Path(folder / "items.txt").read_text().splitlines())


def test_killed_in_mid_epoch_and_going_on_is_as_if_never_killed(musdb_root, tmp_path):
    loading = {"data__init_args__num_workers": 2, "trainer__accumulate_grad_batches": 2}
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    ended = run_ranks(quiet, *prepared(musdb_root, quiet, **loading))
    assert ended.statuses == [0, 0], ended.said
    kill = callback("SignalAt", number=int(signal.SIGKILL), steps=[3], ranks=[0, 1])
    ended = run_ranks(killed, *prepared(musdb_root, killed, kill, **loading))
    assert ended.statuses == [-9, -9], ended.said
    assert last_of(killed)["global_step"] == 3  # the first of two steps of the second epoch
    words = prepared(musdb_root, killed, **loading)
    ended = run_ranks(killed, *words[:-1], "last")
    assert ended.statuses == [0, 0], ended.said
    assert items(killed) == items(quiet)
    assert len(items(quiet)) == 16
    assert last_of(quiet)["global_step"] == 4
    assert_same_state(last_of(killed), last_of(quiet))


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_going_on_with_another_number_of_processes(before, after, musdb_root, tmp_path):
    stop = callback("SignalAt", number=int(signal.SIGTERM), steps=[2])
    ended = run_ranks(tmp_path, *prepared(musdb_root, tmp_path, stop), world=before)
    assert ended.statuses == [143] * before, ended.said
    used = last_of(tmp_path)["resume"]["items"]
    assert used == 3 * 2 * before
    words = (*prepared(musdb_root, tmp_path)[:-1], "last")
    ended = run_ranks(tmp_path, *words, world=after)
    assert ended.statuses == [0] * after, ended.said
    processes = ["", "1 process", "2 processes"]
    line = f"Goes on at item {used} of epoch 0, with {processes[after]} and batches of 2 (so far"
    assert line in ended.said[0]
    first = [line.split()[2].split("+") for line in items(tmp_path) if line.split()[1] == "0"]
    drawn = [item for batch in first for item in batch]
    # one process leaves nothing over; of two, a batch that is not full
    assert len(set(drawn)) == len(drawn) == 16 - (16 - used) % (2 * after)
