"""A run that is only tried out: the table is right, faults have their codes, nothing is written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aimless.lightning import forecast, trial
from aimless.lightning.forecast import Plan, check_storage, duration, processes
from aimless.lightning.trial import measure_loader
from tests.helpers import REPOSITORY, experiment, main

SAVER = "lightning.pytorch.callbacks.ModelCheckpoint"


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(trial, "_PATIENCE", 0.0)  # three batches will do
    monkeypatch.setattr("aimless.lightning.preflight._VAL_BATCHES", 1)


def tree(*folders):
    """All files and folders, with the times at which they changed."""
    paths = [path for folder in folders for path in [folder, *Path(folder).rglob("*")]]
    return {path: path.stat().st_mtime_ns for path in paths}


def saver(**settings):
    return [{"class_path": SAVER, "init_args": settings}]


def preflight(root, folder, capsys, *words, **overrides):
    """Exit status, rows of the table, the lines below it, and what went to stderr."""
    path = experiment(root, folder, **overrides)
    before = tree(folder, root)
    status = main("fit", "--config", path, "--preflight", *words)
    assert tree(folder, root) == before
    out, err = capsys.readouterr()
    head, *rest = out.split("\n\n")
    rows = dict(re.split(r" {2,}", line, maxsplit=1) for line in head.splitlines())
    return SimpleNamespace(status=status, rows=rows, rest="\n".join(rest), err=err)


def test_the_table_of_a_run_that_would_do(musdb_root, tmp_path, capsys):
    result = preflight(musdb_root, tmp_path, capsys, trainer__max_epochs=3)
    assert result.status == 0, result.err
    assert set(result.rows) == {
        *("data", "parameters", "memory", "largest batch", "step", "loader", "epoch"),
        *("validation", "run"),
    }
    assert "4 batches an epoch" in result.rows["data"]
    assert re.match(r"(\d+,\d+), of which \1 are trained", result.rows["parameters"])
    assert re.search(r"peak [\d.]+ [GM]B on cpu", result.rows["memory"])
    assert result.rows["largest batch"].endswith("the config's has 2")
    assert result.rows["run"].endswith("3 epochs, 12 steps, 3 validations")
    assert "error" not in result.err


def test_the_forecast_holds(musdb_root, tmp_path, capsys):
    """The seconds of an epoch add up from those of a step and of the loader."""
    result = preflight(musdb_root, tmp_path, capsys, trainer__accumulate_grad_batches=2)
    step = float(result.rows["step"].split()[0])
    loader = 1 / float(result.rows["loader"].split()[0])
    epoch = float(result.rows["epoch"].split()[0])
    assert epoch == pytest.approx(4 * (step + loader), rel=0.1)
    assert result.rows["run"].endswith("1 epochs, 2 steps, 1 validations")


FAULTS = {
    "monitor": (
        {"trainer__callbacks": saver(monitor="val/sdrr")},
        2,
        "ModelCheckpoint monitors 'val/sdrr', which is never logged; did you mean 'val/sdr'?",
    ),
    "batch": ({"data__init_args__batch_size": 64}, 2, "8 samples, batch 64 x 1 rank"),
    "root": ({"data__init_args__root": "/nope"}, 3, "found 0 tracks under /nope"),
    "folder": (
        {"trainer__callbacks": saver(dirpath="FOLDER/experiment.yaml/checkpoints")},
        3,
        "experiment.yaml is no folder that may be written to",
    ),
    "loss": (
        {
            "guard__limit": 2,  # a trial of these tests makes three steps
            "model__init_args__criterion": {
                "class_path": "tests.helpers.FailingLoss",
                "init_args": {"bad_batches": list(range(20))},
            },
        },
        4,
        "2 training steps in a row were not finite",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_would_end_the_run_ends_the_trial_with_its_code(name, musdb_root, tmp_path, capsys):
    overrides, status, words = FAULTS[name]
    for entry in overrides.get("trainer__callbacks", []):
        for key, value in entry["init_args"].items():
            entry["init_args"][key] = value.replace("FOLDER", str(tmp_path))
    result = preflight(musdb_root, tmp_path, capsys, **overrides)
    assert result.status == status
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]


@pytest.mark.parametrize("monitor", ["step", "epoch", "train/wait"])
def test_what_lightning_or_a_longer_run_logs_may_be_waited_for(
    monitor, musdb_root, tmp_path, capsys
):
    callbacks = saver(monitor=monitor, mode="max", save_top_k=3)
    assert preflight(musdb_root, tmp_path, capsys, trainer__callbacks=callbacks).status == 0


def test_a_slow_trial_still_makes_a_step(musdb_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trial, "_PATIENCE", 0.0)
    result = preflight(musdb_root, tmp_path, capsys, trainer__accumulate_grad_batches=4)
    assert result.status == 0, result.err
    assert "optimizer 0.0 MB" not in result.rows["memory"]


@pytest.mark.parametrize("launcher", ["torchrun", "SLURM"])
def test_one_process_of_several_tries_it_out(launcher, musdb_root, tmp_path, capsys, monkeypatch):
    variables = {
        "torchrun": {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        | {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": 0},
        "SLURM": {"SLURM_PROCID": 0, "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 2}
        | {"SLURM_NNODES": 1, "SLURM_JOB_NAME": "train", "SLURM_LOCALID": 0, "SLURM_NODEID": 0},
    }[launcher]
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    result = preflight(musdb_root, tmp_path, capsys, "--trainer.devices", "2")
    assert result.status == 0, result.err
    assert "2 batches an epoch of each process" in result.rows["data"]
    monkeypatch.setenv("RANK" if launcher == "torchrun" else "SLURM_PROCID", "1")
    path = experiment(musdb_root, tmp_path)
    assert main("fit", "--config", path, "--preflight") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("limit", "expected"), [("1.0", 3), ("2", 2), ("3", 3), ("0.5", 1)])
def test_a_number_of_validation_batches_is_one_for_each_process(
    limit, expected, musdb_root, tmp_path, capsys
):
    words = ["--trainer.limit_val_batches", limit, "--trainer.devices", "2"]
    segments = {"data__init_args__val_seq_duration": 0.25}  # 12, in 6 batches
    result = preflight(musdb_root, tmp_path, capsys, *words, **segments)
    assert result.rows["validation"].endswith(f", {expected} batches")


def test_what_is_worth_a_look_is_listed(musdb_root, tmp_path, capsys, monkeypatch):
    """Tracks of 3 s are shorter than the segments, and the loader is slower than the step."""
    slow = trial.LoaderSpeed(99.0, 50.0, 0)
    monkeypatch.setattr("aimless.lightning.preflight.measure_loader", lambda loader: slow)
    result = preflight(musdb_root, tmp_path, capsys, data__init_args__seq_duration=3.5)
    assert result.status == 0
    assert "2 of 2 tracks are shorter than 3.5 s and padded with zeros" in result.rest
    assert re.search(r"wait for data 9\d% of the time: raise data\.init_args\.num_", result.rest)


def test_only_fit_can_be_tried_out(musdb_root, tmp_path, capsys):
    path = experiment(musdb_root, tmp_path)
    assert main("validate", "--config", path, "--preflight") == 2
    assert "only fit can be tried out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_epochs": 10}, (100, 10, 7, 10)),
        ({"max_epochs": 10, "check_val_every_n_epoch": 5}, (100, 10, 7, 2)),
        ({"max_epochs": 10, "val_check_interval": 0.25}, (100, 10, 7, 40)),
        ({"max_epochs": 4, "val_check_interval": 50, "check_val_every_n_epoch": 1}, (100, 4, 7, 8)),
        ({"max_steps": 500, "val_check_interval": 50}, (100, 5, 7, 10)),
        ({"max_steps": 500, "accumulate_grad_batches": 4}, (100, 20, 7, 20)),
        ({"max_steps": 500, "max_epochs": 2}, (100, 2, 7, 2)),
        ({}, (100, 1000, 7, 1000)),
        ({"max_epochs": -1}, (100, None, 7, None)),
    ],
)
def test_epochs_and_validations_of_a_run(settings, expected):
    defaults = {"check_val_every_n_epoch": None if settings.get("max_steps") else 1}
    assert Plan.of({**defaults, **settings}, 100, 7) == expected


@pytest.mark.parametrize(
    ("devices", "count"), [("auto", 1), (3, 3), ("4", 4), ([0, 2], 2), ("0,1,5", 3), (-1, 1)]
)
def test_processes_of_a_run(devices, count):
    settings = {"devices": devices, "num_nodes": 2}
    assert processes(settings, torch.device("cpu")) == 2 * count


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    folder = tmp_path / "not" / "there"
    assert check_storage([folder], 10**9) == []
    (error,) = check_storage([folder, folder], 2 * 10**9)
    assert str(error).endswith("the checkpoints that are kept need 2.00 GB, free are 1.00 GB")
    monkeypatch.setattr(forecast.os, "access", lambda path, mode: False)
    (error,) = check_storage([folder], 1)
    assert error.exit_code == 3


def test_the_speed_of_a_loader_is_that_after_its_start(monkeypatch):
    """Four batches are made while the first is waited for, then one each 10 ms."""
    clock = iter([0.0, *(5.0,) * 4, *(5.0 + 0.01 * n for n in range(1, 30))])
    monkeypatch.setattr(trial, "_PATIENCE", 20.0)
    monkeypatch.setattr(trial.time, "perf_counter", lambda: next(clock))

    class Loader(list):
        num_workers, prefetch_factor = 2, 2

    speed = measure_loader(Loader(range(100)))
    assert speed.first_seconds == 5.0
    assert speed.batch_seconds == pytest.approx(0.01)


def test_times_are_easy_to_read():
    assert [duration(seconds) for seconds in (0.5, 119, 600, 86400, 1e6)] == [
        *("0.5 s", "119 s", "10 min", "24 h", "11.6 days")
    ]
