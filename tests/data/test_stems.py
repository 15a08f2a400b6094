"""Stems from folders of tracks, folders of stems and tables: what is drawn, and training runs."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from aimless.errors import ConfigError, DataError
from data.augment import RandomGain
from data.lightning import StemFiles
from data.sampling import Key
from tests.helpers import experiment, main

SOURCES = ["drums", "bass", "vocals"]  # kick, snare and rest would do; those can be synthesised


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tracks` of which few have vocals, `stems`, `table.csv` on them, and `valid`. To be read."""
    from tests.conftest import write_song

    folder = tmp_path_factory.mktemp("stem files")
    for seed in range(4):
        sources = ("drums", "bass", "vocals") if seed == 0 else ("drums", "bass")
        song = folder / "tracks" / f"t{seed}"
        write_song(song, 1.0, seed=seed, sources=sources, mixture=None)
    for seed, source in enumerate(SOURCES):
        for number in range(2):
            deep = folder / "stems" / source / ("" if number else "deep")
            write_song(deep, 0.8, seed=10 * seed + number, sources=(source,), mixture=None)
    write_song(folder / "valid" / "v0", 1.0, seed=99, sources=("drums", "bass", "vocals"))
    rows = [f"{source},./stems/{source}/deep/{source}.wav" for source in SOURCES]
    (folder / "table.csv").write_text("\n".join(["instrum,path", *rows, "flute,nowhere.wav"]))
    return folder


def module(root: Path, train: Any, **settings: Any) -> StemFiles:
    defaults: dict[str, Any] = {
        "seq_duration": 0.5,
        "batch_size": 2,
        "num_workers": 0,
        "samples_per_epoch": 1000,
        "missing": "silence",
    }
    arguments = {**defaults, **settings}
    return StemFiles(SOURCES, train, "valid", root=str(root), **arguments)


def plans(root: Path, train: Any, count: int = 1000, **settings: Any) -> list[dict[str, Any]]:
    made = module(root, train, **settings)
    made.setup("fit")
    dataset = made.datasets["train"]
    assert len(dataset) == 1000
    return [dataset.describe(Key(0, index)) for index in range(count)]


def test_a_relative_root_is_joined_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    expected = names(plans(root, "tracks", 20), "drums")
    assert names(plans(Path(root.name), "tracks", 20), "drums") == expected


def names(drawn: list[dict[str, Any]], source: str) -> Counter[str]:
    """How often a source came from which file, named from the root on; "" for silence."""
    return Counter(
        "/".join(plan[source][0].file.path.parts[-3:]) if plan[source] else "" for plan in drawn
    )


def test_roots_are_drawn_by_weight_where_they_have_the_source(root: Path) -> None:
    train = [{"path": "tracks", "weight": 3}, {"path": "stems", "layout": "stems"}]
    drawn = plans(root, train)
    from_tracks = sum(count for name, count in names(drawn, "drums").items() if "tracks" in name)
    assert from_tracks / len(drawn) == pytest.approx(0.75, abs=0.05)
    assert set(names(drawn, "drums")) == {
        *(f"tracks/t{number}/drums.wav" for number in range(4)),
        "drums/deep/drums.wav",
        "stems/drums/drums.wav",
    }
    # One of four tracks has vocals, and each of the unrelated files.
    assert names(drawn, "vocals")[""] / len(drawn) == pytest.approx(1 - 0.4375, abs=0.06)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.25),
        ({"balance": True}, 1.0),
        ({"presence": {"vocals": 0.7}}, 0.7),
        ({"presence": {"vocals": 0.1, "bass": 0.5}, "balance": True}, 0.1),
    ],
)
def test_rare_stems_are_as_frequent_as_asked_for(
    root: Path, settings: dict[str, Any], expected: float
) -> None:
    drawn = plans(root, "tracks", **settings)
    assert sum(bool(plan["vocals"]) for plan in drawn) / 1000 == pytest.approx(expected, abs=0.06)
    assert set(names(drawn, "vocals")) <= {"tracks/t0/vocals.wav", ""}
    bass = settings.get("presence", {}).get("bass", 1.0)
    assert sum(bool(plan["bass"]) for plan in drawn) / 1000 == pytest.approx(bass, abs=0.06)


