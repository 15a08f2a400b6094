"""Compositions of networks against their formulas written out."""

import pytest
import torch

from aimless import checkpoint
from aimless.ensemble import Blend, MidSide, Normalised, WienerRefine
from aimless.errors import ConfigError
from aimless.models import BandSplitRNN, HDemucs
from aimless.network import AudioNetwork, MaskNetwork, WaveformNetwork
from aimless.sources import SDX_SOURCES
from aimless.wiener import MWF

RATE = 44100


class Scaled(AudioNetwork):
    """Gives the mixture times a factor for each source, and drops the last samples."""

    def __init__(self, factors, channels=None, sample_rate=RATE, drop=0, power=1):
        super().__init__()
        self.targets = tuple(factors)
        self.factors = torch.tensor(list(factors.values()))
        self.channels = channels
        self.sample_rate = sample_rate
        self.drop = drop
        self.power = power

    def forward(self, mixture):
        samples = mixture.shape[-1] - self.drop
        mixture = mixture[..., :samples] ** self.power
        return mixture[:, None] * self.factors[:, None, None]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("direct", [0.0, 0.3, 0.5, 1.0])
def test_mid_side_is_the_mean_of_both_ways(direct):
    x = noise(3, 2, 100)
    left, right = x[:, 0], x[:, 1]
    # the square is not linear, so that the two ways differ
    got = MidSide(Scaled({"a": 2.0, "b": -1.0}, channels=1, power=2), direct)(x)
    mid, side = ((left + right) / 2) ** 2, ((left - right) / 2) ** 2
    for s, factor in enumerate((2.0, -1.0)):
        expected_left = factor * (direct * left**2 + (1 - direct) * (mid + side))
        expected_right = factor * (direct * right**2 + (1 - direct) * (mid - side))
        torch.testing.assert_close(got[:, s, 0], expected_left)
        torch.testing.assert_close(got[:, s, 1], expected_right)


def test_mid_side_of_a_linear_network_changes_nothing():
    x = noise(2, 2, 50)
    got = MidSide(Scaled({"a": 0.25}, channels=1))(x)
    torch.testing.assert_close(got[:, 0], 0.25 * x)


def test_mid_side_wants_a_mono_network():
    with pytest.raises(ConfigError, match="mono network, got 2 channels"):
        MidSide(Scaled({"a": 1.0}, channels=2))
    with pytest.raises(ConfigError, match=r"direct: 1\.5"):
        MidSide(Scaled({"a": 1.0}), direct=1.5)


def test_blend_weighs_members_and_sources():
    x = noise(2, 2, 60)
    first = Scaled({"music": 1.0, "speech": 3.0})
    second = Scaled({"speech": 5.0, "music": 2.0}, drop=7)
    third = Scaled({"sfx": 9.0})
    blend = Blend([first, second, third], {"music": [1, 3, 0]})
    assert blend.sources == ("music", "speech", "sfx")
    music, speech, sfx = blend(x).unbind(1)
    x = x[..., :53]  # as long as the shortest
    torch.testing.assert_close(music, (1 * 1 + 3 * 2) / 4 * x)
    torch.testing.assert_close(speech, (3 + 5) / 2 * x)
    torch.testing.assert_close(sfx, 9 * x)


def test_blend_of_one_weight_per_member():
    x = noise(1, 1, 30)
    blend = Blend([Scaled({"a": 1.0}), Scaled({"a": 2.0, "b": 4.0})], [1, 3])
    a, b = blend(x).unbind(1)
    torch.testing.assert_close(a, 1.75 * x)
    torch.testing.assert_close(b, 4 * x)


@pytest.mark.parametrize(
    ("members", "weights", "text"),
    [
        ([], None, "none given"),
        ([{"sample_rate": 44100}, {"sample_rate": 48000}], None, "several sample rates"),
        ([{"channels": 1}, {"channels": 2}], None, "channels"),
        ([{}, {}], [1], "needs 2 numbers"),
        ([{}, {}], [1, -1], "needs 2 numbers"),
        ([{}, {}], [0, 0], "all are 0 for a"),
        ([{}, {}], {"c": [1, 1]}, "c; known: a"),
    ],
)
def test_blend_refuses_what_does_not_fit(members, weights, text):
    with pytest.raises(ConfigError, match=text):
        Blend([Scaled({"a": 1.0}, **settings) for settings in members], weights)


def test_blend_refuses_to_weigh_a_source_that_is_not_there():
    with pytest.raises(ConfigError, match=r"weights\.b: \[1, 1\] weighs a member without it"):
        Blend([Scaled({"a": 1.0}), Scaled({"a": 1.0, "b": 1.0})], {"b": [1, 1]})


