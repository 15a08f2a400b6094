import pytest
import torch

from aimless.errors import ConfigError
from aimless.loss import sdr
from aimless.metrics import SourceChunkSDR, SourceSDR, SourceSISDR, chunk_sdr, si_sdr


def pair(batch=3, sources=2, seed=0, error=0.1):
    rng = torch.Generator().manual_seed(seed)
    reference = torch.randn(batch, sources, 2, 500, generator=rng)
    return reference + error * torch.randn(reference.shape, generator=rng), reference


def plain(estimate, reference):
    """SDR of one stem, in double precision from the definition."""
    estimate, reference = estimate.double(), reference.double()
    ratio = reference.square().sum() / (reference - estimate).square().sum()
    return float(10 * ratio.log10())


def test_scores_are_means_over_items_for_each_source():
    estimate, reference = pair()
    metric = SourceSDR(["a", "b"])
    metric.update(estimate[:1], reference[:1])
    metric.update(estimate[1:], reference[1:])
    scores = metric.compute()
    for index, name in enumerate("ab"):
        expected = [plain(e[index], r[index]) for e, r in zip(estimate, reference)]
        assert float(scores[f"sdr_{name}"]) == pytest.approx(sum(expected) / 3, abs=1e-4)
    mean = (scores["sdr_a"] + scores["sdr_b"]) / 2
    assert torch.allclose(scores["sdr"], mean)


def test_silent_references_are_not_scored():
    estimate, reference = pair()
    reference[0, 1] = 0
    reference[1, 1] = 1e-4
    metric = SourceSDR(["a", "b"])
    metric.update(estimate, reference)
    expected = plain(estimate[2, 1], reference[2, 1])
    assert float(metric.compute()["sdr_b"]) == pytest.approx(expected, abs=1e-4)

    metric.reset()
    reference[:, 1] = 0
    metric.update(estimate, reference)
    scores = metric.compute()
    assert scores["sdr_b"].isnan()
    assert torch.equal(scores["sdr"], scores["sdr_a"])


def test_items_that_fill_up_a_batch_do_not_count():
    estimate, reference = pair()
    metric, without = SourceSDR(["a", "b"]), SourceSDR(["a", "b"])
    metric.update(estimate, reference, torch.tensor([True, False, True]))
    without.update(estimate[[0, 2]], reference[[0, 2]])
    assert torch.allclose(metric.compute()["sdr"], without.compute()["sdr"])


def test_ranks_add_up():
    """Sums and counts of two ranks, added, are those of one that saw everything."""
    estimate, reference = pair(5)
    whole, first, second = (SourceSDR(["a", "b"]) for _ in range(3))
    whole.update(estimate, reference)
    first.update(estimate[:4], reference[:4])
    second.update(estimate[4:], reference[4:])
    first.total += second.total
    first.count += second.count
    assert torch.allclose(whole.compute()["sdr"], first.compute()["sdr"], atol=1e-5)


def test_estimates_may_be_shorter_or_in_half_precision():
    estimate, reference = pair()
    metric = SourceSDR(["a", "b"])
    metric.update(estimate[..., :400], reference)
    expected = plain(estimate[0, 0, :, :400], reference[0, 0, :, :400])
    alone = SourceSDR(["a", "b"])
    alone.update(estimate[:1, :, :, :400], reference[:1])
    assert float(alone.compute()["sdr_a"]) == pytest.approx(expected, abs=1e-4)

    metric.reset()
    metric.update(estimate.bfloat16(), reference)
    assert metric.compute()["sdr"].dtype == torch.float32


def plain_si_sdr(estimate, reference):
    """From the angle between the two: 10 log10(cos^2 / sin^2)."""
    estimate, reference = estimate.double().flatten(), reference.double().flatten()
    cosine = torch.nn.functional.cosine_similarity(estimate, reference, dim=0)
    return float(10 * torch.log10(cosine**2 / (1 - cosine**2)))


def test_si_sdr_depends_on_the_angle_alone():
    estimate, reference = (x[:, 0] for x in pair())
    scores = si_sdr(estimate, reference)
    for score, est, ref in zip(scores, estimate, reference):
        assert float(score) == pytest.approx(plain_si_sdr(est, ref), abs=1e-4)
    for gain in (1e-3, -2.0, 1e3):
        torch.testing.assert_close(si_sdr(gain * estimate, reference), scores)
        torch.testing.assert_close(si_sdr(estimate, gain * reference), scores)


