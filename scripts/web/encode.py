"""Child process: stems on disk become the files that a visitor takes away."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from aimless.songs.stem_format import StemFormat
from web.child import answer

__all__ = ["work"]

#: The largest positive number of 16 bits is a little below 1.
_FULL_SCALE = 32767 / 32768


def work(
    files: Sequence[dict[str, Any]], format: str, bits: str | None, archive: str | None
) -> dict[str, Any]:
    """Write files, each the sum of stems.

    Args:
        files: of each: `target`, `inputs`: WAV files and their gains, and `gain`: of the sum; None
            makes it fit into full scale where the format needs that.
        format: see `StemFormat`.
        bits: see `StemFormat`.
        archive: ZIP file into which they go, under the names `name`; None leaves them.
    """
    form = StemFormat(format, bits)
    for file in files:
        inputs = [(Path(path), gain) for path, gain in file["inputs"]]
        gain = file["gain"]
        if gain is None:
            gain = 1.0 if form.is_float else _fitting_gain(inputs)
        _write(Path(file["target"]), inputs, gain, form)
    if archive is not None:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
            for file in files:
                packed.write(file["target"], file["name"])
                Path(file["target"]).unlink()
    return {}


def _fitting_gain(inputs: Sequence[tuple[Path, float]]) -> float:
    peak = max((float(np.abs(block).max(initial=0)) for block in _mixed(inputs)), default=0.0)
    return min(1.0, _FULL_SCALE / peak) if peak > _FULL_SCALE else 1.0


def _write(
    target: Path, inputs: Sequence[tuple[Path, float]], gain: float, form: StemFormat
) -> None:
    info = soundfile.info(inputs[0][0])
    arguments = form.sound_file(info.samplerate, info.channels, info.frames)
    with soundfile.SoundFile(target, "w", **arguments) as file:
        for block in _mixed(inputs):
            file.write(block if gain == 1 else block * np.float32(gain))


def _mixed(inputs: Sequence[tuple[Path, float]]) -> Iterator[NDArray[np.float32]]:
    """Blocks (n, channels) of the sum, of a second at most: libsndfile crashes on long Vorbis."""
    with ExitStack() as stack:
        files = [(stack.enter_context(soundfile.SoundFile(path)), gain) for path, gain in inputs]
        rate = files[0][0].samplerate
        while True:
            blocks = [file.read(rate, dtype="float32", always_2d=True) for file, _ in files]
            if not len(blocks[0]):
                return
            mix = np.zeros_like(blocks[0])
            for block, (_, gain) in zip(blocks, files):
                mix += block if gain == 1 else block * np.float32(gain)
            yield mix


if __name__ == "__main__":
    answer(work)
