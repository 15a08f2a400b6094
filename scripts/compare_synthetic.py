"""Compare synthetic songs with the recorded one that the package `stempeg` carries.

Prints a table of what a separator may care about (loudness of the stems, peaks, how much they
sound together and overlap in time and frequency), and draws their spectra side by side.

    python scripts/compare_synthetic.py data/synthetic/test --picture docs/pictures/likeness.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import soundfile
from demo import SONG, decode, find_song
from numpy.typing import NDArray
from prepare.command import folder, run
from prepare.output import write_file
from synthetic.likeness import Likeness, bands, measure

from aimless.errors import DataError
from aimless.plot import png_bytes
from aimless.sources import MDX_SOURCES

_FLOOR = -70.0  # dB, of the picture


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("songs", type=folder, metavar="SONGS", help="folder of song folders")
    parser.add_argument("--picture", type=folder, metavar="FILE", help="PNG of the spectra")
    return run(parser, _compare, words)


def _compare(options: argparse.Namespace) -> list[str]:
    streams, rate = decode(find_song())
    recorded = measure(
        {name: np.ascontiguousarray(streams[name].T, np.float32) for name in MDX_SOURCES}, rate
    )
    made = [measure(*_read(song)) for song in _find(options.songs)]
    print(table(recorded, made))
    if options.picture:
        write_file(options.picture, draw(recorded, made))
    return []


def _find(root: Path) -> list[Path]:
    songs = sorted(path.parent for path in root.glob("*/mixture.wav"))
    if not songs:
        raise DataError(f"{root}: no songs, needs folders with mixture.wav and stems")
    return songs


def _read(song: Path) -> tuple[dict[str, NDArray[np.float32]], int]:
    stems, rate = {}, 0
    for name in MDX_SOURCES:
        samples, rate = soundfile.read(song / f"{name}.wav", dtype="float32", always_2d=True)
        stems[name] = np.ascontiguousarray(samples.T)
    return stems, rate


def table(recorded: Likeness, made: Sequence[Likeness]) -> str:
    """Markdown: the recorded song, and mean and standard deviation of the synthetic ones."""
    rows: list[tuple[str, int, Callable[[Likeness], float]]] = []
    for title, digits, measured in (
        ("loudness of {} against the mixture, LU", 1, attrgetter("loudness")),
        ("crest factor of {}, dB", 1, attrgetter("crest")),
        ("centre of the spectrum of {}, Hz", 0, attrgetter("centroid")),
        ("share of the time that {} sounds", 2, attrgetter("active")),
    ):
        for name in measured(recorded):
            rows.append((title.format(name), digits, partial(_entry, measured, name)))
    rows.append(("stems that sound together, mean", 2, attrgetter("together")))
    rows.append(("energy where no stem has 90 % of it", 2, attrgetter("overlap")))
    lines = [f"| | recorded | {len(made)} synthetic songs |", "| --- | --- | --- |"]
    for name, digits, value in rows:
        values = [value(one) for one in made]
        spread = f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"
        lines.append(f"| {name} | {value(recorded):.{digits}f} | {spread} |")
    return "\n".join(lines)


def _entry(measured: Callable[[Likeness], dict[str, float]], name: str, song: Likeness) -> float:
    return measured(song)[name]


def draw(recorded: Likeness, made: Sequence[Likeness]) -> bytes:
    """PNG: spectra of the stems, synthetic songs as a band from the 10th to the 90th per cent."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for axis, stem in zip(axes.flat, MDX_SOURCES):
        spectra = np.stack([one.spectra[stem] for one in made])
        low, middle, high = np.quantile(spectra, (0.1, 0.5, 0.9), axis=0)
        axis.fill_between(bands(), low, high, alpha=0.25, label="synthetic, 10 to 90 %")
        axis.plot(bands(), middle, label="synthetic, median")
        axis.plot(bands(), recorded.spectra[stem], color="black", label=SONG)
        axis.set_title(stem)
        axis.set_xscale("log")
        axis.set_ylim(_FLOOR, 0)
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("Hz, thirds of octaves")
    for axis in axes[:, 0]:
        axis.set_ylabel("dB of the stem's power")
    axes[0, 1].legend(fontsize=8)
    return png_bytes(figure, dpi=80)


if __name__ == "__main__":
    sys.exit(main())
