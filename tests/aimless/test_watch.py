"""A training that learns nothing says so, once, with the likely cause."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aimless.draws import generator
from aimless.errors import ConfigError
from aimless.lightning.symptoms import Levels, is_constant, is_falling, judge_output
from aimless.lightning.watch import TrainingWatch
from aimless.lightning.waveform import WaveformSeparator
from aimless.loss.time import L1Loss


class Batch(NamedTuple):
    mixture: Tensor
    stems: Tensor


class Net(nn.Module):
    """A gain per target after a filter, with a part that can be left out of the result."""

    def __init__(self, flaw=""):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv1d(2, 4, 9, padding=4)
        self.decoder = nn.Conv1d(4, 2, 9, padding=4)
        self.spare = nn.Conv1d(4, 2, 1)
        self.flaw = flaw

    def forward(self, mixture):
        hidden = self.encoder(mixture)
        if self.flaw == "detached encoder":
            hidden = hidden.detach()
        estimate = self.decoder(hidden) + self.spare(hidden)
        if self.flaw == "unused part":
            estimate = self.decoder(hidden)
        if self.flaw == "through":
            estimate = mixture + 1e-4 * estimate
        if self.flaw == "silent":
            estimate = 1e-5 * estimate
        if self.flaw == "saturated":
            estimate = estimate * 0.0
        return estimate[:, None]


class Separator(WaveformSeparator):
    def __init__(self, model, rate=1e-2, loss=None):
        super().__init__(model, loss or L1Loss(), targets=["vocals"], log_sdr_every_n_steps=0)
        self.rate = rate

    def configure_optimizers(self):
        return torch.optim.Adam(self.model.parameters(), lr=self.rate)


def batches(count, silent=False):
    made = []
    for index in range(count):
        noise = generator("watch", index).standard_normal((2, 4, 2, 64))
        stems = torch.from_numpy(0.1 * noise).float()
        if silent:
            stems[:, 3] = 0
        made.append(Batch(stems.sum(1), stems))
    return made


def fit(net, caplog, steps=60, validate=False, watch=None, silent=False, **settings):
    """What the watch says over the steps of a run."""
    data = DataLoader(batches(steps, silent), batch_size=None)
    watch = watch or TrainingWatch(every_n_steps=3, patience=40)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        callbacks=[watch],
        **settings,
    )
    separator = net if isinstance(net, pl.LightningModule) else Separator(net)
    with caplog.at_level(logging.WARNING, "aimless.lightning.watch"):
        trainer.fit(separator, data, DataLoader(batches(2), batch_size=None) if validate else None)
    return [r.getMessage() for r in caplog.records if r.name == "aimless.lightning.watch"]


class Constant(L1Loss):
    def forward(self, estimates, *signals):
        return 0.25 + 1e-9 * estimates.mean(), {}


def test_a_training_that_learns_is_left_alone(caplog):
    assert fit(Net(), caplog, steps=200, validate=True) == []


def test_a_learning_rate_of_0(caplog):
    said = fit(Separator(Net(), rate=0.0), caplog)
    assert len(said) == 2
    parts = "model.encoder, model.decoder, model.spare"
    assert said[0].endswith(f"the weights of {parts} do not move: the learning rate is 0")
    assert said[1].endswith("the loss has not fallen in the first 40 steps: the learning rate is 0")


def test_a_learning_rate_below_the_precision_of_the_weights(caplog):
    (moves, _) = fit(Separator(Net(), rate=1e-12), caplog)
    assert moves.endswith("do not move: the learning rate is too small for the weights' precision")


@pytest.mark.parametrize(
    ("flaw", "part"), [("detached encoder", "encoder"), ("unused part", "spare")]
)
def test_a_part_without_gradient_is_named_once(caplog, flaw, part):
    (said,) = fit(Net(flaw), caplog, steps=100)
    assert said.startswith(f"step 7: the gradient of model.{part} is 0: the loss does not depend")


def test_a_saturated_output(caplog):
    said = fit(Net("saturated"), caplog)
    assert said[0].startswith("step 7: all gradients are 0: the loss does not depend on the")


def test_frozen_weights(caplog):
    class Scaled(L1Loss):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, *signals):
            loss, parts = super().forward(*signals)
            return self.scale * loss, parts

    net = Net().requires_grad_(False)
    said = fit(Separator(net, loss=Scaled()), caplog)
    assert said[0] == "no weight of the network can be trained: all are frozen"


def test_silent_targets(caplog):
    said = fit(Net(), caplog, silent=True)
    assert any("the target vocals was silent in 10 batches in a row" in text for text in said)


def test_a_loss_that_is_the_same_for_all_batches(caplog):
    said = fit(Separator(Net(), loss=Constant()), caplog)
    assert any(
        "the loss has not moved in 40 steps (0.25): it does not depend on the batch" in text
        for text in said
    )


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("through", "the estimates of vocals are the mixture (-"),
        ("silent", "the estimates of vocals are silent (-"),
    ],
)
def test_estimates_that_are_the_mixture_or_silence(caplog, flaw, words):
    said = fit(Net(flaw), caplog, steps=5, validate=True)
    assert len([text for text in said if words in text]) == 1


def test_accumulated_batches_and_a_network_of_one_child(caplog):
    net = nn.Sequential(Net())
    assert fit(net, caplog, steps=90, accumulate_grad_batches=4) == []
    said = fit(Separator(nn.Sequential(Net()), rate=0.0), caplog, accumulate_grad_batches=2)
    assert "the weights of model.0.encoder, model.0.decoder, model.0.spare do not" in said[0]


def test_steps_are_those_of_the_optimizer(caplog):
    said = fit(Separator(Net(), loss=Constant()), caplog, steps=60, accumulate_grad_batches=2)
    assert not any("the loss has not moved" in text for text in said)
    said = fit(Separator(Net(), loss=Constant()), caplog, steps=90, accumulate_grad_batches=2)
    assert any("the loss has not moved in 40 steps" in text for text in said)


def test_0_watches_nothing(caplog):
    watch = TrainingWatch(every_n_steps=0)
    assert fit(Separator(Net("saturated"), rate=0.0), caplog, watch=watch, validate=True) == []
    assert not watch._losses


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"every_n_steps": -1}, "every_n_steps: -1"),
        ({"patience": 9}, "patience: 9"),
        ({"min_change": math.nan}, "min_change: nan"),
    ],
)
def test_settings_that_are_not_allowed(settings, key):
    with pytest.raises(ConfigError, match=f"watch\\.{key}; must be"):
        TrainingWatch(**settings)


class TestLosses:
    """Judged on drawn curves: few false alarms, few that are missed."""

    @staticmethod
    def curves(fall, noise, count=200, steps=1000):
        for number in range(count):
            rng = generator("curves", number)
            yield (
                1 - fall * torch.linspace(0, 1, steps).numpy() + noise * rng.standard_normal(steps)
            )

    def test_noise_alone_does_not_fall(self):
        found = [is_falling(curve.tolist()) for curve in self.curves(0, 0.2)]
        assert sum(found) <= 10  # 2 standard errors: 2.3 % by chance

    def test_a_fall_is_seen_through_noise(self):
        assert all(is_falling(curve.tolist()) for curve in self.curves(0.2, 0.2))

    def test_a_fall_at_the_very_beginning_is_one(self):
        early = np.exp(-np.arange(1000) / 20)
        assert all(is_falling((curve + early).tolist()) for curve in self.curves(0, 0.1, 50))

    def test_a_rise_is_no_fall(self):
        assert not any(is_falling(curve.tolist()) for curve in self.curves(-0.2, 0.05))

    def test_outliers_do_not_hide_a_fall(self):
        (curve,) = self.curves(0.3, 0.05, 1)
        curve[-20:] = 1e6
        assert is_falling(curve.tolist())

    def test_only_a_loss_without_variation_is_constant(self):
        assert not any(is_constant(curve.tolist(), 1e-4) for curve in self.curves(0, 0.01))
        assert all(is_constant(curve.tolist(), 1e-4) for curve in self.curves(0, 1e-6))
        (curve,) = self.curves(0, 1e-6, 1)
        curve[100] = math.inf
        assert is_constant(curve.tolist(), 1e-4)
        assert not is_constant([1.0] * 9, 1e-4)


def test_a_target_that_is_the_mixture_may_be_estimated_as_such():
    alone = Levels(mixture=1.0, stem=1.0, estimate=1.0, estimate_off=0.0, stem_off=0.0)
    assert judge_output("speech", alone) is None
    assert "are the mixture (-inf dB apart)" in judge_output("speech", alone._replace(stem_off=0.5))
    silent = Levels(mixture=0.0, stem=0.0, estimate=0.0, estimate_off=0.0, stem_off=0.0)
    assert judge_output("speech", silent) is None
