"""What the nearest vectors say: kNN accuracy and recall@k from one neighbour search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mekiki.evaluation.labels import Codes, Labelled

QUERIES_AT_MOST = 20_000


class NeighbourFigures(NamedTuple):
    """Share of right kNN votes, recall at each k asked for, and how many vectors were asked."""

    accuracy: float
    recall: dict[int, float]
    queries: int


def neighbour_figures(
    data: Labelled, reference: Labelled | None, k: int, recall_at: Sequence[int], rng: np.random.Generator
) -> NeighbourFigures:
    """Accuracy of the kNN vote, and recall@k.

    One search for the `max(k, *recall_at)` nearest reference vectors (Euclidean) serves both. The vote of the
    k nearest goes to the most frequent label, ties to the smallest label, as in scikit-learn's
    `KNeighborsClassifier`. Recall@k is the share of queries with at least one vector of their label among the
    k nearest.

    Args:
        data: the queries; at most 20,000 of them, drawn at random, are asked.
        reference: the vectors searched, with the same class numbers; if None the queries' own side, each
            query left out by its index, so that a twin of it still counts.
        k: voters.
        recall_at: the k of recall@k.
        rng: draws the queries.

    Returns:
        The figures.

    Example:
        >>> from mekiki.evaluation.labels import checked
        >>> data = checked([[0.0], [1.0], [5.0], [5.5], [2.5]], [0, 0, 1, 1, 1])
        >>> neighbour_figures(data, None, 1, (1, 4), np.random.default_rng(0))
        NeighbourFigures(accuracy=0.8, recall={1: 0.8, 4: 1.0}, queries=5)
    """
    from sklearn.neighbors import NearestNeighbors

    asked = np.arange(len(data.vectors))
    if len(asked) > QUERIES_AT_MOST:
        asked = np.sort(rng.choice(len(asked), QUERIES_AT_MOST, replace=False))
    gallery = data if reference is None else reference
    depth = max([k, *recall_at])
    search = NearestNeighbors(n_neighbors=depth + (reference is None)).fit(gallery.vectors)
    found = search.kneighbors(data.vectors[asked], return_distance=False)
    if reference is None:
        found = _without_self(found, asked)
    codes = gallery.codes[found]
    truth = data.codes[asked]
    hit = np.cumsum(codes == truth[:, None], axis=1) > 0
    recall = {at: float(hit[:, at - 1].mean()) for at in recall_at}
    return NeighbourFigures(float((_vote(codes[:, :k]) == truth).mean()), recall, len(asked))


def _without_self(found: Codes, asked: Codes) -> Codes:
    """Drop the query from its own neighbours, or the farthest one where equal vectors crowded the query out."""
    own = found == asked[:, None]
    own[:, -1] |= ~own.any(axis=1)
    others: Codes = found[~own].reshape(len(found), -1)
    return others


def _vote(codes: Codes) -> Codes:
    votes = np.zeros(codes.shape, np.int64)
    for column in codes.T:
        votes += codes == column[:, None]
    winner = np.argmax(votes * (codes.max() + 1) - codes, axis=1)  # most votes, then the smallest label
    voted: Codes = codes[np.arange(len(codes)), winner]
    return voted
