"""BSSEval as a metric of a test run."""

import numpy as np
import pytest
import torch

from aimless.evaluation.bss_eval import bss_eval
from aimless.evaluation.metric import SourceBSSEval

RATE = 2000
SOURCES = ("drums", "bass", "vocals")


def songs(count, samples=3 * RATE, seed=0):
    rng = torch.Generator().manual_seed(seed)
    references = torch.randn(count, len(SOURCES), 2, samples, generator=rng)
    estimates = references + 0.3 * torch.randn(references.shape, generator=rng)
    return estimates, references


def test_medians_over_frames_and_songs():
    estimates, references = songs(4)
    metric = SourceBSSEval(SOURCES, SOURCES, RATE)
    metric.update(estimates[:2], references[:2])
    metric.update(estimates[2:], references[2:])
    scores = metric.compute()
    each = torch.stack(
        [
            bss_eval(ref, est, window=RATE, hop=RATE).sdr.median(-1).values
            for est, ref in zip(estimates, references)
        ]
    )
    expected = torch.from_numpy(np.median(each.numpy(), axis=0))
    for name, value in zip(SOURCES, expected):
        assert scores[f"bss_sdr_{name}"].item() == pytest.approx(value.item(), abs=1e-3)
    assert scores["bss_sdr"].item() == pytest.approx(expected.mean().item(), abs=1e-3)


def test_part_of_the_sources_is_scored_against_the_rest():
    estimates, references = songs(1)
    metric = SourceBSSEval(["vocals"], SOURCES, RATE)
    metric.update(estimates[:, 2:], references)
    scores = metric.compute()
    assert set(scores) == {
        f"bss_{m}{suffix}" for m in ("sdr", "isr", "sir", "sar") for suffix in ("", "_vocals")
    }
    assert 8 < scores["bss_sdr"] < 13  # noise of 0.3 of the level: 10.5 dB


def test_a_silent_source_has_no_score_and_spoils_no_other():
    estimates, references = songs(1)
    references[:, 1] = 0
    metric = SourceBSSEval(SOURCES, SOURCES, RATE)
    metric.update(estimates, references)
    scores = metric.compute()
    assert scores["bss_sdr_bass"].isnan()
    assert scores["bss_sdr_drums"] > 5
    assert scores["bss_sdr"] > 5