def test_refine_puts_the_filter_after_any_network():
    x = noise(1, 2, 4000)
    network = Scaled({"a": 0.25, "b": 0.75}, drop=100)
    refined = WienerRefine(network, n_fft=256, hop_length=64)
    got = refined(x)
    x = x[..., :3900]
    spectrogram = refined.spec(x)
    masks = torch.tensor([0.25, 0.75])[None, :, None, None, None].expand(
        1, 2, *spectrogram.shape[1:]
    )
    expected = refined.spec.inverse(MWF()(masks, spectrogram), 3900)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_refine_takes_the_masks_of_a_network_on_spectrograms():
    torch.manual_seed(0)
    network = MaskNetwork(
        BandSplitRNN(n_fft=512, split_freqs=[1000, 8000], hidden_size=8, num_layers=1),
        ["music"],
        n_fft=512,
        hop_length=128,
        n_iter=0,
    ).eval()
    x = noise(1, 2, 5000)
    with torch.no_grad():
        got = WienerRefine(network, residual_model=True)(x)
        spectrogram = network.spec(x)
        masks = network.model(spectrogram.abs())[:, None]
        filtered = MWF(residual_model=True)(masks, spectrogram)
        expected = network.spec.inverse(filtered[:, :1], 5000)
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, network(x), atol=1e-4)


def test_normalised_hides_level_and_offset():
    class Bias(Scaled):
        def forward(self, mixture):
            return super().forward(mixture) + 0.1  # would show if the level were not normalised

    x = noise(2, 2, 1000)
    network = Normalised(Bias({"a": 1.0}))
    torch.testing.assert_close(network(1e-3 * x), 1e-3 * network(x), rtol=1e-4, atol=1e-6)
    mono = x.mean(1)
    expected = x + 0.1 * mono.std(-1, correction=0)[:, None, None]
    torch.testing.assert_close(network(x)[:, 0], expected)
    silent = torch.zeros(1, 2, 10)
    assert torch.equal(Normalised(Scaled({"a": 1.0}))(silent)[:, 0], silent)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A small mono Hybrid Demucs and a small BandSplitRNN, as files, for the CDX recipe."""
    folder = tmp_path_factory.mktemp("recipe")
    torch.manual_seed(1)
    arguments = {"sources": list(SDX_SOURCES), "audio_channels": 1, "channels": 4}
    demucs = WaveformNetwork(
        HDemucs(**arguments),
        SDX_SOURCES,
        class_path="aimless.models.HDemucs",
        init_args=arguments,
    )
    arguments = {"n_fft": 2048, "hidden_size": 8, "num_layers": 1}
    splitter = MaskNetwork(
        BandSplitRNN(**arguments),
        ["music"],
        n_fft=2048,
        hop_length=512,
        class_path="aimless.models.BandSplitRNN",
        init_args=arguments,
    )
    paths = {"hdemucs": folder / "hdemucs.safetensors", "bandsplit_rnn": folder / "b.safetensors"}
    checkpoint.export(demucs, paths["hdemucs"])
    checkpoint.export(splitter, paths["bandsplit_rnn"])
    return paths


@torch.no_grad()
def test_the_cdx_recipe_is_the_winning_formula(checkpoints):
    network = checkpoint.load("cfg/separate/cdx_a.yaml", checkpoints=checkpoints)
    assert network.sources == SDX_SOURCES
    assert (network.channels, network.sample_rate) == (2, RATE)
    x = noise(1, 2, 20000)
    got = network(x)

    demucs, splitter = (checkpoint.load(path) for path in checkpoints.values())
    left, right = x[:, :1], x[:, 1:]
    by_view = [demucs(view) for view in (left, right, (left + right) / 2, (left - right) / 2)]
    from_left, from_right, from_mid, from_side = (estimate[:, :, 0] for estimate in by_view)
    stereo = torch.stack(
        [
            (from_left + from_mid + from_side) / 2,
            (from_right + from_mid - from_side) / 2,
        ],
        dim=2,
    )
    spectrogram = splitter.spec(x)
    masks = splitter.model(spectrogram.abs())[:, None]
    filtered = MWF(residual_model=True, n_iter=1)(masks, spectrogram)
    music = splitter.spec.inverse(filtered[:, :1], 20000)
    expected = stereo.clone()
    expected[:, 0] = (stereo[:, 0] + music[:, 0]) / 2
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_the_mdx_recipe_is_its_network(checkpoints):
    path = {"hdemucs": checkpoints["hdemucs"]}
    network = checkpoint.load("cfg/separate/mdx_a.yaml", checkpoints=path)
    x = noise(1, 1, 9000)
    with torch.no_grad():
        assert torch.equal(network(x), checkpoint.load(path["hdemucs"])(x))
