"""The sets of the Sound Demixing Challenge: which songs are trained on, and which are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aimless.errors import DataError
from aimless.sources import SDX_SOURCES
from data.lightning import Bleed, DnR, LabelNoise

SETTINGS = {"seq_duration": 0.5, "samples_per_track": 2, "batch_size": 1, "num_workers": 0}


def names(module: object, split: str) -> list[str]:
    return [track.name for track in module.datasets[split].tracks]  # type: ignore[attr-defined]


@pytest.fixture
def noisy(tmp_path: Path, write_song: Callable[..., Path]) -> Path:
    for seed, name in enumerate(("train/a1", "train/b2", "train/c3", "valid/d4")):
        write_song(tmp_path / name, seconds=1, seed=seed)
    return tmp_path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("ID,Clean,Notes\na1,Y,\nb2,,drums in bass\nc3,Y,quiet\nz9,Y,not here\n")
    return path


def test_label_noise_trains_and_validates_on_clean_songs(noisy: Path, labels: Path) -> None:
    module = LabelNoise(str(noisy), labels=str(labels), random=True, **SETTINGS)
    module.setup("fit")
    assert names(module, "train") == names(module, "val") == ["a1", "c3"]
    module.setup("test")
    assert names(module, "test") == ["d4"]
    assert len(list(module.train_dataloader())) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("a,b\n1,2\n", "no column Clean, ID"),
        ("ID,Clean\na1,\n", "no song clean"),
        ("ID,Clean\nz9,Y\n", "found 0 tracks"),
    ],
)
def test_labels_that_cannot_be_used(
    noisy: Path, tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "other.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=said):
        LabelNoise(str(noisy), labels=str(path), random=True, **SETTINGS).setup("fit")


def test_bleed_validates_on_its_own_songs(noisy: Path) -> None:
    module = Bleed(str(noisy), random=True, **SETTINGS)
    module.setup("fit")
    assert names(module, "train") == ["a1", "b2", "c3"]
    assert names(module, "val") == ["d4"]


@pytest.mark.parametrize("include_val", [False, True])
def test_dnr_is_mono_and_may_train_on_its_validation_split(
    tmp_path: Path, write_song: Callable[..., Path], include_val: bool
) -> None:
    for seed, split in enumerate(("tr", "cv", "tt")):
        folder = tmp_path / split / f"{seed}"
        write_song(folder, 1.0, channels=1, seed=seed, sources=SDX_SOURCES, mixture="mix")
    module = DnR(str(tmp_path), include_val=include_val, random=True, **SETTINGS)
    module.setup()
    assert names(module, "train") == (["0", "1"] if include_val else ["0"])
    assert names(module, "val") == ["1"]
    assert names(module, "test") == ["2"]
    item = next(iter(module.train_dataloader()))
    assert item.stems.shape == (1, 3, 1, 22050)
