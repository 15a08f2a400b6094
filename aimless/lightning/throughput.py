"""How fast a run is, how long it waits for data, and how much memory it needs."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.profilers import Profiler
from torch import Tensor

from aimless.errors import ConfigError
from aimless.lightning.usage import peak_memory

__all__ = ["MEASURED", "Throughput"]

logger = logging.getLogger(__name__)

#: What is logged of any run.
MEASURED = ("train/wait", "train/step_s", "train/peak_gb", "train/audio_s_per_s")
_FETCH = "train_dataloader_next"  # how the training loop's action of fetching a batch ends
_REMIND = 1800.0  # seconds between two hints
_GB = 1e9


class Throughput(pl.Callback):
    """Measures the training loop, and says so where it waits for data.

    Logged every `every_n_steps` batches, over the batches since the last time, without
    validations:

    - `train/wait`: share of the time that the training waits for batches, from 0 to 1. On a
      CUDA device it is the time that the device is idle while the host fetches a batch: batches
      that are fetched while the device computes cost nothing. It is measured with events, which
      are read when they are long over, so that nothing waits for the device;
    - `train/audio_s_per_s`: seconds of audio per second, of all processes together;
    - `train/step_s`: seconds per batch;
    - `train/peak_gb`: most memory so far, in 10⁹ bytes: what was allocated on a CUDA device, or
      the resident memory of this process; without loader processes;
    - `train/read_retries`, once there are any: reads that the loader processes tried again.

    The progress bar shows `wait` and `audio_s/s`. Where the share is above `wait_limit`, a line
    says what to raise, at most every half an hour.

    Args:
        every_n_steps: batches between two measurements; 0 measures nothing.
        wait_limit: share from which on waiting is reported, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed.
    """

    def __init__(self, every_n_steps: int = 50, wait_limit: float = 0.2) -> None:
        if every_n_steps < 0:
            raise ConfigError(f"throughput.every_n_steps: {every_n_steps}; must be 0 or more")
        if not 0 <= wait_limit <= 1:
            raise ConfigError(f"throughput.wait_limit: {wait_limit}; must be from 0 to 1")
        self.every_n_steps = every_n_steps
        self.wait_limit = wait_limit
        #: what was logged last
        self.measured: dict[str, float] = {}
        self._reported = -_REMIND
        self._waits = _HostWaits()
        self._ended_at = 0.0  # the last batch
        self._paused_at: float | None = None
        self._begin(None)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to the training loop, which tells its profiler when it fetches."""
        self.measured = {}
        self._begin(None)
        self._waits = _DeviceWaits() if pl_module.device.type == "cuda" else _HostWaits()
        if self.every_n_steps:
            self._clock = _FetchClock(_profiler(trainer))
            trainer.profiler = self._clock  # type: ignore[attr-defined]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the profiler as it was."""
        trainer.profiler = _profiler(trainer)  # type: ignore[attr-defined]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A batch is there."""
        if self.every_n_steps:
            fetched = self._clock.take()
            self._waits.arrived(fetched)
            if self._paused_at is not None:
                self._paused += time.perf_counter() - fetched - self._paused_at
                self._paused_at = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """A batch is done, or under way on the device."""
        if not self.every_n_steps:
            return
        self._waits.done()
        if self._began is None:  # the first batch warms everything up
            self._waits.take()
            self._begin(time.perf_counter())
            self._ended_at = time.perf_counter()
            return
        self._batches += 1
        self._audio += _audio_seconds(batch, getattr(pl_module, "sample_rate", None))
        if self._batches == self.every_n_steps:
            self._measure(trainer, pl_module)
            self._begin(time.perf_counter())
        self._ended_at = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """There was no training since the last batch: loaders have started for this."""
        self._paused_at = self._ended_at

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training goes on with the next batch that is fetched; the device may have been idle."""
        self._waits.interrupted()

    def shown(self) -> dict[str, str]:
        """What a progress bar shows."""
        if not self.measured:
            return {}
        shown = {"wait": f"{self.measured['train/wait']:.0%}"}
        if "train/audio_s_per_s" in self.measured:
            shown["audio_s/s"] = f"{self.measured['train/audio_s_per_s']:.4g}"
        return shown

    def _begin(self, now: float | None) -> None:
        self._began = now
        self._batches, self._audio = 0, 0.0
        self._paused = 0.0
        self._paused_at = None

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._began is not None
        seconds = max(time.perf_counter() - self._began - self._paused, 1e-9)
        wait = min(self._waits.take() / seconds, 1.0)
        self.measured = {
            "train/wait": wait,
            "train/step_s": seconds / self._batches,
            "train/peak_gb": peak_memory(pl_module.device) / _GB,
        }
        if self._audio:
            self.measured["train/audio_s_per_s"] = self._audio * trainer.world_size / seconds
        slots = getattr(trainer.train_dataloader, "slots", None)
        if retries := getattr(slots, "retries", 0):
            self.measured["train/read_retries"] = float(retries)
        pl_module.log_dict(self.measured)
        now = time.monotonic()
        if wait > self.wait_limit and trainer.is_global_zero and now - self._reported >= _REMIND:
            self._reported = now
            text = "training waits for data %.0f %% of the time (the last %d batches): %s"
            logger.warning(text, 100 * wait, self._batches, _advice(trainer.train_dataloader))


class _FetchClock(Profiler):
    """Passes everything on to another profiler, and adds up how long fetching takes."""

    def __init__(self, inner: Profiler) -> None:
        super().__init__()
        self.inner = inner
        self._began = 0.0
        self._seconds = 0.0

    def take(self) -> float:
        """Seconds since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def start(self, action_name: str) -> None:
        """Begin an action."""
        self.inner.start(action_name)
        if action_name.endswith(_FETCH):
            self._began = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """End an action."""
        if action_name.endswith(_FETCH):
            self._seconds += time.perf_counter() - self._began
        self.inner.stop(action_name)

    def summary(self) -> str:
        """The other profiler's."""
        return self.inner.summary()

    def describe(self) -> None:
        """Let the other profiler report."""
        self.inner.describe()

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """Set the other profiler up."""
        self.inner.setup(stage, local_rank, log_dir)

    def teardown(self, stage: str | None) -> None:
        """End the other profiler."""
        self.inner.teardown(stage)


