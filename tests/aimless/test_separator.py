from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from aimless.augment import CudaBase, SpeedPerturb
from aimless.errors import ConfigError
from aimless.lightning.freq_mask import MaskPredictor
from aimless.lightning.waveform import WaveformSeparator
from aimless.loss.freq import CLoss
from aimless.loss.time import L1Loss
from aimless.overlap_add import OverlapAdd


class Batch(NamedTuple):
    mixture: torch.Tensor
    stems: torch.Tensor
    valid: torch.Tensor


class Levels(nn.Module):
    """Gives source i of the mixture the level i + 1."""

    def __init__(self, sources, axis=True):
        super().__init__()
        self.sources, self.axis = sources, axis

    def forward(self, mixture):
        stems = torch.stack([mixture * (i + 1) for i in range(self.sources)], 1)
        return stems if self.axis else stems[:, 0]


def waveform(targets, model, **kwargs):
    return WaveformSeparator(model, L1Loss(), targets=targets, **kwargs)


def test_estimates_are_in_source_order_whatever_the_order_of_the_targets():
    for targets in (["vocals", "bass"], {"bass": None, "vocals": None}):
        separator = waveform(targets, Levels(2))
        assert separator.targets == ("bass", "vocals")
        assert separator.target_indices == [1, 3]


def test_a_perfect_network_has_no_loss_and_a_high_score():
    """Stem i of the data is level i + 1 of the mixture for the two targets."""
    separator = waveform(["vocals", "bass"], Levels(2))
    mixture = torch.randn(3, 2, 1000)
    stems = torch.randn(3, 4, 2, 1000)
    stems[:, 1], stems[:, 3] = mixture, 2 * mixture
    separator.validation_step(Batch(mixture, stems, torch.ones(3, dtype=torch.bool)), 0)
    assert separator.losses.compute() == 0
    assert separator.scores.compute()["sdr"] > 80


def test_one_target_may_lack_its_axis():
    mixture = torch.randn(2, 2, 100)
    for axis in (True, False):
        separator = waveform(["vocals"], Levels(1, axis))
        assert separator(mixture).shape == (2, 1, 2, 100)
        loss, _, estimate = separator.compute_loss(mixture, mixture[:, None])
        assert loss == 0
        assert estimate().shape == (2, 1, 2, 100)


@pytest.mark.parametrize(("given", "targets"), [(4, ["vocals"]), (1, ["vocals", "bass"])])
def test_another_number_of_sources_than_targets_never_broadcasts(given, targets):
    separator = waveform(targets, Levels(given))
    with pytest.raises(ConfigError, match=f"there are {len(targets)} targets"):
        separator(torch.randn(4, 2, 100))


def test_masks_of_one_give_the_mixture_back():
    class Ones(nn.Module):
        def forward(self, magnitude):
            return torch.ones_like(magnitude)[:, None]

    separator = MaskPredictor(
        Ones(),
        CLoss(n_fft=256, hop_length=64),
        targets=["vocals"],
        n_fft=256,
        hop_length=64,
        n_iter=0,
    )
    for samples in (1, 100, 1000, 1001):
        mixture = torch.randn(2, 2, samples)
        assert torch.allclose(separator(mixture)[:, 0], mixture, atol=1e-5)


def test_the_residual_of_the_filter_is_no_estimate():
    class Half(nn.Module):
        def forward(self, magnitude):  # as BandSplitRNN: one mask without a source axis
            return torch.full_like(magnitude, 0.5)

    separator = MaskPredictor(
        Half(), CLoss(), targets=["vocals"], n_fft=256, hop_length=64, residual_model=True
    )
    assert separator(torch.randn(2, 2, 1000)).shape == (2, 1, 2, 1000)


def test_items_that_fill_up_a_batch_count_in_no_score():
    separator = waveform(["vocals"], Levels(1))
    mixture = torch.randn(3, 2, 500)
    stems = 0.5 * mixture[:, None].repeat(1, 4, 1, 1)
    stems[1] = 100
    separator.validation_step(Batch(mixture, stems, torch.tensor([True, False, True])), 0)
    assert float(separator.scores.count[0]) == 2
    assert float(separator.losses.compute()) == pytest.approx(
        float(mixture[[0, 2]].abs().mean() / 2)
    )
    nothing = separator.validation_step(Batch(mixture, stems, torch.zeros(3, dtype=torch.bool)), 0)
    assert nothing == {}


def test_songs_longer_than_a_segment_are_put_together():
    separator = waveform(
        ["vocals"], Levels(1), sample_rate=100, overlap_add=OverlapAdd(segment=1.0)
    )
    mixture = torch.randn(1, 2, 777)
    outputs = separator.validation_step((mixture, mixture[:, None].repeat(1, 4, 1, 1)), 0)
    assert outputs["estimates"].shape == (1, 1, 2, 777)
    assert torch.allclose(outputs["estimates"][:, 0], mixture, atol=1e-5)
    assert not separator.losses.update_called


class Recorder(CudaBase):
    """Remembers what it drew."""

    def __init__(self):
        super().__init__([0], p=1.0)
        self.drawn = []

    def augment(self, stems, mixture, rng=None):
        self.drawn.append(float(rng.random()))
        return stems, mixture


def draws(rank=0, epoch=0, batches=(0, 1), seed=0):
    recorder = Recorder()
    separator = waveform(["vocals"], Levels(1), transforms=[recorder], seed=seed)
    separator._trainer = SimpleNamespace(global_rank=rank, current_epoch=epoch)
    for index in batches:
        separator._augment(torch.zeros(1, 2, 10), torch.zeros(1, 4, 2, 10), index)
    return recorder.drawn


def test_device_draws_depend_on_seed_epoch_batch_and_rank():
    first = draws()
    assert first == draws()
    assert draws(batches=(1,)) == first[1:]  # a resumed run goes on where it was
    assert not set(first) & {*draws(rank=1), *draws(epoch=1), *draws(seed=1)}
    assert first[0] != first[1]


def test_augmentation_leaves_no_trace_in_the_checkpoint():
    with_effects = waveform(["vocals"], nn.Linear(2, 2), transforms=[SpeedPerturb()])
    without = waveform(["vocals"], nn.Linear(2, 2))
    assert with_effects.state_dict().keys() == without.state_dict().keys()


def test_the_old_name_for_cinematic_targets_still_works():
    with pytest.warns(FutureWarning, match="target_track"):
        separator = waveform(["speech"], Levels(1), use_sdx_targets=True)
    assert separator.sources == ("music", "sfx", "speech")
