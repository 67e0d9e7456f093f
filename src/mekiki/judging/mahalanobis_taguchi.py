"""MT and MTA, the Mahalanobis–Taguchi methods: the distance of a vector from the unit space of good parts `[n, k]`.

It is about 1 for a part like those in the unit space and grows without end for others; no NG part is needed.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.covariance import MinCovDet
from sklearn.utils.validation import check_is_fitted

from mekiki.errors import DataWarning, InputError, not_known
from mekiki.judging.unit_space import (
    Moments,
    QuadraticForm,
    blocks,
    check_items,
    item_names,
    refuse_not_finite,
    shrinkage,
    unit_moments,
)

Floats = NDArray[np.float64]

COVARIANCES = ("auto", "empirical", "ledoit-wolf", "robust", "pseudo-inverse")
CONSTANT_ITEMS = ("leave-out", "infinite")
SAMPLES_PER_ITEM = 3
"""Parts per item that MT texts ask for; with fewer, `covariance="auto"` shrinks."""
SINGULAR = 1e-12
"""Smallest eigenvalue of a correlation matrix over its largest, below which it has no usable inverse."""


class DistanceEstimator(OutlierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Base of MT, MTA and RT: from a squared distance to a verdict, as scikit-learn's outlier detectors.

    Attributes:
        offset_: the threshold as a score: a vector is an outlier if `score_samples` lies below it.
    """

    threshold: float
    offset_: float

    @abstractmethod
    def squared_distance(self, X: ArrayLike) -> Floats:
        """D² of each vector: `[N, k]` → float64 `[N]`, never clamped."""

    @abstractmethod
    def contributions(self, X: ArrayLike) -> Floats:
        """The share of each item in D²: `[N, k]` → float64 `[N, k]`, whose rows sum to D²."""

    def distance(self, X: ArrayLike) -> Floats:
        """D of each vector, the square root of `squared_distance`: `[N, k]` → float64 `[N]`, never clamped.

        Raises:
            InputError: not k numbers a vector, or numbers that are NaN or infinite.
        """
        squared = self.squared_distance(X)
        return np.sqrt(squared, out=squared)

    def score_samples(self, X: ArrayLike) -> Floats:
        """−D²: the higher, the more like the unit space, as in scikit-learn's `EllipticEnvelope`."""
        return -self.squared_distance(X)

    def decision_function(self, X: ArrayLike) -> Floats:
        """Threshold − D²: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """+1 where D² is at most the threshold, −1 beyond it."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def _check_threshold(self) -> None:
        threshold = self.threshold
        known = isinstance(threshold, int | float | np.number) and not isinstance(threshold, bool)
        if not known or not threshold > 0:
            raise InputError(
                f"threshold must be a number above 0 (it is compared with D²), not {threshold!r}"
            )
        self.offset_ = -float(threshold)


