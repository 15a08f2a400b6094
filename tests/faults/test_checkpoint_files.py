"""Checkpoint files under kills, full disks, damage and forbidden folders."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from aimless.errors import DataError
from aimless.lightning import checkpoint_io
from aimless.lightning.checkpoint_io import AtomicCheckpointIO
from aimless.weights import read_checkpoint


def checkpoint(step, size=50_000):
    values = torch.randn(size, generator=torch.Generator().manual_seed(step))
    return {"global_step": step, "state_dict": {"weight": values}, "optimizer_states": []}


def temporaries(folder):
    return [name for name in os.listdir(folder) if name.endswith(".part")]


def save_for_ever(path, first, asynchronous, began):
    """Every moment of this process is one of a save."""
    io = AtomicCheckpointIO(asynchronous)
    content = checkpoint(first)
    began.set()
    for step in range(first, first + 100_000):
        content["global_step"] = step
        io.save_checkpoint(content, path)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_of_100_kills_none_costs_a_checkpoint(tmp_path, asynchronous):
    path = tmp_path / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint(checkpoint(0), path)
    processes = multiprocessing.get_context("fork")
    rng = random.Random(0)
    newest = killed_in_save = 0
    for _ in range(100):
        began = processes.Event()
        child = processes.Process(
            target=save_for_ever, args=(path, newest + 1, asynchronous, began), daemon=True
        )
        child.start()
        assert began.wait(20)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        step = read_checkpoint(path)["global_step"]  # it is there, and it is whole
        assert step >= newest
        newest = step
        assert len(temporaries(tmp_path)) <= 1
        killed_in_save += bool(temporaries(tmp_path))
        io.prepare(tmp_path)  # what the next run does
        assert os.listdir(tmp_path) == ["last.ckpt"]
    assert killed_in_save > 10
    assert newest > 0


def test_every_truncation_and_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "some.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint(1, 5000), path)
    whole = path.read_bytes()
    rng = random.Random(0)
    ends = [0, 30, len(whole) - 1, len(whole) - 71, len(whole) - 72, len(whole) - 93]
    for size in [*ends, *(rng.randrange(len(whole)) for _ in range(20))]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"some\.ckpt: damaged"):
            read_checkpoint(path)
    places = [
        *range(len(whole) - 95, len(whole), 3),
        *(rng.randrange(len(whole)) for _ in range(20)),
    ]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=r"some\.ckpt: damaged"):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert read_checkpoint(path)["global_step"] == 1


class FullDisk:
    """`open` for files that take only so many bytes."""

    def __init__(self, room):
        self.room = room

    def __call__(self, *args, **kwargs):
        file = open(*args, **kwargs)  # noqa: SIM115  (the caller closes it)
        disk = self

        class Limited(type(file)):
            def write(self, data):
                disk.room -= len(data)
                if disk.room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return super().write(data)

        return Limited(file.detach()) if args[1] == "xb" else file


def test_a_full_disk_leaves_the_file_before_and_ends_the_third_time(tmp_path, monkeypatch, caplog):
    path = tmp_path / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint(checkpoint(1), path)
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint_io, "open", FullDisk(100_000), raising=False)
    for step in (2, 2, 3):  # the best and the last of one step count once
        io.save_checkpoint(checkpoint(step), path)
    assert [record.message for record in caplog.records] == [
        f"step {step}: {path} could not be written: No space left on device; "
        "earlier checkpoints are kept, the next save tries again"
        for step in (2, 2, 3)
    ]
    with pytest.raises(DataError, match=r"3 times in a row; step 4: .*last\.ckpt .*No space"):
        io.save_checkpoint(checkpoint(4), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["last.ckpt"]

    monkeypatch.undo()
    io.save_checkpoint(checkpoint(5), path)
    assert read_checkpoint(path)["global_step"] == 5
    assert io.newest.step == 5
    assert not io.failing


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 60 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mount")
    if done.returncode:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_full_disk(small_disk, caplog):
    """30 MB are there, 80 MB do not fit into 60 MB."""
    path = small_disk / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint(checkpoint(1, 7_500_000), path)
    before = hashlib.sha256(path.read_bytes()).digest()
    io.save_checkpoint(checkpoint(2, 20_000_000), path)
    assert "No space left on device" in caplog.text
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert os.listdir(small_disk) == ["last.ckpt"]
    io.save_checkpoint(checkpoint(3, 2_000_000), path)
    assert read_checkpoint(path)["global_step"] == 3


def test_nothing_is_removed_for_a_file_that_did_not_come(tmp_path, monkeypatch):
    """ModelCheckpoint asks to remove the best before, after it has saved the best."""
    io = AtomicCheckpointIO()
    best, better, again = (tmp_path / f"{name}.ckpt" for name in ("best", "better", "again"))
    io.save_checkpoint(checkpoint(1), best)
    monkeypatch.setattr(checkpoint_io, "open", FullDisk(1000), raising=False)
    io.save_checkpoint(checkpoint(2), better)
    io.remove_checkpoint(best)
    assert read_checkpoint(best)["global_step"] == 1
    monkeypatch.undo()
    io.save_checkpoint(checkpoint(3), again)
    assert os.listdir(tmp_path) == ["again.ckpt"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_cannot_be_written_is_named_at_start(tmp_path, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint_io, "open", refuse, raising=False)
    with pytest.raises(DataError, match=f"{tmp_path}: no checkpoint .*{os.strerror(number)}"):
        AtomicCheckpointIO().prepare(tmp_path)


def test_a_write_that_is_lost_in_silence_is_noticed(tmp_path, monkeypatch, caplog):
    """As on a file system where a refused write returns normally."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint(1), path)
    before = path.read_bytes()

    class Forgets(checkpoint_io.SealingWriter):
        def finish(self):
            size = super().finish()
            self._file.truncate(1000)
            return size

    monkeypatch.setattr(checkpoint_io, "SealingWriter", Forgets)
    AtomicCheckpointIO().save_checkpoint(checkpoint(2), path)
    assert "1000 of " in caplog.text
    assert path.read_bytes() == before


def test_leftovers_of_others_are_left_alone(tmp_path):
    names = [".last.ckpt.0123abcd.part", ".hidden.ckpt", "notes.part", "last.ckpt.part"]
    for name in names:
        Path(tmp_path / name).touch()
    AtomicCheckpointIO().prepare(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names[1:])
