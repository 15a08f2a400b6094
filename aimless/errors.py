"""Errors that a user can mend: one line that says what is wrong, and an exit code.

`main.py` and the `aimless` command print the line and leave with the code, without a
traceback. Anything else that is raised is a fault of ours and shows its traceback.

This module, `aimless.sources` and `aimless.draws` import nothing heavier than NumPy;
they are what `data` may use of `aimless`.
"""

__all__ = ["AimlessError", "ConfigError", "DataError", "NumericalError"]


class AimlessError(Exception):
    """Base of the errors that end in one line. `exit_code` is the process's status."""

    exit_code = 1


class ConfigError(AimlessError):
    """A setting is wrong: the message names the key, its value and what is allowed."""

    exit_code = 2


class DataError(AimlessError):
    """Audio or checkpoint files are missing, damaged or not what they should be."""

    exit_code = 3


class NumericalError(AimlessError):
    """Training produced numbers that are not finite."""

    exit_code = 4
