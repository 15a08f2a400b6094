"""The MUSDB data module: splits, checks before the first step, and the same batches always."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from aimless.errors import ConfigError, DataError
from aimless.sources import MDX_SOURCES
from data.augment import LimitAug, RandomGain
from data.dataset import Item
from data.dataset.musdb import VALIDATION_TRACKS
from data.lightning import MUSDB
from data.lightning.settings import default_workers

RATE = 44100


def module(root: Path, **settings: Any) -> MUSDB:
    defaults = {
        "seq_duration": 0.5,
        "samples_per_track": 8,
        "batch_size": 2,
        "random": True,
        "random_track_mix": True,
        "num_workers": 0,
    }
    return MUSDB(str(root), **{**defaults, **settings})


def ready(root: Path, stage: str | None = None, **settings: Any) -> MUSDB:
    datamodule = module(root, **settings)
    datamodule.setup(stage)
    return datamodule


def names(datamodule: MUSDB, split: str) -> list[str]:
    return [track.name for track in datamodule.datasets[split].tracks]  # type: ignore[index]


def test_validation_tracks_are_those_of_the_musdb_package() -> None:
    spec = importlib.util.find_spec("musdb")  # found, not imported: it needs FFmpeg
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("musdb is not installed")
    (config,) = Path(spec.submodule_search_locations[0]).glob("**/mus.yaml")
    listed = yaml.safe_load(config.read_text())["validation_tracks"]
    assert len(VALIDATION_TRACKS) == 14
    assert sorted(VALIDATION_TRACKS) == sorted(listed)


def test_default_split_holds_the_validation_tracks_out(musdb_root: Path) -> None:
    datamodule = ready(musdb_root)
    assert names(datamodule, "train") == ["Synthetic - First Song", "Synthetic - Second Song"]
    assert names(datamodule, "val") == ["Meaxic - Take A Step"]
    assert names(datamodule, "test") == ["Synthetic - Fourth Song", "Synthetic - Third Song"]
    assert datamodule.sources == MDX_SOURCES


def test_published_split_validates_on_test(musdb_root: Path) -> None:
    datamodule = ready(musdb_root, split="published")
    assert len(names(datamodule, "train")) == 3
    assert names(datamodule, "val") == names(datamodule, "test")
    assert names(datamodule, "val") == ["Synthetic - Fourth Song", "Synthetic - Third Song"]


def test_no_validation_track_names_the_option(musdb_copy: Path) -> None:
    (musdb_copy / "train" / "Meaxic - Take A Step").rename(musdb_copy / "train" / "Something")
    with pytest.raises(DataError, match=r"data\.init_args\.split: 'musdb'.*'published'") as error:
        ready(musdb_copy, "fit")
    assert "\n" not in str(error.value)
    ready(musdb_copy, "fit", split="published")


@pytest.mark.parametrize("where", ["nope", "train", "empty"])
def test_wrong_roots(musdb_copy: Path, where: str) -> None:
    (musdb_copy / "empty").mkdir()
    with pytest.raises(DataError, match=r"found 0 tracks under .*expected folders with drums\.wav"):
        ready(musdb_copy / where, "fit")


def test_missing_mixtures_of_training_tracks_do_not_matter_with_track_mix(musdb_copy: Path) -> None:
    for song in (musdb_copy / "train").iterdir():
        if song.name not in VALIDATION_TRACKS:
            (song / "mixture.wav").unlink()
    ready(musdb_copy, "fit")
    with pytest.raises(DataError, match="2 bad files in 2 of 2 tracks"):
        ready(musdb_copy, "fit", random_track_mix=False)


def test_damage_is_found_before_the_first_step(musdb_copy: Path) -> None:
    gone = [
        musdb_copy / "train" / "Synthetic - First Song" / "vocals.wav",
        musdb_copy / "train" / "Synthetic - First Song" / "bass.wav",
        musdb_copy / "train" / "Synthetic - Second Song" / "drums.wav",
    ]
    for path in gone:
        path.unlink()
    network = Counter()
    with pytest.raises(DataError) as error:
        trainer(max_epochs=1).fit(network, module(musdb_copy))
    assert network.steps == 0
    assert all(str(path) in str(error.value) for path in gone)
    assert str(error.value).startswith("3 bad files in 2 of 2 tracks")


def test_skip_goes_on(musdb_copy: Path) -> None:
    (musdb_copy / "train" / "Synthetic - First Song" / "vocals.wav").unlink()
    datamodule = ready(musdb_copy, "fit", on_bad_track="skip")
    assert names(datamodule, "train") == ["Synthetic - Second Song"]


def test_a_test_track_in_training_is_refused(musdb_copy: Path) -> None:
    original = musdb_copy / "test" / "Synthetic - Third Song"
    (musdb_copy / "train" / "Renamed").symlink_to(original)
    with pytest.raises(DataError, match=r"in two splits.*Synthetic - Third Song"):
        ready(musdb_copy, "fit")


@pytest.mark.parametrize("empty", [False, True])
def test_training_does_not_need_test_tracks(musdb_root: Path, tmp_path: Path, empty: bool) -> None:
    (tmp_path / "train").symlink_to(musdb_root / "train")
    if empty:
        (tmp_path / "test").mkdir()
    ready(tmp_path, "fit")
    with pytest.raises(DataError, match="found 0 tracks"):
        ready(tmp_path, "test")


@pytest.mark.parametrize("key", ["seq_duration", "val_seq_duration", "test_seq_duration"])
@pytest.mark.parametrize("value", [0, -1, 1e-6, math.nan, math.inf, 1e9])
def test_durations_that_make_no_sense(tmp_path: Path, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.init_args\.{key}: {value}") as error:
        module(tmp_path, **{key: value})
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("samples_per_track", 0),
        ("num_workers", -1),
        ("seed", -1),
        ("channels", 0),
        ("sample_rate", 0),
        ("split", "valid"),
        ("random_track_mix", True),
        ("max_length_difference", -1.0),
        ("on_bad_track", "ignore"),
        ("prefetch", 0),
        ("max_bad_excerpts", -1),
        ("min_loudness_db", 0.0),
        ("min_loudness_db", math.nan),
        ("min_loudness_db", -50.0),
    ],
)
def test_bad_settings_name_their_key(tmp_path: Path, key: str, value: object) -> None:
    settings = {"random": False, "random_track_mix": False, key: value}
    with pytest.raises(ConfigError, match=rf"data\.init_args\.{key}: "):
        module(tmp_path, **settings)


def test_batch_larger_than_the_data_set(musdb_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="16 samples, batch 64 x 1 rank: "):
        ready(musdb_root, "fit", batch_size=64)
    datamodule = module(musdb_root, batch_size=9)
    datamodule.trainer = trainer()
    monkeypatch.setattr(type(datamodule.trainer), "world_size", 2)
    with pytest.raises(ConfigError, match="16 samples, batch 9 x 2 ranks: "):
        datamodule.setup("fit")
    assert len(ready(musdb_root, "fit", batch_size=16).train_dataloader()) == 1


def test_whole_tracks_of_different_lengths_need_batch_1(
    musdb_copy: Path, write_song: Callable[..., Path]
) -> None:
    write_song(musdb_copy / "train" / "Longer", 3.5, seed=9)
    settings = {"seq_duration": None, "random": False, "random_track_mix": False}
    with pytest.raises(ConfigError, match="seq_duration null"):
        ready(musdb_copy, "fit", **settings)
    datamodule = ready(musdb_copy, "fit", batch_size=1, **settings)
    lengths = sorted(batch.mixture.shape[-1] for batch in datamodule.train_dataloader())
    assert lengths == [3 * RATE, 3 * RATE, round(3.5 * RATE)]


def test_shapes_of_all_loaders(musdb_root: Path) -> None:
    datamodule = ready(musdb_root, seq_duration=1.0)
    batches = list(datamodule.train_dataloader())
    assert len(batches) == 8
    assert {batch.stems.shape for batch in batches} == {(2, 4, 2, RATE)}
    assert [batch.stems.shape for batch in datamodule.val_dataloader()] == [
        (2, 4, 2, RATE),
        (1, 4, 2, RATE),
    ]
    assert [b.mixture.shape for b in datamodule.test_dataloader()] == [(1, 2, 3 * RATE)] * 2
    songs = ready(musdb_root, val_seq_duration=None, test_seq_duration=1.5)
    assert [batch.mixture.shape for batch in songs.val_dataloader()] == [(1, 2, 3 * RATE)]
    assert len(list(songs.test_dataloader())) == 2


def test_validation_is_the_same_each_time(musdb_root: Path) -> None:
    datamodule = ready(musdb_root, transforms=[RandomGain()])
    first, second = ([digest(batch) for batch in datamodule.val_dataloader()] for _ in range(2))
    assert first == second
    assert all((batch.epoch == 0).all() for batch in datamodule.val_dataloader())


def digest(batch: Item) -> str:
    arrays = [field.numpy().tobytes() for field in batch if isinstance(field, torch.Tensor)]
    return hashlib.sha256(b"".join(arrays)).hexdigest()


class Counter(pl.LightningModule):
    """Counts steps and keeps what the trainer passed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.steps = 0
        self.epochs: list[int] = []
        self.validated: list[str] = []

    def training_step(self, batch: Item) -> torch.Tensor:
        self.steps += 1
        self.epochs += batch.epoch.tolist()  # type: ignore[union-attr]
        return self.layer(batch.mixture.mean(-1)).square().mean()

    def validation_step(self, batch: Item) -> None:
        self.validated.append(digest(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


def trainer(**settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **settings,
    )


def test_a_trainer_moves_the_epoch_on_for_training_only(musdb_root: Path) -> None:
    network = Counter()
    trainer(max_epochs=2).fit(network, module(musdb_root))
    assert network.epochs == [0] * 16 + [1] * 16
    half = len(network.validated) // 2
    assert half > 0
    assert network.validated[:half] == network.validated[half:]


def test_setup_scans_each_split_once(musdb_root: Path) -> None:
    datamodule = ready(musdb_root, "fit")
    before = dict(datamodule.datasets)
    datamodule.setup("fit")
    datamodule.setup("validate")
    assert datamodule.datasets == before
    datamodule.setup("test")
    assert set(datamodule.datasets) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("cores", "ranks", "workers"), [(1, 1, 0), (2, 1, 0), (4, 1, 2), (16, 1, 8), (16, 4, 2)]
)
def test_default_workers(
    monkeypatch: pytest.MonkeyPatch, cores: int, ranks: int, workers: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_workers(ranks) == workers


def parse(config: dict) -> Namespace:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    return instantiate(parser.parse_object({"data": config}))


def test_all_settings_and_effects_can_be_written_in_a_config(musdb_root: Path) -> None:
    config = {
        "class_path": "data.lightning.MUSDB",
        "init_args": {
            "root": str(musdb_root),
            "split": "published",
            "seq_duration": 0.5,
            "val_seq_duration": None,
            "random": True,
            "batch_size": 2,
            "transforms": [
                {"class_path": "data.augment.RandomGain", "init_args": {"low": 0.5}},
                {"class_path": "data.augment.LimitAug", "init_args": {"p": 0.3}},
            ],
        },
    }
    datamodule = parse(config).data
    assert isinstance(datamodule, MUSDB)
    assert [type(effect) for effect in datamodule.transforms] == [RandomGain, LimitAug]
    assert vars(datamodule.transforms[0])["low"] == 0.5
    datamodule.setup("fit")
    assert len(names(datamodule, "train")) == 3


def test_every_setting_has_a_line_of_help() -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(MUSDB, "data")
    text = " ".join(parser.format_help().split())
    for name, words in {
        "root": "folder that holds",
        "seq_duration": "length of a training segment",
        "split": "14 validation tracks",
        "on_bad_track": "stops if a track is damaged",
    }.items():
        assert f"--data.{name}" in text
        assert words in text
