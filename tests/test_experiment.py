"""`make experiment`, in a minute: few steps on short songs; and what it demands of a model."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from aimless.errors import NumericalError
from tests.helpers import REPOSITORY
from tests.prepare_parts import SCRIPTS  # which is on the path, as for a script that is run

experiment = importlib.import_module("experiment")


@pytest.mark.slow
def test_a_network_is_trained_and_scored_on_unseen_songs(tmp_path):
    command = [
        sys.executable,
        str(SCRIPTS / "experiment.py"),
        "--quick",
        "--models",
        "bandsplit_rnn",
        "--steps",
        "12",
    ]
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


@pytest.mark.parametrize(
    ("mixture", "model", "message"),
    [
        (-5.5, 0.01, None),
        (-5.5, 0.0, "xumx: mean SDR 0.00 dB on unseen songs, wanted above 0 dB, which silence has"),
        (-5.5, -0.3, "xumx: mean SDR -0.30 dB on unseen songs"),
        (-5.5, float("nan"), "xumx: mean SDR nan dB"),
        (-1.0, 1.9, "xumx: mean SDR 2.90 dB above the mixture on unseen songs, wanted at least 3"),
        (-1.0, 2.1, None),
    ],
)
def test_a_model_must_be_better_than_the_mixture_and_than_silence(mixture, model, message):
    sdr = {"mixture": mixture, "xumx": model}
    if message is None:
        experiment.require_learning(sdr)
        return
    with pytest.raises(NumericalError) as caught:
        experiment.require_learning(sdr)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
