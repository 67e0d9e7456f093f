"""Errors and warnings that a user can cause: one line that says what, where and what to do."""

from __future__ import annotations


class MekikiError(Exception):
    """Base of every error meant for a person to read; the command line prints it as one line and exits with 2."""


class InputError(MekikiError, ValueError):
    """What was given (a file, a label, a setting) cannot be used. Also a `ValueError`, as scikit-learn expects."""


class MissingExtraError(MekikiError, ImportError):
    """A library behind an extra is not installed; the message names the extra."""


class DivergedError(MekikiError, ArithmeticError):
    """Training produced a loss that is not finite; the last good epoch is kept."""


class DataWarning(UserWarning):
    """Something in the data was skipped, moved or looks wrong; the message counts it and names examples."""


class CollapseWarning(UserWarning):
    """The collapse doctor found that training is going wrong; the message says what to try."""
