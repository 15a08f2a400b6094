"""Keys: every item once, the same whatever the number of processes."""

from __future__ import annotations

import pytest
from torch import distributed

from data import sampling
from data.sampling import EvalSampler, Key, TrainSampler


def keys_of_ranks(
    monkeypatch: pytest.MonkeyPatch, sampler: TrainSampler | EvalSampler, world: int
) -> list[list[Key]]:
    """What each of `world` processes would get."""
    ranks = []
    for rank in range(world):
        monkeypatch.setattr(sampling, "rank_and_world_size", lambda rank=rank: (rank, world))
        ranks.append(list(sampler))
        assert len(sampler) == len(ranks[-1])
    return ranks


def test_outside_of_distributed_runs() -> None:
    assert sampling.rank_and_world_size() == (0, 1)


def test_train_covers_all_items_in_a_new_order_each_epoch() -> None:
    sampler = TrainSampler(50, seed=3)
    epochs = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key.epoch for key in keys} == {epoch}
        assert all(key.valid for key in keys)
        assert sorted(key.index for key in keys) == list(range(50))
        epochs.append([key.index for key in keys])
    assert epochs[0] != epochs[1]
    sampler.set_epoch(0)
    assert [key.index for key in sampler] == epochs[0]
    assert [key.index for key in TrainSampler(50, seed=4)] != epochs[0]


@pytest.mark.parametrize(("size", "world"), [(12, 1), (12, 2), (13, 2), (13, 4), (3, 5)])
def test_train_ranks_share_one_order(
    monkeypatch: pytest.MonkeyPatch, size: int, world: int
) -> None:
    sampler = TrainSampler(size, seed=1)
    order = list(sampler)
    ranks = keys_of_ranks(monkeypatch, sampler, world)
    assert {len(keys) for keys in ranks} == {size // world}
    interleaved = [key for step in zip(*ranks) for key in step]
    assert interleaved == order[: size // world * world]


@pytest.mark.parametrize("start", [0, 1, 6, 12, 13])
def test_train_goes_on_where_it_stopped(start: int) -> None:
    sampler = TrainSampler(13, seed=1)
    epochs = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    resumed = TrainSampler(13, seed=1)
    resumed.set_position(2, start)
    resumed.set_epoch(2)  # as a trainer does, also for the epoch that it resumes
    assert list(resumed) == epochs[2][start:]
    assert len(resumed) == 13
    resumed.set_epoch(3)
    assert list(resumed) == epochs[3]
    resumed.set_epoch(2)
    assert list(resumed) == epochs[2]


@pytest.mark.parametrize(("world", "batches"), [(2, 0), (2, 3), (3, 2)])
def test_train_ranks_go_on_together(
    monkeypatch: pytest.MonkeyPatch, world: int, batches: int
) -> None:
    sampler = TrainSampler(25, seed=1)
    whole = keys_of_ranks(monkeypatch, sampler, world)
    sampler.set_position(0, batches * 2 * world)
    for rank in range(world):
        monkeypatch.setattr(sampling, "rank_and_world_size", lambda rank=rank: (rank, world))
        assert list(sampler) == whole[rank][batches * 2 :]


def test_five_interruptions_repeat_nothing() -> None:
    seen: list[int] = []
    for stop in (3, 4, 10, 11, 20, 25):
        sampler = TrainSampler(25, seed=7)
        sampler.set_position(4, len(seen))
        seen += [key.index for key in list(sampler)[: stop - len(seen)]]
    assert sorted(seen) == list(range(25))


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, -1), (0, 6)])
def test_positions_that_are_not_there(epoch: int, start: int) -> None:
    with pytest.raises(ValueError, match=f"no item {start} in epoch {epoch} of 5 items"):
        TrainSampler(5).set_position(epoch, start)


@pytest.mark.parametrize(("size", "world"), [(12, 1), (12, 2), (13, 2), (13, 4), (3, 5)])
def test_eval_ranks_are_equally_long_and_repeat_nothing(
    monkeypatch: pytest.MonkeyPatch, size: int, world: int
) -> None:
    ranks = keys_of_ranks(monkeypatch, EvalSampler(size), world)
    assert {len(keys) for keys in ranks} == {-(-size // world)}
    counted = sorted(key.index for keys in ranks for key in keys if key.valid)
    assert counted == list(range(size))
    fill = [key for keys in ranks for key in keys if not key.valid]
    assert len(fill) == -(-size // world) * world - size
    assert all(0 <= key.index < size for key in fill)


@pytest.mark.parametrize(("size", "world"), [(5, 2), (1, 3)])
def test_unpadded_shares(monkeypatch: pytest.MonkeyPatch, size: int, world: int) -> None:
    ranks = keys_of_ranks(monkeypatch, EvalSampler(size, pad=False), world)
    assert sorted(key.index for keys in ranks for key in keys) == list(range(size))
    assert all(key.valid for keys in ranks for key in keys)


def test_eval_is_always_epoch_zero() -> None:
    sampler = EvalSampler(4)
    assert not hasattr(sampler, "set_epoch")
    assert [key.epoch for key in sampler] == [0] * 4


def test_rank_is_taken_when_it_is_needed() -> None:
    """Samplers are made before the processes find each other."""
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    sampler = TrainSampler(12, seed=1)
    order = list(sampler)
    distributed.init_process_group("fake", rank=2, world_size=3, store=fake.FakeStore())
    try:
        assert sampling.rank_and_world_size() == (2, 3)
        assert list(sampler) == order[2::3]
    finally:
        distributed.destroy_process_group()
    assert len(sampler) == 12
