"""The Wiener filter against its formulas, bin by bin in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from aimless import wiener
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
@pytest.mark.parametrize("precision", ["double", "single"])
def test_silence_is_finite(options, alpha, silent, precision):
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
    y = MWF(**options, alpha=alpha, n_iter=2, precision=precision)(mask, mix)
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


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("n_iter", [1, 3])
def test_gradients_for_any_number_of_channels(channels, n_iter):
    mask, mix = draw(batch=2, sources=2, channels=channels, bins=2, frames=5)
    arguments = (mask.requires_grad_(), mix.requires_grad_())
    assert torch.autograd.gradcheck(MWF(n_iter=n_iter), arguments, eps=1e-7, atol=1e-4)


def einsum_filter(mask, mix):
    """One step in complex128, with a matrix for each source, bin and frame."""
    scale = (mix.abs().amax(dim=(1, 2, 3), keepdim=True) / 10).clamp_min(1)
    x = mix / scale
    y = mask * x[:, None]
    v = y.abs().square().mean(2)
    r = torch.einsum("bscft,bsdft->bsfcd", y, y.conj())
    r = r / (EPS + v.sum(-1))[..., None, None]
    cov = torch.einsum("bsft,bsfcd->bsftcd", v.to(r.dtype), r)
    identity = torch.eye(mix.shape[1], dtype=r.dtype)
    filtered = torch.linalg.solve(cov.sum(1) + EPS**0.5 * identity, x.permute(0, 2, 3, 1))
    return torch.einsum("bsftcd,bftd->bscft", cov, filtered) * scale[:, None]


def in_db(actual, expected):
    difference = actual.detach().to(torch.complex128) - expected.detach()
    return 20 * torch.log10(difference.norm() / expected.norm()).item()


def scene(side_db=None, level=1.0):
    """Masks and a mixture in single precision; with `side_db` nearly mono, masks included."""
    mask, mix = draw(sources=4, bins=20, frames=50, level=level)
    if side_db is not None:
        side = mix[:, 1] * 10 ** (side_db / 20)
        mix = torch.stack([mix[:, 0] + side, mix[:, 0] - side], dim=1)
        mask = mask[:, :, :1].expand(-1, -1, 2, -1, -1).clone()
    return mask.float(), mix.to(torch.complex64)


@pytest.mark.parametrize(
    ("side_db", "level"), [(None, 1), (None, 1e4), (None, 1e-4), (-40, 1), (-80, 1), (-80, 1e4)]
)
def test_double_precision_is_that_of_complex128(side_db, level):
    mask, mix = scene(side_db, level)
    y = MWF()(mask, mix)
    assert y.dtype == torch.complex64
    assert in_db(y, einsum_filter(mask.double(), mix.to(torch.complex128))) < -130


# nearer to mono complex128 itself fails: see test_wiener_near_mono.py
@pytest.mark.parametrize(("side_db", "level"), [(None, 1), (None, 1e4), (None, 1e-4), (-40, 1)])
def test_gradient_is_that_of_complex128(side_db, level):
    mask, mix = scene(side_db, level)
    mask.requires_grad_()
    expected = einsum_filter(mask.double(), mix.to(torch.complex128))
    direction = draw(sources=4, bins=20, frames=50, seed=5)[1][:, None].expand(expected.shape)
    (expected_grad,) = torch.autograd.grad(expected, mask, direction)
    (grad,) = torch.autograd.grad(MWF()(mask, mix), mask, direction.to(mix.dtype))
    assert in_db(grad, expected_grad.to(torch.complex128)) < -100


def test_limit_of_single_precision():
    def error(**options):
        mask, mix = scene(**options)
        expected = einsum_filter(mask.double(), mix.to(torch.complex128))
        return in_db(MWF(precision="single")(mask, mix), expected)

    assert error() < -110
    assert error(level=1e4) < -110
    assert error(level=1e-4) < -110
    assert error(side_db=-20) < -80
    assert -100 < error(side_db=-40) < -40
    assert error(side_db=-80) > -20  # useless, as documented


@pytest.mark.parametrize("precision", ["single", "double"])
def test_matrix_products_of_fewer_bits_do_not_spoil_it(precision):
    before = torch.get_float32_matmul_precision()
    mask, mix = scene()
    mask.requires_grad_()
    results = []
    try:
        for setting in ("highest", "medium"):
            torch.set_float32_matmul_precision(setting)
            y = MWF(precision=precision)(mask, mix)
            results.append((y, *torch.autograd.grad(y.abs().sum(), mask)))
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(torch.equal(first, second) for first, second in zip(*results))


@pytest.mark.parametrize("n_iter", [1, 2])
def test_blocks_of_bins_and_memory_layout_do_not_show(n_iter, monkeypatch):
    mask, mix = scene()
    arguments = (mask.requires_grad_(), mix.requires_grad_())
    expected = MWF(n_iter=n_iter)(*arguments)
    grads = torch.autograd.grad(expected.abs().square().sum(), arguments)
    monkeypatch.setattr(wiener, "_CPU_BLOCK", 8 * 2 * 4 * 50 * 3)  # 3 bins, 20 is no multiple
    frames_last = mix.detach().mT.contiguous().mT.requires_grad_()
    other = (mask.detach().mT.contiguous().mT.requires_grad_(), frames_last)
    y = MWF(n_iter=n_iter)(*other)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-9)
    for grad, same in zip(grads, torch.autograd.grad(y.abs().square().sum(), other)):
        torch.testing.assert_close(grad, same, rtol=1e-4, atol=1e-6)
    lazily = MWF(n_iter=n_iter)(mask, mix.conj())
    torch.testing.assert_close(lazily, expected.conj(), rtol=1e-6, atol=1e-9)


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
    with pytest.raises(ConfigError, match="precision: 'half'; allowed are double and single"):
        MWF(precision="half")
    mask, mix = draw()
    for bad in (mask[:, 0], mask[:1], mask[..., :-1], mask[:, :, :1]):
        with pytest.raises(ValueError, match="mask"):
            MWF()(bad, mix)
