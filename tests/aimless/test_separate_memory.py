"""Memory does not grow with the song."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.aimless.engine_parts import ENVIRONMENT, RATE, exported, noise

CODE = """
import resource, sys
from aimless.cli import main
status = main(["separate", sys.argv[1], "-o", sys.argv[2], "-m", "model.safetensors", "--quiet",
               "--trust", "tests", "--device", "cpu", "--format", "wav", "--bits", "16"])
print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in kilobytes, as Linux does")
def test_thirty_minutes_need_no_more_than_three(tmp_path):
    """At 24 kHz the long song's stems are 690 MB in memory."""
    exported(tmp_path / "model.safetensors", rate=RATE)
    peaks = []
    for minutes in (3, 30):
        song = tmp_path / f"song{minutes}.wav"
        with soundfile.SoundFile(song, "w", 24_000, 2, "PCM_16") as file:
            for _ in range(minutes):
                file.write(noise(24_000 * 60).T)
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(song), f"out{minutes}"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=250,
        )
        status, kilobytes = map(int, done.stdout.split())
        assert status == 0, done.stderr
        peaks.append(kilobytes / 1024)
        info = soundfile.info(tmp_path / f"out{minutes}" / f"song{minutes}" / "vocals.wav")
        assert info.frames == minutes * 60 * 24_000
    assert np.diff(peaks)[0] <= 50, peaks
