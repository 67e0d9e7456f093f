"""`Embedder`, a scikit-learn estimator that learns to embed labelled examples as vectors."""

from mekiki.embedder.distance import Distance
from mekiki.embedder.estimator import Embedder

__all__ = ["Distance", "Embedder"]
