"""BSSEval v4 against museval and against least squares written out in the time domain."""

from __future__ import annotations

import math
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from aimless.evaluation.bss_eval import bss_eval

NAMES = ("sdr", "isr", "sir", "sar")


def noise(sources=3, channels=2, samples=4000, seed=0):
    """Independent sources, the second of them low-passed."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((sources, channels, samples))
    x[1] = (x[1] + np.roll(x[1], 1, -1)) / 2
    return torch.from_numpy(x)


def estimates_of(references, seed=1, leak=0.2, noise=0.05):
    """Each reference filtered, with some of the others and with noise of its own."""
    rng = torch.Generator().manual_seed(seed)
    delayed = references.roll(3, -1) * 0.3
    extra = torch.randn(references.shape, generator=rng, dtype=torch.float64)
    return references + delayed + leak * references.sum(0) + noise * extra


def museval_scores(references, estimates, window, hop, taps):
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("museval imports a package that needs ffmpeg")
    metrics = pytest.importorskip("museval").metrics
    scores = metrics.bss_eval(
        *(x.double().transpose(1, 2).numpy() for x in (references, estimates)),
        window=window,
        hop=hop,
        filters_len=taps,
    )
    return scores[:4]


def assert_same(references, estimates, tolerance=1e-6, window=1000, hop=1000, taps=16):
    ours = bss_eval(references, estimates, window, hop, taps)
    theirs = museval_scores(references, estimates, window, hop, taps)
    for name, mine, other in zip(NAMES, ours, theirs):
        assert mine.shape == other.shape
        np.testing.assert_array_equal(mine.isnan(), np.isnan(other), err_msg=name)
        np.testing.assert_allclose(mine.numpy(), other, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("sources", "channels", "samples", "window", "hop", "taps"),
    [
        (3, 2, 4000, 1000, 1000, 16),
        (2, 1, 5000, 1000, 700, 33),
        (4, 2, 3999, 1000, 1000, 1),
        (2, 2, 900, 1000, 1000, 8),
        (1, 2, 3000, 1001, 333, 64),
        (2, 3, 12345, 3000, 3000, 5),
    ],
)
def test_every_frame_is_musevals(sources, channels, samples, window, hop, taps):
    references = noise(max(sources, 2), channels, samples)[:sources]
    assert_same(references, estimates_of(references), window=window, hop=hop, taps=taps)


def real_song():
    """Stems of a piece of music, 16 bits, (4, 2, samples); about 6 s."""
    if (package := find_spec("stempeg")) is None:
        pytest.skip("the song comes with stempeg")
    av = pytest.importorskip("av")
    path = Path(package.origin).parent / "data" / "The Easton Ellises - Falcon 69.stem.mp4"
    stems = []
    for index in range(1, 5):  # stream 0 is the mixture
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=index)]
        stems.append(np.concatenate(frames, axis=1))
    samples = min(stem.shape[1] for stem in stems)
    song = np.stack([stem[:, :samples] for stem in stems]).clip(-1, 1)
    return torch.from_numpy(np.round(song * 32767) / 32767)


@pytest.mark.slow
def test_every_frame_of_a_real_song_is_musevals():
    references = real_song()[..., : 3 * 44100]
    estimates = estimates_of(references, leak=0.1, noise=0.003)
    assert_same(references, estimates, tolerance=1e-4, window=44100, hop=44100, taps=512)


def delayed_copies(signals, taps):
    """(signals, T) -> (T + taps - 1, signals * taps)."""
    columns = [
        np.concatenate([np.zeros(lag), signal, np.zeros(taps - 1 - lag)])
        for signal in signals
        for lag in range(taps)
    ]
    return np.stack(columns, axis=1)


def test_scores_are_energy_ratios_of_least_squares_projections():
    """One frame, everything in the time domain."""
    references = noise(2, 2, 400)
    estimates = estimates_of(references)
    taps = 7
    scores = bss_eval(references, estimates, 400, 400, taps)
    everything = delayed_copies(references.flatten(0, 1).numpy(), taps)
    for source in range(2):
        padded = [
            np.pad(x[source].numpy(), ((0, 0), (0, taps - 1))).T for x in (references, estimates)
        ]
        truth, estimate = padded
        own = delayed_copies(references[source].numpy(), taps)
        on_own = own @ np.linalg.lstsq(own, estimate)[0]
        on_all = everything @ np.linalg.lstsq(everything, estimate)[0]
        expected = (
            (truth, estimate - truth),
            (truth, on_own - truth),
            (on_own, on_all - on_own),
            (on_all, estimate - on_all),
        )
        for name, (signal, error) in zip(NAMES, expected):
            ratio = 10 * math.log10((signal**2).sum() / (error**2).sum())
            assert float(getattr(scores, name)[source]) == pytest.approx(ratio, abs=1e-8)


def test_a_frame_with_a_silent_source_has_no_scores():
    references = noise()
    estimates = estimates_of(references)
    references[1, :, 1000:2000] = 0
    estimates[2, :, 3000:] = 0
    references[0, :, 300] = 0  # one sample of silence is none
    scores = bss_eval(references, estimates, 1000, 1000, 16)
    for score in scores:
        assert score.isnan().all(0).tolist() == [False, True, False, True]
        assert score.isnan().any(0).tolist() == [False, True, False, True]
    assert_same(references, estimates)


@pytest.mark.parametrize("same", ["channels", "sources", "both"])
def test_references_that_repeat_each_other_score_as_in_museval(same):
    """The matrix of the fit is singular, the projections are not."""
    references = noise(4)
    if same in ("channels", "both"):
        references[1, 1] = references[1, 0]
    if same in ("sources", "both"):
        references[3] = references[2]
    assert_same(references, estimates_of(references), tolerance=1e-3)


def test_a_source_that_is_silent_throughout_has_no_scores_and_no_error():
    references = noise()
    estimates = estimates_of(references)
    references[1] = 0
    assert all(score.isnan().all() for score in bss_eval(references, estimates, 1000, 1000, 16))
    silence = torch.zeros_like(references)
    assert all(score.isnan().all() for score in bss_eval(silence, estimates, 1000, 1000, 16))


def test_a_perfect_estimate_has_no_distortion():
    references = noise()
    scores = bss_eval(references, references, 1000, 1000, 16)
    assert torch.isposinf(scores.sdr).all()
    assert all((score > 200).all() for score in scores)


def test_filtering_counts_as_spatial_error_only():
    references = noise()
    estimates = references + 0.5 * torch.nn.functional.pad(references, (2, 0))[..., :-2]
    scores = bss_eval(references, estimates, 4000, 4000, 16)
    assert ((scores.isr - 10 * math.log10(4)).abs() < 0.1).all()
    # but for the last samples of the song, whose echo the estimate has lost
    assert (scores.sir > 45).all()
    assert (scores.sar > 25).all()


def test_leakage_counts_as_interference_and_noise_as_artefacts():
    references = noise()
    leaked = references + 0.1 * references.flip(0)
    first = bss_eval(references[[0, 2]], leaked[[0, 2]], 4000, 4000, 16)
    assert ((first.sir - 20).abs() < 0.5).all()
    assert (first.sar > 200).all()
    rng = torch.Generator().manual_seed(5)
    noisy = references + 0.1 * torch.randn(references.shape, generator=rng, dtype=torch.float64)
    second = bss_eval(references, noisy, 4000, 4000, 16)
    assert (second.sir > second.sar + 10).all()


def test_references_without_estimates_count_as_interference():
    references = noise(4)
    estimates = estimates_of(references)
    whole = bss_eval(references, estimates, 1000, 1000, 16)
    part = bss_eval(references, estimates[:2], 1000, 1000, 16)
    for mine, all_of_them in zip(part, whole):
        assert torch.allclose(mine, all_of_them[:2], rtol=0, atol=1e-8)


def test_single_precision_audio_is_scored_in_double():
    references = noise().float()
    estimates = estimates_of(references).float()
    single = bss_eval(references, estimates, 1000, 1000, 16)
    double = bss_eval(references.double(), estimates.double(), 1000, 1000, 16)
    for a, b in zip(single, double):
        assert a.dtype == torch.float64
        assert torch.equal(a, b)


def test_a_song_longer_than_a_batch_of_blocks():
    """Correlations run over several batches of blocks and must join without a seam."""
    references = noise(2, 1, 300_000)
    estimates = estimates_of(references)
    assert_same(references, estimates, window=40_000, hop=40_000, taps=40)


@pytest.mark.parametrize(
    ("references", "estimates"),
    [
        (torch.ones(2, 100), torch.ones(2, 100)),
        (torch.ones(2, 2, 100), torch.ones(3, 2, 100)),
        (torch.ones(2, 2, 100), torch.ones(2, 2, 99)),
        (torch.ones(2, 2, 0), torch.ones(2, 2, 0)),
    ],
)
def test_shapes_that_do_not_fit(references, estimates):
    with pytest.raises(ValueError, match=r"\(2, "):
        bss_eval(references, estimates)


def test_samples_that_are_not_finite_are_refused():
    references = noise()
    references[0, 0, 7] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        bss_eval(references, noise(), 1000, 1000, 16)
