"""Losses against plain loops over the subsets in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from aimless.errors import ConfigError
from aimless.loss import SDR, CLoss, L1Loss, NegativeSDR, sdr
from aimless.loss.combinations import combination_mse, combination_wsdr, subset_matrix
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
        for loss in (L1Loss(), NegativeSDR()):
            value, _ = loss(pred, gt, gt.sum(1))
            expected, _ = loss(pred[..., :90], gt[..., :90], gt.sum(1))
            assert torch.equal(value, expected)
        value, parts = L1Loss()(pred, gt, gt.sum(1))
        assert value.item() == pytest.approx((pred[..., :90] - gt[..., :90]).abs().mean().item())
        assert parts == {}

    @pytest.mark.parametrize("shape", [(2, 1, 2, 100), (2, 2, 100), (1, 4, 2, 100), (2, 4, 1, 100)])
    def test_nothing_is_broadcast(self, shape):
        gt = noise(2, 4, 2, 100)
        for loss in (L1Loss(), NegativeSDR()):
            with pytest.raises(ValueError, match="axes") as error:
                loss(noise(*shape), gt, gt.sum(1))
            assert str(shape) in str(error.value)
            assert str(tuple(gt.shape)) in str(error.value)


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
