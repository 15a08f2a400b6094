"""Segments and back: where a network gives its input back, so does the engine."""

from __future__ import annotations

import itertools

import pytest
import torch

from aimless.errors import ConfigError, NumericalError
from aimless.models import HDemucs
from aimless.overlap_add import OverlapAdd

RATE = 100
LENGTHS = [1, 2, 7, 99, 100, 101, 150, 199, 200, 201, 777, 1000]


def identity(mixture):
    return mixture[:, None]


def shortening(swallowed):
    """A network of strided convolutions: its output is shorter, and starts with its input."""

    def network(mixture):
        samples = (mixture.shape[-1] - swallowed) // 4 * 4
        return mixture[:, None, :, :samples]

    return network


def song(samples, channels=2):
    drawn = torch.Generator().manual_seed(samples)
    return 2 * torch.rand(channels, samples, generator=drawn) - 1


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"fixed": True},
        {"shifts": 3},
        {"tta": ("polarity", "swap")},
        {"shifts": 2, "tta": ("polarity",), "fixed": True},
    ],
    ids=str,
)
def test_an_identity_network_gives_the_input_back(overlap, batch_size, more):
    for context in {0, overlap / 4, overlap / 2}:
        settings = OverlapAdd(1.0, overlap, batch_size, context, **more)
        for samples in LENGTHS:
            estimate = settings(identity, song(samples), RATE)
            assert estimate.shape == (1, 2, samples)
            assert (estimate[0] - song(samples)).abs().max() < 1e-6


@pytest.mark.parametrize("swallowed", [0, 1, 30, 90])
@pytest.mark.parametrize("samples", [1, 50, 100, 101, 333])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_network_that_shortens_gives_every_sample(swallowed, samples, batch_size):
    for fixed, shifts in [(False, 1), (True, 1), (False, 2)]:
        settings = OverlapAdd(1.0, 0.25, batch_size, fixed=fixed, shifts=shifts)
        estimate = settings(shortening(swallowed), song(samples), RATE)
        assert (estimate[0] - song(samples)).abs().max() < 1e-6


def test_what_a_network_swallows_is_real_audio_where_there_is_any():
    """Only segments that reach beyond the song hear silence."""
    heard = []

    def network(mixture):
        heard.append(mixture)
        return mixture[:, None, :, :-30]

    OverlapAdd(1.0, 0.25)(network, torch.ones(1, 777), RATE)
    assert [segment.shape[-1] for segment in heard] == [100] + 11 * [130]  # the first is a try
    assert all(segment.min() == 1 for segment in heard[:-2])
    assert heard[-1].min() == 0


def test_a_network_that_never_fills_a_segment_is_an_error():
    with pytest.raises(ConfigError, match="never reaches"):
        OverlapAdd(1.0)(lambda mixture: mixture[:, None, :, :10], torch.randn(2, 300), RATE)


@pytest.mark.parametrize("cut", [1, 13, 100, 500])
def test_blocks_of_any_length_give_the_same_as_the_whole(cut):
    settings = OverlapAdd(1.0, 0.3, 2, context=0.05)

    def network(mixture):
        return torch.stack([mixture.cumsum(-1), mixture.flip(-1)], 1)

    whole = settings(network, song(777), RATE)
    blocks = list(settings.stream(network, song(777).split(cut, -1), RATE))
    assert torch.equal(torch.cat(blocks, -1), whole)


def test_the_song_is_read_no_further_than_needed():
    read = []

    def blocks():
        for index in itertools.count():
            read.append(index)
            yield torch.ones(1, 10)

    stream = OverlapAdd(1.0, 0.25).stream(identity, blocks(), RATE)
    done = 0
    for _ in range(20):
        done += next(stream).shape[-1]
        assert 10 * len(read) <= done + 2 * 100


@pytest.mark.parametrize(
    ("overlap", "samples", "lengths"),
    [
        (0.25, 1000, [300] * 4 + [100]),  # 225 samples from one to the next, 100 are left
        (0.25, 1010, [300] * 4 + [110]),
        (0.0, 610, [300, 300, 100]),  # 10 are left, a second is heard
        (0.0, 600, [300, 300]),
        (0.25, 80, [100]),  # padded
    ],
)
def test_the_last_segment_is_short_and_at_least_a_second(overlap, samples, lengths):
    heard = []

    def network(mixture):
        heard.append(mixture)
        return mixture[:, None]

    OverlapAdd(3.0, overlap)(network, torch.ones(1, samples), RATE)
    assert [segment.shape[-1] for segment in heard] == lengths
    assert samples < RATE or all(segment.min() == 1 for segment in heard)


