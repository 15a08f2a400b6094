"""Effects that change how many channels items have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimless.errors import ConfigError
from data import audio
from data.augment import Compose, CPUBase, Mono2Stereo, RandomFlipPhase, RandomGain, RandomPan
from data.dataset import Item, SegmentDataset
from data.dataset.speech import SpeechNoiseDataset
from data.lightning import MUSDB
from data.sampling import Key


@pytest.fixture(scope="module")
def mono_root(tmp_path_factory: pytest.TempPathFactory, write_song: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("mono")
    for split, name in (("train", "a"), ("train", "b"), ("test", "c")):
        write_song(root / split / name, seconds=0.5, channels=1, seed=ord(name))
    return root


def ready(root: Path, transforms: list[CPUBase], **settings: Any) -> MUSDB:
    given = {"seq_duration": 0.2, "random": True, "samples_per_track": 3, "batch_size": 2}
    workers = {"num_workers": 0, "split": "published"}
    module = MUSDB(str(root), transforms=transforms, **{**given, **workers, **settings})
    module.setup("fit")
    return module


def batches(module: MUSDB) -> list[Item]:
    return [Item(*map(torch.clone, batch)) for batch in module.train_dataloader()]


def digest(batch: Item) -> str:
    return hashlib.sha256(
        batch.mixture.numpy().tobytes() + batch.stems.numpy().tobytes()
    ).hexdigest()


@pytest.mark.parametrize("track_mix", [False, True])
@pytest.mark.parametrize("before", [[], [RandomGain()], [RandomFlipPhase(p=0.5)]], ids=len)
def test_mono_files_make_stereo_batches(
    mono_root: Path, before: list[CPUBase], track_mix: bool
) -> None:
    """Both channels are what the effects before make of the mono files."""
    mono = batches(ready(mono_root, before, channels=1, random_track_mix=track_mix))
    stereo = batches(
        ready(mono_root, [*before, Mono2Stereo()], channels=1, random_track_mix=track_mix)
    )
    assert len(mono) == len(stereo) == 3
    for one, two in zip(mono, stereo):
        assert two.stems.shape == (2, 4, 2, 8820)
        assert two.mixture.shape == (2, 2, 8820)
        assert torch.equal(two.stems, one.stems.repeat(1, 1, 2, 1))
        torch.testing.assert_close(two.mixture, one.mixture.repeat(1, 2, 1), rtol=0, atol=1e-6)


def test_effects_after_mono2stereo_have_two_channels(mono_root: Path) -> None:
    (batch, *_) = batches(ready(mono_root, [Mono2Stereo(), RandomPan(1, 1)], channels=1))
    assert not batch.stems[:, :, 0].abs().max() > 1e-6
    assert batch.stems[:, :, 1].abs().max() > 0.05
    torch.testing.assert_close(batch.mixture, batch.stems.sum(1), rtol=0, atol=1e-6)


def test_workers_make_the_same_stereo_batches(mono_root: Path) -> None:
    effects = [RandomGain(), Mono2Stereo(), RandomPan()]
    expected, got = (
        [digest(batch) for batch in batches(ready(mono_root, effects, channels=1, **settings))]
        for settings in ({}, {"num_workers": 2})
    )
    assert got == expected


def test_stereo_files_stay_stereo(musdb_root: Path) -> None:
    module = ready(musdb_root, [Mono2Stereo()], samples_per_track=2)
    plain = ready(musdb_root, [], samples_per_track=2)
    for got, expected in zip(batches(module), batches(plain), strict=True):
        assert torch.equal(got.stems, expected.stems)
        assert torch.equal(got.mixture, expected.mixture)


def test_speech_becomes_stereo_too(tmp_path: Path, write_song: Callable[..., Path]) -> None:
    song = write_song(tmp_path / "s", seconds=0.5, channels=1, sources=("speech", "noise"))
    files = [audio.info(song / f"{name}.wav") for name in ("speech", "noise")]
    given = files[:1], files[1:], 44100, 0.2, 3
    mono = SpeechNoiseDataset(*given)[Key(0, 1)]
    stereo = SpeechNoiseDataset(*given, transforms=[Mono2Stereo()])[Key(0, 1)]
    assert stereo.stems.shape == (2, 2, 8820)
    assert torch.equal(stereo.stems, mono.stems.repeat(1, 2, 1))
    torch.testing.assert_close(stereo.mixture, mono.mixture.repeat(2, 1), rtol=0, atol=1e-6)


def test_channels_are_declared_through_a_chain() -> None:
    chain = Compose([RandomGain(), Compose([Mono2Stereo()]), RandomPan()])
    assert [chain.channels_after(count) for count in (1, 2, 5)] == [2, 2, 5]
    assert Compose([RandomGain()]).channels_after(1) == 1


class Undeclared(CPUBase):
    def apply(self, mix: Any, rng: np.random.Generator) -> None:
        mix.replace_all(np.repeat(mix.stems, 3, axis=1))


class Untrue(CPUBase):
    def channels_after(self, channels: int) -> int:
        return 2

    def transform(self, stem: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return -stem


@pytest.mark.parametrize(
    ("effect", "text"), [(Undeclared(), "have 3 .* say 1"), (Untrue(), "have 1 .* say 2")]
)
def test_an_effect_that_does_not_tell_the_truth(
    mono_root: Path, effect: CPUBase, text: str
) -> None:
    dataset = ready(mono_root, [effect], channels=1).datasets["train"]
    assert isinstance(dataset, SegmentDataset)
    with pytest.raises(ConfigError, match=text):
        dataset[Key(0, 0)]
