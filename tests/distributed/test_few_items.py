"""Fewer items than processes: those without one take part in all that is done together."""

from __future__ import annotations

import math

import pytest

from tests.distributed.forked import configure, run_ranks
from tests.helpers import REPOSITORY, metrics

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_one_segment_to_validate_on(strategy, musdb_root, tmp_path):
    segments = {"data__init_args__val_seq_duration": 3.0, "trainer__strategy": strategy}
    config = configure(musdb_root, tmp_path, **segments)
    ended = run_ranks(tmp_path, "fit", "--config", config)
    assert ended.statuses == [0, 0], "".join(ended.said)
    measured = metrics(tmp_path)
    assert all(math.isfinite(measured[f"val/{name}"]) for name in ("loss", "sdr"))


@pytest.mark.slow
def test_two_songs_to_test_on(musdb_root, tmp_path):
    """Longer than a segment in one process alone, so that only some have a loss."""
    config = configure(musdb_root, tmp_path / "fit", trainer__max_steps=1)
    words = ["--model.init_args.bss_eval", "true", "--model.init_args.overlap_add.segment", "1"]
    assert run_ranks(tmp_path / "fit", "fit", "--config", config).statuses == [0, 0]
    last = next(tmp_path.rglob("last.ckpt"))
    scores = {}
    for world in (1, 3):
        folder = tmp_path / f"test{world}"
        config = configure(musdb_root, folder)
        words_here = ["test", "--config", config, "--ckpt_path", last, *words]
        ended = run_ranks(folder, *words_here, world=world, seconds=120)
        assert ended.statuses == [0] * world, "".join(ended.said)
        scores[world] = metrics(folder)
    assert "test/bss_sdr_vocals" in scores[1]
    assert scores[3] == pytest.approx(scores[1], abs=1e-3)
