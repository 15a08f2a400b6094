"""What is to be heard and seen of a suspicious stem: an excerpt, its mixture, a spectrogram."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from prepare.output import write_file

from aimless import stopping
from aimless.errors import ConfigError, DataError
from aimless.evaluation.songs import Song, SongFiles, open_song
from aimless.evaluation.stems import Stem
from aimless.plot import png_bytes, spectrogram_figure
from aimless.songs.stem_format import StemFormat
from label_noise.measure import WINDOW
from label_noise.scores import STRETCH, StemScore

__all__ = ["Excerpt", "cut_excerpts"]

_NAME = re.compile(r"[0-9a-f]{16}-(stem|mixture|picture)\.\w+")
_PEAK = 0.89  # -1 dB
_MOST_GAIN = 31.6  # 30 dB; quiet bleeding is to be heard, noise of the last bits is not


@dataclass(frozen=True)
class Excerpt:
    """Names of files beside the page.

    Attributes:
        stem: audio of the stem.
        mixture: audio of the mixture, over the same time.
        picture: PNG, spectrograms of both.
    """

    stem: str
    mixture: str
    picture: str


def cut_excerpts(
    scores: Sequence[StemScore], files: Mapping[str, SongFiles], folder: Path
) -> dict[tuple[str, str], Excerpt]:
    """Write the most suspicious stretch of each stem; files that are there are kept.

    Args:
        scores: of the stems.
        files: of their songs.
        folder: is there; what it holds of earlier excerpts that are not wanted goes.

    Returns:
        (song, stem) -> files.

    Raises:
        DataError: a file cannot be read or written.
    """
    excerpts = {}
    for score in scores:
        stopping.check()
        excerpts[score.song, score.stem] = _cut(score, files[score.song], folder)
    wanted = {name for each in excerpts.values() for name in vars(each).values()}
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and path.name not in wanted:
            path.unlink()
    return excerpts


def _cut(score: StemScore, files: SongFiles, folder: Path) -> Excerpt:
    song = open_song(files)
    stem = song.references[score.stem]
    suffix, arguments = _format(song)
    words = [score.song, score.stem, str(score.start), str(_changed(files, score.stem))]
    base = hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
    excerpt = Excerpt(f"{base}-stem{suffix}", f"{base}-mixture{suffix}", f"{base}-picture.png")
    if all((folder / name).is_file() for name in vars(excerpt).values()):
        return excerpt
    heard, mixture = (_read(each, score.start) for each in (stem, song.mixture))
    write_file(folder / excerpt.stem, _encode(heard, arguments))
    write_file(folder / excerpt.mixture, _encode(mixture, arguments))
    row = {"stem": torch.from_numpy(heard), "mixture": torch.from_numpy(mixture)}
    figure = spectrogram_figure({score.stem: row}, song.rate)
    write_file(folder / excerpt.picture, png_bytes(figure, dpi=72))
    return excerpt


def _changed(files: SongFiles, stem: str) -> int:
    return files.stems[stem].stat().st_mtime_ns


def _read(stem: Stem, start: float) -> np.ndarray:
    first = round(start * stem.rate)
    return stem.read(first, min(first + round(STRETCH * WINDOW * stem.rate), stem.samples))


def _format(song: Song) -> tuple[str, dict[str, object]]:
    """MP3, which is small, or FLAC where MP3 does not have the rate or the channels."""
    for form in (StemFormat("mp3"), StemFormat("flac", "16")):
        try:
            return form.suffix, form.sound_file(song.rate, song.mixture.channels, song.rate)
        except ConfigError:
            continue
    raise DataError(f"{song.name}: {song.mixture.channels} channels at {song.rate} Hz; no player")


def _encode(audio: np.ndarray, arguments: Mapping[str, object]) -> bytes:
    """(channels, samples) as a file, brought to a peak of -1 dB by at most 30 dB."""
    peak = float(np.abs(audio).max(initial=0))
    gain = min(_PEAK / peak, _MOST_GAIN) if peak else 1.0
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", **arguments) as sound:
        sound.write(gain * audio.T)
    return file.getvalue()
