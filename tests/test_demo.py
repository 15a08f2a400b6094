"""The demo, from the song to the table, with few steps."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = ["drums", "bass", "other", "vocals"]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("stempeg") is None, reason="stempeg carries the song"
)


@pytest.mark.slow
def test_demo(tmp_path):
    done = subprocess.run(
        [sys.executable, "scripts/demo.py", "--output", str(tmp_path), "--steps", "6"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for word in ("trained on", "never seen", "mean", "not a good separator", *SOURCES):
        assert word in done.stdout

    songs = {path.parent.name: soundfile.info(path) for path in tmp_path.rglob("mixture.wav")}
    assert len(songs) == 2
    trained = next(info for name, info in songs.items() if "first 4 s" in name)
    rest = next(info for name, info in songs.items() if "rest" in name)
    assert trained.frames == 4 * 44100
    for stem in SOURCES:
        info = soundfile.info(next((tmp_path / "stems").rglob(f"{stem}.wav")))
        assert (info.frames, info.channels) == (trained.frames + rest.frames, 2)
    for line in ("stems", "checkpoint", "spectrograms"):
        path = next(text for text in done.stdout.splitlines() if text.startswith(line + " "))
        assert Path(path.split(maxsplit=1)[1]).exists()