def test_mixup_sums_stems_with_their_gains(root: Path) -> None:
    made = module(root, "tracks", mixup={"drums": [0.5, 0.5]}, mixup_gain_db=[-6.0, 0.0])
    made.setup("fit")
    dataset = made.datasets["train"]
    for index in range(20):
        plan, item = dataset.describe(index), dataset[index]
        assert len(plan["drums"]) in (2, 3)
        assert len(plan["bass"]) == 1
        expected = np.zeros((2, 22050))
        for excerpt in plan["drums"]:
            part, _ = soundfile.read(excerpt.file, excerpt.frames, excerpt.start)
            expected += excerpt.gain * part.T
        assert np.allclose(item.stems[0], expected, atol=1e-6)
        assert torch.allclose(item.mixture, item.stems.sum(0), atol=1e-6)


def test_items_are_the_same_in_another_process(root: Path) -> None:
    settings = {"mixup": [0.5], "aligned_p": 0.5, "transforms": [RandomGain()]}
    made = module(root, ["tracks", "table.csv"], **settings)
    made.setup("fit")
    dataset = made.datasets["train"]
    copy = pickle.loads(pickle.dumps(dataset))
    for index in (5, 0, 999):
        assert torch.equal(copy[Key(3, index)].stems, dataset[Key(3, index)].stems)
    assert not torch.equal(dataset[Key(3, 0)].stems, dataset[Key(4, 0)].stems)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_stems_of_some_items_belong_together(root: Path, share: float) -> None:
    train = ["tracks", {"path": "stems", "layout": "stems"}]
    together = 0
    for plan in plans(root, train, aligned_p=share):
        places = {(e.file.path.parent, e.start) for stem in plan.values() for e in stem}
        together += len(places) == 1 and "tracks" in str(places)
    assert together / 1000 == pytest.approx(share, abs=0.06)


