"""What two and three processes compute is what one computes of the same batch.

In double precision, where what is left is not rounding of single precision: errors of 1e-12 say
that the sums are the same ones. In single precision as people train.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from tests.distributed.forked import run_ranks
from tests.distributed.parts import recorded, records
from tests.helpers import REPOSITORY, main

pytestmark = pytest.mark.timeout(600)  # all runs belong to the first test

#: of 20 items 18 are used in an epoch: 3 batches of 6, however many processes share them
BATCH = 6
#: 5 validation segments: the last batches of 2 and 3 processes are filled up
VALIDATION = {"data__init_args__val_seq_duration": 0.7}
AVERAGE = {
    "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
    "init_args": {"decay": 0.5},
}
NO_BATCH_NORM = {
    "class_path": "aimless.lightning.waveform.WaveformSeparator",
    "init_args": {
        "targets": {"drums": None, "bass": None, "other": None, "vocals": None},
        "transforms": [{"class_path": "tests.distributed.parts.NoteDraws"}],
        "model": {
            "class_path": "aimless.models.demucs_split.DemucsSplit",
            "init_args": {"channels": 4, "depth": 3},
        },
        "criterion": {"class_path": "aimless.loss.time.NegativeSDR"},
    },
}


def settings(processes: int) -> dict[str, dict[str, Any]]:
    """Runs by name: what differs from `recorded`."""
    share = {"data__init_args__batch_size": BATCH // processes, **VALIDATION}
    share["data__init_args__samples_per_track"] = 10
    double = {**share, "trainer__precision": "64-true", "trainer__sync_batchnorm": True}
    runs = {
        "double": double,
        "single": {
            **share,
            "model": NO_BATCH_NORM,
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
            "trainer__accumulate_grad_batches": 2,
            "trainer__gradient_clip_val": 1.0,
            "callbacks": [AVERAGE],
        },
    }
    if processes == 2:
        runs["sharded"] = {**double, "trainer__strategy": "fsdp2"}
        runs["single again"] = {**runs["single"], "trainer__log_every_n_steps": 3}
    return runs


class Run(NamedTuple):
    """What was recorded of each process, and what they said."""

    recorded: list[dict[str, Any]]
    said: str


@pytest.fixture(scope="module")
def runs(musdb_root, tmp_path_factory):
    """Number of processes -> name -> run."""
    root = tmp_path_factory.mktemp("equality")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        return {
            processes: {
                name: train(musdb_root, root / f"{processes} {name}", processes, changed)
                for name, changed in settings(processes).items()
            }
            for processes in (1, 2, 3)
        }


def train(musdb, folder, processes, changed):
    words = ["fit", "--config", recorded(musdb, folder, **changed)]
    if processes == 1:
        assert main(*words) == 0
        return Run(records(folder), "")
    ended = run_ranks(folder, *words, world=processes, seconds=200)
    said = "".join(ended.said)
    assert ended.statuses == [0] * processes, said
    return Run(records(folder), said)


def error(some, one):
    """Distance of tensors, or of all tensors by name, as a share of the length of the second."""
    if isinstance(one, dict):
        assert some.keys() == one.keys()
        names = [name for name, tensor in one.items() if tensor.is_floating_point()]
        some, one = (torch.cat([x[name].flatten() for name in names]) for x in (some, one))
    return float((some.double() - one.double()).norm() / one.double().norm())


CASES = [(2, "double"), (3, "double"), (2, "sharded"), (2, "single"), (3, "single")]


def reference(runs, name):
    """What one process records of the same run."""
    (one,) = runs[1]["single" if name == "single" else "double"].recorded
    return one


@pytest.mark.parametrize(("processes", "name"), CASES)
def test_losses_gradients_and_weights(runs, processes, name):
    one, many = reference(runs, name), runs[processes][name].recorded
    single = name == "single"
    assert len(many) == processes
    assert len(one["losses"]) == 3
    for step, loss in enumerate(one["losses"]):
        losses = [each["losses"][step] for each in many]
        assert len(set(map(float, losses))) == processes  # of other items each
        assert error(torch.stack(losses).mean(), loss) < (1e-6 if single else 1e-12)
    assert len(one["gradients"]) == (2 if single else 3)
    for step, gradients in enumerate(one["gradients"]):
        for each in many:
            # kernels for other batch sizes round otherwise, which deep networks amplify
            assert error(each["gradients"][step], gradients) < (1e-5 if single else 1e-11)
    for each in many:
        assert error(each["weights"], one["weights"]) < (1e-6 if single else 1e-11)
        if not single:  # running statistics of batch norm
            assert error(each["buffers"], one["buffers"]) < 1e-11


@pytest.mark.parametrize(("processes", "name"), CASES)
def test_logged_losses_and_scores(runs, processes, name):
    one = reference(runs, name)
    names = {"train/loss", "train/sdr", "train/sdr_vocals", "val/loss", "val/sdr", "val/sdr_bass"}
    assert names <= one["metrics"].keys()
    for each in runs[processes][name].recorded:
        assert each["metrics"].keys() == one["metrics"].keys()
        for metric, value in one["metrics"].items():
            assert float(each["metrics"][metric]) == pytest.approx(float(value), rel=1e-6), metric


def test_a_process_holds_its_share_of_a_sharded_network(runs):
    whole = reference(runs, "sharded")["held"]
    held = [each["held"] for each in runs[2]["sharded"].recorded]
    assert sum(held) == whole
    assert max(held) < 0.6 * whole
    assert [each["held"] for each in runs[2]["double"].recorded] == [whole, whole]


def test_device_draws_differ_between_processes_and_not_between_runs(runs):
    first, again = (runs[2][name].recorded for name in ("single", "single again"))
    draws = [torch.cat(each["draws"][0]) for each in first]
    assert len(draws[0]) == 3 * 3 * 4  # batches, items, stems
    assert not set(draws[0].tolist()) & set(draws[1].tolist())
    assert len({each["seed"] for each in first}) == 2
    for before, after in zip(first, again):
        assert before["seed"] == after["seed"]
        assert torch.equal(torch.cat(before["draws"][0]), torch.cat(after["draws"][0]))


def test_a_step_costs_four_small_messages_whatever_is_logged(runs):
    """Besides those of DDP: what is logged, is it finite, and twice, is somebody to end."""
    expected = {
        "single": [2, 3],  # the first batch makes no step, and asks nobody to end
        "single again": [1, 2],  # nothing is logged
    }
    for name, reductions in expected.items():
        (first, *_) = runs[2][name].recorded
        assert len([key for key in first["metrics"] if key.startswith("train/")]) >= 7
        calls = first["collectives"][1:]
        assert calls == [{"all_reduce": count, "broadcast": 1} for count in reductions], name


def test_ddp_does_not_look_for_unused_parameters(runs):
    assert not any(each["looks_for_unused"] for each in runs[2]["double"].recorded)
