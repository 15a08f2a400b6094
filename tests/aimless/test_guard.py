"""Numbers that are not finite reach neither the weights nor the disk."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import NamedTuple

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aimless.errors import ConfigError, NumericalError
from aimless.lightning.guard import NonFiniteGuard

ADAM = (torch.optim.Adam, {"lr": 0.01})
OPTIMIZERS = {
    "adam": ADAM,
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "sgd": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
}


class Batch(NamedTuple):
    """`flaw`: what goes wrong in it, or nothing."""

    inputs: Tensor
    index: int
    flaw: str = ""


class Network(pl.LightningModule):
    """A small regression with batch norm, whose batches can go wrong in several ways."""

    def __init__(self, optimizer=ADAM):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        self.optimizer = optimizer

    def training_step(self, batch, batch_idx):
        output = self.layers(batch.inputs)
        loss = (output.float() - batch.inputs[:, :1]).square().mean()
        if batch.flaw == "loss":
            return loss + math.nan  # its gradients are finite
        if batch.flaw == "gradient":
            return loss + (output.float().sum() * 0).sqrt()  # 0, but its slope is infinite
        if batch.flaw == "overflow":
            return loss + output.float().sum() * 1e6  # whose slope, scaled, is none of float16's
        return loss

    def configure_optimizers(self):
        kind, settings = self.optimizer
        return kind(self.parameters(), **settings)


class Described(pl.LightningDataModule):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)

    def describe(self, batch):
        assert not batch.inputs.numel()  # audio is not kept
        return [f"file {batch.index}.wav from 1.5 s"]


def make_batches(count, flaws=None):
    """`flaws`: index of a batch -> what goes wrong in it."""
    rng = torch.Generator().manual_seed(1)
    flaws = flaws or {}
    batches = []
    for index in range(count):
        inputs = torch.randn(6, 4, generator=rng)
        flaw = flaws.get(index, "")
        if flaw == "input":
            inputs[3, 2] = math.nan  # which reaches the statistics of batch norm
        batches.append(Batch(inputs, index, flaw))
    return batches


def quiet_trainer(guard, **settings):
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[guard],
        **settings,
    )


def fit(batches, guard=None, optimizer=ADAM, **settings):
    """The trainer after an epoch of the batches, and the network."""
    network = Network(optimizer)
    trainer = quiet_trainer(guard or NonFiniteGuard(), **settings)
    trainer.fit(network, Described(batches))
    return trainer, network


def everything(trainer, network):
    """Weights, buffers and optimizer state as one flat list of tensors."""
    (optimizer,) = trainer.optimizers
    states = [value for state in optimizer.state.values() for value in state.values()]
    return [*network.state_dict().values(), *(torch.as_tensor(state) for state in states)]


def assert_same(one, other):
    one, other = everything(*one), everything(*other)
    assert len(one) == len(other)
    assert all(torch.equal(a, b) for a, b in zip(one, other))
    assert all(value.isfinite().all() for value in one)


@pytest.mark.parametrize("flaw", ["input", "loss", "gradient"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bad_batch_is_as_good_as_left_out(flaw, optimizer):
    """Weights, optimizer state and batch norm statistics, bit for bit."""
    guard = NonFiniteGuard()
    batches = make_batches(12, {5: flaw})
    guarded = fit(batches, guard, OPTIMIZERS[optimizer])
    without = fit(batches[:5] + batches[6:], optimizer=OPTIMIZERS[optimizer])
    assert_same(guarded, without)
    assert guard.skipped == 1


@pytest.mark.parametrize("bad", [2, 3])
def test_with_accumulation_the_whole_step_is_left_out(bad):
    batches = make_batches(8, {bad: "input"})
    guarded = fit(batches, accumulate_grad_batches=2)
    without = fit(batches[:2] + batches[4:], accumulate_grad_batches=2)
    assert_same(guarded, without)


def test_an_accumulated_loss_counts_though_its_gradients_are_finite():
    guard = NonFiniteGuard()
    fit(make_batches(8, {2: "loss"}), guard, accumulate_grad_batches=4)
    assert guard.skipped == 1


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_with_clipped_gradients(algorithm):
    clip = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": algorithm}
    batches = make_batches(6, {3: "gradient"})
    assert_same(fit(batches, **clip), fit(batches[:3] + batches[4:], **clip))


def test_the_first_batch_and_the_last():
    batches = make_batches(6, {0: "input", 5: "gradient"})
    assert_same(fit(batches), fit(batches[1:-1]))


def test_schedules_go_on():
    guard = NonFiniteGuard()
    trainer, _ = fit(make_batches(6, {1: "input", 4: "input"}), guard)
    assert (trainer.global_step, guard.skipped) == (6, 2)


def test_a_warning_names_the_step_and_the_items_of_the_bad_batch_alone(caplog):
    fit(make_batches(8, {2: "input"}), accumulate_grad_batches=4)
    (record,) = [r for r in caplog.records if r.name == "aimless.lightning.guard"]
    assert record.getMessage() == (
        "skipped step 0: the loss is not finite; the batch holds file 2.wav from 1.5 s"
    )


def test_a_bad_gradient_may_come_from_any_batch_of_the_step(caplog):
    fit(make_batches(4, {3: "gradient"}), accumulate_grad_batches=2)
    (record,) = [r for r in caplog.records if r.name == "aimless.lightning.guard"]
    assert record.getMessage() == (
        "skipped step 1: a gradient is not finite; "
        "the batch holds file 2.wav from 1.5 s; file 3.wav from 1.5 s"
    )


def test_too_many_in_a_row_stop_the_run_with_finite_weights():
    network = Network()
    trainer = quiet_trainer(NonFiniteGuard(limit=3))
    flaws = dict.fromkeys((1, 2, 4, 5, 6, 7), "input")  # two in a row, then four
    with pytest.raises(NumericalError) as caught:
        trainer.fit(network, Described(make_batches(12, flaws)))
    assert str(caught.value) == (
        "3 training steps in a row were not finite, first step 4: the loss is not finite; "
        "the batch holds file 4.wav from 1.5 s"
    )
    assert trainer.global_step == 6  # steps before the one that stopped it
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_a_resumed_run_stops_at_the_next_bad_step():
    """It was saved when it had seen as many as are allowed."""
    guard = NonFiniteGuard(limit=3)
    guard.load_state_dict({"skipped": 3, "in_a_row": 3, "first": "step 4: the loss is not finite"})
    with pytest.raises(NumericalError, match="4 training steps in a row were not finite, first st"):
        guard._count(SimpleNamespace(), "step 7: the loss is not finite")


def test_limit_0_never_stops():
    guard = NonFiniteGuard(limit=0)
    trainer, network = fit(make_batches(15, dict.fromkeys(range(15), "input")), guard)
    assert guard.skipped == trainer.global_step == 15
    fresh = Network().state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in network.state_dict().items())


def test_a_negative_limit_is_refused():
    with pytest.raises(ConfigError, match=r"guard\.limit: -1; must be 0 or more"):
        NonFiniteGuard(limit=-1)


class TestGradientScaler:
    """16-bit mixed precision, whose scaler skips steps that overflow."""

    @staticmethod
    def fit(batches):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        guard = NonFiniteGuard()
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        return (*fit(batches, guard, plugins=[plugin]), guard, scaler)

    def test_an_overflow_is_left_to_the_scaler(self):
        _, network, guard, scaler = self.fit(make_batches(8, {3: "overflow"}))
        assert guard.skipped == 0
        assert scaler.get_scale() == 2.0**9
        assert all(value.isfinite().all() for value in network.state_dict().values())

    @pytest.mark.parametrize("flaw", ["input", "loss"])
    def test_a_bad_loss_is_skipped_and_counted(self, flaw):
        batches = make_batches(8, {7: flaw})
        *guarded, guard, _ = self.fit(batches)
        *without, _, _ = self.fit(batches[:7])
        assert guard.skipped == 1
        assert_same(guarded, without)


class TestCheckpoints:
    def test_the_count_goes_on(self, tmp_path):
        guard = NonFiniteGuard()
        trainer, _ = fit(make_batches(4, {1: "input"}), guard)
        trainer.save_checkpoint(tmp_path / "some.ckpt")
        saved = torch.load(tmp_path / "some.ckpt", weights_only=True)["callbacks"]
        again = NonFiniteGuard()
        again.load_state_dict(saved[again.state_key])
        assert again.skipped == 1

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_weights_that_are_not_finite_replace_no_file(self, tmp_path, value):
        path = tmp_path / "some.ckpt"
        trainer, network = fit(make_batches(2))
        trainer.save_checkpoint(path)
        before = path.read_bytes()
        with torch.no_grad():
            network.layers[3].weight[0, 5] = value
        with pytest.raises(NumericalError, match=r"layers\.3\.weight is not finite"):
            trainer.save_checkpoint(path)
        assert path.read_bytes() == before

    def test_averaged_weights_are_looked_at_too(self):
        trainer, network = fit(make_batches(2))
        state = copy.deepcopy(network.state_dict())
        state["layers.0.bias"][0] = math.nan
        for checkpoint in (
            {"state_dict": state, "current_model_state": network.state_dict()},
            {"state_dict": network.state_dict(), "current_model_state": state},
        ):
            with pytest.raises(NumericalError, match=r"layers\.0\.bias"):
                NonFiniteGuard().on_save_checkpoint(trainer, network, checkpoint)


def test_buffers_outside_of_checkpoints_are_left_alone():
    """A cache may be replaced by one of another shape while training."""

    class Caching(Network):
        def __init__(self):
            super().__init__()
            self.register_buffer("cache", torch.zeros(1), persistent=False)

        def training_step(self, batch, batch_idx):
            self.cache = torch.ones(batch_idx + 2)
            return super().training_step(batch, batch_idx)

    network = Caching()
    quiet_trainer(NonFiniteGuard()).fit(network, Described(make_batches(3, {2: "input"})))
    assert network.cache.shape == (4,)
