"""Ctrl-C and SIGTERM end a command by an exception, so that it tidies up.

An exception that a signal raises in the wrong place, such as a destructor, is dropped by Python.
It is therefore remembered, and `check`, which loops call, raises it again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["Stopped", "check", "stoppable"]

_received: list[int] = []


class Stopped(SystemExit):
    """A run that a signal asked to end, and that ends where it can go on later.

    Args:
        number: of the signal.
        message: what was saved, and how to go on; a line.
        status: exit status; None: 128 and the number, but 143 for any signal but Ctrl-C, as
            schedulers are told it.
    """

    def __init__(self, number: int, message: str, status: int | None = None) -> None:
        if status is None:
            status = 128 + (number if number == signal.SIGINT else signal.SIGTERM)
        super().__init__(status)
        self.message = message


@contextlib.contextmanager
def stoppable(*others: int) -> Iterator[None]:
    """Within it, SIGINT raises KeyboardInterrupt, and SIGTERM SystemExit with status 143.

    A SIGINT that is ignored, as in a shell's background jobs, stays so. Threads other than the
    main one may not set handlers; there nothing changes.

    Args:
        others: numbers of signals that mean what SIGTERM does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, *others]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def check() -> None:
    """Raise again what a signal raised, if anything still runs after it.

    Raises:
        KeyboardInterrupt: after SIGINT.
        SystemExit: after any other.
    """
    if _received:
        _raise(_received[0])


def _stop(number: int, frame: object) -> None:
    _received.append(number)
    _raise(number)


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + signal.SIGTERM)
