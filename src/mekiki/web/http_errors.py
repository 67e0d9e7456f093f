"""Errors that a caller can cause, with the HTTP status that each is answered with."""

from __future__ import annotations

from mekiki.errors import MekikiError, MissingExtraError
from mekiki.storage.lock import LockedError


class NotThereError(MekikiError):
    """What was asked for is not there, or not any more."""


class BusyError(MekikiError):
    """Somebody else is at it, or it has changed since the caller looked."""


class RefusedError(MekikiError):
    """The caller may not."""


class TooMuchError(MekikiError):
    """What was sent is larger than is taken."""


STATUS: dict[type[MekikiError], int] = {
    NotThereError: 404,
    BusyError: 409,
    LockedError: 409,
    RefusedError: 403,
    TooMuchError: 413,
    MissingExtraError: 409,
}


def status_of(error: MekikiError) -> int:
    """The HTTP status of an error.

    Example:
        >>> status_of(BusyError("")), status_of(MekikiError(""))
        (409, 400)
    """
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400)
