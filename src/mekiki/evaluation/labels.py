"""Checked vectors with class numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]


class LabelledVectors(NamedTuple):
    """Vectors `[N, d]`, class numbers `[N]` (0 … C − 1) and the C labels, ascending."""

    vectors: Vectors
    codes: Codes
    classes: NDArray[Any]

    def sample(self, at_most: int, rng: np.random.Generator) -> LabelledVectors:
        """At most `at_most` of the vectors, at random without replacement, in their order."""
        rows = sample_rows(len(self.vectors), at_most, rng)
        return LabelledVectors(self.vectors[rows], self.codes[rows], self.classes)


def check_vectors(
    vectors: ArrayLike, labels: ArrayLike, name: str = "vectors", least: int = 2
) -> LabelledVectors:
    """Vectors as float32 `[N, d]`, all finite, with one label each.

    Args:
        vectors: `[N, d]`, anything NumPy can read as float32; not copied where they are float32 already.
        labels: `[N]` integers, booleans or strings.
        name: of the vectors in an error message.
        least: smallest N allowed.

    Raises:
        InputError: a wrong shape or kind, too few, or values that are not finite.

    Example:
        >>> check_vectors([[0.0], [1.0], [2.0]], ["ok", "ng", "ok"]).codes
        array([1, 0, 1])
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] < 1 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{name}: need numbers of shape [N, d], one row a vector, not {array.dtype} {list(array.shape)}"
        )
    with np.errstate(over="ignore"):  # an overflow becomes inf and is counted below
        array = np.ascontiguousarray(array, np.float32)
    label_array = np.asarray(labels)
    if label_array.dtype.kind in "TO" and all(isinstance(label, str) for label in label_array.flat):
        label_array = label_array.astype(str)
    if label_array.dtype.kind not in "biuU":
        raise InputError(f"{name}: labels must be whole numbers or strings, not {label_array.dtype}")
    if label_array.shape != array.shape[:1]:
        raise InputError(
            f"{name}: {len(array)} vectors and labels of shape {list(label_array.shape)}; give one label a vector"
        )
    if len(array) < least:
        raise InputError(f"{name}: {len(array)} vector(s) cannot be compared; give at least {least}")
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise InputError(
            f"{name}: {bad} of {len(array)} vectors hold NaN or infinity; "
            "leave them out, or train again if the network diverged"
        )
    classes, codes = np.unique(label_array, return_inverse=True)
    return LabelledVectors(array, codes.astype(np.int64), classes)


def share_classes(
    data: LabelledVectors, reference: LabelledVectors
) -> tuple[LabelledVectors, LabelledVectors]:
    """The same vectors, with class numbers that mean the same label on both sides.

    Raises:
        InputError: vectors of different lengths, or strings as labels on one side and numbers on the other.

    Example:
        >>> data, reference = check_vectors([[0.0], [1.0]], [3, 7]), check_vectors([[0.0], [1.0]], [5, 7])
        >>> [side.codes.tolist() for side in share_classes(data, reference)]
        [[0, 2], [1, 2]]
    """
    lengths = [side.vectors.shape[1] for side in (data, reference)]
    if lengths[0] != lengths[1]:
        raise InputError(
            f"reference: its vectors have {lengths[1]} numbers, the others {lengths[0]}; "
            "both must come from the same encoder"
        )
    if (data.classes.dtype.kind == "U") != (reference.classes.dtype.kind == "U"):
        raise InputError("reference: strings as labels on one side and numbers on the other; use one kind")
    classes = np.union1d(data.classes, reference.classes)
    first, second = (
        LabelledVectors(side.vectors, np.searchsorted(classes, side.classes)[side.codes], classes)
        for side in (data, reference)
    )
    return first, second


def sample_rows(count: int, at_most: int, rng: np.random.Generator) -> Codes:
    """Ascending rows of a random sample of at most `at_most` of `count` rows."""
    if count <= at_most:
        return np.arange(count)
    return np.sort(rng.choice(count, at_most, replace=False))
