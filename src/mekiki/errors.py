"""Errors and warnings that a user can cause: one line that says what, where and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class MekikiError(Exception):
    r"""Base of every error meant for a person to read; the command line prints it as one line and exits with 2.

    It may quote a hostile file, so line breaks become spaces, and other control characters their escapes.

    Example:
        >>> str(InputError("a.csv: has no column note, but \x1b[2J and\nmore"))
        'a.csv: has no column note, but \\x1b[2J and more'
    """

    def __init__(self, message: str = "", *more: object) -> None:
        plain = _BREAKS.sub(" ", str(message))
        super().__init__(_CONTROLS.sub(lambda found: ascii(found[0])[1:-1], plain), *more)


class InputError(MekikiError, ValueError):
    """An input (a file, a label, a setting) cannot be used. Also a `ValueError`, as scikit-learn expects."""


class MissingExtraError(MekikiError, ImportError):
    """A library behind an extra is not installed; the message names the extra."""


class NotFoundError(MekikiError):
    """There is no object of the name or number that was asked for."""


class BusyError(MekikiError):
    """The action cannot be done now: another one is running, or the object has changed since the caller read it."""


class DivergedError(MekikiError, ArithmeticError):
    """Training produced a loss that is not finite; the last good epoch is kept."""


class DataWarning(UserWarning):
    """Something in the data was skipped, moved or looks wrong; the message counts it and names examples."""


class CollapseWarning(UserWarning):
    """The collapse check found that training goes wrong; the message says what to try."""


def not_known(what: str, given: object, known: Iterable[str], *, also: str = "") -> InputError:
    """The error for an unknown name, with the nearest of those that are known.

    Args:
        what: what is named.
        given: the name as it was given.
        known: the names there are.
        also: what may be given besides a name.

    Example:
        >>> not_known("recipe", "bset", ["fast", "best"])
        InputError("recipe 'bset' is not known; choose one of fast, best; did you mean best?")
    """
    names = list(known)
    return InputError(
        f"{what} {given!r} is not known; choose one of {', '.join(names)}{also}{nearest(given, names)}"
    )


def nearest(given: object, known: Iterable[str]) -> str:
    """The end of an error for a name that is not known: `; did you mean …?`, or nothing if none is near.

    Example:
        >>> nearest("minst", ["mnist", "digits"])
        '; did you mean mnist?'
    """
    near = difflib.get_close_matches(str(given).lower(), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def first_line(error: BaseException) -> str:
    r"""The first line of a library's error, for a message of our own.

    Example:
        >>> first_line(ValueError("bad shape.\nmore")), first_line(KeyError())
        ('bad shape', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


def name_some(names: Sequence[str], most: int = 3) -> str:
    """The first of many names, and how many more there are.

    Example:
        >>> name_some(["a.png", "b.png", "c.png", "d.png", "e.png"])
        'a.png, b.png, c.png and 2 more'
        >>> name_some(["a.png"])
        'a.png'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def count_noun(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun.

    Example:
        >>> count_noun(1, "image"), count_noun(1200, "image"), count_noun(2, "class", "classes")
        ('1 image', '1,200 images', '2 classes')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
