"""Effects on the training device beside those of the data loader, in ms per stem-second.

Stereo stems of 10 s and 44.1 kHz, the same settings in both forms (the middle of each range), in
turns in one process. The last column is the largest difference of the two over the largest
sample. Then the fourteen effects of cfg/mdx_a/hdemucs_device.yaml at their probabilities on
batches of three items of four stems, and what part of them the joining of linear effects saves.
With a GPU there are columns for it. numba and pedalboard are needed.

    PYTHONPATH=. python benchmarks/device_effects.py --threads 1
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from effects import music_like
from torch import Tensor
from turns import in_turns, options

import aimless.augment
import data.augment
from aimless.augment import DeviceEffect, augment_in_turn
from aimless.draws import generator

SECONDS, STEMS, BATCH, SOURCES = 10, 4, 3, 4
CONFIG = Path(__file__).parents[1] / "cfg" / "mdx_a" / "hdemucs_device.yaml"

TWINS = {
    "ParametricEQ": "RandomParametricEQ",
    "Reverb": "RandomPedalboardReverb",
    "Delay": "RandomPedalboardDelay",
    "Compressor": "RandomPedalboardCompressor",
    "Limiter": "RandomPedalboardLimiter",
    "LoudnessNormalize": "LoudnessNormalize",
    "Distortion": "RandomPedalboardDistortion",
    "Chorus": "RandomPedalboardChorus",
    "Phaser": "RandomPedalboardPhaser",
    "VolumeAutomation": "RandomVolumeAutomation",
    "StereoWidener": "RandomStereoWidener",
    "Pan": "RandomPan",
    "Gain": "RandomGain",
    "FlipPhase": "RandomFlipPhase",
    "SwapLR": "RandomSwapLR",
    "Codec": None,
}
#: The twins draw something beside the ranges: where lines end, the shelves' frequencies.
DRAW_DIFFERENTLY = ("ParametricEQ", "VolumeAutomation")


def middle(cls: type) -> dict[str, float]:
    """Settings that make ranges constant."""
    parameters = inspect.signature(cls).parameters
    words: dict[str, float] = {}
    for name, parameter in parameters.items():
        if name.startswith("min_") and f"max_{name[4:]}" in parameters:
            value = (parameter.default + parameters[f"max_{name[4:]}"].default) / 2
            words |= {name: value, f"max_{name[4:]}": value}
    if "low" in parameters:
        words |= {"low": 0.75, "high": 0.75}
    return words


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """A call that ends when the device does."""

    def run() -> None:
        call()
        wait(device)

    return run


def compare(name: str, devices: list[torch.device], repeats: int) -> list[str]:
    """A row of the table."""
    settings = middle(getattr(aimless.augment, name))
    ours = getattr(aimless.augment, name)(p=1.0, **settings)
    stems = music_like(STEMS)
    tensor = torch.from_numpy(stems)[None]
    forms: dict[str, Callable[[], Any]] = {
        str(device): timed(functools.partial(ours, tensor.to(device), generator(0)), device)
        for device in devices
    }
    difference = "-"
    if TWINS[name]:
        twin = getattr(data.augment, TWINS[name])(p=1.0, **settings)
        forms["twin"] = lambda: twin(None, stems, generator(0))
        if name not in DRAW_DIFFERENTLY:
            expected = forms["twin"]()[1]
            error = np.abs(ours(tensor, generator(0))[0].numpy() - expected).max()
            difference = f"{20 * np.log10(max(error / np.abs(expected).max(), 1e-8)):.0f} dB"
    seconds = in_turns(forms, repeats)
    times = [seconds.get(form) for form in ("twin", *map(str, devices))]
    per = 1000 / STEMS / SECONDS
    cells = ["-" if value is None else f"{per * value:.2f}" for value in times]
    return [name, *cells, difference]


def configured() -> list[DeviceEffect]:
    """The fourteen effects of the configuration."""
    listed = yaml.safe_load(CONFIG.read_text())["model"]["init_args"]["transforms"]
    names = [entry["class_path"].rsplit(".", 1)[1] for entry in listed]
    made = [
        getattr(aimless.augment, name)(**entry["init_args"]) for name, entry in zip(names, listed)
    ]
    return [effect for name, effect in zip(names, made) if name in TWINS]


def chain(device: torch.device, repeats: int) -> str:
    """All together, joined and one after the other."""
    effects = configured()
    stems = torch.from_numpy(np.stack([music_like(SOURCES)] * BATCH)).to(device)
    mixture = stems.sum(1)

    def apart(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        pair = stems, mixture
        for effect in effects:
            pair = effect.augment(*pair, rng)
        return pair

    def batches(form: Callable[[np.random.Generator], object]) -> None:
        for step in range(8):
            form(generator("chain", step))
        wait(device)

    forms = {
        "apart": lambda: batches(apart),
        "joined": lambda: batches(lambda rng: augment_in_turn(effects, stems, mixture, rng)),
    }
    seconds = in_turns(forms, repeats)
    joined, alone = (1000 * seconds[form] / 8 for form in ("joined", "apart"))
    each = joined / BATCH / SOURCES / SECONDS
    return (
        f"{len(effects)} effects at their probabilities on {device}, ms per batch of {BATCH} x "
        f"{SOURCES} stems of {SECONDS} s: joined {joined:.0f} ({each:.2f} per stem-second), one "
        f"after the other {alone:.0f}, ratio {alone / joined:.2f}"
    )


@torch.no_grad()
def main() -> None:
    """Print the table, then the chain."""
    parsed = options(__doc__, repeats=5)
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    header = ["effect", "loader, ms per stem-second", *map(str, devices), "difference"]
    print("| " + " | ".join(header) + " |")
    print("|---" * len(header) + "|")
    for name in TWINS:
        print("| " + " | ".join(compare(name, devices, parsed.repeats)) + " |", flush=True)
    print()
    for device in devices:
        print(chain(device, max(1, parsed.repeats // 2)), flush=True)


if __name__ == "__main__":
    main()
