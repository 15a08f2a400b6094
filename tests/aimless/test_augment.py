"""Device augmentation: what is drawn, what stays untouched, and the transforms themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aimless import draws
from aimless.augment import CudaBase, RandomPitch, SpeedPerturb
from aimless.errors import ConfigError
from aimless.transforms import Resample


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def speed(**kwargs):
    return SpeedPerturb(**{**{"speeds": [80, 100, 120], "p": 1.0}, **kwargs})


def pitch(**kwargs):
    defaults = {"semitones": [-1, 0, 2], "n_fft": 128, "hop_length": 32, "p": 1.0}
    return RandomPitch(**{**defaults, **kwargs})


class Scale(CudaBase):
    """Multiply by the choice, so that the result says what was drawn; counts its calls."""

    def __init__(self, choices, p):
        super().__init__(choices, p)
        self.calls: list[tuple[float, int]] = []

    def transform(self, x, choice):
        self.calls.append((choice, len(x)))
        return x * choice

    def is_identity(self, choice):
        return choice == 1


BOTH = pytest.mark.parametrize("make", [speed, pitch])


class TestDraws:
    def test_each_stem_is_drawn_on_its_own(self):
        stems = torch.ones(2000, 4, 1, 2)
        drawn = Scale([2.0, 3.0, 3.0], 0.3)(stems, draws.generator("test", 1))[:, :, 0, 0].numpy()
        share = (drawn != 1).mean()
        assert share == pytest.approx(0.3, abs=0.05)
        assert (drawn == 3).sum() / (drawn != 1).sum() == pytest.approx(2 / 3, abs=0.1)
        per_item = (drawn != 1).sum(1)
        expected = [math.comb(4, k) * 0.3**k * 0.7 ** (4 - k) for k in range(5)]
        np.testing.assert_allclose(
            np.bincount(per_item, minlength=5) / len(per_item), expected, atol=0.1
        )

    def test_one_call_for_each_choice(self):
        augment = Scale([2.0, 3.0], 1.0)
        augment(torch.ones(50, 2, 1, 2), draws.generator("test", 1))
        assert sorted(choice for choice, _ in augment.calls) == [2.0, 3.0]
        assert sum(count for _, count in augment.calls) == 100

    def test_what_changes_nothing_is_not_done(self):
        augment = Scale([1.0, 2.0], 1.0)
        augment(torch.ones(50, 2, 1, 2), draws.generator("test", 1))
        ((choice, count),) = augment.calls
        assert choice == 2.0
        assert count < 100

    @BOTH
    def test_same_key_same_result(self, make):
        stems = noise(3, 2, 1, 500)
        augment = make(p=0.5)
        first = augment(stems, draws.generator("augment", 1, 2))
        assert torch.equal(first, make(p=0.5)(stems, draws.generator("augment", 1, 2)))
        assert not torch.equal(first, augment(stems, draws.generator("augment", 1, 3)))

    def test_global_random_state_is_not_used(self):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[2]  # noqa: NPY002
        speed()(noise(3, 2, 1, 500))
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == np.random.get_state()[2]  # noqa: NPY002

    def test_own_stream_goes_on(self):
        stems = torch.ones(20, 4, 1, 2)
        first, second = Scale([2.0], 0.5), Scale([2.0], 0.5)
        a, b = first(stems), first(stems)
        assert not torch.equal(a, b)
        assert torch.equal(a, second(stems))

    def test_draws_do_not_depend_on_p(self):
        stems = torch.ones(20, 4, 1, 2)
        rare = Scale([2.0, 3.0], 0.2)(stems, draws.generator(0))
        often = Scale([2.0, 3.0], 0.7)(stems, draws.generator(0))
        assert torch.equal(rare[rare != 1], often[rare != 1])


class TestOutput:
    @BOTH
    def test_nothing_drawn_returns_the_input(self, make):
        stems, mixture = noise(2, 2, 2, 300), noise(2, 2, 300, seed=1)
        rng = draws.generator(0)
        assert make(p=0.0)(stems, rng) is stems
        same, mix = make(p=0.0).augment(stems, mixture, rng)
        assert same is stems
        assert mix is mixture

    @BOTH
    def test_untouched_stems_keep_their_bits_and_the_input_is_not_written_to(self, make):
        stems = noise(8, 3, 2, 300)
        copy = stems.clone()
        result = make(p=0.4)(stems, draws.generator(0))
        assert torch.equal(stems, copy)
        same = (result == stems).flatten(2).all(-1)
        assert 0 < same.sum() < same.numel()
        key = int(draws.generator(0).integers(2**63))
        drawn = draws.generator("stems", key).random((24, 2))[:, 0] < 0.4
        assert same.flatten()[~torch.from_numpy(drawn)].all()

    def test_mixture_is_summed_again_only_where_a_stem_changed(self):
        stems = noise(8, 2, 2, 300)
        mixture = 0.5 * stems.sum(1)  # as after a limiter
        copy = mixture.clone()
        new, mix = speed(p=0.3).augment(stems, mixture, draws.generator(0))
        changed = (new != stems).flatten(1).any(1)
        assert 0 < changed.sum() < 8
        assert torch.equal(mixture, copy)
        assert torch.equal(mix[~changed], mixture[~changed])
        torch.testing.assert_close(mix[changed], new.sum(1)[changed])

    @BOTH
    @pytest.mark.parametrize("length", [0, 1, 2, 31, 64, 65, 700])
    @pytest.mark.parametrize("batch", [(1, 1, 1), (2, 5, 3)])
    def test_shape_and_silence(self, make, length, batch):
        stems = noise(*batch, length)
        result = make()(stems, draws.generator(0))
        assert result.shape == stems.shape
        assert result.isfinite().all()
        assert not make()(torch.zeros_like(stems), draws.generator(0)).any()

    @BOTH
    def test_transform_treats_each_waveform_alone(self, make):
        x = noise(3, 2, 600)
        augment = make()
        together = augment.transform(x, augment.choices[0])
        alone = augment.transform(x[1:2], augment.choices[0])
        torch.testing.assert_close(together[1:2], alone)

    @BOTH
    def test_not_contiguous_input(self, make):
        stems = noise(2, 2, 600, 2).transpose(2, 3)
        expected = make()(stems.contiguous(), draws.generator(0))
        assert torch.equal(make()(stems, draws.generator(0)), expected)

    @BOTH
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, make, dtype):
        stems = noise(2, 2, 2, 600).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = make()(stems, draws.generator(0))
        assert result.dtype == dtype
        expected = make()(stems.float(), draws.generator(0))
        assert torch.equal(result, expected.to(dtype))

    @BOTH
    def test_adds_nothing_to_the_state_dict(self, make):
        assert not make().state_dict()


class TestSpeed:
    def test_is_resampling(self):
        x = noise(2, 2, 1000)
        augment = SpeedPerturb(44100, [90, 100, 110])
        for choice in (90, 110):
            expected = Resample(44100, 44100 * choice // 100)(x)
            assert torch.equal(augment.transform(x, choice), expected)

    def test_ends_in_silence_or_is_cut(self):
        stems = noise(1, 1, 1, 1000)
        shorter = speed(speeds=[80])(stems, draws.generator(0))
        assert shorter[..., 799].any()
        assert not shorter[..., 800:].any()
        longer = speed(speeds=[120])
        full = longer.transform(stems[:, 0], 120)
        assert torch.equal(longer(stems, draws.generator(0))[0, 0], full[0, :, :1000])

    def test_90_plays_faster(self):
        time = torch.arange(44100) / 44100
        tone = torch.sin(2 * torch.pi * 900 * time)[None, None]
        y = SpeedPerturb(44100, [90]).transform(tone, 90)
        assert y.shape[-1] == 39690
        expected = torch.sin(2 * torch.pi * 1000 * time[:39690])
        torch.testing.assert_close(y[0, 0, 50:-50], expected[50:-50], rtol=0, atol=2e-3)

    @pytest.mark.parametrize("rate", [8000, 11025, 22050, 48000])
    def test_any_rate(self, rate):
        y = SpeedPerturb(rate, [95]).transform(noise(1, 1, 1000), 95)
        assert y.shape[-1] == 950

    @pytest.mark.parametrize(
        "arguments",
        [
            {"speeds": []},
            {"speeds": [0]},
            {"speeds": [-90]},
            {"speeds": [90.5]},
            {"p": 1.1},
            {"p": -0.1},
            {"p": math.nan},
            {"orig_freq": 0},
        ],
    )
    def test_arguments(self, arguments):
        with pytest.raises(ConfigError):
            SpeedPerturb(**arguments)
