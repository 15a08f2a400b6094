"""One training run from its first step to its last, through all that is done to it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from soaking.attempt import Attempt
from soaking.checkpoints import find_checkpoints
from soaking.experiment import SAVE_EVERY, command, write_config
from soaking.faults import SIGNALS, Fault
from soaking.journal import Entry
from soaking.ledger import Record
from soaking.sabotage import Saboteur

__all__ = ["Lap", "Settings"]

#: Exit statuses of a run that was training. A dead process has the number of its signal, negative.
_STATUSES = {
    "SIGKILL": {-signal.SIGKILL},
    "SIGTERM": {143},
    "SIGUSR1": {143},
    "Ctrl-C": {130},
    "disk full": {3},
    "disk full for a while": {3},  # if it lasts for three saves
    "checkpoint truncated": {-signal.SIGKILL},
    "checkpoint bit flipped": {-signal.SIGKILL},
    "track deleted": {3},
    "loader killed": {3},
}
#: While Python starts nobody handles signals yet; then the command does, then the run.
_STATUSES_AT_START = {
    "SIGTERM": {-signal.SIGTERM},
    "SIGUSR1": {-signal.SIGUSR1},
    "Ctrl-C": {-signal.SIGINT},
}
#: After these the run saves before it leaves.
_SAVES = {"SIGTERM", "SIGUSR1", "Ctrl-C", "track deleted", "loader killed"}
#: Saves that may still be under way where they are done behind the training.
_IN_FLIGHT = 2


@dataclass(frozen=True)
class Settings:
    """What all laps share.

    Attributes:
        folder: to work in.
        songs: the data set.
        processes: that train.
        steps: optimizer steps of a lap.
        patience: seconds in which a run must have left.
        environment: of the runs.
        report: gets each line that a user may want to see as it comes.
    """

    folder: Path
    songs: Path
    processes: int
    steps: int
    patience: float
    environment: dict[str, str]
    report: Callable[[str], None]


class Lap:
    """A training run.

    Args:
        name: of its folders.
        number: of the lap.
        settings: that all laps share.
        output: folder that the run writes to.
        one_folder: see `write_config`.
    """

    def __init__(
        self, name: str, number: int, settings: Settings, output: Path, one_folder: bool = True
    ) -> None:
        self.number = number
        self.settings = settings
        self.output = output
        self.folder = settings.folder / name
        self.folder.mkdir()
        self.records: list[Record] = []
        self.problems: list[str] = []
        self._config = self.folder / "config.yaml"
        write_config(self._config, settings.songs, output, settings.steps, one_folder)
        self._attempts = 0
        self._open: list[Record] = []  # whose loss the next start will show
        self._hole = range(0)  # steps whose saves found a full disk

    def start(self, fault: Fault | None = None) -> Attempt:
        """Start the command, or start it again."""
        more = ["--ckpt_path", "auto" if not find_checkpoints(self.output) else "last"]
        if fault:
            more += ["--data.init_args.num_workers", str(fault.workers)]
            more += ["--saving.async_save", str(fault.asynchronous).lower()]
        words = command(self._config, self.settings.processes, *more)
        folder = self.folder / f"attempt{self._attempts}"
        self._attempts += 1
        self._hole = range(0)
        return Attempt(words, folder, self.settings.environment)

    def run_through(self, faults: Iterator[Fault], saboteur: Saboteur) -> None:
        """Start it again and again, until it has made all its steps.

        Args:
            faults: what comes; where they end, the run is left in peace.
            saboteur: who does them.
        """
        while not self.problems:
            fault = next(faults, None)
            expected = self._newest_step()
            attempt = self.start(fault)
            try:
                while fault and self._suffer(attempt, fault, saboteur):
                    fault = next(faults, None)
                if fault is None:
                    self._finish(attempt)
            finally:
                attempt.end()
            self._settle(attempt, expected)
            if attempt.main.returncode == 0 and self._newest_step() == self.settings.steps:
                return

    def _newest_step(self) -> int:
        found = find_checkpoints(self.output)
        return found[-1].step if found else 0

    def _suffer(self, attempt: Attempt, fault: Fault, saboteur: Saboteur) -> bool:
        """Let a fault come; whether the run goes on in spite of it."""
        if not saboteur.await_moment(attempt, fault):
            if not attempt.wait(self.settings.patience):
                self._complain(attempt, "came to no step")
            elif attempt.main.returncode:
                self._complain(attempt, f"left with {attempt.main.returncode} by itself")
            return False
        if fault.kind == "loader killed" and not attempt.loaders():
            return True  # the run was started without any, for the fault before
        record = Record(fault.kind, fault.phase, self.number, self._attempts - 1)
        self.records.append(record)
        began, before = time.monotonic(), _last_step(attempt)
        undo = saboteur.strike(attempt, fault)
        try:
            if fault.kind == "disk full for a while" and attempt.main.poll() is None:
                record.reached = record.saved = _last_step(attempt)
                self._hole = range(before + 1, record.reached + 2)
                self._note(record)
                return True
            if not attempt.wait(self.settings.patience):
                record.problems.append(f"still there after {self.settings.patience:g} s")
                attempt.end()
            record.seconds_to_leave = time.monotonic() - began
        finally:
            undo()
        self._judge(attempt, fault, record, before)
        return False

    def _judge(self, attempt: Attempt, fault: Fault, record: Record, before: int) -> None:
        """Hold the end of an attempt against what it should be."""
        status = record.status = attempt.main.returncode
        entries = attempt.entries()
        trained = any(entry.event == "begins" and entry.rank == 0 for entry in entries)
        allowed = _STATUSES[fault.kind]
        if not trained:
            allowed = allowed | _STATUSES_AT_START.get(fault.kind, set())
        record.reached = record.saved = _last_step(attempt)
        # A signal is heeded after the step in which it comes; the rest may come too late.
        late = fault.kind not in SIGNALS or before >= self.settings.steps - 1
        over = status == 0 and record.reached == self.settings.steps and late
        another = self.settings.processes > 1 and status not in (0, None)
        if not (status in allowed or over or (fault.kind == "SIGKILL" and another)):
            record.problems.append(f"status {status}, not {' or '.join(map(str, sorted(allowed)))}")
        if fault.kind.startswith("checkpoint"):
            record.saved = self._newest_step()
        elif trained and fault.kind not in _SAVES and not over:
            hole = range(before + 1, record.reached + 1) if "disk" in fault.kind else self._hole
            record.saved = _saved(entries, hole, fault.asynchronous)
        killed = allowed == {-signal.SIGKILL}
        if trained and not killed and "Traceback" in attempt.said():
            record.problems.append("a traceback")
        self._note(record)

    def _finish(self, attempt: Attempt) -> None:
        """Let it come to its end."""
        if not attempt.wait(10 * self.settings.patience):
            self._complain(attempt, f"not finished after {10 * self.settings.patience:g} s")
        elif attempt.main.returncode:
            self._complain(attempt, f"left with {attempt.main.returncode} by itself")

    def _settle(self, attempt: Attempt, expected: int) -> None:
        """Where an attempt went on tells what the faults before it cost."""
        resumed = [entry for entry in attempt.entries("resumed") if entry.rank == 0]
        first = [entry for entry in attempt.entries("begins") if entry.rank == 0]
        ours = [record for record in self.records if record.attempt == self._attempts - 1]
        if resumed:
            step = resumed[0].step
            if step != expected:
                self._complain(attempt, f"went on at step {step}, not {expected}")
            for record in self._open:
                record.lost = max(0, record.reached - step)
                if step < record.saved:
                    record.problems.append(f"step {record.saved} was saved, went on at {step}")
                if first:
                    record.seconds_to_resume = first[0].seconds - attempt.began
            self._open = []
        self._open += [record for record in ours if record.reached]
        parts = list(self.output.rglob("*.part"))
        if len(parts) > 1:
            self._complain(attempt, f"{len(parts)} temporary files: {parts[0].name}, ...")
        for record in self.records:
            where = self.folder / f"attempt{record.attempt}"
            self.problems += [f"{where}: {record.kind}: {text}" for text in record.problems]

    def _complain(self, attempt: Attempt, problem: str) -> None:
        self.problems.append(f"{attempt.folder}: {problem}")
        self.settings.report(f"  PROBLEM {self.problems[-1]}")

    def _note(self, record: Record) -> None:
        left = (
            "" if record.seconds_to_leave is None else f", gone in {record.seconds_to_leave:.1f} s"
        )
        how = "went on" if record.status is None else f"status {record.status}{left}"
        problems = "".join(f"  PROBLEM {problem}" for problem in record.problems)
        self.settings.report(
            f"  {self.number}.{record.attempt}: {record.kind} at step {record.reached} "
            f"({record.phase}): {how}{problems}"
        )


def _last_step(attempt: Attempt) -> int:
    """Optimizer steps that any process made, this attempt's and those before."""
    return max((entry.step for entry in attempt.entries()), default=0)


def _saved(entries: list[Entry], hole: range, asynchronous: bool) -> int:
    """The step that must be saved, by what was over in the process that saves."""
    own = [entry for entry in entries if entry.rank == 0]
    resumed = next(entry.step for entry in own if entry.event == "resumed")
    begun = max(entry.step for entry in own if entry.event in ("begins", "resumed"))
    saves = [
        step
        for step in range(SAVE_EVERY, begun + 1, SAVE_EVERY)
        if step > resumed and step not in hole
    ]
    saves = saves[: len(saves) - _IN_FLIGHT * asynchronous]
    return saves[-1] if saves else resumed
