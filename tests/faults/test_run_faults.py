"""Faults in the middle of a run: a checkpoint of the last good step, one line, a status."""

from __future__ import annotations

import errno
import os
import random

import pytest
import torch

from aimless.lightning import checkpoint_io
from aimless.lightning.saving import SaveRun
from tests.helpers import REPOSITORY, CLoss, assert_same_state, experiment, main

CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def configure(root, folder, *callbacks, **overrides):
    settings = {"excerpts__count": 0, "trainer__callbacks": list(callbacks), **overrides}
    return experiment(root, folder, **settings)


def keep(name, **settings):
    settings = {"save_top_k": -1, "filename": name, "auto_insert_metric_name": False, **settings}
    return {"class_path": CHECKPOINT, "init_args": settings}


def load(folder, name="last"):
    return torch.load(next(folder.rglob(f"{name}.ckpt")), weights_only=True)


def error_line(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


class RunsOutOfMemory(CLoss):
    """A loss for which the third training batch is too much."""

    seen = 0

    def forward(self, *args):
        if self.training:
            self.seen += 1
            torch.rand(3)  # what the failed step has drawn must not show
            if self.seen == 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")
        return super().forward(*args)


def test_too_little_memory(musdb_root, tmp_path, capsys):
    criterion = {"class_path": f"{__name__}.RunsOutOfMemory"}
    overrides = {"model__init_args__criterion": criterion}
    config = configure(musdb_root, tmp_path, keep("{step}", every_n_train_steps=1), **overrides)
    assert main("fit", "--config", config) == 2
    line = error_line(capsys)
    assert "out of memory at step 2, batches of 2 segments of 0.5 s; peak " in line
    assert "data.init_args.batch_size" in line


@pytest.mark.parametrize("fault", [RuntimeError("a fault"), OSError(errno.EIO, "a fault")])
def test_an_error_saves_the_step_before(musdb_root, tmp_path, monkeypatch, fault):
    """Bit for bit what was saved after that step, although another one was begun."""
    train = SaveRun.on_before_optimizer_step

    def fail(self, trainer, *args):
        if trainer.global_step == 2:
            raise fault
        train(self, trainer, *args)

    monkeypatch.setattr(SaveRun, "on_before_optimizer_step", fail)
    config = configure(
        musdb_root, tmp_path, keep("every{step}", every_n_train_steps=2), saving__every_minutes=60
    )
    monkeypatch.setattr(SaveRun, "_has_news", lambda self, trainer: trainer.global_step == 2)
    with pytest.raises(type(fault), match="a fault"):
        main("fit", "--config", config)
    ours, theirs = load(tmp_path), load(tmp_path, "every2")
    assert ours["resume"].pop("place") == "begun"
    assert theirs["resume"].pop("place") == "stepped"
    # there by now are those of the step that was begun, which will be done again
    assert ours["resume"].pop("metrics").keys() == theirs["resume"].pop("metrics").keys()
    for one in (ours, theirs):  # seeded anew for each batch, that which was begun, too
        one["resume"].pop("random")
    assert_same_state(ours, theirs)


def test_weights_in_mid_update_are_not_saved(musdb_root, tmp_path, monkeypatch):
    step = torch.optim.Adam.step

    def fail(self, closure):
        closure()
        if self.state:
            raise RuntimeError("in the update")
        return step(self, None)

    monkeypatch.setattr(torch.optim.Adam, "step", fail)
    with pytest.raises(RuntimeError, match="in the update"):
        main("fit", "--config", configure(musdb_root, tmp_path, keep("{step}", every_n_epochs=1)))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_folder_that_cannot_be_made_ends_the_run_before_it_begins(musdb_root, tmp_path, capsys):
    (tmp_path / "file").touch()
    callback = keep("{step}", dirpath=str(tmp_path / "file" / "checkpoints"))
    assert main("fit", "--config", configure(musdb_root, tmp_path, callback)) == 3
    assert "file/checkpoints: no checkpoint can be written: Not a directory" in error_line(capsys)


def test_a_disk_that_stays_full_ends_the_run(musdb_root, tmp_path, capsys, monkeypatch):
    write, full = checkpoint_io._write, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(checkpoint, path):
        if checkpoint["global_step"] > 1:
            raise full
        write(checkpoint, path)

    monkeypatch.setattr(checkpoint_io, "_write", refuse)
    config = configure(musdb_root, tmp_path, keep("{step}", every_n_train_steps=1))
    assert main("fit", "--config", config) == 3
    assert "3 times in a row; step 4: " in error_line(capsys)
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["1.ckpt"]


@pytest.fixture
def three_checkpoints(musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, keep("{step}", every_n_train_steps=1))
    assert main("fit", "--config", config, "--trainer.max_steps", "3") == 0
    return config, {path.stem: path for path in tmp_path.rglob("*.ckpt")}


def test_damaged_checkpoints_are_passed_over(three_checkpoints, tmp_path, capsys, caplog):
    config, files = three_checkpoints
    rng = random.Random(0)
    for name in ("last", "3", "2"):
        content = bytearray(files[name].read_bytes())
        content[rng.randrange(len(content))] ^= 8
        modified = files[name].stat().st_mtime_ns
        files[name].write_bytes(content)
        os.utime(files[name], ns=(modified, modified))
    words = ["fit", "--config", config, "--trainer.max_steps", "3"]
    assert main(*words, "--ckpt_path", files["3"]) == 3
    line = error_line(capsys)
    assert f"{files['3']}: damaged" in line
    assert f"newest intact: {files['1']}" in line
    with caplog.at_level("INFO"):
        assert main(*words, "--ckpt_path", "last") == 0
    assert f"Goes on from {files['1']}" in caplog.text
    for name in ("last", "3", "2"):
        assert f"{files[name]}: damaged: its SHA-256 is wrong; passed over" in caplog.text


def test_auto_begins_from_the_start_only_where_nothing_was(three_checkpoints, tmp_path, capsys):
    config, files = three_checkpoints
    for file in files.values():
        file.write_bytes(file.read_bytes()[:-5])
    for word in ("auto", "last"):
        assert main("fit", "--config", config, "--ckpt_path", word) == 3
        assert "no intact checkpoint in " in error_line(capsys)
        assert main("fit", "--config", config, "--ckpt_path", "last") == 3
        capsys.readouterr()
    for file in files.values():
        file.unlink()
    words = ["fit", "--config", config, "--trainer.max_steps", "1", "--ckpt_path"]
    assert main(*words, "last") == 3
    assert "--ckpt_path auto would begin from the start" in error_line(capsys)
    assert main(*words, "auto") == 0


def test_checkpoints_of_other_networks_are_left_alone(three_checkpoints, capsys):
    words = ["fit", "--config", three_checkpoints[0], "--ckpt_path", "last"]
    words += ["--model.init_args.model.init_args.hidden_channels", "12"]
    assert main(*words) == 3
    assert "no checkpoint of this experiment" in error_line(capsys)


def test_weights_only_carry_their_config_but_training_cannot_go_on(musdb_root, tmp_path, capsys):
    callback = keep("weights", save_weights_only=True)
    config = configure(musdb_root, tmp_path, callback, trainer__max_steps=2)
    assert main("fit", "--config", config) == 0
    path = next(tmp_path.rglob("weights.ckpt"))
    saved = torch.load(path, weights_only=True)
    assert "optimizer_states" not in saved
    assert "X_UMX" in saved["config"]
    assert main("fit", "--config", config, "--ckpt_path", path) == 3
    assert "holds weights only" in error_line(capsys)
    path.unlink()
    assert load(tmp_path)["global_step"] == 2


def test_the_last_step_is_saved_where_the_metric_got_no_better(musdb_root, tmp_path):
    """ModelCheckpoint writes its last checkpoint only together with a best one."""
    callback = {
        "class_path": CHECKPOINT,
        "init_args": {"monitor": "train/skipped_steps", "mode": "max", "save_last": True},
    }
    config = configure(musdb_root, tmp_path, callback, trainer__max_epochs=2)
    assert main("fit", "--config", config) == 0
    assert load(tmp_path)["global_step"] == 8


def test_a_fresh_run_leaves_the_last_checkpoint_of_another_alone(musdb_root, tmp_path):
    callback = keep("{step}", dirpath=str(tmp_path / "kept"), save_last=True)
    config = configure(musdb_root, tmp_path, callback, trainer__max_steps=1)
    assert main("fit", "--config", config) == 0
    before = (tmp_path / "kept" / "last.ckpt").read_bytes()
    assert main("fit", "--config", config, "--trainer.max_steps", "2") == 0
    assert (tmp_path / "kept" / "last.ckpt").read_bytes() == before
    assert load(tmp_path, "last-v1")["global_step"] == 2
    assert main("fit", "--config", config, "--trainer.max_steps", "3", "--ckpt_path", "last") == 0
    assert load(tmp_path, "last-v1")["global_step"] == 3
    assert not list(tmp_path.rglob("last-v2.ckpt"))
