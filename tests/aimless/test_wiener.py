"""The Wiener filter against its formulas, bin by bin in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from aimless.errors import ConfigError
from aimless.utils import MWF

EPS = np.finfo(np.float64).eps


def draw(batch=2, sources=3, channels=2, bins=4, frames=6, seed=0, level=1.0):
    rng = np.random.default_rng(seed)
    mask = rng.uniform(0, 0.8, (batch, sources, channels, bins, frames))
    shape = (batch, channels, bins, frames)
    mix = level * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    return torch.from_numpy(mask), torch.from_numpy(mix)


def plain_filter(mask, mix, residual_model, softmask, alpha, n_iter):
    """One item: mask (S,C,F,T), mix (C,F,T)."""
    if not (residual_model or softmask or n_iter):
        return mask * mix
    exponent = alpha if softmask else 1
    v = (mask * np.abs(mix)) ** exponent
    if residual_model or len(mask) == 1:
        left = np.maximum(0, np.abs(mix) ** exponent - v.sum(0))
        v = np.concatenate([v, left[None]])
    if softmask:
        y = v / (EPS + v.sum(0)) * mix
    else:
        y = v * np.exp(1j * np.angle(mix))
    scale = max(1, np.abs(mix).max() / 10)
    y, x = y / scale, mix / scale
    for _ in range(n_iter):
        y = plain_em_step(y, x)
    return y * scale


def plain_em_step(y, x):
    sources, channels, bins, frames = y.shape
    result = np.zeros_like(y)
    for f in range(bins):
        power = (np.abs(y[:, :, f]) ** 2).mean(1)
        spatial = np.zeros((sources, channels, channels), complex)
        for s in range(sources):
            for t in range(frames):
                spatial[s] += np.outer(y[s, :, f, t], y[s, :, f, t].conj())
            spatial[s] /= EPS + power[s].sum()
        for t in range(frames):
            parts = [power[s, t] * spatial[s] for s in range(sources)]
            mix_cov = sum(parts) + np.sqrt(EPS) * np.eye(channels)
            inverse = np.linalg.inv(mix_cov)
            for s in range(sources):
                result[s, :, f, t] = parts[s] @ inverse @ x[:, f, t]
    return result


FLAGS = list(itertools.product([False, True], [False, True], [0, 1, 3]))


@pytest.mark.parametrize("sources", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("residual_model", "softmask", "n_iter"), FLAGS)
def test_against_plain_formulas(sources, channels, residual_model, softmask, n_iter):
    mask, mix = draw(sources=sources, channels=channels, level=30.0)
    for alpha in (1.0, 0.5, 2.0):
        options = {
            "residual_model": residual_model,
            "softmask": softmask,
            "alpha": alpha,
            "n_iter": n_iter,
        }
        result = MWF(**options)(mask, mix)
        for item in range(len(mask)):
            expected = plain_filter(mask[item].numpy(), mix[item].numpy(), **options)
            np.testing.assert_allclose(result[item], expected, rtol=1e-6, atol=1e-7)


def test_number_of_sources():
    mask, mix = draw(sources=1)
    assert MWF(n_iter=0)(mask, mix).shape[1] == 1
    assert MWF(n_iter=1)(mask, mix).shape[1] == 2
    assert MWF(n_iter=0, softmask=True)(mask, mix).shape[1] == 2
    mask, mix = draw(sources=3)
    assert MWF(n_iter=1)(mask, mix).shape[1] == 3
    assert MWF(residual_model=True, n_iter=0)(mask, mix).shape[1] == 4


@pytest.mark.parametrize("softmask", [False, True])
@pytest.mark.parametrize("n_iter", [0, 1, 2])
def test_sources_and_residual_sum_to_the_mixture(softmask, n_iter):
    mask, mix = draw(sources=3)
    mask = mask / mask.sum(1, keepdim=True).clamp_min(1)  # leaves no negative residual
    y = MWF(residual_model=True, softmask=softmask, n_iter=n_iter)(mask, mix)
    torch.testing.assert_close(y.sum(1), mix, rtol=0, atol=1e-5)


def test_sources_sum_to_the_mixture_after_a_step_whatever_the_masks():
    mask, mix = draw(sources=4, frames=12)
    torch.testing.assert_close(MWF()(3 * mask, mix).sum(1), mix, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side_db", [-40, -80, -120])
def test_near_mono_mixture(side_db):
    mask, mix = draw(sources=4, bins=6, frames=20)
    side = mix[:, 1] * 10 ** (side_db / 20)
    mix = torch.stack([mix[:, 0] + side, mix[:, 0] - side], dim=1).to(torch.complex64)
    result = MWF()(mask.float(), mix)
    assert result.dtype == torch.complex64
    for item in range(len(mask)):
        arrays = mask[item].float().double().numpy(), mix[item].to(torch.complex128).numpy()
        expected = plain_filter(*arrays, False, False, 1.0, 1)
        error = np.linalg.norm(result[item].numpy() - expected) / np.linalg.norm(expected)
        assert error < 1e-5


@pytest.mark.parametrize("options", [{}, {"residual_model": True}, {"softmask": True}])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("silent", ["mix", "mask", "both", "one source"])
def test_silence_is_finite(options, alpha, silent):
    mask, mix = draw()
    mask, mix = mask.float(), mix.to(torch.complex64)
    if silent in ("mix", "both"):
        mix = torch.zeros_like(mix)
    if silent in ("mask", "both"):
        mask = torch.zeros_like(mask)
    if silent == "one source":
        mask[:, 0] = 0
    mask.requires_grad_()
    mix.requires_grad_()
    y = MWF(**options, alpha=alpha, n_iter=2)(mask, mix)
    y.abs().square().sum().backward()
    assert y.isfinite().all()
    assert mask.grad is not None
    assert mask.grad.isfinite().all()
    assert mix.grad is not None
    assert mix.grad.isfinite().all()
    if silent != "one source":
        assert y[:, :3].abs().max() < 1e-6


@pytest.mark.parametrize("options", [{}, {"residual_model": True, "softmask": True, "alpha": 0.7}])
def test_gradients(options):
    mask, mix = draw(batch=1, sources=2, bins=2, frames=3)
    arguments = (mask.requires_grad_(), mix.requires_grad_())
    assert torch.autograd.gradcheck(MWF(**options, n_iter=2), arguments, eps=1e-7, atol=1e-4)


def test_items_of_a_batch_do_not_touch_each_other():
    mask, mix = draw()
    mix[1] *= 1000
    both = MWF()(mask, mix)
    torch.testing.assert_close(both[:1], MWF()(mask[:1], mix[:1]), rtol=1e-12, atol=0)


def test_precision_of_the_result_is_that_of_the_mixture():
    mask, mix = draw()
    for n_iter in (0, 1):
        mwf = MWF(n_iter=n_iter)
        assert mwf(mask, mix).dtype == torch.complex128
        assert mwf(mask.half(), mix.to(torch.complex64)).dtype == torch.complex64
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = mwf(mask, mix)
        assert torch.equal(inside, mwf(mask, mix))


def test_arguments():
    with pytest.raises(ConfigError, match="n_iter: -1"):
        MWF(n_iter=-1)
    with pytest.raises(ConfigError, match="alpha: 0"):
        MWF(alpha=0)
    mask, mix = draw()
    for bad in (mask[:, 0], mask[:1], mask[..., :-1], mask[:, :, :1]):
        with pytest.raises(ValueError, match="mask"):
            MWF()(bad, mix)
