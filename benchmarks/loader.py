"""Samples per second of the data loader, against a bare loop over the bytes and a plain loader.

A sample is 10 s of four stereo stems from 16-bit WAV files that the system has in memory, each
from a track and place of its own, and their sum; batches are of 4. The files are made in a
temporary folder and removed. All forms take turns in one process, those with loader processes
too; nothing is done with the batches.

- bare loop: bytes of each stem into one buffer that is used again, to float32 by channels, the
  sum; no files opened, nothing checked, nothing handed over.
- plain: soundfile to float32, stack, sum, default collate.

    PYTHONPATH=. python benchmarks/loader.py
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from torch.utils.data import DataLoader, Dataset

from aimless.draws import generator
from aimless.memory import keep_freed_memory
from aimless.sources import MDX_SOURCES
from data.lightning import MUSDB
from data.sampling import TrainSampler

RATE, SEGMENT, BATCH = 44100, 10, 4
LENGTH = RATE * SEGMENT
HEADER = 44  # bytes before the samples, as soundfile writes them
CONFIGS = {"ours, cfg/demucs.yaml": "demucs.yaml", "ours, cfg/mdx_a": "mdx_a/hdemucs.yaml"}

Form = Iterator[Any]  # an endless one of batches


def make_tracks(root: Path, tracks: int, seconds: int) -> None:
    """A MUSDB of noise in which every file differs."""
    for split, count, length in (("train", tracks, seconds), ("test", 1, 1)):
        for number in range(count):
            folder = root / split / f"Track {number}"
            folder.mkdir(parents=True)
            for source in (*MDX_SOURCES, "mixture")[: 4 if split == "train" else 5]:
                rng = generator("benchmark", source, number)
                noise = rng.standard_normal((length * RATE, 2), np.float32) * 0.05
                soundfile.write(folder / f"{source}.wav", noise, RATE)


def draw(root: Path, index: int) -> Iterator[tuple[Path, int]]:
    """A file and a first frame for each source."""
    rng = generator("plain", index)
    folders = sorted((root / "train").iterdir())
    for source in MDX_SOURCES:
        path = folders[rng.integers(len(folders))] / f"{source}.wav"
        frames = (path.stat().st_size - HEADER) // 4
        yield path, int(rng.integers(frames - LENGTH + 1))


def bare_loop(root: Path) -> Form:
    """No more than what must be done."""
    paths = sorted((root / "train").glob("*/*.wav"))
    files = {path: os.open(path, os.O_RDONLY) for path in paths}
    raw = np.empty((LENGTH, 2), np.int16)
    stems = np.empty((BATCH, 4, 2, LENGTH), np.float32)
    mixture = np.empty((BATCH, 2, LENGTH), np.float32)
    plans = [list(draw(root, index)) for index in range(16 * BATCH)]
    scale = np.float32(1 / 32768)
    while True:
        for first in range(0, len(plans), BATCH):
            for row in range(BATCH):
                for out, (path, start) in zip(stems[row], plans[first + row]):
                    os.preadv(files[path], [raw], HEADER + 4 * start)
                    np.multiply(raw.T, scale, out=out)
                np.sum(stems[row], axis=0, out=mixture[row])
            yield mixture, stems


class PlainDataset(Dataset):
    """What most training code does."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        stems = []
        for path, start in draw(self.root, index):
            samples, _ = soundfile.read(path, frames=LENGTH, start=start, dtype="float32")
            stems.append(torch.from_numpy(samples.T))
        stacked = torch.stack(stems)
        return stacked.sum(0), stacked


def plain(root: Path, workers: int) -> Form:
    """The plain data set in a loader without settings."""
    yield from DataLoader(PlainDataset(root), BATCH, num_workers=workers)


def ours(root: Path, workers: int, transforms: list[Any]) -> Form:
    """The data module's batches, epoch after epoch."""
    module = MUSDB(
        str(root),
        split="published",
        seq_duration=float(SEGMENT),
        samples_per_track=1000,
        random=True,
        random_track_mix=True,
        batch_size=BATCH,
        num_workers=workers,
        transforms=transforms,
    )
    module.setup("fit")
    loader = module.train_dataloader()
    assert isinstance(loader.sampler, TrainSampler)
    while True:
        yield from loader
        loader.sampler.set_epoch(loader.sampler.epoch + 1)


def read_transforms(name: str) -> list[Any] | None:
    """The effects of a config; None if one of them is not there."""
    config = yaml.safe_load((Path(__file__).parents[1] / "cfg" / name).read_text())
    effects = []
    for entry in config["data"]["init_args"]["transforms"]:
        module, _, cls = entry["class_path"].rpartition(".")
        if not hasattr(importlib.import_module(module), cls):
            print(f"skipped: {name}, {entry['class_path']} is not there")
            return None
        effects.append(getattr(importlib.import_module(module), cls)(**entry.get("init_args", {})))
    return effects


def take(form: Form, batches: int, ahead: int) -> float:
    """Samples per second, without what loader processes had made ahead."""
    for _ in range(ahead):
        next(form)
    began = time.perf_counter()
    for _ in range(batches):
        next(form)
    seconds = time.perf_counter() - began
    time.sleep(2 * seconds * ahead / batches)  # until the loader processes have caught up
    return BATCH * batches / seconds


def make_forms(root: Path) -> dict[tuple[str, int], Callable[[], Form]]:
    """By name and number of loader processes."""
    forms: dict[tuple[str, int], Callable[[], Form]] = {("bare loop", 0): partial(bare_loop, root)}
    effects = {"ours, no effects": []} | {
        name: read_transforms(config) for name, config in CONFIGS.items()
    }
    for workers in (0, 2):
        forms["plain", workers] = partial(plain, root, workers)
        for name, transforms in effects.items():
            if transforms is not None:
                forms[name, workers] = partial(ours, root, workers, transforms)
    return forms


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=60, help="of each track")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", type=int, default=40, help="of each form in a turn")
    parsed = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="aimless-") as folder:
        make_tracks(Path(folder), parsed.tracks, parsed.seconds)
        forms = {key: make() for key, make in make_forms(Path(folder)).items()}
        rates: dict[tuple[str, int], list[float]] = {key: [] for key in forms}
        for repeat in range(parsed.repeats + 1):  # the first one warms up
            for key, form in forms.items():
                rate = take(form, parsed.batches, ahead=6 if key[1] else 1)
                if repeat:
                    rates[key].append(rate)
    report({key: statistics.median(values) for key, values in rates.items()})


def report(medians: dict[tuple[str, int], float]) -> None:
    """Print samples per second and ratios as a Markdown table."""
    print("| samples/s | 1 process | of the bare loop | 2 loader processes | gain |")
    print("|---|---|---|---|---|")
    for (name, workers), rate in medians.items():
        if workers == 0:
            share = f"{rate / medians['bare loop', 0]:.0%}"
            two = medians.get((name, 2))
            gain = f"{two:.0f} | {two / rate:.2f}" if two else "- | -"
            print(f"| {name} | {rate:.0f} | {share} | {gain} |")


if __name__ == "__main__":
    main()
