"""An index of very many vectors, by which a query is compared with those in its neighbourhood only."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RECALL = 0.99
"""Share of the ten nearest that is found in the sample that sets the number of cells searched."""
_SAMPLE_PER_CELL = 40
_TRIED = 50


@dataclass(frozen=True, eq=False)
class CellIndex:
    """Inverted lists of vectors by k-means cells.

    Attributes:
        centres: float32 `[C, d]`, of the cells.
        starts: int64 `[C + 1]`, where each cell begins.
        rows: int64 `[N]`, the original row of each vector.
        vectors: float32 `[N, d]`, less their mean, cell by cell.
        squares: float32 `[N]`, their squared lengths.
        mean: float32 `[d]`.
        probes: how many cells are searched for a query.

    References:
        Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011.
    """

    centres: Floats
    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    vectors: Floats
    squares: Floats
    mean: Floats
    probes: int

    @classmethod
    def of(cls, vectors: Floats, *, seed: int = 0) -> CellIndex:
        """Build it: √N cells by k-means on a sample.

        The number of cells searched is measured: with it, `RECALL` of the ten nearest are found for sampled vectors,
        each moved half way to one of its neighbours.

        Args:
            vectors: float32 `[N, d]`.
            seed: of the sample.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> vectors = (rng.normal(size=(9, 8))[rng.integers(9, size=5000)] * 9 + rng.normal(size=(5000, 8)))
            >>> index = CellIndex.of(vectors.astype(np.float32))
            >>> int(index.nearest(vectors[7].astype(np.float32), 3)[0])
            7
        """
        from sklearn.cluster import MiniBatchKMeans  # slow to import, and seldom needed

        rng = np.random.default_rng(seed)
        number = max(1, math.isqrt(len(vectors)))
        mean = vectors.mean(axis=0)
        sample = vectors[np.sort(rng.permutation(len(vectors))[: _SAMPLE_PER_CELL * number])] - mean
        means = MiniBatchKMeans(number, batch_size=4096, n_init=1, max_iter=30, random_state=seed).fit(sample)
        centres = np.ascontiguousarray(means.cluster_centers_, np.float32)
        lengths = np.einsum("cd,cd->c", centres, centres)
        blocks = np.array_split(vectors, len(vectors) // 65536 + 1)
        cells = np.concatenate([np.argmin(lengths - 2 * ((b - mean) @ centres.T), axis=1) for b in blocks])
        rows = np.argsort(cells, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=number))]).astype(np.int64)
        ordered = vectors[rows]
        ordered -= mean
        squares = np.einsum("nd,nd->n", ordered, ordered)
        exact = cls(centres, starts, rows, ordered, squares, mean, number)
        return replace(exact, probes=exact._measure_probes(rng))

    def _measure_probes(self, rng: np.random.Generator) -> int:
        """How many cells to search."""
        needed = []
        cell_of = np.empty(len(self.rows), np.int64)
        cell_of[self.rows] = np.repeat(np.arange(len(self.centres)), np.diff(self.starts))
        for row in rng.integers(len(self.rows), size=_TRIED):
            query = self.vectors[row] + self.mean
            near = self.nearest(query, 11)
            query = (query + self.vectors[np.flatnonzero(self.rows == near[-1])[0]] + self.mean) / 2
            order = np.argsort(self._distances_to_centres(query - self.mean))
            place = np.empty(len(order), np.int64)
            place[order] = np.arange(len(order))
            needed += (place[cell_of[self.nearest(query, 10)]] + 1).tolist()
        return int(np.quantile(needed, RECALL, method="higher"))

    def nearest(self, query: Floats, k: int) -> NDArray[np.int64]:
        """Rows of about the k nearest vectors, the nearest first, in single precision."""
        centred = query - self.mean
        order = np.argsort(self._distances_to_centres(centred))
        sizes = np.cumsum(np.diff(self.starts)[order])
        probes = max(self.probes, int(np.searchsorted(sizes, 2 * k)) + 1)  # enough vectors to choose from
        parts = [slice(self.starts[cell], self.starts[cell + 1]) for cell in np.sort(order[:probes])]
        near = np.concatenate([self.squares[part] - 2 * (self.vectors[part] @ centred) for part in parts])
        rows = np.concatenate([self.rows[part] for part in parts])
        if k < len(near):
            best = np.argpartition(near, k - 1)[:k]
            near, rows = near[best], rows[best]
        return rows[np.argsort(near, kind="stable")]

    def _distances_to_centres(self, centred: Floats) -> Floats:
        """Squared distances, less the squared length of the query."""
        distances: Floats = np.einsum("cd,cd->c", self.centres, self.centres) - 2 * (self.centres @ centred)
        return distances
