"""RelTDemucs, and its relative attention against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from aimless.errors import ConfigError
from aimless.models import DemucsSplit, RelTDemucs
from aimless.models.relative_transformer import RelativeAttention, RelativeTransformer


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def small(**kwargs):
    torch.manual_seed(0)
    defaults = {"channels": 4, "depth": 3, "attention_layers": 2, "nhead": 2}
    return RelTDemucs(**{**defaults, **kwargs}).eval()


def attention(width=12, heads=3, **kwargs):
    torch.manual_seed(0)
    module = RelativeAttention(width, heads, **kwargs).double().eval()
    with torch.no_grad():
        module.u.copy_(noise(*module.u.shape, seed=1))
        module.v.copy_(noise(*module.v.shape, seed=2))
    return module


def plain_attention(module, x):
    """The definition, one query, key and head at a time; x is (frames, width)."""
    frames, width = x.shape
    size = width // module.heads
    rows = module.in_proj_weight.view(module.heads, 3, size, width)
    output = torch.zeros_like(x)
    for head in range(module.heads):
        query, key, value = (x @ rows[head, part].T for part in range(3))
        for i in range(frames):
            scores = torch.full((frames,), -math.inf, dtype=x.dtype)
            for j in range(frames):
                if module.context_size is not None and abs(i - j) >= module.context_size:
                    continue
                table = torch.zeros(width, dtype=x.dtype)
                for m in range(width // 2):
                    angle = (j - i) * 10000 ** (-2 * m / width)
                    table[2 * m], table[2 * m + 1] = math.cos(angle), math.sin(angle)
                position = (module.pos_emb_proj.weight @ table)[head * size : (head + 1) * size]
                content = (query[i] + module.u[head]) @ key[j]
                scores[j] = (content + (query[i] + module.v[head]) @ position) / size**0.5
            output[i, head * size : (head + 1) * size] = scores.softmax(0) @ value
    return output @ module.out_proj.weight.T


@pytest.mark.parametrize("frames", [1, 2, 9])
@pytest.mark.parametrize("context_size", [None, 1, 3, 100])
def test_attention_is_its_definition(frames, context_size):
    module = attention(context_size=context_size)
    x = noise(2, frames, 12).double()
    with torch.no_grad():
        expected = torch.stack([plain_attention(module, item) for item in x])
        # the frequencies are kept in float32
        torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-6)


def test_context_limits_what_a_frame_sees():
    x = noise(1, 12, 12).double().requires_grad_()
    (gradient,) = torch.autograd.grad(attention(context_size=3)(x)[0, 5].sum(), x)
    assert gradient[0].any(dim=1).tolist() == [abs(j - 5) < 3 for j in range(12)]


def test_attention_without_positions_is_torchs():
    module = attention()
    with torch.no_grad():
        module.u.zero_()
        module.v.zero_()
        module.pos_emb_proj.weight.zero_()
    # torch wants all queries' rows first, then all keys'
    rows = module.in_proj_weight.view(3, 3, 4, 12).transpose(0, 1).reshape(36, 12)
    reference = nn.MultiheadAttention(12, 3, bias=False, batch_first=True).double()
    reference.load_state_dict({"in_proj_weight": rows, "out_proj.weight": module.out_proj.weight})
    x = noise(2, 7, 12).double()
    torch.testing.assert_close(module(x), reference(x, x, x)[0])


@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_are_torchs_where_attention_is(norm_first):
    transformer = RelativeTransformer(12, 3, 2, dropout=0.3, norm_first=norm_first).eval()
    x = noise(2, 7, 12)
    expected = x
    for layer in transformer.layers:
        reference = nn.TransformerEncoderLayer(
            12, 3, 48, batch_first=True, norm_first=norm_first
        ).eval()
        state = {k: v for k, v in layer.state_dict().items() if not k.startswith("self_attn")}
        reference.load_state_dict({**reference.state_dict(), **state})
        # the layer's arithmetic around another attention
        reference._sa_block = lambda y, *_, attend=layer.self_attn, **__: attend(y)
        with torch.enable_grad():  # torch's fast path would go around the attention
            expected = reference(expected)
    torch.testing.assert_close(transformer(x), expected)


def test_dropout_is_for_training_only():
    transformer = RelativeTransformer(12, 3, 1, dropout=0.5)
    x = noise(1, 7, 12)
    assert not torch.equal(transformer.train()(x), transformer(x))
    assert torch.equal(transformer.eval()(x), transformer(x))


def test_published_size():
    with torch.device("meta"):
        network = RelTDemucs(nhead=8)
    assert sum(p.numel() for p in network.parameters()) == 525830920
    assert len(network.state_dict()) == 156


@pytest.mark.parametrize("sources", [1, 2, 6])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("resample", [True, False])
def test_shapes(sources, channels, resample):
    network = small(num_sources=sources, in_channels=channels, resample=resample)
    y = network(noise(2, channels, 1000))
    assert network.audio_channels == channels
    assert y.shape[:3] == (2, sources, channels)
    assert 1000 - 2 * 4**3 < y.shape[3] <= 1000


def test_lengths_are_those_of_demucs_split():
    network, other = small(), DemucsSplit(4, 3)
    for length in (1, 2, 84, 85, 86, 148, 149, 300):
        assert network.valid_length(length) == other.valid_length(length)
        assert network(noise(1, 2, length)).shape[-1] == other(noise(1, 2, length)).shape[-1]
    for length in range(1, network.valid_length(1) + 1):
        assert network(noise(1, 2, length)).shape[-1] == length


def test_the_encoders_parameters_are_those_of_demucs_split():
    ours, others = (
        {k: v.shape for k, v in network.state_dict().items() if k.startswith(("enc", "up", "down"))}
        for network in (small(), DemucsSplit(4, 3))
    )
    assert ours == others


def test_all_parameters_learn():
    network = small(norm_first=True).train()
    network(noise(2, 2, 700)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_items_do_not_see_each_other():
    network, x = small(), noise(3, 2, 700)
    alone = torch.cat([network(item[None]) for item in x])
    torch.testing.assert_close(network(x), alone, rtol=1e-4, atol=1e-5)


def test_output_follows_level_and_offset():
    network, x = small(), noise(2, 2, 700)
    torch.testing.assert_close(network(50 * x + 3), 50 * network(x) + 3, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("level", [0.0, 0.5])
@pytest.mark.parametrize("length", [1, 500])
def test_constant_input_is_finite(length, level):
    x = torch.full((2, 2, length), level, requires_grad=True)
    y = small()(x)
    y.sum().backward()
    assert x.grad.isfinite().all()
    # what is left is the mean, up to the 1e-5 that keeps the scale from being 0
    assert (y - level).abs().max() < 1e-3


@pytest.mark.parametrize("make", [small, lambda **kw: DemucsSplit(4, 3, **kw)])
def test_recomputing_gives_the_same_gradients(make):
    x = noise(1, 2, 700)
    gradients = []
    for checkpoint_gradients in (False, True):
        torch.manual_seed(0)
        network = make(checkpoint_gradients=checkpoint_gradients).train()
        torch.manual_seed(1)  # the same dropout
        network(x).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [small, lambda: DemucsSplit(4, 3)])
def test_mixed_precision(make, dtype):
    network = make().train()
    for module in network.modules():
        if isinstance(module, RelativeAttention | nn.Dropout):
            module.eval()
    # a quiet recording with an offset: the normalisation in 16 bits would lose it
    x = 1e-4 * noise(2, 2, 700) + 1
    expected = network(x).detach()
    with torch.autocast("cpu", dtype=dtype):
        y = network(x)
    assert y.dtype == torch.float32
    assert (y - expected).norm() / (expected - 1).norm() < 0.05
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_attention_is_exact_under_mixed_precision():
    # scores of thousands, which bfloat16 would round to multiples of 16
    module = attention().float()
    with torch.no_grad():
        module.u.mul_(1000)
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, value, attn_mask, **kwargs):
        seen.extend([query.dtype, key.dtype, value.dtype, attn_mask.dtype])
        return original(query, key, value, attn_mask, **kwargs)

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", dtype=torch.bfloat16):
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
        module(noise(1, 7, 12))
    assert seen == [torch.float32] * 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 0},
        {"num_sources": 0},
        {"channels": 0},
        {"depth": 0},
        {"depth": 11},
        {"context_size": 0},
        {"rescale": 0},
        {"kernel_size": 0},
        {"stride": 0},
        {"attention_layers": 0},
        {"nhead": 0},
        {"nhead": 3},
        {"dropout": 1.0},
    ],
    ids=str,
)
def test_arguments(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        small(**arguments)


def test_wrong_input():
    for shape in ((1, 1, 700), (2, 700), (1, 2, 0)):
        with pytest.raises(ValueError, match="samples"):
            small()(noise(*shape))
