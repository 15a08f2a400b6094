"""Networks and sounds that the tests of the separation engine share."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from torch import nn

from aimless.checkpoint import export
from aimless.draws import generator
from aimless.network import WaveformNetwork

RATE = 8000
#: For processes that must find the tests wherever they run.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Levels(nn.Module):
    """Gives source i of the mixture the level `levels[i]`; with levels 1 it is the identity.

    Args:
        levels: one per source.
        audio_channels: that the network says it has.
        swallowed: samples that are missing at the end of its output.
    """

    def __init__(self, levels: list[float], audio_channels: int = 2, swallowed: int = 0) -> None:
        super().__init__()
        self.audio_channels, self.swallowed = audio_channels, swallowed
        self.levels = nn.Parameter(torch.tensor(levels))

    def forward(self, mixture):
        assert mixture.shape[1] == self.audio_channels
        samples = mixture.shape[-1] - self.swallowed
        return mixture[:, None, :, :samples] * self.levels[:, None, None]


def network(levels=(0.75, 0.25), names=("drums", "vocals"), rate=RATE, **settings):
    args = {"levels": list(levels), **settings}
    return WaveformNetwork(
        Levels(**args),
        list(names),
        sample_rate=rate,
        class_path="tests.aimless.engine_parts.Levels",
        init_args=args,
    ).eval()


def exported(path: Path, **settings) -> Path:
    """A checkpoint of such a network; it needs `--trust tests`."""
    export(network(**settings), path)
    return path


def noise(samples: int, channels: int = 2, peak: float = 0.5) -> np.ndarray:
    """(channels, samples) float32, the same each time."""
    drawn = generator("engine", samples, channels).uniform(-peak, peak, (channels, samples))
    return drawn.astype(np.float32)


def write(path: Path, audio: np.ndarray, rate: int = RATE, **kind) -> Path:
    """Write (channels, samples) as an audio file; float WAV unless said otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".wav":
        kind.setdefault("subtype", "FLOAT")
    soundfile.write(path, audio.T, rate, **kind)
    return path


def encode(path: Path, audio: np.ndarray, codec: str, rate: int) -> Path:
    """Write with FFmpeg, for what libsndfile does not write."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        fifo = av.AudioFifo()
        fifo.write(frame)
        while (part := fifo.read(stream.frame_size or 1024, True)) is not None:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> np.ndarray:
    """(channels, samples) float32."""
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


def listing(folder: Path) -> list[str]:
    """Everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
