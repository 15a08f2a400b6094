"""The sets of the Sound Demixing Challenge: which songs are trained on, and which are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aimless.errors import ConfigError, DataError
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
        (None, "No such file.*; fetch them with: python scripts/fetch_label_noise.py"),
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


@pytest.fixture
def many(tmp_path: Path, write_song: Callable[..., Path]) -> tuple[Path, Path]:
    """Twenty short songs, all clean but one, and their labels."""
    songs = [f"s{number:02}" for number in range(20)]
    for seed, name in enumerate(songs):
        write_song(tmp_path / "train" / name, seconds=0.5, seed=seed)
    write_song(tmp_path / "valid" / "other", seconds=0.5, seed=99)
    labels = tmp_path / "labels.csv"
    marks = ["", *["Y"] * 19]
    labels.write_text("ID,Clean\n" + "".join(f"{a},{b}\n" for a, b in zip(songs, marks)))
    return tmp_path, labels


def split(many: tuple[Path, Path], **settings: object) -> tuple[set[str], set[str]]:
    """Names of the songs trained on and validated on."""
    root, labels = many
    module = LabelNoise(str(root), labels=str(labels), random=True, **SETTINGS, **settings)
    module.setup("fit")
    return set(names(module, "train")), set(names(module, "val"))


@pytest.mark.parametrize(("validation", "count"), [("unseen", 3), (0.5, 10), (0.01, 1)])
def test_unseen_songs_are_held_out(
    many: tuple[Path, Path], validation: str | float, count: int
) -> None:
    train, val = split(many, validation=validation)
    assert len(val) == count
    assert len(train) == 19 - count
    assert not train & val
    assert "s00" not in train | val
    assert split(many, validation=validation, seed=5) == (train, val)


def test_another_split_seed_holds_other_songs_out(many: tuple[Path, Path]) -> None:
    assert split(many, validation=0.5, split_seed=1) != split(many, validation=0.5)


def test_an_unseen_song_may_not_be_trained_on_by_another_name(many: tuple[Path, Path]) -> None:
    root, labels = many
    _, val = split(many, validation="unseen")
    (root / "train" / "s00").rename(root / "aside")
    (root / "train" / "twin").symlink_to(root / "train" / min(val))
    labels.write_text(labels.read_text() + "twin,Y\n")
    with pytest.raises(DataError, match="two splits"):
        split(many, validation="unseen")


@pytest.mark.parametrize("value", ["seen", 0, 1, -0.1])
def test_validation_settings_that_make_no_sense(tmp_path: Path, value: str | float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.init_args\.validation: {value!r} is neither"):
        LabelNoise(str(tmp_path), validation=value)  # type: ignore[arg-type]


def test_one_clean_song_cannot_be_held_out(noisy: Path, labels: Path) -> None:
    labels.write_text("ID,Clean\na1,Y\n")
    with pytest.raises(DataError, match=r"validation: 0\.15 of the clean songs.*only a1 under"):
        split((noisy, labels), validation="unseen")


def test_bleed_validates_on_its_own_songs(noisy: Path) -> None:
    module = Bleed(str(noisy), random=True, **SETTINGS)
    module.setup("fit")
    assert names(module, "train") == ["a1", "b2", "c3"]
    assert names(module, "val") == ["d4"]


def test_the_segments_length_comes_second(tmp_path: Path) -> None:
    """As for the published classes; what is ours alone goes by its name."""
    for kind in (DnR, LabelNoise, Bleed):
        assert kind(str(tmp_path), 3.0, 7).seq_duration == 3.0


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
