"""HTTP status of each error that a caller can cause."""

from __future__ import annotations

from mekiki.errors import BusyError, MekikiError, MissingExtraError, NotFoundError
from mekiki.storage.lock import LockedError


class ForbiddenError(MekikiError):
    """The caller has no right to this file or address."""


class RequestTooLargeError(MekikiError):
    """The request is larger than the limits allow."""


STATUS: dict[type[MekikiError], int] = {
    NotFoundError: 404,
    BusyError: 409,
    LockedError: 409,
    MissingExtraError: 409,
    ForbiddenError: 403,
    RequestTooLargeError: 413,
}


def status_of(error: MekikiError) -> int:
    """Return the HTTP status of an error.

    Example:
        >>> status_of(BusyError("")), status_of(MekikiError(""))
        (409, 400)
    """
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400)
