"""What every effect on the training device promises, and effects in a row."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import soundfile
import torch

import aimless.augment
from aimless.augment import CudaBase, DeviceEffect, augment_in_turn
from aimless.augment.lazy import LazyStems
from aimless.draws import generator
from aimless.errors import ConfigError

RATE = 44100
FILTERS = ("ParametricEQ", "Delay", "Reverb", "RandomConvolutions")
GAINS = ("Gain", "FlipPhase", "SwapLR", "Pan", "StereoWidener", "VolumeAutomation")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.2 * torch.from_numpy(generator("noise", seed).standard_normal(shape)).float()


def names() -> list[str]:
    exported = [getattr(aimless.augment, name) for name in aimless.augment.__all__]
    effects = [e for e in exported if isinstance(e, type) and issubclass(e, DeviceEffect)]
    return [e.__name__ for e in effects if e not in (DeviceEffect, CudaBase)]


@pytest.fixture(scope="module")
def responses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("responses")
    for number in range(3):
        decay = np.exp(-np.arange(3000) / 400)[:, None]
        response = generator("response", number).standard_normal((3000, 2)) * decay * 0.1
        soundfile.write(folder / f"{number}.wav", response.astype(np.float32), RATE, "FLOAT")
    return folder


@pytest.fixture
def make(request, responses):
    """Make an effect by name and probability."""

    def build(name: str, p: float = 1.0) -> DeviceEffect:
        cls = getattr(aimless.augment, name)
        if name == "RandomConvolutions":
            return cls(RATE, str(responses), p=p)
        if name == "Reverb":
            return cls(p=p, max_room_size=0.3)  # large rooms take long responses
        return cls(p=p)

    return build


EACH = pytest.mark.parametrize("name", names())


@EACH
def test_any_input_gives_finite_numbers_of_the_same_shape_and_is_left_alone(name, make):
    effect = make(name, 0.7)
    rng = generator("any", name)
    shapes = ((1, 1), (2, 2), (3, 3), (441, 2), (5000, 2), (20000, 3))
    for samples, channels in shapes:
        for amplitude in (0, 1e-9, 10) if samples < 4000 else (0.0, 0.3):
            stems = amplitude * noise(2, 2, channels, samples)
            copy = stems.clone()
            result = effect(stems, rng)
            assert torch.equal(stems, copy)
            assert result.shape == stems.shape
            assert result.dtype == torch.float32
            assert result.isfinite().all()
            if not amplitude:
                assert result.abs().max() < 1e-9


@EACH
@pytest.mark.parametrize("shape", [(0, 4, 2, 100), (2, 4, 2, 0)])
def test_nothing_gives_nothing(name, make, shape):
    stems = torch.zeros(shape)
    assert make(name)(stems, generator(0)).shape == shape


@EACH
def test_it_changes_stems_that_are_drawn_and_no_others(name, make):
    stems = 5 * noise(5, 3, 2, 30000)
    mixture = 0.5 * stems.sum(1)  # as after a limiter
    result, mixed = make(name, 0.4).augment(stems, mixture, generator(3))
    changed = (result != stems).flatten(2).any(-1)
    if name not in ("SpeedPerturb", "RandomPitch"):  # which may draw a ratio of 1
        key = int(generator(3).integers(2**63))
        table = generator("stems", key).random((15, 1 + make(name).numbers(30000)))
        assert changed.flatten().tolist() == (table[:, 0] < 0.4).tolist()
    assert 0 < changed.sum() < changed.numel()
    touched = changed.any(1)
    assert torch.equal(mixed[~touched], mixture[~touched])
    torch.testing.assert_close(mixed[touched], result.sum(1)[touched])


@EACH
def test_probability_zero_returns_the_inputs(name, make):
    stems, mixture = noise(2, 2, 2, 1000), noise(2, 2, 1000)
    same, mixed = make(name, 0.0).augment(stems, mixture, generator(0))
    assert same is stems
    assert mixed is mixture
    assert make(name, 0.0)(stems, generator(0)) is stems


@EACH
def test_an_item_draws_the_same_whatever_the_batch(name, make):
    stems = noise(4, 2, 2, 30000)
    effects = [make(name, 0.6), make("Gain", 0.5)]
    mixture = stems.sum(1)
    together, _ = augment_in_turn(effects, stems, mixture, generator(1))
    alone, _ = augment_in_turn(effects, stems[:2], mixture[:2], generator(1))
    torch.testing.assert_close(alone, together[:2], rtol=0, atol=1e-5)
    other, _ = augment_in_turn(effects, stems, mixture, generator(2))
    assert not torch.equal(together, other)


@EACH
def test_same_key_same_bits_also_after_pickling(name, make):
    effect = make(name, 0.5)
    stems = noise(3, 2, 2, 20000)
    first = effect(stems, generator(5))
    again = pickle.loads(pickle.dumps(effect))(stems, generator(5))
    assert torch.equal(first, again)
    assert not effect.state_dict()


@EACH
def test_half_precision_is_computed_in_single_precision(name, make):
    stems = noise(2, 2, 2, 20000).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = make(name, 0.7)(stems, generator(2))
    assert result.dtype == torch.float16
    assert torch.equal(result, make(name, 0.7)(stems.float(), generator(2)).half())


@EACH
def test_gradients_pass_through(name, make):
    if name == "RandomPitch":
        pytest.skip("the phase vocoder is not differentiated")
    stems = noise(1, 2, 2, 3000).requires_grad_()
    make(name)(stems, generator(0)).square().sum().backward()
    assert stems.grad is not None
    assert stems.grad.isfinite().all()


@EACH
def test_works_inside_no_grad_on_views_and_double_precision(name, make):
    stems = noise(2, 3000, 2, 2).double().permute(0, 3, 2, 1)
    with torch.no_grad():
        result = make(name)(stems, generator(0))
        expected = make(name)(stems.float().contiguous(), generator(0))
    assert result.dtype == torch.float64
    assert (result - expected).abs().max() < 1e-2 * max(1, float(expected.abs().max()))


@EACH
def test_a_wrong_probability_is_named(name, make):
    with pytest.raises(ConfigError, match=r"\.p: 1\.5 is not"):
        make(name, 1.5)


@EACH
def test_module_functions_still_work(name, make):
    """Module.apply, to and train belong to torch."""
    effect = make(name)
    assert effect.apply(lambda module: None) is effect
    assert effect.eval().train().to("cpu") is effect


def wrong_ranges() -> list[tuple[str, dict, str]]:
    return [
        ("ParametricEQ", {"min_q_factor": 0}, "min_q_factor: 0 is not"),
        ("ParametricEQ", {"num_bands": 1.5}, "num_bands: 1.5 is not"),
        ("Delay", {"max_feedback": 1}, "max_feedback: 1 is not"),
        ("Reverb", {"min_room_size": 0.9, "max_room_size": 0.1}, "0.1 is below min_room_size"),
        ("Compressor", {"min_ratio": 0.5}, "min_ratio: 0.5 is not"),
        ("Limiter", {"sample_rate": 0}, "sample_rate: 0 is not"),
        ("Pan", {"max_pan": 2}, "max_pan: 2 is not"),
        ("StereoWidener", {"min_width": float("nan")}, "min_width: nan is not"),
        ("VolumeAutomation", {"min_segment_seconds": 0}, "min_segment_seconds: 0 is not"),
        ("Gain", {"low": 2}, "Gain.high: 1.25 is not"),
        ("Distortion", {"max_drive_db": 1000}, "max_drive_db: 1000 is not"),
        ("Codec", {"min_bitrate_kbps": 0}, "min_bitrate_kbps: 0 is not"),
        ("Chorus", {"max_feedback": 1}, "max_feedback: 1 is not"),
        ("Phaser", {"min_centre_frequency_hz": 1}, "min_centre_frequency_hz: 1 is not"),
        ("LoudnessNormalize", {"target_lufs_db": 50}, "target_lufs_db: 50 is not"),
    ]


@pytest.mark.parametrize(("name", "arguments", "message"), wrong_ranges())
def test_wrong_arguments_are_named(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        getattr(aimless.augment, name)(**arguments)


class Counting(LazyStems):
    """Counts passes over the samples of the first stem."""

    passes = 0

    def _replace(self, chosen, function):
        type(self).passes += 0 in chosen
        super()._replace(chosen, function)


@pytest.mark.parametrize(
    ("chain", "passes"),
    [
        (GAINS, 1),
        (FILTERS, 1),
        (("Gain", "ParametricEQ", "SwapLR", "Reverb", "FlipPhase"), 2),
        (("ParametricEQ", "VolumeAutomation", "Reverb"), 3),  # a fader and a filter do not commute
        (("Gain", "Pan", "Distortion", "Gain", "Delay", "ParametricEQ"), 3),
    ],
)
def test_linear_neighbours_are_one_pass_and_sound_the_same(chain, passes, make):
    stems = noise(2, 2, 2, 30000)
    apart, rng = stems, generator("row")
    for name in chain:
        apart = make(name)(apart, rng)
    Counting.passes = 0
    lazy, rng = Counting(stems), generator("row")
    for name in chain:
        make(name)._draw_and_apply(lazy, stems, rng)
    together = lazy.result()
    assert Counting.passes == passes
    assert (together - apart).abs().max() < 1e-5 * apart.abs().max()


@pytest.mark.parametrize("seed", range(6))
def test_a_row_of_all_effects_equals_one_after_the_other(seed, make):
    chain = [make(name, 0.4) for name in names()]
    order = generator("order", seed).permutation(len(chain))
    effects = [chain[number] for number in order if not isinstance(chain[number], CudaBase)]
    stems = noise(2, 3, 2, 20000, seed=seed)
    apart = stems, stems.sum(1)
    rng = generator("all", seed)
    for effect in effects:
        apart = effect.augment(*apart, rng)
    together = augment_in_turn(effects, stems, stems.sum(1), generator("all", seed))
    for ours, theirs in zip(together, apart):
        # codec and compressor answer to rounding with a step now and then
        close = (ours - theirs).abs() < 1e-3 * theirs.abs().max()
        assert close.double().mean() > 0.999


def test_an_effect_on_the_mixture_sees_what_those_before_it_made():
    class Limit(CudaBase):
        """Halves the mixture and the stems."""

        def __init__(self):
            super().__init__([0], p=1.0)

        def augment(self, stems, mixture, rng=None):
            torch.testing.assert_close(mixture, stems.sum(1))
            return stems / 2, mixture / 2

    stems = noise(2, 2, 2, 100)
    gain = aimless.augment.Gain(0.5, 0.5, p=1.0)
    result, mixture = augment_in_turn([gain, Limit(), gain], stems, stems.sum(1), generator(0))
    torch.testing.assert_close(result, stems / 8)
    torch.testing.assert_close(mixture, stems.sum(1) / 8)
