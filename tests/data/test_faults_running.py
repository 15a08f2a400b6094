"""Storage that stops answering and loader processes that die, while a run reads."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import get_worker_info

from aimless.errors import ConfigError, DataError
from data.audio import AudioReadError
from data.files import reader, supervision
from data.files.supervision import ReadPolicy, Slots, supervisor
from data.lightning import MUSDB
from data.lightning.loaders import _begin_worker

Read = Callable[..., Any]


def module(root: Path, **settings: Any) -> MUSDB:
    defaults = {
        "seq_duration": 0.1,
        "samples_per_track": 8,
        "random": True,
        "random_track_mix": True,
        "batch_size": 2,
        "num_workers": 1,
        "check_samples": False,
    }
    made = MUSDB(str(root), **{**defaults, **settings})
    made.setup("fit")
    return made


@pytest.fixture
def replace_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Read], None]:
    """Lets `fault(path)` run before each attempt to read, in loader processes too."""
    real = reader._read_once

    def use(fault: Read) -> None:
        def read(path: Any, *arguments: Any) -> Any:
            fault(os.fspath(path))
            return real(path, *arguments)

        monkeypatch.setattr(reader, "_read_once", read)
        monkeypatch.setattr(reader, "_DELAYS", (0,))

    return use


@pytest.fixture
def free_alarm() -> Iterator[None]:
    """SIGALRM as in a run; while tests run it may end those that take too long."""
    left, again = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, left, again)


def hang_on(name: str) -> Read:
    """A storage that never answers for files of that name, until a signal comes."""
    return lambda path: time.sleep(600) if path.endswith(name) else None


def die_on(name: str) -> Read:
    """The kernel ends a loader process that reads a file of that name."""

    def fault(path: str) -> None:
        if get_worker_info() and path.endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


def test_a_killed_process_ends_the_epoch_with_the_file_that_it_was_reading(
    musdb_root: Path, replace_read: Callable[[Read], None]
) -> None:
    replace_read(die_on("Second Song/vocals.wav"))
    began = time.monotonic()
    with pytest.raises(DataError) as error:
        list(module(musdb_root, num_workers=2).train_dataloader())
    assert time.monotonic() - began < 10
    assert error.value.exit_code == 3
    path = musdb_root / "train" / "Synthetic - Second Song" / "vocals.wav"
    start = f"a loader process died while reading {path}, perhaps for lack of memory ("
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)


def test_a_folder_for_temporary_files_in_which_no_socket_fits_is_an_error(
    musdb_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batches would be lost, and waited for without end."""
    folder = tmp_path / ("deep" * 20)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    monkeypatch.delitem(config, "tempdir", raising=False)
    with pytest.raises(ConfigError, match=f"TMPDIR: {folder}: no socket .*path too long.*num_wor"):
        next(iter(module(musdb_root).train_dataloader()))
    config.pop("tempdir", None)


def test_a_process_that_dies_during_a_step_is_noticed_after_it(musdb_root: Path) -> None:
    """An error within a step could leave weights that are half updated."""
    before = set(multiprocessing.active_children())
    batches = iter(module(musdb_root, samples_per_track=64).train_dataloader())
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.5)  # the step, into which torch's handler would raise
    began = time.monotonic()
    with pytest.raises(
        DataError, match=r"died (after|while) reading .*\.wav, .*killed by signal: Killed"
    ):
        list(batches)
    assert time.monotonic() - began < 10


def test_a_death_is_reported_by_its_own_loader_only(musdb_root: Path) -> None:
    made = module(musdb_root, samples_per_track=64)
    before = set(multiprocessing.active_children())
    first = iter(made.train_dataloader())
    next(first)
    (worker,) = set(multiprocessing.active_children()) - before
    second = iter(made.train_dataloader())
    next(second)
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.5)
    next(second)
    with pytest.raises(DataError, match=rf"\(pid {worker.pid}\) is killed by signal: Killed"):
        next(first)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_read_without_an_answer_is_ended_and_named(
    musdb_root: Path,
    replace_read: Callable[[Read], None],
    free_alarm: None,
    workers: int,
) -> None:
    replace_read(hang_on("Second Song/bass.wav"))
    settings = {"num_workers": workers, "read_timeout": 0.3, "read_retries": 1}
    began = time.monotonic()
    with pytest.raises(AudioReadError) as error:
        list(module(musdb_root, **settings).train_dataloader())
    assert 0.6 <= time.monotonic() - began < 10
    path = musdb_root / "train" / "Synthetic - Second Song" / "bass.wav"
    assert str(error.value) == f"{path}: no answer within 0.3 s (2 attempts)"


