"""Loaders: the same bytes whatever loads them, going on in mid-epoch, memory that is used again."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

from aimless.sources import MDX_SOURCES
from data import sampling, tracks
from data.augment import LimitAug, RandomFlipPhase, RandomGain, RandomSwapLR
from data.dataset import Item, SegmentDataset, collate
from data.dataset.sharing import _memories
from data.lightning import MUSDB, loaders
from data.sampling import TrainSampler
from data.tracks import Rules

EFFECTS = [RandomGain(), RandomFlipPhase(), RandomSwapLR(), LimitAug()]


def ready(root: Path, **settings: Any) -> MUSDB:
    defaults = {
        "seq_duration": 0.25,
        "samples_per_track": 9,
        "random": True,
        "random_track_mix": True,
        "batch_size": 2,
        "num_workers": 0,
        "transforms": EFFECTS,
    }
    module = MUSDB(str(root), **{**defaults, **settings})
    module.setup("fit")
    return module


def digest(batch: Item) -> str:
    arrays = [field.numpy().tobytes() for field in batch if isinstance(field, torch.Tensor)]
    return hashlib.sha256(b"".join(arrays)).hexdigest()


def epochs(loader: DataLoader, numbers: range) -> Iterator[Item]:
    assert isinstance(loader.sampler, TrainSampler)
    for epoch in numbers:
        loader.sampler.set_epoch(epoch)
        yield from loader


def digests(module: MUSDB, numbers: range = range(2)) -> list[str]:
    return [digest(batch) for batch in epochs(module.train_dataloader(), numbers)]


@pytest.fixture(scope="module")
def expected(musdb_root: Path) -> list[str]:
    """Two epochs of 9 batches, loaded by this process."""
    return digests(ready(musdb_root))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_same_batches_with_any_number_of_workers(
    musdb_root: Path, expected: list[str], workers: int
) -> None:
    assert len(set(expected)) == 18
    settings: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers == 2}
    assert digests(ready(musdb_root, prefetch=workers, **settings)) == expected


def test_same_batches_from_spawned_workers(musdb_root: Path, expected: list[str]) -> None:
    dataset = ready(musdb_root).datasets["train"]
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=TrainSampler(len(dataset)),
        num_workers=1,
        multiprocessing_context="spawn",
        collate_fn=collate,
    )
    assert [digest(batch) for batch in loader] == expected[:9]


def test_same_batches_with_torchs_own_collate(musdb_root: Path, expected: list[str]) -> None:
    dataset = ready(musdb_root).datasets["train"]
    loader = DataLoader(dataset, 2, sampler=TrainSampler(len(dataset)), num_workers=1)
    assert [digest(batch) for batch in loader] == expected[:9]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batches", [0, 4, 9])
def test_a_run_goes_on_in_mid_epoch(
    musdb_root: Path, expected: list[str], workers: int, batches: int
) -> None:
    module = ready(musdb_root, num_workers=workers)
    module.set_position(0, batches * 2)
    assert digests(module) == expected[batches:]
    assert len(module.train_dataloader()) == 9


class Recorder(pl.LightningModule):
    """Notes the hashes of the batches that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[str] = []

    def training_step(self, batch: Item) -> torch.Tensor:
        self.seen.append(digest(batch))
        return self.layer(batch.mixture.mean().reshape(1, 1)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


class SaveOnce(pl.Callback):
    """Saves a checkpoint after a step, and lets the run go on."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(module: MUSDB, callbacks: Any = None, checkpoint: Path | None = None) -> list[str]:
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=callbacks,
    )
    network = Recorder()
    trainer.fit(network, module, ckpt_path=checkpoint)
    assert trainer.global_step == 18
    return network.seen


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [4, 9, 13])
def test_a_trainer_goes_on_where_it_stopped(
    musdb_root: Path, tmp_path: Path, expected: list[str], workers: int, step: int
) -> None:
    checkpoint = tmp_path / "a.ckpt"
    module = ready(musdb_root, num_workers=workers)
    assert fit(module, SaveOnce(checkpoint, step)) == expected
    module = ready(musdb_root, num_workers=workers)
    if step != 9:  # nine batches are an epoch
        module.set_position(step // 9, step % 9 * 2)
    assert fit(module, checkpoint=checkpoint) == expected[step:]


def test_two_ranks_see_what_one_process_sees(
    musdb_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = ready(musdb_root, batch_size=4).train_dataloader()
    whole = [batch.stems for batch in alone]
    halves = []
    for rank in range(2):
        monkeypatch.setattr(sampling, "rank_and_world_size", lambda rank=rank: (rank, 2))
        halves.append([batch.stems for batch in ready(musdb_root).train_dataloader()])
    assert len(whole) == len(halves[0]) == len(halves[1]) == 4
    for batch, first, second in zip(whole, *halves):
        assert torch.equal(batch[0::2], first)
        assert torch.equal(batch[1::2], second)


Loaded = list[tuple[int, bool, str]]  # index, whether it counts, hash of the stems


def load_both(root: Path, world: int) -> dict[str, Loaded]:
    """All items of a training epoch and of validation, as this process gets them."""
    module = ready(root, batch_size=4 // world, num_workers=1, val_seq_duration=0.7)
    return {
        name: [
            (int(index), bool(valid), hashlib.sha256(stems.numpy().tobytes()).hexdigest())
            for batch in loader
            for stems, index, valid in zip(batch.stems, batch.index, batch.valid)
        ]
        for name, loader in (("train", module.train_dataloader()), ("val", module.val_dataloader()))
    }


def run_rank(root: Path, store: Path, rank: int, results: Any) -> None:
    """One of two processes that know of each other."""
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    results.put((rank, load_both(root, world=2)))


def test_two_processes_divide_what_one_does(musdb_root: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = [(musdb_root, tmp_path / "store", rank, results) for rank in range(2)]
    running = [context.Process(target=run_rank, args=each) for each in arguments]
    for process in running:
        process.start()
    both = [found for _, found in sorted(results.get(timeout=120) for _ in running)]
    for process in running:
        process.join(timeout=60)
    alone = load_both(musdb_root, world=1)
    train = [item for step in zip(*(rank["train"] for rank in both)) for item in step]
    assert train == alone["train"]
    assert len({index for index, *_ in train}) == len(train) == 16  # of 18
    counted = [item for rank in both for item in rank["val"] if item[1]]
    assert sorted(counted) == sorted(alone["val"])
    assert [len(rank["val"]) for rank in both] == [3, 3]  # 5 items and one that fills up


def test_no_draw_is_repeated_by_epochs_ranks_or_workers(
    musdb_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes, keys = [], []
    for rank in range(2):
        monkeypatch.setattr(sampling, "rank_and_world_size", lambda rank=rank: (rank, 2))
        module = ready(musdb_root, num_workers=2, transforms=None)
        for batch in epochs(module.train_dataloader(), range(3)):
            hashes += [hashlib.sha256(stem.numpy().tobytes()).digest() for stem in batch.stems]
            keys += list(zip(batch.epoch.tolist(), batch.index.tolist()))  # type: ignore[union-attr]
    assert len(keys) == len(set(keys)) == 48
    assert len(set(hashes)) == 48


def test_batches_that_are_kept_stay_as_they_are(musdb_root: Path, expected: list[str]) -> None:
    for workers in (0, 2):
        loader = ready(musdb_root, num_workers=workers).train_dataloader()
        kept = [*epochs(loader, range(2))]
        parts = [batch.stems[0, 1] for batch in kept]  # a view keeps the memory as well
        assert [digest(batch) for batch in kept] == expected
        copies = [part.clone() for part in parts]
        del kept
        for _ in epochs(loader, range(2, 4)):
            pass
        assert all(map(torch.equal, parts, copies))


def test_memory_is_used_again_once_nothing_refers_to_it(musdb_root: Path) -> None:
    dataset = ready(musdb_root).datasets["train"]
    first = dataset.__getitems__([0, 1])
    place = first.batch.stems.data_ptr()
    second = dataset.__getitems__([2, 3])
    assert second.batch.stems.data_ptr() != place
    view = first[1].mixture
    del first
    third = dataset.__getitems__([4, 5])
    assert third.batch.stems.data_ptr() != place
    del view
    fourth = dataset.__getitems__([6, 7])
    assert fourth.batch.stems.data_ptr() == place
    assert all(batch.batch.stems.data_ptr() % 64 == place % 64 for batch in (second, third))


class Telling(SegmentDataset):
    """Stems hold how much memory their process has for batches, and its threads."""

    def fill(self, key: Any, mixture: Any, stems: Any) -> None:
        mixture[...] = torch.get_num_threads()
        stems[...] = len(_memories.known) if get_worker_info() else -1


def test_loader_processes_use_one_thread_and_little_memory(musdb_root: Path) -> None:
    found = tracks.scan(musdb_root / "train", Rules(MDX_SOURCES))
    module = ready(musdb_root, num_workers=1)
    module.datasets["train"] = Telling(found, MDX_SOURCES, 0.1, 40, True, True)
    told = [
        (batch.mixture.max().item(), batch.stems.max().item())
        for batch in module.train_dataloader()
    ]
    assert len(told) == 60
    assert {threads for threads, _ in told} == {1}
    assert max(memories for _, memories in told) <= 5
    held = list(module.train_dataloader())
    assert max(batch.stems.max().item() for batch in held) == 60


def test_whole_songs_of_different_lengths_are_handed_over(
    musdb_copy: Path, write_song: Any
) -> None:
    write_song(musdb_copy / "train" / "Longer", 3.5, seed=9)
    settings = {"seq_duration": None, "random": False, "random_track_mix": False, "batch_size": 1}
    alone, worker = (
        digests(ready(musdb_copy, num_workers=workers, **settings), range(1)) for workers in (0, 1)
    )
    assert worker == alone
    assert len(set(alone)) == 3


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_settings_reach_the_loader(musdb_root: Path) -> None:
    plain = ready(musdb_root).train_dataloader()
    assert (plain.num_workers, plain.persistent_workers, plain.pin_memory) == (0, False, False)
    usual = ready(musdb_root, num_workers=1).train_dataloader()
    assert (usual.prefetch_factor, usual.persistent_workers) == (2, True)
    settings = {"prefetch": 5, "persistent_workers": False, "pin_memory": True}
    other = ready(musdb_root, num_workers=3, **settings).val_dataloader()
    assert (other.num_workers, other.prefetch_factor) == (3, 5)
    assert (other.persistent_workers, other.pin_memory) == (False, True)
    ready(musdb_root, num_workers=0, prefetch=5, persistent_workers=True).train_dataloader()


def test_a_gate_and_a_limit_reach_the_training_data_only(musdb_root: Path) -> None:
    module = ready(musdb_root, min_loudness_db=-20.0, max_bad_excerpts=3, transforms=None)
    free = ready(musdb_root, transforms=None)
    assert module.datasets["train"].rejects.limit == 3
    plans = [[made.datasets["train"].describe(i) for i in range(18)] for made in (module, free)]
    assert plans[0] != plans[1]
    validation = [[digest(batch) for batch in m.val_dataloader()] for m in (module, free)]
    assert validation[0] == validation[1]


@pytest.mark.parametrize(
    ("settings", "expected"), [({}, (2, 1)), ({"num_workers": 5, "prefetch": 4}, (5, 4))]
)
def test_whole_songs_are_prepared_by_few_processes(musdb_root, monkeypatch, settings, expected):
    """Each holds some hundred MB, in memory that processes share."""
    monkeypatch.setattr(loaders, "default_workers", lambda devices: 8)
    module = MUSDB(str(musdb_root), test_seq_duration=None, **settings)
    module.setup("test")
    loader = module.test_dataloader()
    assert (loader.num_workers, loader.prefetch_factor) == expected
