"""Checks what a person hands in, once, and turns labels of any kind into class numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]


class Labelled(NamedTuple):
    """Checked vectors `[N, d]`, class numbers `[N]` (0 … C − 1) and the C labels, ascending."""

    vectors: Vectors
    codes: Codes
    classes: NDArray[Any]


def checked(vectors: ArrayLike, labels: ArrayLike, where: str = "vectors", least: int = 2) -> Labelled:
    """Vectors as float32 `[N, d]`, all finite, with one label each, at least `least` of them.

    Args:
        vectors: `[N, d]`, anything NumPy can read as float32.
        labels: `[N]` integers, booleans or strings.
        where: what the message of an error calls them.
        least: how many there must be.

    Returns:
        The vectors (not copied where they are float32 already) and their classes.

    Raises:
        InputError: a wrong shape or kind, too few, or values that are not finite.

    Example:
        >>> checked([[0.0], [1.0], [2.0]], ["ok", "ng", "ok"]).codes
        array([1, 0, 1])
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] < 1 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{where}: need numbers of shape [N, d], one row a vector, not {array.dtype} {list(array.shape)}"
        )
    with np.errstate(over="ignore"):  # what overflows becomes inf and is counted below
        array = np.ascontiguousarray(array, np.float32)
    names = _plain(labels, where)
    if names.shape != array.shape[:1]:
        raise InputError(
            f"{where}: {len(array)} vectors and labels of shape {list(names.shape)}; give one label a vector"
        )
    if len(array) < least:
        raise InputError(f"{where}: {len(array)} vector(s) cannot be compared; give at least {least}")
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise InputError(
            f"{where}: {bad} of {len(array)} vectors hold NaN or infinity; "
            "leave them out, or train again if the network diverged"
        )
    classes, codes = np.unique(names, return_inverse=True)
    return Labelled(array, codes.astype(np.int64), classes)


def together(first: Labelled, second: Labelled) -> tuple[Labelled, Labelled]:
    """The same vectors, with class numbers that mean the same label on both sides.

    Raises:
        InputError: vectors of different lengths, or labels of which one side are strings and the other
            numbers.

    Example:
        >>> one, other = checked([[0.0], [1.0]], [3, 7]), checked([[0.0], [1.0]], [5, 7])
        >>> [side.codes.tolist() for side in together(one, other)]
        [[0, 2], [1, 2]]
    """
    if first.vectors.shape[1] != second.vectors.shape[1]:
        raise InputError(
            f"reference: its vectors have {second.vectors.shape[1]} numbers, the others "
            f"{first.vectors.shape[1]}; both must come from the same encoder"
        )
    if (first.classes.dtype.kind == "U") != (second.classes.dtype.kind == "U"):
        raise InputError("reference: strings as labels on one side and numbers on the other; use one kind")
    classes = np.union1d(first.classes, second.classes)
    one, other = (
        Labelled(side.vectors, np.searchsorted(classes, side.classes)[side.codes], classes)
        for side in (first, second)
    )
    return one, other


def sampled(data: Labelled, at_most: int, rng: np.random.Generator) -> Labelled:
    """At most `at_most` of the vectors, at random without replacement, in their order.

    Example:
        >>> data = checked([[0.0], [1.0], [2.0]], [0, 1, 2])
        >>> len(sampled(data, 2, np.random.default_rng(0)).vectors)
        2
    """
    if len(data.vectors) <= at_most:
        return data
    kept = np.sort(rng.choice(len(data.vectors), at_most, replace=False))
    return Labelled(data.vectors[kept], data.codes[kept], data.classes)


def _plain(labels: ArrayLike, where: str) -> NDArray[Any]:
    array = np.asarray(labels)
    if array.dtype.kind == "T" or (
        array.dtype.kind == "O" and all(isinstance(label, str) for label in array.flat)
    ):
        array = array.astype(str)
    if array.dtype.kind not in "biuU":
        raise InputError(f"{where}: labels must be whole numbers or strings, not {array.dtype}")
    return array
