"""The most confused pairs: the closest of different classes, and the farthest of one class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.evaluation.distances import distance_rows
from mekiki.evaluation.labels import Codes, check_vectors, sample_rows

VECTORS_AT_MOST = 10_000


class RankedPairs(NamedTuple):
    """Pairs of vectors, the most confused first.

    Attributes:
        indices: int64 `[P, 2]`, rows of the vectors given.
        distances: float64 `[P]`.
    """

    indices: Codes
    distances: NDArray[np.float64]


def confused_pairs(
    vectors: ArrayLike, labels: ArrayLike, count: int = 12, seed: int = 0
) -> tuple[RankedPairs, RankedPairs]:
    """The closest pairs of different classes and the farthest pairs of one class.

    Greedy: the best pair first, then the best of those that share no vector with it, and so on. Beyond 10,000
    vectors, 10,000 random ones are searched. Distances are computed a block of rows at a time.

    Args:
        vectors: float32 `[N, d]`.
        labels: `[N]` integers or strings.
        count: pairs in each list; fewer where there are not that many.
        seed: of the sample of vectors.

    Returns:
        Different-class pairs, closest first, and same-class pairs, farthest first.

    Raises:
        InputError: unusable vectors or labels, or `count` less than 1.

    Example:
        >>> close, far = confused_pairs([[0.0], [1.0], [5.0], [1.5], [9.0]], [0, 0, 0, 1, 1], count=1)
        >>> close, far
        (RankedPairs(indices=array([[1, 3]]), distances=array([0.5])),
         RankedPairs(indices=array([[3, 4]]), distances=array([7.5])))
    """
    if count < 1:
        raise InputError(f"confused_pairs: count is {count}; ask for at least 1")
    data = check_vectors(vectors, labels)
    sample = sample_rows(len(data.vectors), VECTORS_AT_MOST, np.random.default_rng(seed))
    codes = data.codes[sample]

    # Before the last pair is chosen, 2 (count − 1) vectors are used: no vector needs more candidates than these.
    depth = min(2 * count - 1, len(sample))
    different, same = [], []
    for start, block in distance_rows(data.vectors[sample]):
        rows = np.arange(start, start + len(block))
        alike = codes[rows, None] == codes
        different.append(_smallest(np.where(alike, np.inf, block), rows, depth))
        alike[np.arange(len(rows)), rows] = False
        same.append(_smallest(np.where(alike, -block, np.inf), rows, depth))
    close, far = _greedy(different, sample, count), _greedy(same, sample, count)
    return close, RankedPairs(far.indices, -far.distances)


def _smallest(block: NDArray[np.float64], rows: Codes, depth: int) -> tuple[Codes, NDArray[np.float64]]:
    columns = np.argpartition(block, depth - 1, axis=1)[:, :depth]
    values = np.take_along_axis(block, columns, axis=1)
    at, place = np.nonzero(np.isfinite(values))
    return np.stack([rows[at], columns[at, place]], axis=1), values[at, place]


def _greedy(candidates: list[tuple[Codes, NDArray[np.float64]]], sample: Codes, count: int) -> RankedPairs:
    pairs = np.sort(np.concatenate([pairs for pairs, _ in candidates]), axis=1)
    values = np.concatenate([values for _, values in candidates])
    free = np.ones(len(sample), bool)
    chosen: list[int] = []
    for place in np.lexsort((pairs[:, 1], pairs[:, 0], values)):
        if free[pairs[place]].all():
            free[pairs[place]] = False
            chosen.append(int(place))
            if len(chosen) == count:
                break
    return RankedPairs(sample[pairs[chosen].reshape(-1, 2)], values[chosen])