def test_an_epoch_goes_on_without_what_gives_no_answer(
    musdb_root: Path, replace_read: Callable[[Read], None]
) -> None:
    replace_read(hang_on("Second Song/bass.wav"))
    settings = {"read_timeout": 0.1, "read_retries": 0, "max_bad_excerpts": 100}
    made = module(musdb_root, on_bad_track="skip", num_workers=2, **settings)
    batches = list(made.train_dataloader())
    assert len(batches) == 8
    assert all(batch.stems.isfinite().all() for batch in batches)
    assert 0 < made.datasets["train"].rejects.count(0) < 100


def test_a_storage_that_answers_late_is_waited_for(
    musdb_root: Path, replace_read: Callable[[Read], None]
) -> None:
    expected = [batch.stems.clone() for batch in module(musdb_root).train_dataloader()]
    replace_read(lambda path: time.sleep(0.01))
    got = [batch.stems.clone() for batch in module(musdb_root, read_timeout=5).train_dataloader()]
    assert all(map(torch.equal, expected, got))


def test_a_read_that_no_signal_ends_ends_its_process(
    musdb_root: Path, replace_read: Callable[[Read], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(path: str) -> None:
        if path.endswith("Second Song/drums.wav"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            time.sleep(600)

    replace_read(hang)
    monkeypatch.setattr(supervision, "_GRACE", 0.5)
    monkeypatch.setattr(supervision, "_AGAIN", 0.1)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"Second Song/drums\.wav, which gave no answer for \d s"):
        list(module(musdb_root, read_timeout=0.5).train_dataloader())
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("workers", [0, 2])
def test_retries_are_counted(
    musdb_root: Path, replace_read: Callable[[Read], None], workers: int
) -> None:
    seen: set[str] = set()

    def stumble(path: str) -> None:
        if path not in seen:
            seen.add(path)
            raise OSError(errno.EIO, "Input/output error")

    replace_read(stumble)
    made = module(musdb_root, num_workers=workers)
    loader: Any = made.train_dataloader()
    list(loader)
    files = 8  # the stems of two tracks, once in each process
    assert files <= loader.slots.retries <= files * max(workers, 1)


def test_no_retries_are_none(musdb_root: Path, replace_read: Callable[[Read], None]) -> None:
    def fail(path: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    replace_read(fail)
    made = module(musdb_root, num_workers=0, read_retries=0)
    with pytest.raises(AudioReadError, match=r"\.wav: Input/output error$"):
        list(made.train_dataloader())


def test_slots_reach_spawned_processes() -> None:
    slots = Slots(3)
    sent = ForkingPickler.dumps(partial(_begin_worker, ReadPolicy(), slots))
    (_, arrived) = ForkingPickler.loads(sent).args
    arrived.rows()["pid"][2] = 7
    assert slots.owns([7])
    assert slots.rows()["pid"].tolist() == [0, 0, 7, 0]


def test_an_alarm_of_somebody_else_is_left_alone(tmp_path: Path, free_alarm: None) -> None:
    rung = []
    signal.signal(signal.SIGALRM, lambda *arguments: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    supervisor.begin(ReadPolicy(timeout=0.05), Slots(0))
    with supervisor.reading(tmp_path):
        time.sleep(0.1)
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    time.sleep(0.2)
    assert rung == [1]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_a_number_of_seconds(musdb_root: Path, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.init_args\.read_timeout: {value} is not"):
        MUSDB(str(musdb_root), read_timeout=value)
    with pytest.raises(ConfigError, match=r"data\.init_args\.read_retries: -1"):
        MUSDB(str(musdb_root), read_retries=-1)
