"""Euclidean distances in blocks of bounded size, in double precision, exactly 0 between coincident vectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mekiki.evaluation.labels import Codes, Vectors

_BLOCK = 1 << 21  # numbers in a block: 16 MiB as float64
_DIRECT_UP_TO = 4  # dimensions; beyond, a matrix product is faster than differences
_CANCELLED = 1e-10  # squared distance over squared norms, below which a matrix product has lost its digits


def paired_distances(vectors: Vectors, first: Codes, second: Codes) -> NDArray[np.float64]:
    """Distance between `vectors[first[p]]` and `vectors[second[p]]` for every p.

    Example:
        >>> paired_distances(np.float32([[0, 0], [3, 4]]), np.array([0, 1]), np.array([1, 1]))
        array([5., 0.])
    """
    distances = np.empty(len(first))
    step = max(1, _BLOCK // vectors.shape[1])
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        gap = np.subtract(vectors[first[part]], vectors[second[part]], dtype=np.float64)
        distances[part] = np.sqrt(np.einsum("pd,pd->p", gap, gap))
    return distances


def distance_rows(vectors: Vectors, upper: bool = False) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """All distances, a block of rows at a time.

    From |a − b|² = |a|² + |b|² − 2ab on centred vectors; pairs whose difference is lost in rounding are computed
    directly.

    Args:
        vectors: float32 `[N, d]`.
        upper: leave out the columns before the block's first row.

    Yields:
        First row `s` of the block and distances `[rows, N]`, or `[rows, N − s]` if `upper`.

    Example:
        >>> [(start, block.tolist()) for start, block in distance_rows(np.float32([[0, 0], [3, 4]]))]
        [(0, [[0.0, 5.0], [5.0, 0.0]])]
    """
    from scipy.spatial.distance import cdist

    # Rounded to float32, so that equal vectors centre to 0.
    centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = np.subtract(vectors, centre, dtype=np.float64)
    norms = np.einsum("nd,nd->n", centred, centred)
    count, dimensions = vectors.shape
    start = 0
    while start < count:
        left = start if upper else 0
        stop = min(count, start + max(1, _BLOCK // (count - left)))
        rows, columns = centred[start:stop], centred[left:]
        if dimensions <= _DIRECT_UP_TO:
            yield start, cdist(rows, columns)
        else:
            squared = rows @ columns.T
            squared *= -2
            squared += norms[left:]
            squared += norms[start:stop, None]
            lost = np.flatnonzero(squared < _CANCELLED * norms.max())
            row, column = np.divmod(lost, len(columns))
            squared.ravel()[lost] = paired_distances(vectors, row + start, column + left) ** 2
            yield start, np.sqrt(squared, out=squared)
        start = stop
