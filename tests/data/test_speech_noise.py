"""The speech and noise data module: files below two folders, what is held out, training runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
from jsonargparse import ArgumentParser
from torch.distributions import Uniform

from aimless.draws import generator
from aimless.errors import ConfigError, DataError
from data.lightning import SpeechNoise
from tests.helpers import experiment, main

RATE = 44100


def write(path: Path, seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * generator(path.name).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate)
    return path


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Ten speakers with two recordings each, a deep one in FLAC; five noises, loose. To be read."""
    root = tmp_path_factory.mktemp("speech and noise")
    for speaker in range(10):
        write(root / "speech" / f"p{speaker}" / "a.wav", 0.5 + 0.1 * speaker, 48000)
        write(root / "speech" / f"p{speaker}" / "session" / "b.flac")
    for noise in range(5):
        write(root / "noise" / f"n{noise}.wav", 0.3 + noise, 16000, channels=1 + noise % 2)
    return root / "speech", root / "noise"


def module(roots: tuple[Path, Path], **settings: Any) -> SpeechNoise:
    defaults = {"seq_duration": 0.5, "samples_per_track": 2, "batch_size": 2, "num_workers": 0}
    return SpeechNoise(*map(str, roots), **{**defaults, **settings})


def ready(
    roots: tuple[Path, Path], stage: str | None = "fit", **settings: Any
) -> dict[str, dict[str, set[Path]]]:
    """Files by split and kind."""
    made = module(roots, **settings)
    made.setup(stage)
    return {
        split: {
            "speech": {file.path for file in dataset.speech},
            "noise": {file.path for file in dataset.noise},
        }
        for split, dataset in made.datasets.items()
    }


