"""When what was drawn is drawn again: it cannot be read, is not finite, or is too quiet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Literal

import torch
from torch.utils.data import get_worker_info

from data.audio import AudioReadError, NonFiniteError
from data.dataset.excerpts import Plan

__all__ = ["Redraw", "Rejects"]

logger = logging.getLogger(__name__)

_QUIET_ATTEMPTS = 10
_BAD_ATTEMPTS = 10  # for one stem or item
_ROWS = 512  # more loader processes than any machine runs


class Rejects:
    """How many excerpts of an epoch were rejected by all loader processes of a training process.

    Each process counts in a row of its own of memory that they share.

    Args:
        limit: more in an epoch are an error; None: any number is allowed, as in validation, which
            reads the same items again and again.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._rows = torch.zeros(_ROWS, 2, dtype=torch.int64).share_memory_()  # (epoch, count)

    def count(self, epoch: int) -> int:
        """Rejected so far; earlier epochs are forgotten as later ones begin."""
        rows = self._rows[self._rows[:, 0] == epoch]
        return int(rows[:, 1].sum())

    def add(self, epoch: int, error: AudioReadError) -> None:
        """Count and log one.

        Raises:
            AudioReadError: it was one too many.
        """
        if self.limit is None:
            logger.warning("%s; another excerpt takes its place", error)
            return
        info = get_worker_info()
        row = self._rows[(info.id + 1) % _ROWS if info else 0]
        if row[0] != epoch:
            row[0], row[1] = epoch, 0
        row[1] += 1
        total = self.count(epoch)
        if total > self.limit:
            text = f"max_bad_excerpts: {total} were met in epoch {epoch}, allowed are {self.limit}"
            raise AudioReadError(f"{text}; the last: {error}")
        text = "%s; another excerpt takes its place (%d in epoch %d, at most %d)"
        logger.warning(text, error, total, epoch, self.limit)


class Redraw:
    """The rules by which a draw is made again.

    Args:
        min_loudness_db: RMS in dB below which a segment is drawn again, up to 10 times in all,
            after which the loudest of them is kept; None: never.
        on_bad_track: `skip` also replaces what cannot be read, `error` only what is not finite.
        rejects: counts what was replaced.
    """

    def __init__(
        self,
        min_loudness_db: float | None,
        on_bad_track: Literal["error", "skip"],
        rejects: Rejects,
    ) -> None:
        self.min_loudness_db = min_loudness_db
        self.rejects = rejects
        self._replaced = AudioReadError if on_bad_track == "skip" else NonFiniteError

    def settle(
        self,
        draw: Callable[[int], Plan],
        read: Callable[[Plan], None],
        level_db: Callable[[], float],
        epoch: int | None,
    ) -> Plan:
        """Draw and read until the rules are met.

        Args:
            draw: the plan of an attempt, counted from 0.
            read: reads a plan.
            level_db: of what was read last.
            epoch: to count what is rejected in; None: do not count it.

        Returns:
            The plan that was read last.

        Raises:
            AudioReadError: unreadable files are not to be replaced, or were too many.
        """
        bad, heard = 0, []
        for attempt in count():
            plan = draw(attempt)
            try:
                read(plan)
            except self._replaced as error:
                bad += 1
                if epoch is not None:
                    self.rejects.add(epoch, error)
                if bad == _BAD_ATTEMPTS:
                    raise
                continue
            if self.min_loudness_db is None or not any(plan.values()):
                return plan
            heard.append((level_db(), plan))
            if heard[-1][0] >= self.min_loudness_db:
                return plan
            if len(heard) == _QUIET_ATTEMPTS:
                break
        _, loudest = max(heard, key=lambda entry: entry[0])
        if loudest is not plan:
            read(loudest)
        return loudest