def test_fixed_lengths_are_fixed():
    lengths = set()

    def network(mixture):
        lengths.add(mixture.shape[-1])
        return mixture[:, None]

    for samples in LENGTHS:
        OverlapAdd(1.0, 0.25, fixed=True)(network, torch.ones(1, samples), RATE)
    assert lengths == {100}


def test_seams_are_faded():
    """Segments that disagree meet in a ramp, not in a step."""
    level = iter(range(100))

    def network(mixture):
        return torch.full_like(mixture[:, None], next(level) % 2)

    estimate = OverlapAdd(1.0, 0.5)(network, torch.ones(1, 1000), RATE)[0, 0]
    assert estimate.diff().abs().max() <= 1 / 50


def test_context_is_heard_and_discarded():
    """A network whose output is wrong near its edges does no harm."""

    def network(mixture):
        spoilt = mixture.clone()
        spoilt[..., :10] = 99
        spoilt[..., -10:] = 99
        return spoilt[:, None]

    settings = OverlapAdd(1.0, 0.3, context=0.1)
    estimate = settings(network, song(777), RATE)[0]
    assert (estimate - song(777))[:, 10:-10].abs().max() < 1e-6


def test_shifts_are_a_mean_over_passes_that_a_seed_decides():
    def network(mixture):  # depends on where segments begin
        return mixture[:, None] * torch.linspace(0, 1, mixture.shape[-1])

    def run(**settings):
        return OverlapAdd(1.0, 0.25, **settings)(network, song(777), RATE)

    assert torch.equal(run(shifts=3), run(shifts=3))
    assert not torch.equal(run(shifts=3), run(shifts=3, seed=1))
    assert not torch.equal(run(shifts=3), run())
    assert torch.equal(run(), run(seed=1))


def test_tta_is_the_mean_over_variants_brought_back():
    def network(mixture):  # neither odd nor symmetric in the channels
        return (mixture.abs() + torch.tensor([[1.0], [3.0]]))[:, None]

    x = song(80)
    plain = network(x[None])[0]
    polarity = -network(-x[None])[0]
    swap = network(x.flip(0)[None])[0].flip(1)

    def run(*tta):
        return OverlapAdd(1.0, tta=tta, fixed=False)(network, x, 80)

    assert torch.allclose(run("polarity"), (plain + polarity) / 2)
    assert torch.allclose(run("swap"), (plain + swap) / 2)
    assert torch.allclose(run("polarity", "swap"), (plain + polarity + swap) / 3)


def test_the_swap_is_left_out_where_there_are_not_two_channels():
    calls = []

    def network(mixture):
        calls.append(1)
        return mixture[:, None]

    OverlapAdd(1.0, tta=("swap",))(network, song(80, channels=1), RATE)
    assert len(calls) == 1


def test_batches_change_nothing():
    torch.manual_seed(0)
    model = HDemucs(["drums", "vocals"], channels=4, nfft=512, depth=5).eval()
    x = song(70_000)
    one, three = (OverlapAdd(1.0, 0.25, size)(model, x, 16_000) for size in (1, 3))
    assert (one - three).abs().max() < 1e-6 * one.abs().max().clamp_min(1)
    assert torch.equal(one, OverlapAdd(1.0, 0.25, 1)(model, x, 16_000))


def test_silence_stays_silence_whatever_the_network_says():
    def network(mixture):
        return (mixture + 1)[:, None]

    x = song(1000)
    x[:, 300:700] = 0
    estimate = OverlapAdd(1.0, 0.25)(network, x, RATE)[0]
    assert estimate[:, 400:600].abs().max() == 0
    assert torch.allclose(estimate[:, :200], x[:, :200] + 1)
    nothing = OverlapAdd(1.0)(lambda m: m[:, None] / 0, torch.zeros(2, 333), RATE)
    assert nothing.abs().max() == 0


def test_numbers_that_are_not_finite_are_never_stems():
    def network(mixture):
        return (mixture / (mixture.abs().amax(-1, keepdim=True) < 2))[:, None]

    x = song(1000)
    x[0, 620] = 5
    with pytest.raises(NumericalError, match=r"after [56]\.\d s"):
        OverlapAdd(1.0)(network, x, RATE)


def test_progress_reaches_the_end():
    seen = []
    OverlapAdd(1.0)(identity, torch.randn(1, 555), RATE, progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (555, 555)


@pytest.mark.parametrize(
    "settings",
    [
        {"segment": 0},
        {"segment": -1},
        {"segment": float("nan")},
        {"overlap": 1},
        {"overlap": -0.1},
        {"batch_size": 0},
        {"context": -1},
        {"context": 1.3},
        {"shifts": 0},
        {"seed": -1},
        {"tta": ("flip",)},
    ],
    ids=str,
)
def test_settings_out_of_range(settings):
    with pytest.raises(ConfigError, match=rf"overlap_add\.{next(iter(settings))}: "):
        OverlapAdd(**settings)
