"""A signal ends a command even if Python drops the exception that it raised."""

import os
import signal

import pytest

from aimless import stopping


class Swallows:
    """A destructor in which a signal arrives: what it raises is dropped."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, SystemExit),
        (signal.SIGUSR1, SystemExit),
    ],
)
def test_a_dropped_exception_is_raised_again(number, error):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with stopping.stoppable(signal.SIGUSR1):
            stopping.check()
            waste = Swallows(number)
            del waste
            with pytest.raises(error) as raised:
                stopping.check()
            assert error is KeyboardInterrupt or raised.value.code == 143
        stopping.check()  # forgotten with the command
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_put_back_and_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        with stopping.stoppable():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not terminate
        assert signal.getsignal(signal.SIGTERM) is terminate
    finally:
        signal.signal(signal.SIGINT, before)
