"""One mix: its stems, their sum, and what was done to make them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aimless.draws import generator
from data.audio import AudioReadError, printable
from data.loudness import integrated_loudness
from prepare.dnr.arrange import Segment, arrange
from prepare.dnr.catalogue import Planned, frames_of, read_part
from prepare.dnr.settings import KINDS, Settings
from prepare.output import making, to_json
from prepare.sounds import round_to, write_sound

__all__ = ["ANNOTATIONS", "COLUMNS", "LEVELS", "Mix", "make_mix"]

ANNOTATIONS, LEVELS = "annots.csv", "levels.json"
#: In samples of the mix and seconds; `gain` is a factor.
COLUMNS = (
    *("class", "file", "start_sample", "end_sample", "clip_start_sample", "clip_end_sample"),
    *("fade_in_samples", "fade_out_samples", "gain"),
    *("start", "end", "clip_start", "clip_end", "gain_db"),
)
_ATTEMPTS = 10
_GATING_BLOCK = 0.4  # seconds that a loudness needs

Row = dict[str, Any]


class Mix(NamedTuple):
    """A mix to make.

    Attributes:
        place: its folder.
        key: split and number, of all draws.
        files: what is known of the file of each segment, by kind.
        roots: of the collections, by kind.
        settings: that decide the rest.
    """

    place: Path
    key: tuple[str, int]
    files: Mapping[str, Sequence[Planned]]
    roots: Mapping[str, Path]
    settings: Settings


def make_mix(mix: Mix) -> list[str]:
    """Write a mix, its stems, their annotations and levels.

    Returns:
        A line for each segment that is left out because its file is silent.

    Raises:
        AudioReadError: a file is missing, damaged or changed, or all of them are silent.
        DataError: the mix cannot be written.
        OSError: likewise.
    """
    stems: dict[str, NDArray[np.float64]] = {}
    rows: list[Row] = []
    notes: list[str] = []
    for kind in KINDS:
        stems[kind], its_rows, its_notes = _make_stem(mix, kind)
        rows, notes = rows + its_rows, notes + its_notes
    gain = _master_gain(mix, stems)
    rate, bits = mix.settings.sample_rate, mix.settings.bits
    # The mix is that of the stems as they are written: their sum to the last bit.
    written = {kind: round_to(bits, gain * stem) for kind, stem in stems.items()}
    sounds = {**written, "mix": _sum(written)}
    with making(mix.place) as part:
        part.mkdir()
        for name, sound in sounds.items():
            channels, frames = sound.shape
            write_sound(part / f"{name}.wav", [sound], rate, channels, frames, bits)
        (part / ANNOTATIONS).write_bytes(_to_csv(rows, gain, rate))
        (part / LEVELS).write_bytes(to_json(_levels(sounds, rate)))
    return notes


def _make_stem(mix: Mix, kind: str) -> tuple[NDArray[np.float64], list[Row], list[str]]:
    """A stem (channels, samples) before mastering, its annotations, and what was left out."""
    settings, style = mix.settings, mix.settings.kinds[kind]
    rng = generator("dnr stem", settings.seed, *mix.key, kind)
    available = [frames_of(file, settings.sample_rate) for file in mix.files[kind]]
    level = style.lufs + rng.uniform(-settings.mix_range, settings.mix_range)
    segments = arrange(rng, available, style, settings.frames, settings.sample_rate)
    stem = np.zeros((settings.channels, settings.frames))
    rows, notes = [], []
    for number, (file, segment) in enumerate(zip(mix.files[kind], segments)):
        own = generator("dnr segment", settings.seed, *mix.key, kind, number)
        wanted = level + own.uniform(-settings.clip_range, settings.clip_range)
        found = _find_sound(mix, kind, file, segment, own)
        if found is None:
            name = printable(mix.roots[kind] / file["file"])
            notes.append(f"{name}: too quiet, left out of {'/'.join(map(str, mix.key))}")
            continue
        segment, clip, loudness = found
        gain = 10 ** ((wanted - loudness) / 20)
        stem[:, segment.start : segment.start + segment.frames] += gain * clip
        rows.append({"class": kind, "file": file["file"], "segment": segment, "gain": gain})
    return stem, rows, notes


def _find_sound(
    mix: Mix, kind: str, file: Planned, segment: Segment, rng: np.random.Generator
) -> tuple[Segment, NDArray[np.float64], float] | None:
    """A part of a file that is loud enough, with its fades, and its loudness in LUFS."""
    settings = mix.settings
    available = frames_of(file, settings.sample_rate)
    if not segment.frames:  # the file has less than half a sample at this rate
        return None
    fade = round(settings.kinds[kind].fade * settings.sample_rate)
    for _ in range(_ATTEMPTS):
        place = segment.clip_start, segment.frames, settings.sample_rate, settings.channels
        clip = read_part(mix.roots[kind], file, *place) * segment.envelope()
        loudness = _loudness(clip, settings.sample_rate)
        if loudness >= settings.quietest:
            return segment, clip, loudness
        if segment.frames == available:
            return None
        clip_start = int(rng.integers(available - segment.frames + 1))
        segment = segment.moved(clip_start, available, fade)
    return None


def _loudness(sound: NDArray[np.floating], rate: int) -> float:
    """LUFS; what is too short for a measurement is repeated until it is long enough."""
    times = math.ceil(_GATING_BLOCK * rate / sound.shape[-1]) + 1
    long_enough = sound.shape[-1] >= _GATING_BLOCK * rate
    repeated = sound if long_enough else np.tile(sound, times)
    return integrated_loudness(np.ascontiguousarray(repeated, np.float32), rate)


def _sum(stems: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
    return np.sum(np.stack([*stems.values()]), 0, dtype=np.float64)


def _master_gain(mix: Mix, stems: Mapping[str, NDArray[np.float64]]) -> float:
    """What all stems are multiplied with: for the loudness of the mix, but within its peak."""
    settings = mix.settings
    rng = generator("dnr master", settings.seed, *mix.key)
    wanted = settings.master_lufs + rng.uniform(-settings.mix_range, settings.mix_range)
    total = _sum(stems)
    peak = max(float(np.abs(sound).max()) for sound in (total, *stems.values()))
    loudness = _loudness(total, settings.sample_rate)
    if not (peak and math.isfinite(loudness)):
        raise AudioReadError(f"{printable(mix.place)}: all its files are too quiet")
    return float(min(10 ** ((wanted - loudness) / 20), 10 ** (settings.peak_db / 20) / peak))


def _to_csv(rows: Sequence[Row], master: float, rate: int) -> bytes:
    """The annotations: each part of a file with its fades and gain, at its place in a stem."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in sorted(rows, key=lambda row: (row["class"], row["segment"])):
        start, frames, clip_start, *fades = row["segment"]
        samples = start, start + frames, clip_start, clip_start + frames
        seconds = (f"{sample / rate:.6f}" for sample in samples)
        gain = row["gain"] * master
        decibels = 20 * math.log10(gain)
        cells = row["class"], row["file"], *samples, *fades, f"{gain:.12g}", *seconds
        table.writerow([*cells, f"{decibels:.3f}"])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _levels(sounds: Mapping[str, NDArray[np.floating]], rate: int) -> dict[str, Any]:
    """Loudness in LUFS and peak in dB of full scale of each file; null where there is no sound."""

    def rounded(value: float) -> float | None:
        return round(value, 3) if math.isfinite(value) else None

    with np.errstate(divide="ignore"):
        return {
            name: {
                "lufs": rounded(_loudness(sound, rate)),
                "peak_db": rounded(float(20 * np.log10(np.abs(sound).max()))),
            }
            for name, sound in sounds.items()
        }
