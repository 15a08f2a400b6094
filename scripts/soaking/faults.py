"""What happens to a run, and when: drawn from a seed."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from aimless.draws import generator

__all__ = ["KINDS", "SIGNALS", "Fault", "draw_faults"]

Phase = Literal["start", "training", "validation"]

#: Those that a signal is.
SIGNALS = {
    "SIGKILL": signal.SIGKILL,
    "SIGTERM": signal.SIGTERM,
    "SIGUSR1": signal.SIGUSR1,
    "Ctrl-C": signal.SIGINT,
}
#: All kinds of faults.
KINDS = (
    *SIGNALS,
    "disk full",
    "disk full for a while",
    "checkpoint truncated",
    "checkpoint bit flipped",
    "track deleted",
    "loader killed",
)
#: Optimizer steps after which a fault comes, at most.
_LATEST = 6
_PHASES: tuple[Phase, ...] = ("start", "training", "validation")
_CHANCES = 0.15, 0.65, 0.2


class Fault(NamedTuple):
    """One fault.

    Attributes:
        kind: of `KINDS`.
        phase: of the run in which it comes: while it starts, in a step, in a validation.
        after: optimizer steps that this process of the run makes before.
        delay: from 0 to 1: how far into the start, or into the next step.
        where: from 0 to 1: which process, track or byte.
        workers: loader processes of each process of the run.
        asynchronous: whether the run saves behind the training.
    """

    kind: str
    phase: Phase
    after: int
    delay: float
    where: float
    workers: int
    asynchronous: bool

    def choose(self, number: int) -> int:
        """One of so many."""
        return min(int(self.where * number), number - 1)


def draw_faults(seed: int, lap: int, kinds: Sequence[str] = KINDS) -> Iterator[Fault]:
    """Faults without end; each kind comes once before any comes again.

    Args:
        seed: of all draws.
        lap: number of the training run, from 0.
        kinds: that are wanted.
    """
    rng = generator("soak", seed, lap)
    while True:
        for kind in rng.permutation(sorted(kinds)).tolist():
            phase = _PHASES[rng.choice(len(_PHASES), p=_CHANCES)]
            after, workers = int(rng.integers(_LATEST + 1)), int(rng.integers(3))
            yield Fault(
                kind=kind,
                phase=phase if kind in SIGNALS else "training",
                after=after,
                delay=rng.random(),
                where=rng.random(),
                workers=max(workers, 1) if kind == "loader killed" else workers,
                asynchronous=bool(rng.random() < 0.5),
            )
