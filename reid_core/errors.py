"""Errors that a user can cause and mend, each with the exit code of the command line."""

from __future__ import annotations


def printable(text: object) -> str:
    """``text`` on one line and safe for a terminal: control and escape characters are shown, not sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class ReidCoreError(ValueError):
    """A user's mistake or misfortune: one paragraph saying what, where, why and what to do.

    Args:
        message: the whole paragraph; names of files and values are in it.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UsageError(ReidCoreError):
    """A flag, key or combination that cannot be meant, or a question answered no."""

    exit_code = 2


class DataError(ReidCoreError):
    """Something is wrong with images, folders, archives or label files."""

    exit_code = 3


class CheckpointError(ReidCoreError):
    """A checkpoint or run folder cannot be read, written or used."""

    exit_code = 4


class NumericalError(ReidCoreError):
    """A loss or statistic is no longer a finite number."""

    exit_code = 5


class Interrupted(ReidCoreError):
    """Work stopped by a signal after everything was saved; ``exit_code`` is 130 or 143."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