def test_si_sdr_has_one_scale_for_all_channels():
    _, reference = (x[:, 0] for x in pair())
    tilted = reference * torch.tensor([1.0, 0.5])[:, None]
    assert float(si_sdr(tilted, reference)[0]) < 15
    assert float(si_sdr(0.5 * reference, reference)[0]) > 100


def test_si_sdr_without_the_mean():
    estimate, reference = (x[:, 0] for x in pair())
    offset = torch.tensor([0.3, -2.0])[:, None]
    expected = si_sdr(estimate, reference, zero_mean=True)
    torch.testing.assert_close(si_sdr(estimate + offset, reference - offset, True), expected)
    assert (si_sdr(estimate + offset, reference) < expected - 3).all()


def test_si_sdr_of_silence_and_of_other_lengths():
    estimate, reference = (x[:, 0] for x in pair())
    assert si_sdr(estimate, 0 * reference).isnan().all()
    assert (si_sdr(0 * estimate, reference) == -torch.inf).all()
    cut = si_sdr(estimate[..., :300], reference)
    torch.testing.assert_close(cut, si_sdr(estimate[..., :300], reference[..., :300]))
    with pytest.raises(ValueError, match="axes"):
        si_sdr(estimate[:, :1], reference)


def test_chunk_sdr_is_the_median_over_chunks_that_can_be_heard():
    estimate, reference = (x[:, 0] for x in pair())
    reference[0, :, 100:200] = 1e-5
    estimate[0, :, 300:400] += 5
    scores = chunk_sdr(estimate, reference, 100)
    for item, kept in ((0, [0, 2, 3, 4]), (1, [0, 1, 2, 3, 4])):
        each = [
            float(sdr(e[None], r[None]))
            for e, r in zip(estimate[item].split(100, -1), reference[item].split(100, -1))
        ]
        ordered = sorted(each[k] for k in kept)
        middle = ordered[(len(kept) - 1) // 2], ordered[len(kept) // 2]
        assert float(scores[item]) == pytest.approx(sum(middle) / 2, abs=1e-4)


def test_chunk_sdr_without_a_whole_chunk():
    estimate, reference = (x[:, 0] for x in pair())
    torch.testing.assert_close(
        chunk_sdr(estimate, reference, 200), chunk_sdr(estimate[..., :400], reference, 200)
    )
    assert chunk_sdr(estimate, reference, 501).isnan().all()
    assert chunk_sdr(estimate, 0 * reference, 100).isnan().all()
    with pytest.raises(ValueError, match="chunk: 0"):
        chunk_sdr(estimate, reference, 0)


@pytest.mark.parametrize(
    ("metric", "function"),
    [
        (SourceSISDR(["a", "b"]), si_sdr),
        (SourceChunkSDR(["a", "b"], sample_rate=1000, seconds=0.1), lambda *x: chunk_sdr(*x, 100)),
    ],
    ids=["si_sdr", "chunk_sdr"],
)
def test_variants_of_the_score(metric, function):
    estimate, reference = pair()
    reference[0, 1] = 0
    metric.update(estimate[:2], reference[:2], torch.tensor([True, False]))
    metric.update(estimate[2:], reference[2:])
    scores = metric.compute()
    name = metric.score_name
    first = function(estimate[[0, 2], 0], reference[[0, 2], 0]).mean()
    second = function(estimate[[2], 1], reference[[2], 1])[0]  # item 0 has silence there
    torch.testing.assert_close(scores[f"{name}_a"], first)
    torch.testing.assert_close(scores[f"{name}_b"], second)
    torch.testing.assert_close(scores[name], (first + second) / 2)
    assert len(scores) == 3


def test_scores_of_perfect_silent_and_short_items():
    estimate, reference = pair()
    metric = SourceSISDR(["a", "b"])
    metric.update(torch.stack([reference[:, 0], 0 * reference[:, 1]], 1), reference)
    scores = metric.compute()
    assert (scores["si_sdr_a"], scores["si_sdr_b"]) == (100, -100)

    chunks = SourceChunkSDR(["a", "b"])  # a second is longer than the items
    chunks.update(estimate, reference)
    assert chunks.compute()["chunk_sdr"].isnan()
    with pytest.raises(ConfigError, match="seconds: 0"):
        SourceChunkSDR(["a"], seconds=0)


def test_zero_mean_is_passed_on():
    estimate, reference = pair()
    metric = SourceSISDR(["a", "b"], zero_mean=True)
    metric.update(estimate + 3, reference)
    expected = si_sdr(estimate[:, 0], reference[:, 0], zero_mean=True).mean()
    torch.testing.assert_close(metric.compute()["si_sdr_a"], expected)
