"""What a training batch draws from the global generators depends on its key alone."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from aimless.lightning.random_state import SeedBatches, random_state, set_random_state

KEY = {"seed": 3, "epoch": 2, "rank": 1, "batch": 5}


def draws(seed: int, epoch: int, rank: int, batch: int) -> tuple[Any, ...]:
    trainer: Any = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    SeedBatches().on_train_batch_start(trainer, SimpleNamespace(seed=seed), None, batch)  # type: ignore[arg-type]
    return random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002


@pytest.fixture(autouse=True)
def as_before():
    before = random_state(torch.device("cpu"))
    yield
    set_random_state(before, torch.device("cpu"))


def test_a_batch_draws_the_same_whatever_was_drawn_before() -> None:
    first = draws(**KEY)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    assert draws(**KEY) == first


@pytest.mark.parametrize("part", KEY)
def test_every_part_of_the_key_counts(part: str) -> None:
    first, other = draws(**KEY), draws(**{**KEY, part: KEY[part] + 1})
    assert all(one != another for one, another in zip(first, other))


def test_a_module_without_a_seed_has_seed_0() -> None:
    trainer: Any = SimpleNamespace(current_epoch=2, global_rank=1)
    SeedBatches().on_train_batch_start(trainer, SimpleNamespace(), None, 5)  # type: ignore[arg-type]
    bare = random.random()
    assert draws(**{**KEY, "seed": 0})[0] == bare
