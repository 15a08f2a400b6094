import pytest
import torch

from aimless.metrics import SourceSDR


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
