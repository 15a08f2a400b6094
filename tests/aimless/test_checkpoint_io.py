"""Checkpoints that are written behind the training."""

from __future__ import annotations

import pickle
import threading

import pytest
import torch

from aimless.errors import DataError
from aimless.lightning import checkpoint_io
from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from aimless.sealing import is_sealed, seal_holds
from aimless.weights import read_checkpoint


@pytest.fixture
def gate(monkeypatch):
    """Writing waits until this is set."""
    opened = threading.Event()
    write = checkpoint_io._write

    def wait_and_write(*args):
        assert opened.wait(20)
        write(*args)

    monkeypatch.setattr(checkpoint_io, "_write", wait_and_write)
    yield opened
    opened.set()


def checkpoint(step, weight):
    return {"global_step": step, "state_dict": {"weight": weight}, "optimizer_states": []}


def test_a_sealed_file_is_read_by_torch_itself(tmp_path):
    path = tmp_path / "some.ckpt"
    weight = torch.arange(7.0)
    AtomicCheckpointIO().save_checkpoint(checkpoint(1, weight), path)
    assert is_sealed(path)
    assert seal_holds(path)
    for mmap in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mmap)
        assert torch.equal(loaded["state_dict"]["weight"], weight)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["weight"], weight)


def test_the_state_is_that_of_the_save_however_long_writing_takes(tmp_path, gate):
    io = AtomicCheckpointIO(asynchronous=True)
    weight = torch.zeros(5)
    io.save_checkpoint(checkpoint(1, weight), tmp_path / "last.ckpt")
    weight += 1  # the next step
    assert not (tmp_path / "last.ckpt").exists()
    assert io.newest is None
    gate.set()
    io.flush()
    assert io.newest.step == 1
    assert read_checkpoint(tmp_path / "last.ckpt")["state_dict"]["weight"].tolist() == [0] * 5


def test_two_wait_for_the_disk_and_the_third_save_waits_for_them(tmp_path, gate):
    io = AtomicCheckpointIO(asynchronous=True)
    saved = []

    def save_three():
        for step in (1, 2, 3):
            io.save_checkpoint(checkpoint(step, torch.zeros(1)), tmp_path / f"{step}.ckpt")
            saved.append(step)

    thread = threading.Thread(target=save_three)
    thread.start()
    thread.join(0.5)
    assert saved == [1, 2]
    gate.set()
    thread.join(20)
    io.teardown()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.ckpt", "2.ckpt", "3.ckpt"]


def test_an_older_file_is_removed_only_when_the_newer_is_down(tmp_path, gate):
    gate.set()
    io = AtomicCheckpointIO(asynchronous=True)
    io.save_checkpoint(checkpoint(1, torch.zeros(1)), tmp_path / "old.ckpt")
    io.flush()
    gate.clear()
    io.save_checkpoint(checkpoint(2, torch.zeros(1)), tmp_path / "new.ckpt")
    io.remove_checkpoint(tmp_path / "old.ckpt")
    assert (tmp_path / "old.ckpt").exists()
    gate.set()
    io.teardown()
    assert [path.name for path in tmp_path.iterdir()] == ["new.ckpt"]


@pytest.mark.parametrize("end", ["teardown", "flush"])
def test_a_failure_shows_on_the_training_thread(tmp_path, end):
    (tmp_path / "file").touch()
    io = AtomicCheckpointIO(asynchronous=True, limit=1)
    io.save_checkpoint(checkpoint(1, torch.zeros(1)), tmp_path / "file" / "last.ckpt")
    with pytest.raises(DataError, match=r"step 1: .*last\.ckpt could not be written: "):
        getattr(io, end)()


def test_it_can_be_sent_to_another_process(tmp_path):
    io = AtomicCheckpointIO(asynchronous=True)
    io.save_checkpoint(checkpoint(1, torch.zeros(1)), tmp_path / "1.ckpt")
    copy = pickle.loads(pickle.dumps(io))
    copy.save_checkpoint(checkpoint(2, torch.zeros(1)), tmp_path / "2.ckpt")
    io.teardown()
    copy.teardown()
    assert len(list(tmp_path.iterdir())) == 2


def test_weights_alone_are_nothing_to_go_on_from(tmp_path):
    io = AtomicCheckpointIO()
    io.save_checkpoint({"global_step": 3, "state_dict": {}}, tmp_path / "weights.ckpt")
    assert io.newest is None
