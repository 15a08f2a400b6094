"""Songs of any rate and channel count through networks of another, block by block."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch

from aimless import Separator
from aimless.engine.channels import groups
from aimless.engine.derived import DerivedStems
from aimless.engine.runner import Runner, pick_device
from aimless.errors import ConfigError
from aimless.overlap_add import OverlapAdd
from aimless.separate import separate, separate_blocks
from aimless.songs.resampling import resampled
from aimless.songs.song import Song
from tests.aimless.engine_parts import network, noise


def tones(rate, channels, seconds=2.0):
    time = torch.arange(round(rate * seconds) + 7) / rate
    return torch.stack([torch.sin(2 * torch.pi * (200 + 100 * c) * time) for c in range(channels)])


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 44099, 44100, 48000, 192_000, 384_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_stems_have_the_songs_rate_length_and_channels(rate, channels):
    song = tones(rate, channels)
    stems = separate(lambda mixture: torch.stack([mixture, 0 * mixture], 1), song, rate, channels=2)
    assert stems.shape == (2, *song.shape)
    middle = slice(rate // 2, -rate // 2)
    tolerance = 1e-6 if rate == 44100 else 1e-3  # resampled twice
    assert (stems[0] - song)[:, middle].abs().max() < tolerance
    assert stems[1].abs().max() == 0


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 4410])
@pytest.mark.parametrize("rate", [4000, 44_100, 384_000])
def test_very_short_songs_keep_their_length(samples, rate):
    stems = separate(lambda mixture: mixture[:, None], torch.ones(2, samples), rate)
    assert stems.shape == (1, 2, samples)
    assert stems.isfinite().all()


@pytest.mark.parametrize(("song", "net"), [(1, 2), (2, 1), (3, 2), (5, 2), (6, 2), (6, 1), (8, 2)])
def test_every_channel_comes_back_in_its_place(song, net):
    heard = []

    def double(mixture):
        heard.append(mixture)
        return torch.stack([2 * mixture, mixture], 1)

    audio = torch.from_numpy(noise(5000, song))
    stems = separate(double, audio, 8000, sample_rate=8000, channels=net)
    assert torch.allclose(stems[0], 2 * audio, atol=1e-6)
    assert torch.allclose(stems[1], audio, atol=1e-6)
    assert all(segment.shape[1] == net for segment in heard)


def test_a_stereo_network_hears_pairs_of_surround_sound_together():
    assert groups(6, 2) == [(0, 1), (2,), (3,), (4, 5)]
    assert groups(4, 2) == [(0, 1), (2, 3)]
    assert groups(3, 6) == [(0,), (1,), (2,)]
    assert groups(6, 6) == groups(6, None) == [(0, 1, 2, 3, 4, 5)]
    for channels in range(1, 9):
        for net in (1, 2, 3):
            together = groups(channels, net)
            assert sorted(sum(together, ())) == list(range(channels))


@pytest.mark.parametrize("rates", [(44_100, 48_000), (192_000, 8000), (8000, 44_099)])
@pytest.mark.parametrize("cut", [1000, 7777])
def test_resampling_in_blocks_is_resampling_the_whole(rates, cut):
    audio = noise(30_011, 4)
    whole = soxr.resample(audio.T, *rates).T
    blocks = torch.from_numpy(audio).view(2, 2, -1).split(cut, -1)
    joined = torch.cat(list(resampled(blocks, *rates)), -1)
    np.testing.assert_array_equal(joined.flatten(0, 1).numpy(), whole)


def test_equal_rates_are_not_resampled():
    block = torch.from_numpy(noise(100))
    assert next(resampled([block], 44_100, 44_100)) is block


def test_mixture_and_stems_come_in_step():
    song = Song.from_array(noise(50_000), 11_025)
    settings = OverlapAdd(1.0, 0.25)
    pairs = list(
        separate_blocks(network(), song, sample_rate=8000, channels=2, overlap_add=settings)
    )
    assert all(mixture.shape[-1] == stems.shape[-1] for mixture, stems in pairs)
    np.testing.assert_array_equal(torch.cat([m for m, _ in pairs], -1), noise(50_000))


def test_progress_in_seconds_reaches_the_end():
    seen = []
    song = Song.from_array(noise(50_001), 11_025)
    for _ in separate_blocks(
        network(), song, sample_rate=8000, progress=lambda *at: seen.append(at)
    ):
        pass
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx((50_001 / 11_025,) * 2)


SOURCES = ("drums", "vocals")


def stems_of(mixture, **settings):
    estimates = torch.stack([0.5 * mixture, 0.1 * mixture])
    derived = DerivedStems(**settings)
    result = derived(mixture, estimates, SOURCES)
    names = derived.names(SOURCES)
    assert len(names) == len(result)
    return dict(zip(names, result))


def test_derived_stems():
    mixture = torch.from_numpy(noise(1000))
    plain = stems_of(mixture)
    assert list(plain) == ["drums", "vocals"]

    rest = stems_of(mixture, residual=True)
    assert torch.equal(rest["drums"], plain["drums"])
    assert torch.allclose(rest["residual"], 0.4 * mixture, atol=1e-7)

    two = stems_of(mixture, two_stems="vocals")
    assert torch.equal(two["vocals"], plain["vocals"])
    assert torch.allclose(two["no_vocals"], 0.9 * mixture, atol=1e-7)

    consistent = stems_of(mixture, mixture_consistency=True)
    assert torch.allclose(consistent["drums"] + consistent["vocals"], mixture, atol=1e-7)
    assert torch.allclose(consistent["drums"], 0.7 * mixture, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"two_stems": "guitar"}, "two_stems: 'guitar'.*drums, vocals"),
        ({"residual": True, "mixture_consistency": True}, "residual"),
        ({"residual": True, "two_stems": "vocals"}, "no_vocals"),
    ],
)
def test_derived_stems_that_make_no_sense(settings, says):
    with pytest.raises(ConfigError, match=says):
        DerivedStems(**settings).names(SOURCES)


class Small(torch.nn.Module):
    """Has memory for so many samples."""

    def __init__(self, most, error=torch.OutOfMemoryError):
        super().__init__()
        self.most, self.error, self.sizes = most, error, []

    def forward(self, mixture):
        self.sizes.append(len(mixture))
        if len(mixture) > self.most:
            raise self.error("out of memory")
        return mixture[:, None]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_halves_the_batch_and_goes_on(error, caplog):
    small = Small(2, error)
    runner = Runner(small, "cpu", batch_size=9)
    audio = torch.from_numpy(noise(20 * 8000))
    settings = OverlapAdd(1.0, 0.25, batch_size=9)
    stems = separate(runner, audio, 8000, sample_rate=8000, overlap_add=settings)
    assert torch.allclose(stems[0], audio, atol=1e-6)
    assert small.sizes[:4] == [9, 4, 2, 2]
    assert max(small.sizes[3:]) == 2
    assert len(caplog.messages) == 2
    assert "going on with 2" in caplog.messages[-1]


def test_out_of_memory_for_one_segment_is_an_error():
    with pytest.raises(ConfigError, match="out of memory for one segment of 10 samples"):
        Runner(Small(0), "cpu")(torch.zeros(1, 2, 10))


def test_other_errors_of_a_network_are_not_memory():
    class Broken(torch.nn.Module):
        def forward(self, mixture):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Runner(Broken(), "cpu")(torch.zeros(2, 2, 10))


@pytest.mark.parametrize(("precision", "expected"), [("bf16", 2e-2), (16, 2e-3), (32, 1e-6)])
def test_precision_decides_what_autocast_computes_in(precision, expected):
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 64)
    x = torch.randn(4, 2, 64)
    exact = linear.double()(x.double()).float()
    error = (Runner(linear.float(), "cpu", precision)(x) - exact).abs().max()
    assert expected / 50 < error < expected or precision == 32
    assert error < expected


def test_devices_and_precisions_that_are_not_there():
    with pytest.raises(
        ConfigError, match=r"device: 'cuda:99' is not available; choose auto, .*cpu"
    ):
        pick_device("cuda:99")
    with pytest.raises(ConfigError, match="precision: '8'"):
        Runner(torch.nn.Identity(), "cpu", "8")
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cuda", "mps", "cpu")


def test_a_compiled_network_gets_segments_of_one_length(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    net = network()
    lengths = set()
    net.model.register_forward_pre_hook(lambda _, args: lengths.add(args[0].shape[-1]))
    separator = Separator(net, device="cpu", compile=True, segment=1.0)
    for samples in (10, 8000, 20_001):
        np.testing.assert_allclose(
            separator.separate(noise(samples), 8000)["drums"], 0.75 * noise(samples), atol=1e-6
        )
    assert compiled == [net.model]
    assert lengths == {8000}


def test_a_compiler_that_fails_is_one_line():
    class Uncompiled(torch.nn.Module):
        def forward(self, mixture):
            raise torch._dynamo.exc.InternalTorchDynamoError("no working compiler\nlong story")

        def compile(self):
            pass

    with pytest.raises(ConfigError, match=r"compile: .*leave it out: no working compiler$"):
        Runner(Uncompiled(), "cpu", compile=True)(torch.zeros(1, 2, 10))
