"""Networks whose weights are spread over the processes: checkpoints, bad steps, refusals.

That they compute what one process computes is in `test_equality`.
"""

from __future__ import annotations

import pytest
import torch

from tests.distributed.forked import run_ranks
from tests.distributed.parts import recorded, records
from tests.helpers import REPOSITORY, experiment, flat, main

pytestmark = pytest.mark.timeout(300)

AVERAGE = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging"}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def configure(root, folder, processes, **overrides):
    """Two steps of 4 items per epoch; the loss of the second batch is NaN in the last process."""
    failing = {"bad_batches": [1], "ranks": [processes - 1]}
    settings = {
        "model__init_args__criterion": {
            "class_path": "tests.helpers.FailingLoss",
            "init_args": failing,
        },
        "trainer__precision": "64-true",
        "trainer__sync_batchnorm": True,
        "trainer__gradient_clip_val": 1.0,
        "trainer__strategy": "fsdp2" if processes > 1 else "auto",
        "data__init_args__batch_size": 4 // processes,
    }
    return recorded(root, folder, **{**settings, **overrides})


def train(root, folder, processes, **overrides):
    """Train, and return the checkpoint."""
    words = ["fit", "--config", configure(root, folder, processes, **overrides)]
    if processes == 1:
        assert main(*words) == 0
    else:
        ended = run_ranks(folder, *words, world=processes, seconds=200)
        assert ended.statuses == [0] * processes, "".join(ended.said)
    return next(folder.rglob("last.ckpt"))


def assert_close(some, one, tolerance=1e-10):
    some, one = dict(flat(some)), dict(flat(one))
    assert some.keys() == one.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(some[name], value, rtol=tolerance, atol=tolerance)
        else:
            assert some[name] == value, name


@pytest.mark.slow
def test_checkpoints_are_those_of_one_process_and_either_goes_on_from_the_other(
    musdb_root, tmp_path
):
    saved = {n: train(musdb_root, tmp_path / f"{n}", n) for n in (1, 2)}
    first = {n: torch.load(path, weights_only=True) for n, path in saved.items()}
    assert first[2]["global_step"] == 2
    for part in ("state_dict", "optimizer_states"):
        assert_close(first[2][part], first[1][part])
    for state in first.values():  # one of the two steps was left out
        steps = {float(one["step"]) for one in state["optimizer_states"][0]["state"].values()}
        assert steps == {1.0}
        assert all(type(weight) is torch.Tensor for weight in state["state_dict"].values())
    further = {"trainer__max_epochs": 2, "model__init_args__criterion__init_args__bad_batches": []}
    for n in (1, 2):
        theirs = {"ckpt_path": str(saved[3 - n])}
        train(musdb_root, tmp_path / f"{n} goes on", n, **further, **theirs)
    (one,), sharded = (records(tmp_path / f"{n} goes on") for n in (1, 2))
    assert len(one["losses"]) == 2
    for each in sharded:
        assert_close(each["weights"], one["weights"])


def test_averaged_weights_are_refused_in_one_line(musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, 1, callbacks=[AVERAGE], trainer__strategy="fsdp2")
    ended = run_ranks(tmp_path, "fit", "--config", config, world=1)
    assert ended.statuses == [2]
    (line,) = [line for line in ended.said[0].splitlines() if line.startswith("error: ")]
    assert "fsdp2 cannot average weights" in line


def test_lightnings_own_fsdp_on_a_cpu_names_the_one_that_works(musdb_root, tmp_path, capsys):
    config = experiment(musdb_root, tmp_path)
    assert main("fit", "--config", config, "--trainer.strategy", "fsdp") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "requires a GPU" in line
    assert "fsdp2 does not" in line
