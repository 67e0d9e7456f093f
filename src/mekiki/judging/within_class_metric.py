"""Metric of the scatter within classes, with each example left out of its class in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mekiki.judging.covariance import ledoit_wolf_shrinkage, shrunk_whitening
from mekiki.judging.whitening import Whitening

Floats = NDArray[np.float64]

_LEAST_SHRINKAGE = 1e-6  # keeps directions without any scatter from lying infinitely far


@dataclass(frozen=True, eq=False)
class WithinClassMetric:
    """A map into vectors whose squared distance is D², divided by d.

    Items are divided by their standard deviation within classes plus the median of these, so that an item that hardly
    varied in a few examples does not decide (Tibshirani et al. 2002, doi 10.1073/pnas.082099299), and their covariance
    within classes is shrunk by Ledoit–Wolf. No class counts for more parts than the median class has.

    Attributes:
        whitening: the map.
        shrinkage: 0 to 1.
        shares: float64 `[C]`, for each class, a: its part with the difference r from its mean has brought a·rrᵀ to
            the covariance of whitened vectors, of which leaving it out takes a·n/(n − 1)·rrᵀ.
    """

    whitening: Whitening
    shrinkage: float
    shares: Floats

    @classmethod
    def euclidean(cls, vectors: NDArray[Any], members: NDArray[np.int64]) -> Self:
        """The plain distance, in vectors from the mean of the classes."""
        items, mean = vectors.shape[1], class_means(vectors.astype(np.float64), members).mean(axis=0)
        whitening = Whitening(
            mean, np.ones(items), np.zeros((items, 0)), np.zeros((0, items)), np.zeros(0), 1.0
        )
        return cls(whitening, 0.0, np.zeros(int(members.max()) + 1))

    @classmethod
    def fit(cls, vectors: NDArray[Any], members: NDArray[np.int64]) -> Self:
        """Learn from examples `[n, d]` and the number of the class of each."""
        counts = np.bincount(members)
        x = vectors.astype(np.float64)
        means, items = class_means(x, members), x.shape[1]
        apart = x - means[members]
        # A class with n parts has n − 1 degrees of freedom, and counts for no more than the median class.
        counted = np.minimum(counts, max(2, np.median(counts))) / counts
        weights = counted[members]
        freedom = float((counted * (counts - 1)).sum())
        scale, overall = np.full(items, np.inf), x.std(axis=0)
        within = np.sqrt(weights @ apart**2 / freedom) if freedom else np.zeros(items)
        noise = 1e-12 * np.abs(x).max(axis=0)
        within[within <= noise] = 0.0
        varying = overall > noise
        usual = float(np.median(within[varying])) if varying.any() else 0.0
        # Where nothing is known of scatter within classes, that of all parts stands in.
        scale[varying] = np.where(within + usual > 0, within + usual, overall)[varying]
        z, dimension = apart / scale, int(varying.sum())
        rows = z * np.sqrt(weights / freedom)[:, None] if freedom else np.zeros_like(z)
        empty, mean = np.zeros((items, 0)), means.mean(axis=0)
        if not rows.any():
            gain = float(1 / np.sqrt(max(dimension, 1)))
            whitening = Whitening(mean, scale, empty, np.zeros((0, items)), np.zeros(0), gain)
            return cls(whitening, 1.0, np.zeros(len(counts)))
        scatter = rows @ rows.T if len(rows) <= items else rows.T @ rows
        shrinkage = ledoit_wolf_shrinkage(
            np.einsum("nd,nd->n", z, z), scatter, dimension, weights=weights, least=_LEAST_SHRINKAGE
        )
        whitening = Whitening(mean, scale, empty, *shrunk_whitening(rows, shrinkage, dimension))
        return cls(whitening, shrinkage, (1 - shrinkage) * counted / freedom * dimension)


def leave_one_out(
    whitened: Floats, members: NDArray[np.int64], means: Floats, shares: Floats, to_mean: bool
) -> Floats:
    """D² of each part from the others of its class, by mean and covariance without it; NaN for a class of one.

    With W the whitening, r the part's difference from its class mean, g = n/(n − 1) and Σ the covariance, leaving it
    out gives Σ − a·g·rrᵀ, and by Sherman and Morrison
    δᵀ(Σ − a·g·rrᵀ)⁻¹δ = δᵀΣ⁻¹δ + a·g(δᵀΣ⁻¹r)²/(1 − a·g·rᵀΣ⁻¹r). The shrinkage is not estimated again.

    Args:
        whitened: `[n, d]`.
        members: class of each part, `[n]`.
        means: of the classes, `[C, d]`.
        shares: a of each part, `[n]`.
        to_mean: D² from the mean of the others, else from the nearest of them.
    """
    result = np.full(len(whitened), np.nan)
    for place in range(len(means)):
        own = np.flatnonzero(members == place)
        if len(own) < 2:
            continue
        grown = len(own) / (len(own) - 1)
        apart = whitened[own] - means[place]
        share = shares[own] * grown
        products = apart @ apart.T
        squares = np.diag(products)
        left = np.maximum(1 - share * squares, 1e-9)
        if to_mean:
            result[own] = grown**2 * squares / left
            continue
        # δ to each other part j: δ·r = r·r − rⱼ·r
        along = squares[:, None] - products
        between = np.asarray(cdist(whitened[own], whitened[own], "sqeuclidean"), np.float64)
        between += (share / left)[:, None] * along**2
        np.fill_diagonal(between, np.inf)
        result[own] = between.min(axis=1)
    return result


def class_means(vectors: Floats, members: NDArray[np.int64]) -> Floats:
    """Mean of each class: `[n, d]` → float64 `[C, d]`."""
    return np.stack([vectors[members == place].mean(axis=0) for place in range(int(members.max()) + 1)])