def test_a_table_names_files_relative_to_itself(root: Path) -> None:
    drawn = plans(root, "table.csv", count=50)
    for source in SOURCES:
        assert set(names(drawn, source)) == {f"{source}/deep/{source}.wav"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"table\.csv: cannot be read: No such file"),
        ("", r"table\.csv, line 1: needs the columns source \(or instrum\) and path, found none"),
        ("source,file\n", r"line 1: .*found source, file"),
        ("source,path\ndrums,\n", r"table\.csv, line 2: no path given"),
        ("instrum,path\ndrums,a.wav\n ,b.wav\n", r"table\.csv, line 3: no instrum given"),
        ("source,path\nflute,a.wav\n", r"table\.csv: no row of drums, bass, vocals"),
        ("source,path\nbass,a.wav\ndrums,n.wav\n", r"table\.csv, line 3: .*n\.wav: no such file"),
        ("source,path\ndrums,a.wav\n", r"train: no file of the source bass in .*table\.csv"),
    ],
)
def test_tables_that_cannot_be_used(
    root: Path, tmp_path: Path, content: str | None, said: str
) -> None:
    shutil.copy(root / "stems" / "drums" / "drums.wav", tmp_path / "a.wav")
    if content is not None:
        (tmp_path / "table.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        module(root, str(tmp_path / "table.csv")).setup("fit")


@pytest.mark.parametrize("train", ["nope", "tracks", {"path": "valid", "layout": "stems"}])
def test_roots_that_cannot_be_used(root: Path, train: Any) -> None:
    said = r"found 0 tracks|vocals\.wav: missing|valid: holds none of the folders drums"
    with pytest.raises(DataError, match=said):
        module(root, [train], missing="error").setup("fit")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train": []}, r"train: none given"),
        ({"train": [{"layout": "csv"}]}, r"train\[0\]: no path"),
        ({"train": ["a", {"path": "b", "wieght": 2}]}, r"train\[1\]: unknown 'wieght'"),
        ({"train": [{"path": "b", "weight": 0}]}, r"train\[0\]\.weight: 0 is not a number above"),
        ({"train": [{"path": "b", "layout": "zip"}]}, r"train\[0\]\.layout: 'zip' is not one of"),
        ({"mixup": [0.7, 0.7]}, r"mixup: \[0\.7, 0\.7\] sum to 1\.4, wanted at most 1"),
        ({"mixup": {"flute": [0.1]}}, r"mixup: unknown source 'flute'; known: drums, bass"),
        ({"mixup_gain_db": [3, -3]}, r"mixup_gain_db: \[3, -3\], wanted \[lowest, highest\]"),
        ({"aligned_p": 2}, r"aligned_p: 2 is not a number from 0 to 1"),
        (
            {"aligned_p": 0.5, "train": "table.csv"},
            r"aligned_p: 0\.5 needs a root of layout tracks",
        ),
        ({"presence": {"bass": -1}}, r"presence\.bass: -1"),
        ({"missing": "skip"}, r"missing: 'skip' is not one of error, silence"),
        ({"seq_duration": None}, r"seq_duration: null, wanted a number"),
        ({"samples_per_epoch": 0}, r"samples_per_epoch: 0"),
        ({"sources": ["bass", "bass"]}, r"sources: \['bass', 'bass'\]"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    arguments = {"sources": SOURCES, "train": "tracks", "validation": "valid", **settings}
    with pytest.raises(ConfigError, match=rf"data\.init_args\.{said}"):
        StemFiles(**arguments)


def test_there_is_a_test_only_if_it_is_given(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.init_args\.test: none given"):
        module(root, "tracks").setup("test")
    made = module(root, "tracks", test=["valid"])
    made.setup("test")
    assert len(list(made.test_dataloader())) == 1


def test_training_does_not_need_the_test(root: Path) -> None:
    made = module(root, "tracks", test="not here")
    made.setup("fit")
    with pytest.raises(DataError, match=r"found 0 tracks under .*not here"):
        made.setup("test")


@pytest.mark.parametrize("layout", ["tracks", "stems"])
def test_validation_files_may_not_be_trained_on(root: Path, tmp_path: Path, layout: str) -> None:
    twin = tmp_path / ("drums" if layout == "stems" else "song") / "drums.wav"
    twin.parent.mkdir()
    twin.symlink_to(root / "valid" / "v0" / "drums.wav")
    train = [{"path": str(tmp_path), "layout": layout}, "tracks"]
    with pytest.raises(DataError, match=r"in two splits: .*v0"):
        module(root, train).setup("fit")


@pytest.mark.parametrize(
    "train",
    [
        "tracks",
        [{"path": "stems", "layout": "stems", "weight": 2.5}],
        "table.csv",
        ["tracks", "table.csv"],
    ],
)
def test_each_layout_trains(root: Path, tmp_path: Path, train: Any) -> None:
    settings = {
        "sources": SOURCES,
        "train": train,
        "validation": "valid",
        "root": str(root),
        "missing": "silence",
        "mixup": [0.2, 0.02],
        "balance": True,
        "aligned_p": 0.5 if "tracks" in train else 0.0,
        "samples_per_epoch": 4,
        "seq_duration": 0.5,
        "batch_size": 2,
        "num_workers": 0,
    }
    config = experiment(
        "",
        tmp_path,
        model__init_args__targets=SOURCES,
        model__init_args__target_track=SOURCES,
        data={"class_path": "data.lightning.StemFiles", "init_args": settings},
    )
    assert main("fit", "--config", config, "--trainer.max_steps", "2") == 0
    last = torch.load(next(tmp_path.rglob("last.ckpt")), weights_only=True)
    assert last["global_step"] == 2
