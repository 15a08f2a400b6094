"""A disk that is full for a while takes no row of a log, and ends no run."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
import resource
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from aimless.lightning import excerpts
from aimless.lightning.logs import SteadyLogs
from tests.helpers import REPOSITORY, experiment, main


@contextlib.contextmanager
def room(size):
    """Have no file of this process grow beyond a size in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def steadied(log):
    trainer = SimpleNamespace(loggers=[log], is_global_zero=True)
    for _ in range(2):  # fit and then test
        SteadyLogs().setup(trainer, SimpleNamespace(), "fit")  # type: ignore[arg-type]
    return log


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(folder, full=()):
    """A table of 12 rows, the last five with one more column."""
    log = steadied(CSVLogger(folder, name="", version="", flush_logs_every_n_steps=1))
    table = folder / "metrics.csv"
    for step in range(12):
        metrics = {"train/loss": 1 / (step + 1)} | ({"val/sdr": 0.1 * step} if step > 6 else {})
        with room(table.stat().st_size + 3) if step in full else contextlib.nullcontext():
            log.log_metrics(metrics, step)
        left = rows_of(table)
        assert [row["step"] for row in left] == [str(number) for number in range(len(left))]
        assert all(None not in row and None not in row.values() for row in left)
    log.finalize("success")
    return table


@pytest.mark.parametrize(
    "full",
    [
        pytest.param({3}, id="once"),
        pytest.param({2, 3, 4}, id="for a while"),
        pytest.param({7, 8}, id="when a column comes"),
        pytest.param({11}, id="at the last row"),
        pytest.param({1, 5, 9}, id="again and again"),
    ],
)
def test_no_row_is_lost_torn_or_doubled(full, tmp_path):
    for name in ("full", "quiet"):
        (tmp_path / name).mkdir()
    written = write_rows(tmp_path / "full", full)
    assert written.read_bytes() == write_rows(tmp_path / "quiet").read_bytes()


def test_one_line_while_it_lasts(tmp_path, caplog):
    write_rows(tmp_path, full={2, 3, 4, 9})
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0] == (
        f"the log in {tmp_path} could not be written: File too large; the run goes on"
    )


def test_tensorboard_goes_on_in_another_file(tmp_path, monkeypatch, caplog):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = steadied(TensorBoardLogger(tmp_path, name="", version=""))
    log.log_metrics({"train/loss": 1.0}, 0)
    log.experiment.flush()

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(log.experiment, "add_scalar", refuse)
        log.log_metrics({"train/loss": 2.0}, 1)
    log.log_metrics({"train/loss": 3.0}, 2)
    log.finalize("success")
    assert "No space left on device" in caplog.text
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(0, 1.0), (2, 3.0)]


def test_another_error_is_not_passed_over(tmp_path):
    log = steadied(CSVLogger(tmp_path, name="", version="", flush_logs_every_n_steps=1))
    log.log_metrics({"train/loss": 1.0}, 0)
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(OSError, match=r"metrics\.csv"):
        log.log_metrics({"train/loss": 1.0}, 1)


def test_a_run_outlasts_it(musdb_root, tmp_path, monkeypatch, caplog):
    """Its excerpts find no room either; the log has all rows at the end."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(CSVLogger.__init__, "__defaults__", ("lightning_logs", None, "", 1))
    write, waits = excerpts.write_stems, iter(range(10))

    def refuse_once(*args):
        with room(100) if next(waits) == 0 else contextlib.nullcontext():
            return write(*args)

    monkeypatch.setattr(excerpts, "write_stems", refuse_once)
    assert main("fit", "--config", experiment(musdb_root, tmp_path)) == 0
    assert "stems cannot be written: File too large; the run goes on" in caplog.text
    assert rows_of(next(tmp_path.rglob("metrics.csv")))
