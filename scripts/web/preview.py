"""What the browser needs of a finished separation: short pieces of sound, outlines, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from aimless.engine.fifo import Fifo
from aimless.songs.resampling import resampled
from web.files import picture_name, piece_name
from web.pictures import Outline, spectrogram, spectrogram_png

__all__ = ["PIECE_SECONDS", "make_preview"]

#: Length of a piece. The browser decodes as many as it is about to play, however long the song.
PIECE_SECONDS = 6
#: Rates that every browser can play; others are heard at a lower one.
_PLAYABLE = (8000, 96_000)
_FULL_SCALE = 32767 / 32768


def make_preview(
    tracks: Mapping[str, Path], folder: Path, check: Callable[[], None]
) -> dict[str, Any]:
    """Write pieces and pictures of tracks of one length.

    Args:
        tracks: name -> WAV file.
        folder: for `piece_name` and `picture_name`; must be there.
        check: called now and then; may raise, to stop.

    Returns:
        `rate` of the preview, `piece`: frames of a piece, `frames` in all, `gain` that all of it
        is scaled by, `peaks` of the tracks, `outlines`.
    """
    outlines, peaks, pictures = [], [], []
    for path in tracks.values():
        outline, peak = _outline(path, check)
        outlines.append(outline.rounded())
        peaks.append(peak)
        pictures.append(spectrogram(path))
        check()
    loudest = max(float(picture.max()) for picture in pictures)
    for index, picture in enumerate(pictures):
        (folder / picture_name(index)).write_bytes(spectrogram_png(picture, loudest))
    gain = min(1.0, _FULL_SCALE / max(*peaks, 1e-9))
    for index, path in enumerate(tracks.values()):
        shape = _write_pieces(path, index, folder, gain, check)
    return {**shape, "gain": gain, "peaks": peaks, "outlines": outlines}


def _outline(path: Path, check: Callable[[], None]) -> tuple[Outline, float]:
    with soundfile.SoundFile(path) as file:
        outline = Outline(file.frames)
        for block in file.blocks(1 << 19, dtype="float32", always_2d=True):
            outline.add(block)
            check()
    return outline, float(max(-outline.low.min(), outline.high.max()))


def _write_pieces(
    path: Path, track: int, folder: Path, gain: float, check: Callable[[], None]
) -> dict[str, int]:
    """Write a track as FLAC files of 16 bits, one after the other without a gap."""
    with soundfile.SoundFile(path) as file:
        rate = _heard_rate(file.samplerate)
        length = PIECE_SECONDS * rate
        fifo, piece, frames = Fifo(), 0, 0
        for block in resampled(_heard(file), file.samplerate, rate):
            fifo.push(block)
            frames += block.shape[-1]
            while len(fifo) >= length:
                _write_piece(folder / piece_name(track, piece), fifo.take(length), rate, gain)
                piece += 1
                check()
        if len(fifo):
            _write_piece(folder / piece_name(track, piece), fifo.take(len(fifo)), rate, gain)
    return {"rate": rate, "piece": length, "frames": frames}


def _write_piece(path: Path, sound: Tensor, rate: int, gain: float) -> None:
    samples = (sound * gain).T.numpy()
    soundfile.write(path, samples, rate, subtype="PCM_16", compression_level=0.0)  # fast


def _heard_rate(rate: int) -> int:
    return rate if _PLAYABLE[0] <= rate <= _PLAYABLE[1] else 48_000


def _heard(file: soundfile.SoundFile) -> Iterator[Tensor]:
    """Blocks (1 or 2, n). More channels are heard as two: odd ones left, even ones right."""
    for block in file.blocks(1 << 18, dtype="float32", always_2d=True):
        sound = torch.from_numpy(block.T)
        if len(sound) > 2:
            sound = torch.stack([sound[0::2].mean(0), sound[1::2].mean(0)])
        yield sound
