"""Band edges, BandSplitRNN and BandSplitRNNMulti."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimless.bands import MUSIC_EDGES, band_widths
from aimless.errors import ConfigError
from aimless.models import BandSplitRNN, BandSplitRNNMulti

EDGES = [2000, 5000, 9000.5, 16000]
BINS = 65


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def small(sources=None, **kwargs):
    torch.manual_seed(0)
    options = {"split_freqs": EDGES, "hidden_size": 8, "num_layers": 2, **kwargs}
    if sources is None:
        return BandSplitRNN(128, **options).eval()
    return BandSplitRNNMulti(128, sources, **options).eval()


class TestBands:
    def test_published_division(self):
        widths = band_widths(MUSIC_EDGES, 4096, 44100)
        assert len(MUSIC_EDGES) == 41
        assert len(widths) == 42
        assert sum(widths) == 2049
        assert set(widths[:10]) <= {9, 10}

    @pytest.mark.parametrize("n_fft", [4096, 2048, 1000])
    @pytest.mark.parametrize("sample_rate", [44100, 48000, 96000])
    def test_edges_fall_into_the_band_above(self, n_fft, sample_rate):
        edges = [300, 1000, 5512.5, 20000]
        bounds = np.cumsum([0, *band_widths(edges, n_fft, sample_rate)])
        assert bounds[-1] == n_fft // 2 + 1
        frequencies = np.arange(n_fft // 2 + 2) * sample_rate / n_fft
        for edge, first in zip(edges, bounds[1:]):
            assert frequencies[first] <= edge < frequencies[first + 1]

    def test_no_edge_is_one_band(self):
        assert band_widths([], 512, 16000) == [257]

    @pytest.mark.parametrize(
        ("edges", "match"),
        [
            ([200, 100], "100 Hz does not lie above 200"),
            ([100, 100], "100 Hz does not lie above 100"),
            ([0, 100], "0 Hz does not lie above 0"),
            ([-5], "-5 Hz does not lie above 0"),
            ([100, 22051], "22051 Hz lies above 22050 Hz"),
            ([50], "between 0 and 50 Hz"),
            ([100, 120], "between 100 Hz and 120 Hz; bins are 86.1 Hz apart"),
        ],
    )
    def test_faults(self, edges, match):
        with pytest.raises(ConfigError, match=match) as caught:
            band_widths(edges, 512, 44100)
        assert "\n" not in str(caught.value)

    def test_half_the_sample_rate_is_a_band_of_one_bin(self):
        assert band_widths([22050], 512, 44100) == [256, 1]


def test_published_size():
    with torch.device("meta"):
        network = BandSplitRNN(4096)
    assert sum(p.numel() for p in network.parameters()) == 9274755
    assert len(network.state_dict()) == 708


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("frames", [1, 2, 13])
def test_shapes(channels, frames):
    x = noise(3, channels, BINS, frames).abs()
    mask = small()(x)
    assert mask.shape == x.shape
    assert mask.min() >= 0
    assert mask.max() <= 1
    for sources in (1, 3, 6):
        masks = small(sources)(x)
        assert masks.shape == (3, sources, channels, BINS, frames)
        torch.testing.assert_close(masks.sum(1), torch.ones_like(x))


def test_two_sources_with_one_silent_logit_are_the_single_mask():
    # softmax over (z, 0) is the sigmoid of z
    single, multi = small(), small(2)
    state = single.state_dict()
    for key in [key for key in state if key.endswith(".2.weight") or key.endswith(".2.bias")]:
        if key.startswith("mlps"):
            state[key] = torch.cat([state[key], torch.zeros_like(state[key])])
    multi.load_state_dict(state)
    x = noise(2, 2, BINS, 9).abs()
    torch.testing.assert_close(multi(x)[:, 0], single(x))


def test_other_sample_rate_moves_the_bands():
    assert small().widths == [5, 9, 12, 20, 19]
    assert small(sample_rate=88200).widths == [2, 5, 6, 10, 42]


@pytest.mark.parametrize("sources", [None, 3])
def test_all_parameters_learn(sources):
    network = small(sources).train()
    network(noise(2, 2, BINS, 12).abs()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_channels_and_items_do_not_see_each_other():
    network, x = small(), noise(3, 2, BINS, 12).abs()
    alone = torch.stack([network(channel[None, None])[0, 0] for channel in x.flatten(0, 1)])
    torch.testing.assert_close(network(x).flatten(0, 1), alone, rtol=1e-4, atol=1e-5)


def test_every_bin_and_frame_sees_every_other():
    network = small()
    x = noise(1, 1, BINS, 12).abs().requires_grad_()
    for place in ((0, 0), (BINS - 1, 11)):
        (gradient,) = torch.autograd.grad(network(x)[0, 0][place], x)
        assert (gradient != 0).all()


def test_recomputing_gives_the_same_gradients():
    x = noise(2, 2, BINS, 12).abs()
    gradients = []
    for checkpoint_gradients in (False, True):
        network = small(checkpoint_gradients=checkpoint_gradients).train()
        network(x).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype):
    network = small(3).train()
    # 16 bits have no number near the 1e-8 that keeps silence from minus infinity
    x = noise(2, 2, BINS, 12).abs()
    x[..., 6:] = 0
    x[0] *= 1e5
    expected = network(x)
    with torch.autocast("cpu", dtype=dtype):
        masks = network(x)
    assert masks.dtype == torch.float32
    assert (masks - expected).abs().max() < 0.02
    masks.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_silence_is_finite():
    x = torch.zeros(1, 2, BINS, 4, requires_grad=True)
    mask = small()(x)
    mask.sum().backward()
    assert mask.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"hidden_size": 0},
        {"hidden_size": 6, "norm_groups": 4},
        {"hidden_size": 9},
        {"num_layers": 0},
        {"norm_groups": 0},
        {"norm_groups": 3},
        {"sample_rate": 0},
        {"split_freqs": [30000]},
    ],
    ids=str,
)
def test_arguments(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        small(**arguments)
    with pytest.raises(ConfigError, match="n_sources"):
        small(0)


def test_wrong_input():
    for shape in ((1, 2, 64, 7), (2, BINS, 7), (1, 2, BINS, 0)):
        with pytest.raises(ValueError, match="bins"):
            small()(noise(*shape))
