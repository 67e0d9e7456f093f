"""Overlap between classes, a Mann–Whitney statistic of distances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mekiki.evaluation.distances import paired_distances
from mekiki.evaluation.labels import Codes, LabelledVectors

CLASSES_AT_MOST = 1_000
_DISTANCES = 40_000_000
_A_CELL = 50_000


class Overlap(NamedTuple):
    """The matrix float64 `[C, C]`, the class numbers of its rows, and those with a single member."""

    matrix: NDArray[np.float64]
    codes: Codes
    single: Codes


def overlap_between(data: LabelledVectors, rng: np.random.Generator) -> Overlap:
    """For classes i and j, the probability that two members of i lie farther apart than a member of i and one of j.

    θᵢⱼ = P(W > B) + ½ P(W = B), where W is the distance of two different random members of i and B the
    distance of a random member of i and one of j, drawn independently: 0 where class j is clear of class
    i, ½ where j cannot be distinguished from i. It is not symmetric, for a wide class may enclose a narrow one.
    The diagonal is ½; the row of a class with a single member is NaN.

    A cell uses all its pairs where they are at most M, otherwise M random ones drawn with replacement (likewise
    within a class), where M = 40,000,000 / C², at most 50,000. Beyond 1,000 classes the 1,000 largest are
    compared, so M is never below 40.

    Args:
        data: the vectors.
        rng: draws the pairs.

    Example:
        >>> from mekiki.evaluation.labels import check_vectors
        >>> data = check_vectors([[0.0], [4.0], [1.0], [1.0]], [0, 0, 1, 1])
        >>> overlap_between(data, np.random.default_rng(0)).matrix
        array([[0.5, 1. ],
               [0. , 0.5]])
    """
    counts = np.bincount(data.codes, minlength=len(data.classes))
    present = np.flatnonzero(counts)
    if len(present) > CLASSES_AT_MOST:
        present = np.sort(present[np.argsort(-counts[present], kind="stable")[:CLASSES_AT_MOST]])
    order = np.argsort(data.codes, kind="stable")
    start, size = (counts.cumsum() - counts)[present], counts[present]
    most = min(_A_CELL, _DISTANCES // len(present) ** 2)

    matrix = np.full((len(present), len(present)), np.nan)
    for i in np.flatnonzero(size > 1):
        first, second = _pairs_within(int(size[i]), most, rng)
        within = np.sort(paired_distances(data.vectors, order[start[i] + first], order[start[i] + second]))

        cell, number = _pair_numbers(size[i] * size, most, rng)
        first, second = np.divmod(number, size[cell])
        between = paired_distances(data.vectors, order[start[i] + first], order[start[cell] + second])
        beyond = 2 * len(within) - within.searchsorted(between) - within.searchsorted(between, "right")
        farther = np.bincount(cell, beyond, len(present)) / np.bincount(cell, minlength=len(present))
        matrix[i] = farther / (2 * len(within))
        matrix[i, i] = 0.5
    return Overlap(matrix, present, present[size < 2])


def _pairs_within(size: int, most: int, rng: np.random.Generator) -> tuple[Codes, Codes]:
    if size * (size - 1) // 2 <= most:
        first, second = np.triu_indices(size, 1)
        return first, second
    first, second = rng.integers(size, size=most), rng.integers(size - 1, size=most)
    return first, second + (second >= first)


def _pair_numbers(pairs: Codes, most: int, rng: np.random.Generator) -> tuple[Codes, Codes]:
    """The cell of each pair, and its number in the cell: all `pairs[cell]` if they are few, else `most` at random."""
    used = np.minimum(pairs, most)
    cell = np.repeat(np.arange(len(pairs)), used)
    each = np.arange(len(cell)) - np.repeat(used.cumsum() - used, used)
    return cell, np.where(pairs[cell] <= most, each, rng.integers(pairs[cell]))
