"""Fixtures of all tests: small synthetic songs on disk, the same on every machine."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aimless.draws import generator
from aimless.sources import MDX_SOURCES

# Two test processes share the cores; threads of their own would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whoever starts the tests in the background has them ignore Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Scans of data sets are remembered in a folder of the tests' own.
if "AIMLESS_CACHE" not in os.environ:
    os.environ["AIMLESS_CACHE"] = tempfile.mkdtemp(prefix="aimless-tests-")
    atexit.register(shutil.rmtree, os.environ["AIMLESS_CACHE"], ignore_errors=True)

# Stems: (channels, frames) float64, peak 0.2, so that four of them cannot clip.
Synthesiser = Callable[[np.ndarray, np.random.Generator], np.ndarray]
STEM_PEAK = 0.2


def _drums(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise bursts, one every quarter of a second, that die away in 40 ms."""
    return rng.standard_normal(time.shape) * np.exp(-(time % 0.25) / 0.04)


def _bass(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * rng.uniform(45, 90) * time)


def _chord(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    root = rng.uniform(200, 400)
    ratios = np.array([[1.0], [1.25], [1.5]])
    return np.sin(2 * np.pi * root * ratios * time).sum(0)


def _voice(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tone with vibrato, 5.5 Hz and a third of a semitone wide, and its overtones."""
    phase = 2 * np.pi * rng.uniform(400, 800) * time + 2 * np.sin(2 * np.pi * 5.5 * time)
    overtones = np.array([[1], [2], [3]])
    return (np.sin(overtones * phase) / overtones).sum(0)


SYNTHESISERS: dict[str, Synthesiser] = {
    "drums": _drums,
    "bass": _bass,
    "other": _chord,
    "vocals": _voice,
    "music": _chord,
    "sfx": _drums,
    "speech": _voice,
    "noise": _drums,
}


def synthesise_stem(
    source: str, frames: int, rate: int = 44100, channels: int = 2, seed: int = 0
) -> np.ndarray:
    """A stem (channels, frames) whose channels differ in level, from (source, seed) alone."""
    rng = generator("song", source, seed)
    time = np.arange(frames) / rate
    mono = SYNTHESISERS[source](time, rng)
    levels = rng.uniform(0.5, 1, (channels, 1))
    stem = levels * mono
    return STEM_PEAK * stem / max(float(np.abs(stem).max(initial=0)), 1e-9)


def write_song(
    folder: Path,
    seconds: float = 3.0,
    rate: int = 44100,
    channels: int = 2,
    subtype: str = "PCM_16",
    seed: int = 0,
    sources: tuple[str, ...] = MDX_SOURCES,
    mixture: str | None = "mixture",
    suffix: str = ".wav",
) -> Path:
    """Write one track: a file per source, and the mixture, which is their sum to the last bit.

    16-bit stems are rounded before they are summed. Returns the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frames = round(seconds * rate)
    stems = {
        source: np.round(synthesise_stem(source, frames, rate, channels, seed) * 32768) / 32768
        for source in sources
    }
    if mixture is not None:
        stems[mixture] = np.asarray(sum(stems.values()))
    for name, audio in stems.items():
        soundfile.write(folder / (name + suffix), audio.T, rate, subtype=subtype)
    return folder


@pytest.fixture(name="write_song", scope="session")
def write_song_fixture() -> Callable[..., Path]:
    """`write_song` for tests that cannot import it."""
    return write_song


@pytest.fixture(scope="session")
def musdb_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MUSDB18-HQ of 3 s songs: 2 to train, 1 to validate, 2 to test. Only to be read."""
    root = tmp_path_factory.mktemp("musdb18hq")
    names = {
        "train": ["Meaxic - Take A Step", "Synthetic - First Song", "Synthetic - Second Song"],
        "test": ["Synthetic - Third Song", "Synthetic - Fourth Song"],
    }
    seed = 0
    for split, songs in names.items():
        for song in songs:
            write_song(root / split / song, seed=seed)
            seed += 1
    return root


@pytest.fixture
def musdb_copy(musdb_root: Path, tmp_path: Path) -> Path:
    """A copy of `musdb_root` that a test may damage."""
    return Path(shutil.copytree(musdb_root, tmp_path / "musdb"))
