"""Losses against plain loops over the subsets in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from aimless.errors import ConfigError
from aimless.loss import (
    SDR,
    CL1Loss,
    CLoss,
    L1Loss,
    MDLoss,
    NegativeSDR,
    bce_loss,
    combinations,
    sdr,
)
from aimless.loss.combinations import (
    combination_l1,
    combination_mse,
    combination_wsdr,
    subset_matrix,
    subset_sums,
)
from aimless.transforms import STFT
from aimless.utils import MWF

SOURCES = [1, 2, 3, 4, 6]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def subsets(sources: int) -> list[tuple[int, ...]]:
    if sources == 1:
        return [(0,)]
    sizes = range(1, sources)
    return [s for size in sizes for s in itertools.combinations(range(sources), size)]


def plain_mse(residual):
    parts = [residual[:, s].sum(1).abs().square().mean() for s in subsets(residual.shape[1])]
    return sum(parts) / len(parts)


def plain_wsdr(estimate, target, mix):
    terms = []
    for subset in subsets(target.shape[1]):
        x, x_hat = target[:, subset].sum(1), estimate[:, subset].sum(1)
        rest, rest_hat = mix - x, mix - x_hat
        xx, rr = x.square().sum(-1), rest.square().sum(-1)
        a = xx / (xx + rr + 1e-10)
        cos = torch.nn.functional.cosine_similarity
        terms.append((-a * cos(x, x_hat, -1) - (1 - a) * cos(rest, rest_hat, -1)).mean())
    return sum(terms) / len(terms)


def plain_l1(estimate, target):
    errors = [(estimate - target)[:, s].sum(1).abs().mean() for s in subsets(target.shape[1])]
    return sum(errors) / len(errors)


def gradient(function, x):
    x = x.detach().clone().requires_grad_()
    value = function(x)
    (grad,) = torch.autograd.grad(value, x)
    return value.detach().double(), grad.to(torch.promote_types(grad.dtype, torch.float64))


def assert_close(actual, expected):
    assert (actual - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("sources", SOURCES)
def test_subset_matrix(sources):
    rows = {tuple(row.nonzero()[:, 0].tolist()) for row in subset_matrix(sources)}
    assert rows == set(subsets(sources))
    assert len(subset_matrix(sources)) == len(rows)


@pytest.mark.parametrize("sources", SOURCES)
def test_subset_sums(sources):
    x = noise(2, sources, 3)
    expected = torch.einsum("ks,bsl->kbl", subset_matrix(sources), x)
    torch.testing.assert_close(torch.stack(subset_sums(x)), expected)


@pytest.mark.parametrize("sources", SOURCES)
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_mse_is_the_loop_over_subsets(sources, kind):
    residual = noise(2, sources, 2, 5, 301)
    if kind == "complex":
        residual = torch.complex(residual, noise(2, sources, 2, 5, 301, seed=1))
    expected, expected_grad = gradient(plain_mse, residual)
    single = residual.to(torch.complex64 if kind == "complex" else torch.float32)
    value, grad = gradient(combination_mse, single)
    assert_close(value, expected)
    assert_close(grad, expected_grad)


@pytest.mark.parametrize("sources", SOURCES)
@pytest.mark.parametrize("quality", [1.0, 0.1])
@pytest.mark.parametrize("leftover", [0.0, 0.5])
def test_wsdr_is_the_loop_over_subsets(sources, quality, leftover):
    target = noise(2, sources, 2, 4001)
    estimate = target + quality * noise(2, sources, 2, 4001, seed=1)
    mix = target.sum(1) + leftover * noise(2, 2, 4001, seed=2)
    if sources == 1 and leftover == 0:
        mix = mix + 0.01  # the rest would be silence, which has no direction
    target, estimate, mix = target.float(), estimate.float(), mix.float()
    expected, expected_grad = gradient(
        lambda x: plain_wsdr(x, target.double(), mix.double()), estimate.double()
    )
    value, grad = gradient(lambda x: combination_wsdr(x, target, mix), estimate)
    assert_close(value, expected)
    assert_close(grad, expected_grad)


def test_one_pass_sees_what_float32_matrix_products_would_lose():
    before = torch.get_float32_matmul_precision()
    target, estimate = noise(1, 4, 1, 5000).float(), noise(1, 4, 1, 5000, seed=1).float()
    try:
        torch.set_float32_matmul_precision("medium")
        value = combination_wsdr(estimate, target, target.sum(1))
    finally:
        torch.set_float32_matmul_precision(before)
    expected = plain_wsdr(estimate.double(), target.double(), target.sum(1).double())
    assert value.dtype == torch.float32
    assert_close(value.double(), expected)


@pytest.mark.parametrize("sources", SOURCES)
def test_wsdr_of_a_perfect_estimate_is_minus_one(sources):
    target = noise(2, sources, 2, 1000).float()
    mix = target.sum(1) + noise(2, 2, 1000, seed=1).float()
    assert combination_wsdr(target, target, mix).item() == pytest.approx(-1, abs=1e-6)
    assert combination_wsdr(-target, target, mix) > -0.9


def test_training_after_a_validation_in_inference_mode():
    target = noise(2, 5, 1, 50)
    estimate = noise(2, 5, 1, 50, seed=1)
    with torch.inference_mode():
        expected = combination_wsdr(estimate, target, target.sum(1))
    value, grad = gradient(lambda x: combination_wsdr(x, target, target.sum(1)), estimate)
    assert value.item() == expected.item()
    assert grad.any()


@pytest.mark.parametrize("silent", ["target", "estimate", "both", "mix"])
def test_wsdr_of_silence_is_finite(silent):
    target, estimate = noise(2, 3, 1, 500).float(), noise(2, 3, 1, 500, seed=1).float()
    if silent in ("target", "both"):
        target = torch.zeros_like(target)
    if silent in ("estimate", "both"):
        estimate = torch.zeros_like(estimate)
    mix = torch.zeros_like(target[:, 0]) if silent == "mix" else target.sum(1)
    value, grad = gradient(lambda x: combination_wsdr(x, target, mix), estimate)
    assert value.isfinite()
    assert grad.isfinite().all()


@pytest.mark.parametrize("block", [1, 300, 2**16])
def test_blocks_of_samples_do_not_show(block, monkeypatch):
    monkeypatch.setattr(combinations, "_CPU_BLOCK", block)
    target, estimate = noise(2, 3, 2, 101), noise(2, 3, 2, 101, seed=1)
    mix = target.sum(1) + 0.1
    expected, expected_grad = gradient(lambda x: plain_wsdr(x, target, mix), estimate)
    value, grad = gradient(lambda x: combination_wsdr(x, target, mix), estimate)
    assert_close(value, expected)
    assert_close(grad, expected_grad)
    expected, expected_grad = gradient(lambda x: plain_l1(x, target), estimate)
    value, grad = gradient(lambda x: combination_l1(x, target), estimate)
    assert_close(value, expected)
    assert_close(grad, expected_grad)


@pytest.mark.parametrize("sources", [1, 2, 3])
def test_gradients_of_all_inputs(sources):
    target, estimate = noise(2, sources, 2, 7), noise(2, sources, 2, 7, seed=1)
    mix = target.sum(1) + noise(2, 2, 7, seed=2)
    inputs = [x.requires_grad_() for x in (estimate, target, mix)]
    assert torch.autograd.gradcheck(combination_wsdr, inputs)
    assert torch.autograd.gradcheck(combination_l1, inputs[:2])


@pytest.mark.parametrize("error_db", [-20, -60, -100])
def test_wsdr_gradient_of_good_estimates(error_db):
    """The gradient hangs on errors that are far smaller than what they are errors of."""
    target = noise(1, 4, 2, 20000).float()
    estimate = target + 10 ** (error_db / 20) * noise(1, 4, 2, 20000, seed=1).float()
    mix = target.sum(1)
    _, expected = gradient(
        lambda x: plain_wsdr(x, target.double(), mix.double()), estimate.double()
    )
    _, grad = gradient(lambda x: combination_wsdr(x, target, mix), estimate)
    assert_close(grad, expected)


@pytest.mark.parametrize("sources", SOURCES)
def test_l1_is_the_loop_over_subsets(sources):
    target, estimate = noise(2, sources, 2, 4001), noise(2, sources, 2, 4001, seed=1)
    estimate[:, :, :, :10] = target[:, :, :, :10]  # where there is no error, no gradient
    expected, expected_grad = gradient(lambda x: plain_l1(x, target), estimate)
    value, grad = gradient(lambda x: combination_l1(x, target.float()), estimate.float())
    assert_close(value, expected)
    assert (grad - expected_grad).norm() <= 1e-3 * expected_grad.norm()  # a sign near 0 may turn


class TestTime:
    def test_sdr_formula(self):
        ref, est = noise(3, 4, 2, 100), noise(3, 4, 2, 90, seed=1)
        cut = ref[..., :90].numpy()
        expected = 10 * np.log10(
            ((cut**2).sum((1, 2, 3)) + 1e-7) / (((cut - est.numpy()) ** 2).sum((1, 2, 3)) + 1e-7)
        )
        np.testing.assert_allclose(sdr(est, ref), expected)
        assert torch.equal(SDR()(est, ref), sdr(est, ref))

    @pytest.mark.parametrize("db", [0, 10, 30, 60])
    @pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
    def test_sdr_in_mixed_precision(self, db, autocast):
        ref = (0.3 * noise(1, 2, 441000)).float()
        error = noise(1, 2, 441000, seed=1).float()
        est = ref + error * (ref.norm() / error.norm() * 10 ** (-db / 20))
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            value = sdr(est, ref)
            loss, _ = NegativeSDR()(est, ref, ref)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(db, abs=0.01)
        assert loss.item() == pytest.approx(-db, abs=0.01)

    def test_sdr_of_half_precision_tensors_does_not_overflow(self):
        ref = (0.3 * noise(1, 2, 441000)).half()
        value = sdr(ref * 0.5, ref)
        assert value.item() == pytest.approx(20 * np.log10(2), abs=0.01)

    def test_silent_targets_are_left_out(self):
        gt, pred = noise(4, 2, 1, 100), noise(4, 2, 1, 100, seed=1)
        gt[1] *= 1e-3 / gt[1].square().mean().sqrt() * 0.99
        gt[2] *= 1e-3 / gt[2].square().mean().sqrt() * 1.01
        loss, parts = NegativeSDR()(pred, gt, gt.sum(1))
        assert loss.item() == pytest.approx(-sdr(pred, gt)[[0, 2, 3]].mean().item())
        assert parts["silent_share"].item() == 0.25

    def test_silent_batch_has_no_gradient(self):
        pred = noise(2, 2, 1, 100).requires_grad_()
        for estimate in (pred, 0 * pred):
            loss, parts = NegativeSDR()(estimate, torch.zeros(2, 2, 1, 100), pred)
            loss.backward()
            assert loss.item() == 0
            assert parts["silent_share"].item() == 1
            assert pred.grad is not None
            assert torch.equal(pred.grad, torch.zeros_like(pred))

    def test_silent_item_does_not_move_the_gradient_of_others(self):
        gt, pred = noise(2, 2, 1, 100), noise(2, 2, 1, 100, seed=1)
        _, alone = gradient(lambda x: NegativeSDR()(x, gt[:1], gt)[0], pred[:1])
        gt[1] = 0
        _, both = gradient(lambda x: NegativeSDR()(x, gt, gt)[0], pred)
        torch.testing.assert_close(both[:1], alone)
        assert not both[1].any()

    @pytest.mark.parametrize("lengths", [(100, 90), (90, 100)])
    def test_the_shorter_length_counts(self, lengths):
        pred, gt = noise(2, 4, 2, lengths[0]), noise(2, 4, 2, lengths[1], seed=1)
        for loss in (L1Loss(), CL1Loss(), NegativeSDR()):
            value, _ = loss(pred, gt, gt.sum(1))
            expected, _ = loss(pred[..., :90], gt[..., :90], gt.sum(1))
            assert torch.equal(value, expected)
        value, parts = L1Loss()(pred, gt, gt.sum(1))
        assert value.item() == pytest.approx((pred[..., :90] - gt[..., :90]).abs().mean().item())
        assert parts == {}

    @pytest.mark.parametrize("shape", [(2, 1, 2, 100), (2, 2, 100), (1, 4, 2, 100), (2, 4, 1, 100)])
    def test_nothing_is_broadcast(self, shape):
        gt = noise(2, 4, 2, 100)
        for loss in (L1Loss(), CL1Loss(), NegativeSDR()):
            with pytest.raises(ValueError, match="axes") as error:
                loss(noise(*shape), gt, gt.sum(1))
            assert str(shape) in str(error.value)
            assert str(tuple(gt.shape)) in str(error.value)

    def test_combination_l1(self):
        gt, pred = noise(2, 4, 2, 100), noise(2, 4, 2, 100, seed=1)
        value, parts = CL1Loss()(pred, gt, gt.sum(1))
        assert value.item() == pytest.approx(plain_l1(pred, gt).item())
        assert parts == {}
        alone, _ = CL1Loss()(pred[:, :1], gt[:, :1], gt[:, 0])
        assert alone.item() == pytest.approx((pred - gt)[:, 0].abs().mean().item())
        half, _ = CL1Loss()(pred.half(), gt.half(), gt.sum(1))
        assert half.dtype == torch.float32
        with pytest.raises(ValueError, match="sources"):
            CL1Loss()(pred[:, 0], gt[:, 0], gt)


class TestCLoss:
    def arguments(self, sources=3, channels=2, samples=1000):
        stft = STFT(64, 16)
        gt = noise(2, sources, channels, samples).float()
        mix = gt.sum(1) + 0.3 * noise(2, channels, samples, seed=1).float()
        mask = 0.4 * noise(2, sources, channels, 33, 1 + samples // 16, seed=2).float().abs()
        return mask, stft(gt), stft(mix), gt, mix

    def plain(self, estimate, gt_spec, gt, mix, complex_mse):
        stft = STFT(64, 16)
        if complex_mse:
            loss_f = plain_mse(estimate - gt_spec.to(torch.complex128))
        else:
            loss_f = plain_mse(estimate.abs() - gt_spec.to(torch.complex128).abs())
        loss_t = 1 + plain_wsdr(stft.inverse(estimate, gt.shape[-1]), gt.double(), mix.double())
        return loss_f + 7 * loss_t, loss_f, loss_t

    @pytest.mark.parametrize("sources", SOURCES)
    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("complex_mse", [True, False])
    @pytest.mark.parametrize("mwf", [{}, {"n_iter": 1}, {"residual_model": True}, {"alpha": 2.0}])
    def test_against_plain_form(self, sources, channels, complex_mse, mwf):
        mask, gt_spec, mix_spec, gt, mix = self.arguments(sources, channels)
        criterion = CLoss(7, 64, 16, complex_mse, **mwf)
        loss, parts = criterion(mask, gt_spec, mix_spec, gt, mix)
        if mwf:
            estimate = MWF(**mwf)(mask.double(), mix_spec.to(torch.complex128))[:, :sources]
        else:
            estimate = mask.double() * mix_spec.to(torch.complex128)[:, None]
        expected, loss_f, loss_t = self.plain(estimate, gt_spec, gt, mix, complex_mse)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert parts["loss_f"].item() == pytest.approx(loss_f.item(), rel=1e-5)
        assert parts["loss_t"].item() == pytest.approx(loss_t.item(), rel=1e-5)

    def test_wiener_filter_is_used_only_if_asked_for(self):
        assert CLoss().mwf is None
        for name, value in {
            "residual_model": False,
            "softmask": False,
            "alpha": 1.0,
            "n_iter": 0,
            "precision": "single",
        }.items():
            mwf = CLoss(**{name: value}).mwf
            assert mwf is not None
            assert getattr(mwf, name) == value
        assert CLoss(softmask=True).mwf.n_iter == MWF().n_iter

    def test_perfect_masks(self):
        _, _, _, gt, _ = self.arguments(sources=2)
        gt = gt[:, :1].repeat(1, 2, 1, 1)  # halves of the mixture: the mask is known
        stft = STFT(64, 16)
        mix = gt.sum(1)
        mask = torch.full((2, 2, 2, 33, 63), 0.5)
        loss, _ = CLoss(10, 64, 16)(mask, stft(gt), stft(mix), gt, mix)
        assert loss.item() == pytest.approx(0, abs=1e-5)

    @pytest.mark.parametrize("complex_mse", [True, False])
    @pytest.mark.parametrize("mwf", [{}, {"n_iter": 1}])
    def test_silence_is_finite(self, complex_mse, mwf):
        arguments = [torch.zeros_like(x) for x in self.arguments()]
        mask = arguments[0].requires_grad_()
        loss, _ = CLoss(10, 64, 16, complex_mse, **mwf)(*arguments)
        loss.backward()
        assert loss.isfinite()
        assert mask.grad is not None
        assert mask.grad.isfinite().all()

    def test_mixed_precision(self):
        mask, *others = self.arguments()
        criterion = CLoss(10, 64, 16, n_iter=1)
        expected, _ = criterion(mask.half(), *others)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, _ = criterion(mask.half(), *others)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, expected)

    @pytest.mark.parametrize("wrong", range(5))
    def test_shapes_are_checked(self, wrong):
        arguments = list(self.arguments())
        arguments[wrong] = arguments[wrong][:1]
        with pytest.raises(ValueError, match="shapes"):
            CLoss(10, 64, 16)(*arguments)

    def test_a_mask_without_source_axis_is_refused(self):
        mask, gt_spec, mix_spec, gt, mix = self.arguments(sources=1)
        with pytest.raises(ValueError, match="shapes"):
            CLoss(10, 64, 16)(mask[:, 0], gt_spec[:, 0], mix_spec, gt, mix)

    def test_arguments(self):
        for bad in ({"n_fft": 3}, {"hop_length": 0}, {"n_iter": -1}, {"alpha": -1.0}):
            with pytest.raises(ConfigError, match=next(iter(bad))):
                CLoss(**bad)

    def test_adds_nothing_to_the_state_dict(self):
        assert not CLoss(n_iter=1).state_dict()


class TestMDLoss:
    def arguments(self):
        return TestCLoss().arguments(sources=1)

    def test_is_the_combination_loss_of_one_source(self):
        loss, parts = MDLoss(7, 64, 16)(*self.arguments())
        expected, expected_parts = CLoss(7, 64, 16)(*self.arguments())
        assert loss.item() == expected.item()
        assert parts == expected_parts

    @pytest.mark.parametrize("dropped", list(itertools.product([False, True], repeat=3)))
    def test_the_source_axis_may_be_missing(self, dropped):
        mask, gt_spec, mix_spec, gt, mix = self.arguments()
        expected, _ = MDLoss(7, 64, 16)(mask, gt_spec, mix_spec, gt, mix)
        mask, gt_spec, gt = (
            x[:, 0] if drop else x for x, drop in zip((mask, gt_spec, gt), dropped)
        )
        loss, _ = MDLoss(7, 64, 16)(mask, gt_spec, mix_spec, gt, mix)
        assert loss.item() == expected.item()

    def test_several_sources_are_refused(self):
        with pytest.raises(ValueError, match="got 3"):
            MDLoss(7, 64, 16)(*TestCLoss().arguments(sources=3))

    def test_shapes_are_checked(self):
        mask, gt_spec, mix_spec, gt, mix = self.arguments()
        with pytest.raises(ValueError, match="shapes"):
            MDLoss(7, 64, 16)(mask[:1], gt_spec, mix_spec, gt, mix)
        with pytest.raises(ConfigError, match="hop_length"):
            MDLoss(hop_length=0)


class TestBCELoss:
    def plain(self, mask, gt_spec, mix_spec):
        """The formula in NumPy, over all subsets."""
        mask, gt_spec, mix_spec = (x.numpy() for x in (mask, gt_spec, mix_spec))
        values = []
        for subset in map(list, subsets(mask.shape[1])):
            p = np.minimum(1, np.abs(gt_spec[:, subset].sum(1) / mix_spec) ** 2)
            q = np.clip(mask[:, subset].sum(1) ** 2, 1e-6, 1 - 1e-6)
            values.append(-(p * np.log(q) + (1 - p) * np.log(1 - q)).mean())
        return np.mean(values)

    @pytest.mark.parametrize("sources", SOURCES)
    def test_formula(self, sources):
        mask = 0.4 * noise(2, sources, 2, 5, 7).abs()
        gt_spec = torch.complex(noise(2, sources, 2, 5, 7), noise(2, sources, 2, 5, 7, seed=1))
        mix_spec = gt_spec.sum(1) + 0.1
        loss, parts = bce_loss(mask, gt_spec, mix_spec)
        assert loss.item() == pytest.approx(self.plain(mask, gt_spec, mix_spec), rel=1e-9)
        assert parts == {}

    def test_true_shares_are_the_minimum(self):
        """Sources in phase, so that masks can be right for every combination at once."""
        mix_spec = torch.complex(noise(1, 2, 5, 7), noise(1, 2, 5, 7, seed=1))
        shares = torch.tensor([0.2, 0.3, 0.4]).double().view(1, 3, 1, 1, 1)
        mask = shares.expand(1, 3, 2, 5, 7).clone().requires_grad_()
        loss, _ = bce_loss(mask, shares * mix_spec[:, None], mix_spec)
        (grad,) = torch.autograd.grad(loss, mask)
        assert grad.abs().max() < 1e-12
        assert bce_loss(mask + 0.03, shares * mix_spec[:, None], mix_spec)[0] > loss

    def test_silence_is_finite(self):
        mask = torch.zeros(1, 3, 1, 4, 5, requires_grad=True)
        spec = torch.zeros(1, 3, 1, 4, 5, dtype=torch.complex64)
        loss, _ = bce_loss(mask, spec, spec[:, 0])
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-5)
        assert mask.grad is not None
        assert mask.grad.isfinite().all()

    def test_shapes_are_checked(self):
        mask, spec = torch.zeros(1, 3, 1, 4, 5), torch.zeros(1, 3, 1, 4, 5, dtype=torch.complex64)
        for bad in ((mask[:, 0], spec, spec[:, 0]), (mask, spec[:, :2], spec[:, 0])):
            with pytest.raises(ValueError, match="shapes"):
                bce_loss(*bad)
