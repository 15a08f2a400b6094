"""`make experiment`, in a minute: few steps on short songs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY


@pytest.mark.slow
def test_a_network_is_trained_and_scored_on_unseen_songs(tmp_path):
    command = [sys.executable, "scripts/experiment.py", "--quick", "--models", "bandsplit_rnn"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")
    scores = json.loads((tmp_path / "table.json").read_text())
    assert set(scores) == {"synthetic", "recorded"}
    text = (tmp_path / "table.md").read_text()
    assert "| the mixture itself |" in text
    assert "| Band-split RNN |" in text
    assert list((tmp_path / "bandsplit_rnn").rglob("last.ckpt"))
