"""What a run says of its speed: waiting for data, audio per second, memory."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.profilers import SimpleProfiler
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from aimless.errors import ConfigError
from aimless.lightning import throughput
from aimless.lightning.progress import AudioProgressBar
from aimless.lightning.throughput import Throughput

RATE = 1000


class Slow(IterableDataset):
    """Batches of 2 segments of 0.5 s that take a while."""

    def __init__(self, seconds, count):
        self.seconds, self.count = seconds, count

    def __iter__(self):
        for _ in range(self.count):
            time.sleep(self.seconds)
            yield torch.ones(2, 2, RATE // 2), torch.ones(2, 1, 2, RATE // 2)

    def __len__(self):
        return self.count


class Sleeper(pl.LightningModule):
    """Its steps take a while; validation takes much longer."""

    sample_rate = RATE

    def __init__(self, seconds):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seconds = seconds

    def training_step(self, batch, batch_idx):
        time.sleep(self.seconds)
        return self.layer(batch[0][:1, 0, :1]).square().mean()

    def validation_step(self, batch, batch_idx):
        time.sleep(1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def fit(fetch, step, every=5, count=16, validate=None, **settings):
    speed = Throughput(every)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[speed],
        **settings,
    )
    loader = DataLoader(Slow(fetch, count), batch_size=None)
    val_loader = DataLoader(validate(0, 1), batch_size=None) if validate else None
    trainer.fit(Sleeper(step), loader, val_loader)
    return speed, trainer


class SlowToBegin(Slow):
    """Starting its processes and reading a first song takes a while."""

    def __iter__(self):
        time.sleep(1.0)
        return super().__iter__()


def test_the_start_of_a_validations_loader_is_no_training():
    speed, _ = fit(0.001, 0.02, every=9, count=10, validate=SlowToBegin, val_check_interval=5)
    assert speed.measured["train/step_s"] < 0.15


@pytest.mark.parametrize(("fetch", "step", "share"), [(0.06, 0.02, 0.75), (0.02, 0.06, 0.25)])
def test_the_share_of_waiting_and_the_speed(fetch, step, share):
    speed, trainer = fit(fetch, step)
    measured = speed.measured
    # sleeping takes somewhat longer than it should, on a busy machine much longer
    assert measured["train/wait"] == pytest.approx(share, abs=0.2)
    assert measured["train/step_s"] >= fetch + step
    assert measured["train/audio_s_per_s"] == pytest.approx(1 / measured["train/step_s"])
    assert 0.05 < measured["train/peak_gb"] < 20
    assert {"train/wait", "train/step_s", "train/audio_s_per_s"} <= trainer.callback_metrics.keys()


def test_validation_is_no_waiting_and_no_training():
    speed, _ = fit(0.001, 0.02, every=9, count=10, validate=Slow, val_check_interval=5)
    assert speed.measured["train/step_s"] < 0.2
    assert speed.measured["train/wait"] < 0.5


def test_a_run_that_waits_says_so_once_and_what_to_raise(caplog):
    with caplog.at_level(logging.WARNING, "aimless.lightning.throughput"):
        fit(0.02, 0.0)
    (said,) = [r.getMessage() for r in caplog.records if r.name.endswith("throughput")]
    assert "% of the time (the last 5 batches): raise data.init_args.num_workers (now 0" in said
    assert "\n" not in said


def test_and_again_after_a_while(caplog, monkeypatch):
    monkeypatch.setattr(throughput, "_REMIND", 0.0)
    with caplog.at_level(logging.WARNING, "aimless.lightning.throughput"):
        fit(0.01, 0.0)
    assert len([r for r in caplog.records if r.name.endswith("throughput")]) == 3


def test_a_run_that_computes_says_nothing(caplog):
    with caplog.at_level(logging.WARNING, "aimless.lightning.throughput"):
        fit(0.0, 0.1, count=11)
    assert not [r for r in caplog.records if r.name.endswith("throughput")]


def test_the_trainers_own_profiler_goes_on():
    profiler = SimpleProfiler()
    _, trainer = fit(0.001, 0.001, profiler=profiler)
    assert trainer.profiler is profiler
    (name,) = [name for name in profiler.recorded_durations if name.endswith("dataloader_next")]
    assert len(profiler.recorded_durations[name]) == 16


def test_the_progress_bar_shows_it():
    speed = Throughput()
    trainer = SimpleNamespace(callbacks=[speed], progress_bar_metrics={}, loggers=[])
    bar = AudioProgressBar(refresh_rate=1)
    assert bar.get_metrics(trainer, None) == {}
    speed.measured = {"train/wait": 0.0312, "train/audio_s_per_s": 123.456}
    assert bar.get_metrics(trainer, None) == {"wait": "3%", "audio_s/s": "123.5"}


def test_0_measures_nothing():
    speed, trainer = fit(0.001, 0.001, every=0)
    assert speed.measured == {}
    assert "train/wait" not in trainer.callback_metrics


class Event:
    """A CUDA event on a device whose clock is set by hand, in ms."""

    now = 0.0
    reached = 1e9

    def __init__(self, enable_timing=False):
        assert enable_timing

    def record(self):
        self.at = Event.now

    def query(self):
        return self.at <= Event.reached

    def elapsed_time(self, other):
        return other.at - self.at


def test_on_a_device_only_its_own_idle_time_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    waits = throughput._DeviceWaits()

    def batch(begins, ends, fetched):
        """On the device: its work begins and ends at these ms, after `fetched` s of the host."""
        Event.now = begins
        waits.arrived(fetched)
        Event.now = ends
        waits.done()

    batch(0, 100, 0.5)  # the first has no gap before it
    batch(100, 200, 0.08)  # fetched while the device was busy
    batch(250, 350, 0.07)  # 50 ms idle
    batch(380, 480, 0.01)  # 30 ms idle, of which the fetch explains 10
    assert waits.take() == pytest.approx(0.06)
    waits.interrupted()
    batch(5000, 5100, 0.01)  # after a validation
    Event.reached = 5100
    batch(5150, 5250, 0.2)  # not reached yet: counts next time
    assert waits.take() == 0
    Event.reached = 1e9
    assert waits.take() == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"every_n_steps": -1}, "every_n_steps: -1"), ({"wait_limit": 1.5}, "wait_limit: 1.5")],
)
def test_settings_that_are_not_allowed(settings, key):
    with pytest.raises(ConfigError, match=f"throughput\\.{key}; must be"):
        Throughput(**settings)