class _StandardisedDistance(DistanceEstimator):
    """MT and MTA: D² = ‖(x − m)W‖², where the scale of the items is part of W."""

    constant_items: str
    n_features_in_: int
    varying_: NDArray[np.bool_]
    form_: QuadraticForm

    def squared_distance(self, X: ArrayLike) -> Floats:
        """D² of each vector: `[N, k]` → float64 `[N]`, never clamped.

        Block by block, so that the memory needed does not grow with N beyond the result.

        Raises:
            InputError: not k numbers a vector, or numbers that are NaN or infinite.
        """
        check_is_fitted(self)
        vectors = check_items(self, X)
        squared = self.form_.squared_length(vectors)
        if not np.isfinite(squared).all():
            refuse_not_finite(self, vectors)  # and where all are finite, D² overflowed and is infinite
        if self.constant_items == "infinite" and not self.varying_.all():
            for part, departed in self._departures(vectors):
                squared[part][departed.any(axis=1)] = math.inf
        return squared

    def contributions(self, X: ArrayLike) -> Floats:
        """The share of each item in D²: `[N, k]` → float64 `[N, k]`, whose rows sum to D².

        zᵢ·(Az)ᵢ/k, where A is the inverse of R (of MTA: its adjugate): the Shapley value of the item in D² if items
        that are left out stand at their mean (Mayrhofer and Filzmoser 2022, arXiv:2210.10063). It is **negative** where
        the item's value agrees with the other items better than the mean would.

        Raises:
            InputError: see `squared_distance`.
        """
        check_is_fitted(self)
        vectors = check_items(self, X)
        shares = self.form_.contributions(vectors)
        if not np.isfinite(shares).all():
            refuse_not_finite(self, vectors)
        if self.constant_items == "infinite" and not self.varying_.all():
            constant = np.flatnonzero(~self.varying_)
            for part, departed in self._departures(vectors):
                rows, columns = np.nonzero(departed)
                shares[part][rows, constant[columns]] = math.inf
        return shares

    def _departures(self, vectors: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
        """Whether the items that are constant in the unit space have another value, a block of rows at a time."""
        constant = ~self.varying_
        centre = self.mean_[constant]
        for part in blocks(len(vectors), vectors.shape[1]):
            value = vectors[part][:, constant].astype(np.float64)
            yield part, np.abs(value - centre) > self._noise[constant]

    def _fit_moments(self, X: ArrayLike) -> tuple[NDArray[Any], Moments]:
        """Check the settings and the unit space; learn its mean and which items vary."""
        self._check_threshold()
        if self.constant_items not in CONSTANT_ITEMS:
            raise not_known("constant_items", self.constant_items, CONSTANT_ITEMS)
        vectors = check_items(self, X, fit=True)
        moments = unit_moments(self, vectors)
        self.n_samples_ = len(vectors)
        self.varying_ = moments.varying
        self._noise = moments.noise
        if not moments.varying.any():
            raise InputError(
                f"X: all {len(vectors)} vectors of the unit space are equal, so there is no scale to measure "
                "a distance by; give good parts that differ as good parts do"
            )
        if not moments.varying.all():
            effect = "they are left out of the distance"
            if self.constant_items == "infinite":
                effect = "a vector that differs there lies infinitely far"
            names = item_names(self)[~moments.varying]
            warnings.warn(
                f"{len(names)} of {len(moments.varying)} items are constant in the unit space "
                f"({', '.join(map(str, names[:5]))}{', …' if len(names) > 5 else ''}): {effect}",
                DataWarning,
                stacklevel=3,
            )
        return vectors, moments


class MT(_StandardisedDistance):
    """The Mahalanobis–Taguchi method: the Mahalanobis distance from the unit space, divided by √k.

    z = (x − m)/s with s of n − 1 degrees of freedom, R the correlation of z, and D² = zᵀR⁻¹z/k. Over the unit
    space the mean of D² is (n − 1)/n, whatever k is (Taguchi and Jugulum 2002, *The Mahalanobis–Taguchi
    Strategy*). This holds for `"empirical"` and `"pseudo-inverse"`; shrunk and robust estimates keep about to it.

    Args:
        covariance: how R is estimated.
            `"empirical"`: as it is; refused where R is singular.
            `"ledoit-wolf"`: R pulled towards no correlation by the share that Ledoit and Wolf (2004,
            doi 10.1016/S0047-259X(03)00096-4) find for z; works with fewer parts than items.
            `"robust"`: mean, scale and R from the half of the unit space that scatters least (minimum covariance
            determinant, scikit-learn's `MinCovDet`), for a unit space that holds some bad parts.
            `"pseudo-inverse"`: Moore–Penrose; k becomes the rank of R, and a departure in a direction in which the
            unit space does not vary at all is **not seen**.
            `"auto"`: Ledoit–Wolf with fewer than three parts an item or a singular R, else empirical.
        threshold: D² up to which `predict` says +1. The default is the customary 4. It promises **no rate of
            false rejects**; `mekiki.judging.conformal` finds a threshold that does.
        constant_items: what to do with items that have one value in the whole unit space, which gives them no
            scale. `"leave-out"`: they bring nothing to D, and k counts the other items. `"infinite"`: a vector with
            another value there has D = ∞. `fit` warns about them either way.
        random_state: seed of the subsets that `"robust"` draws.

    Attributes:
        covariance_: the estimate used; never `"auto"`.
        reason_: why, in a sentence.
        mean_: m, float64 `[k]`.
        scale_: s, float64 `[k]`; 0 for constant items.
        varying_: whether each item varies in the unit space, bool `[k]`.
        correlation_: R as used, of the items that vary.
        shrinkage_: how far R was pulled towards no correlation, 0 to 1.
        rank_: directions in which distance is measured.
        form_: the `QuadraticForm` that D² is: mean and whitening matrix.
        n_samples_: n.
        n_features_in_: k.
        offset_: −threshold.

    Vectors are standardised and multiplied a block at a time. Where they are float32 and R is well-conditioned, so
    is the arithmetic; the result agrees with float64 to 1e-5.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> flowers = load_iris().data
        >>> mt = MT().fit(flowers[60:100])
        >>> mt.distance(flowers[[60, 0, 100]]).round(3)
        array([1.351, 5.061, 3.375])
        >>> mt.predict(flowers[[60, 0, 100]])
        array([ 1, -1, -1])
        >>> mt.contributions(flowers[[0]]).round(2)
        array([[-1.46,  5.89, 10.15, 11.02]])
        >>> mt.reason_
        'R as it is: 40 parts for 4 items, at least three an item, and R has an inverse'
    """

    def __init__(
        self,
        covariance: str = "auto",
        *,
        threshold: float = 4.0,
        constant_items: str = "leave-out",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.covariance = covariance
        self.threshold = threshold
        self.constant_items = constant_items
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn the unit space.

        Args:
            X: the vectors of good parts, `[n, k]`, n ≥ 2.
            y: not used.

        Raises:
            InputError: settings or vectors cannot be used, or R is singular and `covariance` cannot do with that.
        """
        if self.covariance not in COVARIANCES:
            raise not_known("covariance", self.covariance, COVARIANCES)
        vectors, moments = self._fit_moments(X)
        if self.covariance == "robust":
            moments = self._robust(vectors, moments)
        self.covariance_, self.reason_ = self._choose(moments)
        self.mean_, self.scale_ = moments.mean, moments.scale
        self.shrinkage_ = shrinkage(vectors, moments) if self.covariance_ == "ledoit-wolf" else 0.0
        self.correlation_ = (1 - self.shrinkage_) * moments.correlation
        self.correlation_[np.diag_indices_from(self.correlation_)] = 1.0
        values, directions = np.linalg.eigh(self.correlation_)
        kept = values > SINGULAR * values[-1]
        self.rank_ = int(kept.sum())
        if self.rank_ < len(values) and self.covariance_ != "pseudo-inverse":
            raise InputError(
                f"X: R of {moments.n} parts and {len(values)} items is singular (rank {self.rank_}), so "
                f'{self.covariance_} covariance has no inverse; use covariance="ledoit-wolf" or "pseudo-inverse", '
                "or leave out items that follow from others"
            )
        self.form_ = QuadraticForm.of(moments, directions[:, kept], 1 / values[kept] / self.rank_)
        return self

    def _choose(self, moments: Moments) -> tuple[str, str]:
        parts, items = moments.n, len(moments.correlation)
        if self.covariance != "auto":
            return self.covariance, f"{self.covariance}, as asked for"
        if parts <= items:
            return "ledoit-wolf", (
                f"shrunk (Ledoit–Wolf): {parts} parts for {items} items, so R as it is has no inverse"
            )
        if parts < SAMPLES_PER_ITEM * items:
            # E D² of a new part over (n − 1)/n of the old ones, if items are normally distributed.
            left = parts - items - 2
            times = f"{(parts + 1) / left:.1f} times" if left > 0 else "many times"
            return "ledoit-wolf", (
                f"shrunk (Ledoit–Wolf): {parts} parts for {items} items, fewer than three an item; with R as it is, "
                f"D² of new good parts would be about {times} that of the unit space"
            )
        values = np.linalg.eigvalsh(moments.correlation)
        if values[0] <= SINGULAR * values[-1]:
            return "ledoit-wolf", (
                f"shrunk (Ledoit–Wolf): some of the {items} items follow from others, so R as it is has no inverse"
            )
        return "empirical", (
            f"R as it is: {parts} parts for {items} items, at least three an item, and R has an inverse"
        )

    def _robust(self, vectors: NDArray[Any], moments: Moments) -> Moments:
        """Mean, scale and correlation of the half that scatters least, by the items that vary."""
        varying = moments.varying
        if moments.n < 2 * (int(varying.sum()) + 1):
            raise InputError(
                f"X: {moments.n} parts for {int(varying.sum())} items are too few for robust covariance, which needs "
                'more than two an item; give more parts, or use covariance="ledoit-wolf"'
            )
        z = moments.standardise(vectors)
        with warnings.catch_warnings():  # a singular subset is refused below, in this module's words
            warnings.simplefilter("ignore")
            estimate = MinCovDet(random_state=self.random_state).fit(z)
        variance = np.diag(estimate.covariance_)
        if not variance.min() > 0:
            raise InputError(
                "X: robust covariance found a half of the parts that does not vary in some item; use "
                'covariance="ledoit-wolf"'
            )
        mean, scale = moments.mean.copy(), moments.scale.copy()
        mean[varying] += estimate.location_ * scale[varying]
        scale[varying] *= np.sqrt(variance)
        correlation = estimate.covariance_ / np.sqrt(np.outer(variance, variance))
        return Moments(moments.n, mean, scale, varying, moments.noise, correlation)


class MTA(_StandardisedDistance):
    """The Mahalanobis–Taguchi adjoint method: the adjugate of R in place of its inverse.

    D² = zᵀ·adj(R)·z/k, with z as in `MT` (Taguchi and Jugulum 2002). For a regular R that is det(R) times D² of
    MT; for one of rank k − 1, which has no inverse, it still measures, though only along the one direction in
    which the unit space does not vary. For a smaller rank the adjugate is zero, and `fit` refuses; `MT` with
    `covariance="ledoit-wolf"` is then the better choice. Because of det(R), D is not about 1 on the unit space, and a
    threshold that suits one unit space means nothing for another.

    Args:
        threshold: D² up to which `predict` says +1. The customary 4 is far too high where items are strongly
            correlated; `mekiki.judging.conformal` finds one that promises a rate of false rejects.
        constant_items: `"leave-out"` or `"infinite"`, see `MT`.

    Attributes:
        adjugate_: adj(R) of the items that vary.
        mean_, scale_, varying_, correlation_, form_, n_samples_, n_features_in_, offset_: see `MT`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> flowers = load_iris().data[:, [0, 1, 2, 3, 0]]  # the last item repeats the first: R has no inverse
        >>> MTA().fit(flowers[60:100]).distance(flowers[[60, 0]]).round(6)
        array([0., 0.])
        >>> flowers[0, 4] += 0.1
        >>> bool(MTA().fit(flowers[60:100]).distance(flowers[[0]])[0] > 0.01)
        True
    """

    def __init__(self, *, threshold: float = 4.0, constant_items: str = "leave-out") -> None:
        self.threshold = threshold
        self.constant_items = constant_items

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn the unit space.

        Args:
            X: the vectors of good parts, `[n, k]`, n ≥ 2.
            y: not used.

        Raises:
            InputError: settings or vectors cannot be used, or the adjugate is zero.
        """
        _, moments = self._fit_moments(X)
        self.mean_, self.scale_, self.correlation_ = moments.mean, moments.scale, moments.correlation
        values, directions = np.linalg.eigh(self.correlation_)
        values[values <= SINGULAR * values[-1]] = 0.0
        weights = products_of_others(values)
        if not weights.max() > 0:
            rank = np.count_nonzero(values)
            why = f"has rank {rank}" if rank < len(values) - 1 else "has a determinant too small for a number"
            raise InputError(
                f"X: R of {moments.n} parts and {len(values)} items {why}: its adjugate is zero, and so is every "
                'distance; use MT(covariance="ledoit-wolf"), or fewer items'
            )
        self.adjugate_ = (directions * weights) @ directions.T
        kept = weights > 0
        self.form_ = QuadraticForm.of(moments, directions[:, kept], weights[kept] / len(values))
        return self


def products_of_others(values: Floats) -> Floats:
    """∏ⱼ≠ᵢ λⱼ for every i, without dividing."""
    before = np.concatenate([[1.0], np.cumprod(values[:-1])])
    after = np.concatenate([np.cumprod(values[:0:-1])[::-1], [1.0]])
    products: Floats = before * after
    return products
