"""kNN accuracy and recall@k from one neighbour search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mekiki.evaluation.labels import Codes, LabelledVectors, sample_rows

QUERIES_AT_MOST = 20_000


class NeighbourFigures(NamedTuple):
    """Accuracy of the kNN vote, recall at each k asked for, and the number of queries."""

    accuracy: float
    recall: dict[int, float]
    queries: int


def neighbour_figures(
    data: LabelledVectors,
    reference: LabelledVectors | None,
    k: int,
    recall_at: Sequence[int],
    rng: np.random.Generator,
) -> NeighbourFigures:
    """Accuracy of the kNN vote, and recall@k.

    One search for the `max(k, *recall_at)` nearest reference vectors (Euclidean) serves both. The vote of the
    k nearest goes to the most frequent label, ties to the smallest label, as in scikit-learn's
    `KNeighborsClassifier`. Recall@k is the share of queries with at least one vector of their label among the
    k nearest.

    Args:
        data: the queries; a random sample where they are more than 20,000.
        reference: the vectors searched, with the same class numbers; if None, the other vectors of `data`.
        k: voters.
        recall_at: the k of recall@k.
        rng: draws the queries.

    Example:
        >>> from mekiki.evaluation.labels import check_vectors
        >>> data = check_vectors([[0.0], [1.0], [5.0], [5.5], [2.5]], [0, 0, 1, 1, 1])
        >>> neighbour_figures(data, None, 1, (1, 4), np.random.default_rng(0))
        NeighbourFigures(accuracy=0.8, recall={1: 0.8, 4: 1.0}, queries=5)
    """
    from sklearn.neighbors import NearestNeighbors

    queries = sample_rows(len(data.vectors), QUERIES_AT_MOST, rng)
    gallery = data if reference is None else reference
    depth = max([k, *recall_at])
    search = NearestNeighbors(n_neighbors=depth + (reference is None)).fit(gallery.vectors)
    neighbours = search.kneighbors(data.vectors[queries], return_distance=False)
    if reference is None:
        neighbours = _without_self(neighbours, queries)
    codes = gallery.codes[neighbours]
    truth = data.codes[queries]
    hit = np.cumsum(codes == truth[:, None], axis=1) > 0
    recall = {at: float(hit[:, at - 1].mean()) for at in recall_at}
    return NeighbourFigures(float((_vote(codes[:, :k]) == truth).mean()), recall, len(queries))


def _without_self(neighbours: Codes, queries: Codes) -> Codes:
    """Drop each query from its neighbours; where equal vectors displaced it, drop the farthest."""
    own = neighbours == queries[:, None]
    own[:, -1] |= ~own.any(axis=1)
    others: Codes = neighbours[~own].reshape(len(neighbours), -1)
    return others


def _vote(codes: Codes) -> Codes:
    """The most frequent class number of each row, the smallest of several."""
    votes = np.zeros(codes.shape, np.int64)
    for column in codes.T:
        votes += codes == column[:, None]
    winner = np.argmax(votes * (codes.max() + 1) - codes, axis=1)
    return np.take_along_axis(codes, winner[:, None], axis=1)[:, 0]
