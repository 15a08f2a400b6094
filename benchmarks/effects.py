"""Effects of the data loader against plain forms, in ms per second of a stereo stem.

Stems of 10 s and 44.1 kHz. The plain forms are what is usually written: a pass of
scipy.signal.lfilter in float64 per section for the equaliser, pyloudnorm for loudness, pedalboard
for its effects and NumPy for the rest. Both forms get the same settings, leave their input as it is
and take turns in one process. The last line is of the fourteen effects of
cfg/mdx_a/hdemucs.yaml at their probabilities on items of four stems, mixture included, which
the plain form sums after every effect. SciPy, pyloudnorm and pedalboard are needed.

    PYTHONPATH=. python benchmarks/effects.py --threads 1
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pedalboard
import pyloudnorm
import yaml
from scipy.signal import lfilter
from turns import in_turns, options

import data.augment
from aimless.draws import generator
from data.augment import CPUBase
from data.augment.base import Audio, Mix

RATE, SECONDS, SOURCES = 44100, 10, 4
CONFIG = Path(__file__).parents[1] / "cfg" / "mdx_a" / "hdemucs.yaml"

Plain = Callable[[CPUBase, Audio, np.random.Generator], Audio]


def plain_equalizer(effect: CPUBase, stem: Audio, rng: np.random.Generator) -> Audio:
    """A pass in float64 per section."""
    assert isinstance(effect, data.augment.RandomParametricEQ)
    out = stem.astype(np.float64)
    for b0, b1, b2, a1, a2 in effect.draw(rng):
        out = lfilter((b0, b1, b2), (1, a1, a2), out)
    return out.astype(np.float32)


@functools.cache
def meter() -> pyloudnorm.Meter:
    """A loudness meter."""
    return pyloudnorm.Meter(RATE)


def plain_loudness(effect: CPUBase, stem: Audio, rng: np.random.Generator) -> Audio:
    """Measure and scale."""
    loudness = meter().integrated_loudness(stem.T)
    return stem * np.float32(10 ** ((-32 - loudness) / 20)) if np.isfinite(loudness) else stem


def plain_automation(effect: CPUBase, stem: Audio, rng: np.random.Generator) -> Audio:
    """Interpolate decibels, exponentiate, multiply."""
    lengths = rng.dirichlet(np.ones(3)) * stem.shape[1]
    ends = np.cumsum([0, *lengths])
    levels = np.interp(np.arange(stem.shape[1]), ends, rng.uniform(-6, 6, 4))
    return stem * (10 ** (levels / 20)).astype(np.float32)


def plain_widener(effect: CPUBase, stem: Audio, rng: np.random.Generator) -> Audio:
    """To middle and side and back."""
    width = np.float32(rng.uniform(0, 1))
    middle = (stem[0] + stem[1]) / 2 * (2 * (1 - width))
    side = (stem[0] - stem[1]) / 2 * (2 * width)
    return np.stack([middle + side, middle - side])


def plain_pan(effect: CPUBase, stem: Audio, rng: np.random.Generator) -> Audio:
    """One factor per side."""
    angle = rng.uniform(-1, 1) * np.pi / 4
    sides = np.array([[np.cos(angle) - np.sin(angle)], [np.cos(angle) + np.sin(angle)]])
    return stem * (np.sqrt(0.5) * sides).astype(np.float32)


def plain_mastering(effect: CPUBase, stem: Audio, rng: np.random.Generator) -> Audio:
    """Loudness, limiter, loudness."""
    assert isinstance(effect, data.augment.LimitAug)
    loudness = meter().integrated_loudness(stem.T)
    loud = stem * np.float32(10 ** ((effect.target_lufs_mean - loudness) / 20))
    limited = pedalboard.Limiter(0.0, effect.max_release_ms).process(loud, RATE)
    loudness = meter().integrated_loudness(limited.T)
    return limited * np.float32(10 ** ((effect.target_loudnorm_lufs - loudness) / 20))


def plugin(name: str) -> Plain:
    """An effect of pedalboard, with settings that ours draws."""

    def process(effect: CPUBase, stem: Audio, rng: np.random.Generator) -> Audio:
        settings = effect.ranges.draw(rng)  # type: ignore[attr-defined]
        if name == "Reverb":
            settings["dry_level"] = 1 - settings["wet_level"]
        return getattr(pedalboard, name)(**settings).process(stem, RATE)

    return process


PLAIN: dict[str, Plain] = {
    "RandomParametricEQ": plain_equalizer,
    "RandomPedalboardReverb": plugin("Reverb"),
    "RandomPedalboardLimiter": plugin("Limiter"),
    "RandomPedalboardCompressor": plugin("Compressor"),
    "LoudnessNormalize": plain_loudness,
    "LimitAug": plain_mastering,
    "RandomPedalboardDistortion": plugin("Distortion"),
    "RandomPedalboardDelay": plugin("Delay"),
    "RandomPedalboardChorus": plugin("Chorus"),
    "RandomPedalboardPhaser": plugin("Phaser"),
    "RandomVolumeAutomation": plain_automation,
    "RandomStereoWidener": plain_widener,
    "RandomPan": plain_pan,
    "RandomGain": lambda effect, stem, rng: stem * np.float32(rng.uniform(0.25, 1.25)),
    "RandomFlipPhase": lambda effect, stem, rng: -stem,
    "RandomSwapLR": lambda effect, stem, rng: np.ascontiguousarray(stem[::-1]),
}


class Item(NamedTuple):
    """What both forms of one application get."""

    stems: Audio
    seed: int

    def ours(self, effects: list[CPUBase]) -> None:
        """Apply effects as the data loader does."""
        rng = generator("benchmark", self.seed)
        mix = Mix(None, self.stems)
        for effect in effects:
            effect.apply(mix, rng)
        assert mix.stems.shape == self.stems.shape
        if len(effects) > 1:
            assert mix.mixture.shape == mix.stems.shape[1:]

    def plain(self, effects: list[CPUBase]) -> None:
        """Apply the plain forms, each followed by a sum."""
        rng = generator("benchmark", self.seed)
        stems = list(self.stems)
        for effect in effects:
            chosen = np.flatnonzero(rng.random(len(stems)) < effect.p)
            for source in chosen:
                stems[source] = PLAIN[type(effect).__name__](effect, stems[source], rng)
            if len(chosen) and len(effects) > 1:
                stems = list(np.stack(stems))
                sum(stems[1:], stems[0])


def music_like(sources: int) -> Audio:
    """Noise that falls with frequency and swells, (sources, 2, samples)."""
    rng = generator("effects")
    noise = rng.standard_normal((sources, 2, RATE * SECONDS)).astype(np.float32)
    noise[..., 1:] += 0.9 * noise[..., :-1]
    return 0.1 * noise * np.abs(np.sin(np.arange(RATE * SECONDS) / 30000)).astype(np.float32)


def time_both(effects: list[CPUBase], sources: int, repeats: int) -> dict[str, float]:
    """Seconds per item of each form, over items that draw differently."""
    stems = music_like(sources)
    items = [Item(stems, seed) for seed in range(8 if len(effects) > 1 else 1)]

    def run(form: Callable[[Item, list[CPUBase]], None]) -> None:
        for item in items:
            form(item, effects)

    forms = {"plain": lambda: run(Item.plain), "ours": lambda: run(Item.ours)}
    return {form: seconds / len(items) for form, seconds in in_turns(forms, repeats).items()}


def configured() -> list[CPUBase]:
    """The effects of the published configuration."""
    listed = yaml.safe_load(CONFIG.read_text())["data"]["init_args"]["transforms"]
    return [
        getattr(data.augment, entry["class_path"].rsplit(".", 1)[1])(**entry["init_args"])
        for entry in listed
    ]


def main() -> None:
    """Print the table, then the fourteen effects together."""
    parsed = options(__doc__, repeats=7)
    print("| effect, when applied | plain, ms per stem-second | ours | ratio |")
    print("|---|---|---|---|")
    for name in PLAIN:
        effect = getattr(data.augment, name)(p=1.0)
        seconds = time_both([effect], 1, parsed.repeats)
        plain, ours = (1000 / SECONDS * seconds[form] for form in ("plain", "ours"))
        print(f"| {name} | {plain:.3f} | {ours:.3f} | {plain / ours:.1f} |", flush=True)
    chain = configured()
    seconds = time_both(chain, SOURCES, parsed.repeats)
    plain, ours = 1000 * seconds["plain"], 1000 * seconds["ours"]
    print(
        f"\n{len(chain)} effects at their probabilities, ms per item of {SECONDS} s x "
        f"{SOURCES} stems: plain {plain:.0f}, ours {ours:.1f}, ratio {plain / ours:.1f}"
    )


if __name__ == "__main__":
    main()