def _profiler(trainer: pl.Trainer) -> Profiler:
    """The trainer's, without a clock, which an error may have left there."""
    profiler = trainer.profiler  # type: ignore[attr-defined]
    return profiler.inner if isinstance(profiler, _FetchClock) else profiler


class _HostWaits:
    """Time that the host waits: all of the fetching."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def arrived(self, fetched: float) -> None:
        """A batch is there, after so many seconds of fetching."""
        self._seconds += fetched

    def done(self) -> None:
        """The work of a batch was given to the device."""

    def interrupted(self) -> None:
        """Something else was done after the last batch."""

    def take(self) -> float:
        """Seconds since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class _Gap(NamedTuple):
    """From the end of a batch's work to the beginning of the next one's, on the device."""

    end: torch.cuda.Event
    start: torch.cuda.Event
    fetched: float


class _DeviceWaits(_HostWaits):
    """Time that a CUDA device is idle while the host fetches.

    An event is passed at once by a device that has nothing to do, and otherwise after the work
    before it. The time between two of them is therefore the device's, whatever the host did.
    """

    def __init__(self) -> None:
        super().__init__()
        self._end: torch.cuda.Event | None = None
        self._gaps: list[_Gap] = []

    def arrived(self, fetched: float) -> None:
        """A batch is there, after so many seconds of fetching."""
        if self._end is not None:
            self._gaps.append(_Gap(self._end, _event(), fetched))
            self._end = None

    def done(self) -> None:
        """The work of a batch was given to the device."""
        self._end = _event()

    def interrupted(self) -> None:
        """Something else was done after the last batch."""
        self._end = None

    def take(self) -> float:
        """Seconds since the last call, as far as the device has come."""
        passed = [gap for gap in self._gaps if gap.start.query()]
        self._gaps = self._gaps[len(passed) :]  # the device passes them in order
        idle = (gap.end.elapsed_time(gap.start) / 1000 for gap in passed)
        return sum(min(seconds, gap.fetched) for seconds, gap in zip(idle, passed))


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _audio_seconds(batch: Any, rate: int | None) -> float:
    """Of a batch whose first entry is the mixture, (batch, channels, samples)."""
    mixture = batch[0] if isinstance(batch, (tuple, list)) and batch else None
    if rate is None or not isinstance(mixture, Tensor) or mixture.ndim != 3:
        return 0.0
    return len(mixture) * mixture.shape[-1] / rate


def _advice(loader: Any) -> str:
    """What to raise, in a line."""
    workers = getattr(loader, "num_workers", None)
    prefetch = getattr(loader, "prefetch_factor", None)
    parts = []
    if workers is not None:
        inline = ", which loads between the steps" if workers == 0 else ""
        parts.append(f"raise data.init_args.num_workers (now {workers}{inline})")
    if prefetch is not None:
        parts.append(f"data.init_args.prefetch (now {prefetch})")
    parts.append(
        "move effects from data.init_args.transforms to model.init_args.transforms, which run on "
        "the training device, or put the files on a quicker disk"
    )
    return "; ".join(parts)
