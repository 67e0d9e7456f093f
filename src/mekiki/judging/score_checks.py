"""Checks of scores, shares and other numbers that a user gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError

Scores = NDArray[np.float64]


def check_scores(values: ArrayLike, what: str, dimensions: int = 1) -> Scores:
    """Scores as float64 `[N]`, or `[N, columns]` with two dimensions.

    Raises:
        InputError: another shape, no numbers, or NaN.
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be numbers") from None
    if array.ndim != dimensions or (dimensions == 2 and array.shape[1] == 0):
        shape = "[N]" if dimensions == 1 else "[N, columns]"
        raise InputError(f"{what} must be {shape}, not {list(array.shape)}")
    bad = np.flatnonzero(np.isnan(array).any(axis=tuple(range(1, dimensions))))
    if len(bad):
        raise InputError(
            f"{what}: {len(bad)} of {len(array)} are NaN, the first at {bad[0]}; leave them out or fix them"
        )
    return array


def check_finite_scores(values: ArrayLike, what: str = "calibration scores") -> Scores:
    """Scores as float64 `[n]`, n ≥ 1, all finite.

    Raises:
        InputError: they are not.
    """
    array = check_scores(values, what)
    if not len(array):
        raise InputError(f"{what}: there are none; give at least one")
    bad = int(np.isinf(array).sum())
    if bad:
        raise InputError(f"{what}: {bad} are infinite; look at these parts, they cannot be calibrated with")
    return array


def check_share(value: float, what: str) -> None:
    """Refuse what is not between 0 and 1.

    Raises:
        InputError: it is not.
    """
    if not 0 < check_number(value, what) < 1:
        raise InputError(f"{what} {value} is not between 0 and 1; give a share such as 0.01 for 1 %")


def check_number(value: float, what: str) -> float:
    """A setting as a float.

    Raises:
        InputError: it is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputError(f"{what} must be a number, not {value!r}")
    return float(value)
