"""HDemucs against torchaudio's, and what torchaudio's cannot do: short and silent audio."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimless.errors import ConfigError
from aimless.models import HDemucs

NAMES = list("abcdef")
# The smallest with everything in it: levels 0 and 1 in two branches, 2 where they meet (with
# normalisation, LSTM and attention), 3 below.
SMALL = {
    "channels": 16,
    "nfft": 256,
    "depth": 4,
    "norm_starts": 2,
    "dconv_attn": 2,
    "dconv_lstm": 2,
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def small(sources=4, **kwargs):
    torch.manual_seed(0)
    return HDemucs(NAMES[:sources], **{**SMALL, **kwargs}).eval()


def disturb(network):
    """Give norms and layer scales values with which an exchange of two would show."""
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 1:
                offset = 0.5 if name.endswith(("weight", "scale")) else 0.0
                values = offset + 0.3 * rng.standard_normal(parameter.shape)
                parameter.copy_(torch.from_numpy(values))
    return network


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dconv_attn": 9},
        {"dconv_lstm": 9},
        {"dconv_attn": 0, "dconv_lstm": 0, "depth": 3},
        {"dconv_depth": -3, "dconv_comp": 2, "freq_emb": 0},
        {"dconv_depth": 0, "emb_smooth": False, "emb_scale": 3},
        {"context": 2, "context_enc": 1, "norm_starts": 1, "growth": 3},
        {"norm_starts": 0, "norm_groups": 2, "time_stride": 4},
        {"kernel_size": 4, "stride": 2, "nfft": 64},
        {"nfft": 2048, "depth": 6, "dconv_attn": 4, "dconv_lstm": 4},
        {"nfft": 1024, "depth": 5, "channels": 8, "dconv_attn": 4, "dconv_lstm": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize(("channels", "sources"), [(1, 2), (2, 1), (2, 4), (2, 6), (3, 2)])
def test_equals_torchaudio(options, channels, sources, record_property):
    torchaudio_models = pytest.importorskip("torchaudio.models")
    arguments = {"audio_channels": channels, **SMALL, **options}
    torch.manual_seed(0)
    reference = disturb(torchaudio_models.HDemucs(NAMES[:sources], **arguments)).eval()
    network = HDemucs(NAMES[:sources], **arguments).eval()
    assert list(network.state_dict()) == list(reference.state_dict())
    network.load_state_dict(reference.state_dict(), strict=True)
    reference.load_state_dict(network.state_dict(), strict=True)
    # nothing to reflect beyond one hop in the first, chunks for the LSTM in the last
    hop = arguments["nfft"] // 4
    longest = 20 if arguments["dconv_attn"] == 0 or hop > 100 else 230
    for length in (2 * hop - 1, 8 * hop + 77, longest * hop):
        x = 0.3 * noise(2, channels, length) + 0.1
        with torch.inference_mode():
            expected, actual = reference(x), network(x)
        error = float((actual - expected).abs().max() / expected.abs().max())
        record_property(f"relative error at {length} samples", error)
        assert actual.shape == expected.shape
        assert error < 1e-5


def test_gradients_equal_torchaudio():
    torchaudio_models = pytest.importorskip("torchaudio.models")
    reference = disturb(torchaudio_models.HDemucs(NAMES[:3], **SMALL)).double()
    network = HDemucs(NAMES[:3], **SMALL).double()
    network.load_state_dict(reference.state_dict())
    x = noise(2, 2, 3001).double()
    gradients = []
    for model in (reference, network):
        model(x).square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-5, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("sources", "arguments", "parameters"),
    [
        (["drums", "bass", "other", "vocals"], {}, 83639368),
        (["drums", "bass", "other", "vocals"], {"channels": 64}, 148601240),
        (["music", "sfx", "speech"], {"channels": 64, "audio_channels": 1}, 148592009),
        (["speech"], {"audio_channels": 1}, 83630131),
    ],
)
def test_published_sizes(sources, arguments, parameters):
    with torch.device("meta"):
        network = HDemucs(sources, **arguments)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == 397
    assert network.sources == tuple(sources)


def test_all_parameters_learn():
    network = small().train()
    network(noise(2, 2, 3000)).square().sum().backward()
    for name, parameter in network.named_parameters():
        if name.startswith("time_encoder.2.norm1"):
            # published checkpoints hold it, but nothing uses it: processes that train together
            # would wait for its gradient
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name
            # adding the same to all scores of a query changes nothing
            assert name.endswith(".key.bias") or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 100, 129, 1000])
def test_any_length(depth, length):
    for channels in (1, 2):
        network = small(audio_channels=channels, depth=depth).train()
        x = noise(1, channels, length).requires_grad_()
        y = network(x)
        assert y.shape == (1, 4, channels, length)
        y.square().sum().backward()
        assert y.isfinite().all()
        assert x.grad.isfinite().all()
        assert length == channels == 1 or y.any()


def test_a_layer_of_one_value_per_group():
    network = small(channels=4, dconv_attn=9, dconv_lstm=9).train()
    assert network(noise(1, 2, 1)).isfinite().all()


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_constant_input_is_finite(level):
    x = torch.full((2, 2, 700), level, requires_grad=True)
    y = small()(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    if not level:
        assert not y.any()


def test_items_do_not_see_each_other():
    network, x = small(), noise(3, 2, 2000)
    x[1] *= 100
    alone = torch.cat([network(item[None]) for item in x])
    torch.testing.assert_close(network(x), alone, rtol=1e-4, atol=1e-5)


def test_output_follows_level():
    network, x = small(), noise(1, 2, 2000)
    torch.testing.assert_close(network(50 * x), 50 * network(x), rtol=1e-3, atol=1e-2)


def test_recomputing_gives_the_same_gradients():
    x = noise(1, 2, 2000)
    gradients = []
    for checkpoint_gradients in (False, True):
        network = small(checkpoint_gradients=checkpoint_gradients).train()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, seen=saved: seen.append(t.numel()) or t, lambda t: t
        ):
            loss = network(x).square().mean()
        loss.backward()
        gradients.append([p.grad for p in network.parameters() if p.requires_grad])
        gradients[-1].append(sum(saved))
    assert gradients[1].pop() < gradients[0].pop() / 3
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype):
    network = disturb(small())
    # a quiet recording with an offset: the normalisation in 16 bits would lose it
    x = 1e-4 * noise(2, 2, 4000) + 1
    with torch.no_grad():
        expected = network(x)
        with torch.autocast("cpu", dtype=dtype):
            y = network(x)
    assert y.dtype == torch.float32
    assert (y - expected).norm() / (expected - expected.mean()).norm() < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_gradients(dtype):
    network = small().train()
    with torch.autocast("cpu", dtype=dtype):
        loss = network(noise(1, 2, 2000)).square().mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_loud_in_half_precision():
    # the spectrum does not fit in 16 bits
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        y = small()(1e4 * noise(1, 2, 2000))
    assert y.isfinite().all()
    assert y.any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"audio_channels": 0},
        {"channels": 0},
        {"depth": 0},
        {"nfft": 0},
        {"nfft": 100},
        {"kernel_size": 10},
        {"kernel_size": 7},
        {"stride": 3},
        {"time_stride": 3},
        {"context": -1},
        {"context_enc": -1},
        {"norm_groups": 3},
        {"norm_starts": 0, "norm_groups": 16},
        {"dconv_comp": 3},
        {"dconv_comp": 100, "dconv_attn": 9},
    ],
    ids=str,
)
def test_arguments(arguments):
    with pytest.raises(ConfigError, match=list(arguments)[-1 if "norm_starts" in arguments else 0]):
        small(**arguments)


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_sources(names):
    with pytest.raises(ConfigError, match="sources"):
        HDemucs(names, **SMALL)


def test_wrong_input():
    for shape in ((1, 1, 700), (2, 700), (1, 2, 0)):
        with pytest.raises(ValueError, match="samples"):
            small()(noise(*shape))
