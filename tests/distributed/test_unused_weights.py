"""Weights that the loss does not depend on, which DDP waits for in vain unless it is told."""

from __future__ import annotations

import pytest

from tests.distributed.forked import run_ranks
from tests.distributed.parts import recorded, records
from tests.helpers import REPOSITORY

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("strategy", "status"), [("ddp", 2), ("ddp_find_unused_parameters_true", 0)]
)
def test_a_network_with_spare_weights(strategy, status, musdb_root, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    network = "tests.distributed.parts.SpareWeights"
    config = recorded(
        musdb_root,
        tmp_path,
        model__init_args__model__class_path=network,
        trainer__strategy=strategy,
        data__init_args__samples_per_track=8,
    )
    ended = run_ranks(tmp_path, "fit", "--config", config, seconds=200)
    assert ended.statuses == [status] * 2, ended.said
    if status:
        (line,) = [line for line in ended.said[0].splitlines() if line.startswith("error: ")]
        assert "ddp_find_unused_parameters_true" in line
        assert "Traceback" not in ended.said[0]
    else:
        assert all(one["looks_for_unused"] for one in records(tmp_path))
