"""A signal to any process of several: all save after the same step and leave with its status."""

from __future__ import annotations

import signal

import pytest
import torch

from tests.distributed.forked import AVERAGING, configure, fault, run_ranks
from tests.helpers import REPOSITORY

TERM, USR1, INT = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def signal_at(number, where, step, ranks):
    settings = {"number": int(number), "steps": [step], "where": where, "ranks": list(ranks)}
    return {"class_path": "tests.helpers.SignalAt", "init_args": settings}


def last_of(folder):
    newest = max(folder.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return torch.load(newest, weights_only=True)


#: where the signal comes, and the steps that are saved then
PLACES = {
    "first step": ("train", 0, 1),
    "train": ("train", 2, 3),
    "validation": ("validation", 4, 4),
}


QUICK = [("first step", (1,)), ("train", (0,)), ("validation", (0, 1))]
NINE = [(place, ranks) for place in PLACES for ranks in [(0,), (1,), (0, 1)]]


@pytest.mark.parametrize(
    ("place", "ranks"),
    [pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow) for one in NINE],
)
def test_nine_of_nine_are_saved(place, ranks, musdb_root, tmp_path):
    where, step, saved = PLACES[place]
    config = configure(musdb_root, tmp_path, signal_at(TERM, where, step, ranks), AVERAGING)
    ended = run_ranks(tmp_path, "fit", "--config", config)
    assert ended.statuses == [143, 143], ended.said
    assert f"stopped at step {saved}, saved in " in ended.said[0]
    assert "error: " not in ended.said[0] + ended.said[1]
    content = last_of(tmp_path)
    assert content["global_step"] == saved
    assert all(state is not None for state in content["resume"]["random"])
    assert content["resume"]["processes"] == len(content["resume"]["random"]) == 2


@pytest.mark.parametrize(("number", "ranks", "status"), [(USR1, (1,), 143), (INT, (0, 1), 130)])
def test_other_signals(number, ranks, status, musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, signal_at(number, "train", 2, ranks))
    ended = run_ranks(tmp_path, "fit", "--config", config)
    assert ended.statuses == [status, status], ended.said
    assert "--ckpt_path last goes on from there" in ended.said[0]
    assert last_of(tmp_path)["global_step"] == 3


def test_before_the_first_step_there_is_nothing_to_save(musdb_root, tmp_path):
    config = configure(musdb_root, tmp_path, signal_at(TERM, "check", 0, (1,)))
    ended = run_ranks(tmp_path, "fit", "--config", config)
    assert ended.statuses == [143, 143], ended.said
    assert "before the first step; nothing to save" in ended.said[0]


def test_a_signal_before_the_run_has_taken_them_over(musdb_root, tmp_path):
    """One process leaves by itself; the others cannot do without it."""
    config = configure(musdb_root, tmp_path, fault("terminate", "setup"))
    ended = run_ranks(tmp_path, "fit", "--config", config)
    assert ended.statuses == [143, 143], ended.said
    assert "rank 1: was asked to end" in ended.said[0]
    assert not list(tmp_path.rglob("*.ckpt"))
