"""A step that went wrong leaves a file with which it can be done again, bit for bit."""

from __future__ import annotations

import math
import shutil
from types import SimpleNamespace

import pytest
import torch

from aimless.errors import DataError
from aimless.lightning.dump import StepDumps
from aimless.lightning.replay import main as replay_main
from aimless.lightning.replay import replay
from aimless.loss import CLoss
from tests.helpers import REPOSITORY, experiment, main

HERE = "tests.aimless.test_replay"


class Steep(CLoss):
    """A loss whose value is right and whose slope is not a number."""

    def forward(self, masks, *arguments):
        loss, parts = super().forward(masks, *arguments)
        return (loss + (masks.sum() * 0).sqrt() if self.training else loss), parts


class Undefined(CLoss):
    """A loss that is not a number in training."""

    def forward(self, *arguments):
        loss, parts = super().forward(*arguments)
        return (loss * math.nan if self.training else loss), parts


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def run(root, folder, **overrides):
    """The dumps of a run of four steps, on drawn items, with dropout and a device effect."""
    init = "model__init_args__"
    network = {"hidden_channels": 8, "nb_layers": 2}  # dropout between the layers
    speed = {"class_path": "aimless.augment.SpeedPerturb", "init_args": {"speeds": [90], "p": 0.5}}
    settings = {
        f"{init}model__init_args": network,
        f"{init}transforms": [speed],
        f"{init}criterion__class_path": f"{HERE}.Steep",
        "excerpts__count": 0,
    }
    path = experiment(root, folder, **{**settings, **overrides})
    assert main("fit", "--config", path) == 0
    return sorted(folder.rglob("dumps/*.pt"))


@pytest.fixture(scope="module")
def dumps(musdb_root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        return run(musdb_root, tmp_path_factory.mktemp("steep"))


def test_there_are_few_and_they_are_data(dumps):
    assert [path.name for path in dumps] == [f"step_000000{step}_rank_0.pt" for step in range(3)]
    dump = torch.load(dumps[1], weights_only=True)
    assert dump["said"].startswith("step 1: a gradient is not finite; the batch holds ")
    assert dump["batches"][0]["fields"] == ["mixture", "stems", "valid", "epoch", "index"]
    assert not list(dumps[0].parent.glob(".*"))


def test_the_step_is_done_again_to_the_last_bit(dumps):
    for path in dumps:
        (result,) = replay(str(path))
        assert result.loss == result.recorded
        assert result.inputs_finite
        assert result.first_module is None
        assert len(result.gradients) > 10
        assert result.logged["train/loss"] == result.loss


def test_the_dropout_of_the_step_is_part_of_it(dumps, tmp_path):
    dump = torch.load(dumps[0], weights_only=True)
    dump["batches"][0]["random"]["torch"] = torch.Generator().manual_seed(5).get_state()
    torch.save(dump, tmp_path / "other.pt")
    (result,) = replay(str(tmp_path / "other.pt"))
    assert result.loss != result.recorded


def test_a_bad_batch_and_bad_weights_are_told_apart(dumps, tmp_path):
    dump = torch.load(dumps[0], weights_only=True)
    name = next(name for name in dump["state_dict"] if name.endswith("weight_ih_l0"))
    dump["state_dict"][name][0] = math.nan
    torch.save(dump, tmp_path / "weights.pt")
    (result,) = replay(str(tmp_path / "weights.pt"))
    assert result.inputs_finite
    assert "LSTM" in result.first_module
    dump = torch.load(dumps[0], weights_only=True)
    dump["batches"][0]["values"][1][0] = math.nan
    torch.save(dump, tmp_path / "batch.pt")
    assert not replay(str(tmp_path / "batch.pt"))[0].inputs_finite


def test_accumulated_batches_are_read_again(musdb_root, tmp_path):
    overrides = {"trainer__accumulate_grad_batches": 4, "guard": {"dumps": 5}}
    (path,) = run(musdb_root, tmp_path, **overrides)
    results = replay(str(path))
    assert [result.loss for result in results] == [result.recorded for result in results]
    assert len({result.loss for result in results}) == len(results) == 4


def test_0_dumps_and_trials_write_nothing(musdb_root, tmp_path):
    assert run(musdb_root, tmp_path, guard={"dumps": 0}) == []
    saver = SimpleNamespace(dirpath=str(tmp_path))
    trainer = SimpleNamespace(fast_dev_run=2, checkpoint_callback=saver, loggers=[])
    dumps = StepDumps(1)
    dumps.write(trainer, None, [], "")
    assert dumps.left == 1


def test_a_full_disk_is_a_warning(musdb_root, tmp_path, monkeypatch, caplog):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aimless.lightning.checkpoint_io.SealingWriter.finish", full)
    dumps = StepDumps(1)
    dumps._io.save_checkpoint({"global_step": 7}, tmp_path / "dumps" / "some.pt")
    assert "could not be written: No space left on device" in caplog.text
    assert list(tmp_path.rglob("*.pt")) == []


def test_the_command_prints_what_it_finds(musdb_root, tmp_path, capsys):
    (path, *_) = run(
        musdb_root, tmp_path, model__init_args__criterion__class_path=f"{HERE}.Undefined"
    )
    assert replay_main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (first,) = [line for line in lines if line.startswith(str(path))]
    assert first.endswith("batch 1 of 1: loss nan, nan in the run")
    assert "  the batch is finite" in lines
    assert any("gradients that are not finite: model." in line for line in lines)
    for damaged, words in (
        (tmp_path / "none.pt", "none.pt"),
        (shutil.copy(path, tmp_path), "dump"),
    ):
        if damaged != tmp_path / "none.pt":
            torch.save({"state_dict": {}}, damaged)
        assert replay_main([str(damaged)]) == 3
        assert words in capsys.readouterr().err


def test_a_dump_without_config_is_refused(dumps, tmp_path):
    dump = torch.load(dumps[0], weights_only=True)
    torch.save({**dump, "config": None}, tmp_path / "bare.pt")
    with pytest.raises(DataError, match=r"bare\.pt: holds no config"):
        replay(str(tmp_path / "bare.pt"))