def test_batches_of_all_loaders(roots: tuple[Path, Path]) -> None:
    made = module(roots)
    made.setup()
    train, val = list(made.train_dataloader()), list(made.val_dataloader())
    assert len(train) == 18  # 9 speakers, 2 recordings, 2 items each, by 2
    assert {batch.stems.shape for batch in train} == {(2, 2, 1, RATE // 2)}
    assert sum(len(batch.valid) for batch in val) == 2
    assert [batch.mixture.shape[0] for batch in made.test_dataloader()] == [1, 1]
    assert all(torch.allclose(batch.mixture, batch.stems.sum(1)) for batch in train)
    again = list(made.val_dataloader())
    assert all(torch.equal(a.stems, b.stems) for a, b in zip(val, again))
    assert ", " in made.describe(train[0])[0]


def test_workers_do_not_change_batches(roots: tuple[Path, Path]) -> None:
    digests = []
    for workers in (0, 2):
        sampler = Uniform(0.0, 20.0)
        made = module(roots, num_workers=workers, snr_sampler=sampler, persistent_workers=False)
        made.setup("fit")
        digests.append([batch.stems.double().sum().item() for batch in made.train_dataloader()])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_speakers_are_held_out_as_a_whole(roots: tuple[Path, Path], fraction: float) -> None:
    files = ready(roots, val_fraction=fraction)
    speakers = {
        split: {path.relative_to(roots[0]).parts[0] for path in kinds["speech"]}
        for split, kinds in files.items()
    }
    assert len(speakers["val"]) == round(10 * fraction)
    assert len(speakers["train"]) == 10 - len(speakers["val"])
    assert not speakers["val"] & speakers["train"]
    assert not files["val"]["noise"] & files["train"]["noise"]
    assert len(files["val"]["noise"] | files["train"]["noise"]) == 5


def test_what_is_held_out_depends_on_the_split_seed_only(roots: tuple[Path, Path]) -> None:
    fixed = ready(roots, val_fraction=0.5)
    assert ready(roots, val_fraction=0.5, seed=3) == fixed
    assert ready(roots, val_fraction=0.5, split_seed=3) != fixed


def test_validation_items_do_not_depend_on_the_training_seed(roots: tuple[Path, Path]) -> None:
    first, second = module(roots, seed=1), module(roots, seed=2)
    for made in (first, second):
        made.setup("fit")
    batches = zip(first.val_dataloader(), second.val_dataloader())
    assert all(torch.equal(a.stems, b.stems) for a, b in batches)
    assert not torch.equal(first.datasets["train"][0].stems, second.datasets["train"][0].stems)


def test_a_relative_root_is_divided_alike(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ready(roots)
    monkeypatch.chdir(roots[0])
    files = ready((Path("."), Path("..", "noise")))
    for split, kinds in files.items():
        for kind, paths in kinds.items():
            assert {path.resolve() for path in paths} == expected[split][kind]


def test_validation_folders_of_their_own(roots: tuple[Path, Path], tmp_path: Path) -> None:
    own = write(tmp_path / "val" / "x.wav"), write(tmp_path / "noise" / "y.wav")
    files = ready(roots, val_speech_root=str(own[0].parent), val_noise_root=str(own[1].parent))
    assert len(files["train"]["speech"]) == 20
    assert files["val"] == {"speech": {own[0]}, "noise": {own[1]}}


def test_a_held_out_file_may_not_be_trained_on(roots: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "twin.wav").symlink_to(roots[0] / "p3" / "a.wav")
    with pytest.raises(DataError, match=r"1 files are in two splits: .*twin\.wav and .*p3/a\.wav"):
        ready(roots, val_speech_root=str(tmp_path))


def test_one_speaker_cannot_be_divided(roots: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "alone" / f"{name}.wav")
    with pytest.raises(DataError, match=r"val_fraction: 0\.1 of .* alone; .*val_speech_root"):
        ready((tmp_path, roots[1]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seq_duration": None}, r"seq_duration: null"),
        ({"val_fraction": 0.0}, r"val_fraction: 0\.0 is not a number between 0 and 1"),
        ({"least_overlap_ratio": 1.5}, r"least_overlap_ratio: 1\.5"),
        ({"mono": True, "channels": 2}, r"mono: true does not fit data\.init_args\.channels: 2"),
        ({"mono": False, "channels": 1}, r"mono: false does not fit data\.init_args\.channels: 1"),
        ({"snr_sampler": {"low": 3}}, r"snr_sampler: .*low and high"),
    ],
)
def test_settings_that_make_no_sense(
    roots: tuple[Path, Path], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        module(roots, **settings)


def test_files_of_too_many_channels_are_only_for_mono(
    roots: tuple[Path, Path], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.wav", channels=3)
    both = roots[0], tmp_path
    assert ready(both)
    with pytest.raises(DataError, match=r"a\.wav: 3 channels, wanted 2"):
        ready(both, mono=False)


def test_damaged_files_stop_or_are_skipped(roots: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    good = {write(tmp_path / f"{name}.wav") for name in "abc"}
    both = roots[0], tmp_path
    with pytest.raises(DataError, match=r"bad\.wav: not readable audio"):
        ready(both)
    files = ready(both, on_bad_track="skip")
    assert files["train"]["noise"] | files["val"]["noise"] == good


def test_a_bad_file_to_validate_on_is_replaced_any_number_of_times(
    roots: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Validation reads the same items again and again, which are not more and more bad ones."""
    samples = np.full((RATE // 2, 1), np.nan, np.float32)
    write(tmp_path / "speech" / "good.wav")
    write(tmp_path / "noise" / "noise.wav")
    soundfile.write(tmp_path / "speech" / "bad.wav", samples, RATE, subtype="FLOAT")
    own = {f"val_{kind}_root": str(tmp_path / kind) for kind in ("speech", "noise")}
    made = module(roots, check_samples=False, max_bad_excerpts=2, **own)
    made.setup("fit")
    for _ in range(4):
        assert all(batch.stems.isfinite().all() for batch in made.val_dataloader())
    said = [record.getMessage() for record in caplog.records]
    assert sum("bad.wav" in text and text.endswith("takes its place") for text in said) >= 4


@pytest.mark.parametrize(
    "given",
    [
        None,
        {"low": 5, "high": 5},
        {"class_path": "torch.distributions.Uniform", "init_args": {"low": 5.0, "high": 5.0001}},
        {"class_path": "torch.distributions.Normal", "init_args": {"loc": 5.0, "scale": 1e-6}},
    ],
)
def test_ratios_can_be_written_in_a_config(
    roots: tuple[Path, Path], given: dict[str, Any] | None
) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    settings = {"speech_root": str(roots[0]), "noise_root": str(roots[1]), "snr_sampler": given}
    config = {"data": {"class_path": "data.lightning.SpeechNoise", "init_args": settings}}
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    made = instantiate(parser.parse_object(config)).data
    drawn = [made.snr.draw(generator("snr", index)) for index in range(100)]
    low, high = (0, 20) if given is None else (4.999, 5.001)
    assert low <= min(drawn) <= max(drawn) <= high


def test_a_run_trains_saves_plain_settings_and_resumes(
    roots: tuple[Path, Path], tmp_path: Path
) -> None:
    uniform = {"class_path": "torch.distributions.Uniform", "init_args": {"low": 0.0, "high": 20.0}}
    config = experiment(
        "",
        tmp_path,
        trainer__logger=False,
        trainer__val_check_interval=2,
        model__init_args__targets=["speech", "noise"],
        model__init_args__target_track="se",
        model__init_args__model__init_args={"hidden_channels": 8, "nb_layers": 1, "nb_channels": 1},
        data={
            "class_path": "data.lightning.SpeechNoise",
            "init_args": {
                "speech_root": str(roots[0]),
                "noise_root": str(roots[1]),
                "seq_duration": 0.5,
                "samples_per_track": 1,
                "batch_size": 2,
                "num_workers": 0,
                "snr_sampler": uniform,
            },
        },
    )
    assert main("fit", "--config", config, "--trainer.max_steps", "2") == 0
    last = next(tmp_path.rglob("last.ckpt"))
    assert torch.load(last, weights_only=True)["global_step"] == 2
    words = ["fit", "--config", config, "--trainer.max_steps", "4", "--trainer.max_epochs", "2"]
    assert main(*words, "--ckpt_path", last) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 4
