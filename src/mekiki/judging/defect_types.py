"""`DefectTypeClassifier`: which kind of defect a part shows, by the class whose examples lie nearest, or none of these.

It learns from a handful of examples a class, beside as many good parts as there are, and takes new classes later.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mekiki.errors import DataWarning, InputError, not_known
from mekiki.judging.conformal import p_values, parts_needed
from mekiki.judging.mahalanobis_taguchi import checked_items, refuse_not_finite

Floats = NDArray[np.float64]

ANCHORS = ("mean", "each", "knn")
METRICS = ("within", "euclidean")
NONE = "none of these"
"""What `predict` says of a part that is like no class, where classes go by names; where they are numbers, −1."""

_SPREAD_PARTS = 300
"""Parts from which on a class's own spread outweighs the one that all classes share; of 30, 100 and 300 the best on
the magnetic tiles with 20 examples a class, and no worse with 5."""
_LEAST_SHRINKAGE = 1e-6  # keeps directions without any scatter from lying infinitely far


class DefectTypeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Names the class whose anchor is nearest, in the metric of the scatter within classes.

    **Metric.** Items are divided by their standard deviation within classes plus the median of these, so that an
    item that hardly varied in a few examples does not decide (Tibshirani et al. 2002, doi 10.1073/pnas.082099299).
    Their covariance within classes is shrunk as Ledoit and Wolf (2004, doi 10.1016/S0047-259X(03)00096-4) do; with
    mean anchors that makes Fisher's discriminant. No class counts for more parts than the median class has: ten
    thousand good parts beside ten of each defect do not set the metric alone.

    **Spread.** A mean of few parts lies off by chance, and a class that the metric was learnt from more than from
    others lies closer around its mean. Both are measured by leaving each part out in turn, from mean and covariance:
    with u the mean square distance of parts left out, of n parts, the class with the least (D² − u/n)/u + log u is
    named. The u of a class of less than some hundred parts is mostly the one that all classes share. This is for mean
    anchors in the metric `"within"`; elsewhere the smallest distance wins.

    **Good parts** are best given as a class of their own, all there are: they tell the metric how parts vary anyway.
    On the magnetic tiles that is worth more than anything else (`benchmarks/few_labels.py`).

    Ties go to the class that comes first in `classes_`.

    Args:
        anchor: `"mean"`: a class is its mean. `"each"`: it is its nearest example. `"knn"`: the `neighbours` nearest
            examples vote; a tie goes to the class with the nearest of them. Votes favour classes with many examples.
        neighbours: how many vote, with `"knn"`; all, where there are fewer.
        metric: `"within"` as above, or `"euclidean"`.
        none_of_these: share of the parts of known classes that may be called none of these, or `None`: every part
            gets a class. A part gets `none_label_` if its p-value (see `p_values`) is at most this for every class.

    Attributes:
        classes_: labels, `[C]`, in order; those added later last.
        counts_: examples of each class, int64 `[C]`.
        spread_: u of each class, float64 `[C]`; nan for all where there are no two parts of one class.
        shrinkage_: how far the covariance was pulled towards no correlation, 0 to 1.
        none_label_: `NONE` or −1.
        n_features_in_: d.

    Example:
        >>> X = [[0.0, 0], [0, 2], [9, 0], [9, 2]]
        >>> nearest = DefectTypeClassifier(metric="euclidean").fit(X, ["dent", "dent", "scratch", "scratch"])
        >>> nearest.predict([[1, 1], [7, 1]]).tolist()
        ['dent', 'scratch']
        >>> nearest.add([[0, 50], [0, 52]], "stain").predict([[1, 40]]).tolist()
        ['stain']
        >>> nearest.distances([[0, 1]]).tolist()
        [[0.0, 9.0, 50.0]]
    """

    def __init__(
        self,
        anchor: str = "mean",
        *,
        neighbours: int = 5,
        metric: str = "within",
        none_of_these: float | None = None,
    ) -> None:
        self.anchor = anchor
        self.neighbours = neighbours
        self.metric = metric
        self.none_of_these = none_of_these

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn classes from examples; one a class is enough, two or more give it a scatter.

        Args:
            X: vectors, `[n, d]`.
            y: their labels, `[n]`.

        Raises:
            InputError: vectors, labels or settings cannot be used, or the examples are too few for `none_of_these`
                (the message says how many it takes).
        """
        self._check_settings()
        vectors, labels = _checked_pairs(self, X, y)
        self.classes_, members = np.unique(labels, return_inverse=True)
        self.none_label_: Any = _none_label(self.classes_)
        if self.none_of_these is not None and self.none_label_ in self.classes_:
            raise InputError(f"y: {self.none_label_!r} is what a part like no class gets; rename that class")
        self.counts_ = np.bincount(members)
        self._metric = _Metric.learn(vectors, members, plain=self.metric == "euclidean")
        self.shrinkage_ = self._metric.shrinkage
        self._examples, self._members = self._metric.whiten(vectors), members
        self._means = _means(self._examples, members)
        self._left_out = _left_out(
            self._examples, members, self._means, self._metric.shares[members], self.anchor == "mean"
        )
        self._shared = self._shared_spread()
        self._check_rate()
        self.spread_ = np.array([self._spread(place) for place in range(len(self.classes_))])
        return self

    def add(self, X: ArrayLike, label: object) -> Self:
        """Add a class, or examples to one; the metric and all other classes stay as they are.

        Args:
            X: its examples, `[n, d]`, n ≥ 1.
            label: its name.

        Raises:
            InputError: vectors that do not fit, or a label that is of another kind than the others.
        """
        check_is_fitted(self)
        vectors = _checked(self, X)
        new = np.asarray([label])
        if new.shape != (1,) or (new.dtype.kind in "US") != (self.classes_.dtype.kind in "USO"):
            raise InputError(
                f"label {label!r} is of another kind than those known, such as {self.classes_[0]!r}"
            )
        if self.none_of_these is not None and label == self.none_label_:
            raise InputError(f"label {label!r} is what a part like no class gets; choose another name")
        found = np.flatnonzero(self.classes_ == new[0])
        place = int(found[0]) if len(found) else len(self.classes_)
        if not len(found):
            self.classes_ = np.concatenate([self.classes_, new])
            self.counts_ = np.append(self.counts_, 0)
        self._examples = np.concatenate([self._examples, self._metric.whiten(vectors)])
        self._members = np.append(self._members, np.full(len(vectors), place))
        self._left_out = np.append(self._left_out, np.full(len(vectors), np.nan))
        own = self._members == place
        self.counts_[place] = own.sum()
        mean = self._examples[own].mean(axis=0)[None]
        self._means = np.concatenate([self._means[:place], mean, self._means[place + 1 :]])
        # The metric did not see the new parts, so leaving one out changes the mean alone.
        self._left_out[own] = _left_out(
            self._examples[own],
            np.zeros(own.sum(), np.int64),
            mean,
            np.zeros(own.sum()),
            self.anchor == "mean",
        )
        self.spread_ = np.append(self.spread_[:place], [self._spread(place), *self.spread_[place + 1 :]])
        self._warn_of_needy()
        return self

    def distances(self, X: ArrayLike) -> Floats:
        """How far parts are from each class: `[N, d]` → float64 `[N, C]`, from its mean or its nearest example.

        In the metric `"within"` the square is divided by d, so that 1 is about what scatter within classes makes.

        Raises:
            InputError: not d numbers a vector, or numbers that are NaN or infinite.
        """
        check_is_fitted(self)
        return np.asarray(np.sqrt(self._squared(self._metric.whiten(_checked(self, X)))), np.float64)

    def p_values(self, X: ArrayLike) -> Floats:
        """How ordinary parts would be as parts of each class: `[N, d]` → float64 `[N, C]`, in (0, 1].

        The share of a class's parts that lie, when left out, at least as far from the others as the new part does
        (the jackknife: the rate is about kept where one part more or less changes little, without a proof for every
        data; Barber et al. 2021, doi 10.1214/20-AOS1965). n parts tell no rate below 1/(n + 1). Classes with too few
        parts for the rate `none_of_these`, or with less than two, are therefore compared with the parts of all such
        classes together: the rate then holds for them on average, not for each. Where even these are too few, the parts
        of **all** classes stand in, which keeps the rate only if all scatter alike; `fit` and `add` warn of it.

        Raises:
            InputError: see `distances`; or there are no two parts of one class.
        """
        check_is_fitted(self)
        if not np.isfinite(self._left_out).any():
            raise InputError("p-values need two examples of at least one class; give more")
        return self._p_values(self._squared(self._metric.whiten(_checked(self, X))))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of each part: `[N, d]` → `[N]`.

        Raises:
            InputError: see `distances`.
        """
        check_is_fitted(self)
        whitened = self._metric.whiten(_checked(self, X))
        squared = self._squared(whitened)
        if self.anchor == "knn":
            score = self._votes(whitened, squared)
        elif self.anchor == "mean" and self.metric == "within" and np.isfinite(self.spread_).all():
            score = (squared - self.spread_ / self.counts_) / self.spread_ + np.log(self.spread_)
        else:
            score = squared
        named: NDArray[Any] = self.classes_[score.argmin(axis=1)]
        if self.none_of_these is not None:
            unlike = (self._p_values(squared) <= self.none_of_these).all(axis=1)
            if named.dtype.kind == "U":  # room for the words
                named = named.astype(np.result_type(named.dtype, np.asarray(NONE).dtype))
            named[unlike] = self.none_label_
        return named

    def rule(self) -> Rule:
        """What `predict` goes by, as numbers, for whoever cannot call it.

        Raises:
            InputError: neighbours vote, which is no rule of this form.
        """
        check_is_fitted(self)
        if self.anchor == "knn":
            raise InputError('anchor "knn" has no such rule; use "mean" or "each"')
        scale, offset = np.ones(len(self.classes_)), np.zeros(len(self.classes_))
        if self.anchor == "mean" and self.metric == "within" and np.isfinite(self.spread_).all():
            scale, offset = self.spread_, np.log(self.spread_) - 1 / self.counts_
        mean = self.anchor == "mean"
        return Rule(
            self._metric.mean,
            1 / self._metric.scale,
            self._metric.directions,
            self._metric.gains,
            self._metric.gain,
            self._means if mean else self._examples,
            np.arange(len(self.classes_)) if mean else self._members,
            scale,
            offset,
            [] if self.none_of_these is None else self._compared_with()[0],
            self.none_of_these,
        )

    def _squared(self, whitened: Floats) -> Floats:
        """D² to each class, `[N, C]`."""
        if self.anchor == "mean":
            return np.asarray(cdist(whitened, self._means, "sqeuclidean"), np.float64)
        between = cdist(whitened, self._examples, "sqeuclidean")
        places = range(len(self.classes_))
        return np.stack([between[:, self._members == place].min(axis=1) for place in places], axis=1)

    def _votes(self, whitened: Floats, squared: Floats) -> Floats:
        """The less, the more neighbours vote for a class; within one vote, the order of distances: `[N, C]`."""
        between = cdist(whitened, self._examples, "sqeuclidean")
        nearest = np.argsort(between, axis=1, kind="stable")[:, : self.neighbours]
        votes = (self._members[nearest][:, :, None] == np.arange(len(self.classes_))).sum(axis=1)
        order = np.argsort(np.argsort(squared, axis=1, kind="stable"), axis=1)
        return np.asarray(order / len(self.classes_) - votes, np.float64)

    def _p_values(self, squared: Floats) -> Floats:
        known, _ = self._compared_with()
        return np.stack([p_values(squared[:, place], each) for place, each in enumerate(known)], axis=1)

    def _compared_with(self) -> tuple[list[Floats], list[int]]:
        """Distances of parts left out that tell each class's p-values, and the classes that need those of all."""
        least = 2 if self.none_of_these is None else max(2, parts_needed(self.none_of_these))
        told = np.isfinite(self._left_out)
        small = self.counts_ < least
        together = self._left_out[told & small[self._members]]
        known, needy = [], []
        for place in range(len(self.classes_)):
            if not small[place]:
                known.append(self._left_out[self._members == place])
            elif len(together) >= least:
                known.append(together)
            else:
                known.append(self._left_out[told])
                needy.append(place)
        return known, needy

    def _shared_spread(self) -> float:
        """Mean square distance of parts left out, over classes; none counts for more parts than the median class."""
        told = np.isfinite(self._left_out)
        if not told.any():
            return float("nan")
        weight = (np.minimum(self.counts_, np.median(self.counts_)) / self.counts_)[self._members[told]]
        return float(np.average(self._left_out[told], weights=weight))

    def _spread(self, place: int) -> float:
        own = self._left_out[self._members == place]
        count = len(own) if np.isfinite(own).all() else 0
        own_sum = float(own.sum()) if count else 0.0
        spread = (own_sum + _SPREAD_PARTS * self._shared) / (count + _SPREAD_PARTS)
        return spread if spread > 0 else float("nan")

    def _check_settings(self) -> None:
        if self.anchor not in ANCHORS:
            raise not_known("anchor", self.anchor, ANCHORS)
        if self.metric not in METRICS:
            raise not_known("metric", self.metric, METRICS)
        whole = isinstance(self.neighbours, int | np.integer) and not isinstance(self.neighbours, bool)
        if not whole or self.neighbours < 1:
            raise InputError(f"neighbours must be a whole number from 1, not {self.neighbours!r}")
        if self.none_of_these is not None:
            parts_needed(self.none_of_these)  # refuses what is no rate

    def _check_rate(self) -> None:
        if self.none_of_these is None:
            return
        told = int(np.isfinite(self._left_out).sum())
        needed = parts_needed(self.none_of_these)
        if told < needed:
            raise InputError(
                f"{told} examples in classes of two or more are too few for none_of_these="
                f"{self.none_of_these:g}: it takes at least {needed}; give more examples or ask for a higher rate"
            )
        self._warn_of_needy()

    def _warn_of_needy(self) -> None:
        if self.none_of_these is None:
            return
        _, needy = self._compared_with()
        if needy:
            names = ", ".join(str(self.classes_[place]) for place in needy[:5])
            warnings.warn(
                f"{names}{', …' if len(needy) > 5 else ''}: fewer than {parts_needed(self.none_of_these)} examples, so "
                f"more of their parts than {100 * self.none_of_these:.4g} % may be called none of these, or fewer",
                DataWarning,
                stacklevel=4,
            )


@dataclass(frozen=True, eq=False)
class Rule:
    """How a part is named: the class with the least D²/scale + offset, D² being that to its nearest anchor.

    With z = (x − mean)·inverse, vectors are compared as gain·z + ((z·directionsᵀ)·gains)·directions.

    Attributes:
        mean: float64 `[d]`.
        inverse: float64 `[d]`.
        directions: float64 `[r, d]`.
        gains: float64 `[r]`.
        gain: a number.
        anchors: float64 `[m, d]`, as they are compared.
        members: int64 `[m]`, of which class each is.
        scale: float64 `[C]`.
        offset: float64 `[C]`.
        known: for each class the D² by which p-values are told; empty where every part gets a class.
        none_of_these: a part whose p-values are all at most this is of no class.
    """

    mean: Floats
    inverse: Floats
    directions: Floats
    gains: Floats
    gain: float
    anchors: Floats
    members: NDArray[np.int64]
    scale: Floats
    offset: Floats
    known: list[Floats]
    none_of_these: float | None


@dataclass(frozen=True, eq=False)
class _Metric:
    """A map into vectors whose squared distance is D².

    The covariance is known in as many directions as there are examples, and shrunk to one variance in all others, so
    these few directions are kept in the place of a matrix `[d, d]`.

    Attributes:
        mean: float64 `[d]`.
        scale: float64 `[d]`; infinite for items without any variance, which are left out.
        directions: float64 `[r, d]`, orthonormal.
        gains: float64 `[r]`, by which a direction is stretched beyond the others.
        gain: by which all are.
        shrinkage: 0 to 1.
        shares: float64 `[C]`, for each class, a: its part with the difference r from its mean has brought a·rrᵀ to
            the covariance, of which leaving it out takes a·n/(n − 1)·rrᵀ.
    """

    mean: Floats
    scale: Floats
    directions: Floats
    gains: Floats
    gain: float
    shrinkage: float
    shares: Floats

    @classmethod
    def learn(cls, vectors: NDArray[Any], members: NDArray[np.int64], *, plain: bool) -> _Metric:
        counts = np.bincount(members)
        x = vectors.astype(np.float64)
        mean = _means(x, members).mean(axis=0)
        items = x.shape[1]
        if plain:
            none = np.zeros((0, items))
            return cls(mean, np.ones(items), none, np.zeros(0), 1.0, 0.0, np.zeros(len(counts)))
        apart = x - _means(x, members)[members]
        # A class with n parts has n − 1 to say of scatter, and is heard for no more than the median class.
        heard = np.minimum(counts, max(2, np.median(counts))) / counts
        weights = heard[members]
        freedom = float((heard * (counts - 1)).sum())
        scale = np.full(items, np.inf)
        within = np.sqrt(weights @ apart**2 / freedom) if freedom else np.zeros(items)
        overall = x.std(axis=0)
        noise = 1e-12 * np.abs(x).max(axis=0)
        within[within <= noise] = 0.0
        varying = overall > noise
        usual = float(np.median(within[varying])) if varying.any() else 0.0
        spread = within + usual
        spread = np.where(spread > 0, spread, overall)  # nothing is known of scatter within classes
        scale[varying] = spread[varying]
        z = apart / scale
        rows = z * np.sqrt(weights / freedom)[:, None] if freedom else np.zeros_like(z)
        # Eigenvectors of the small matrix, of examples or of items, give those of the covariance.
        _, roots, directions = np.linalg.svd(rows, full_matrices=False)
        kept = roots > 1e-7 * max(roots[0], 1e-150)
        values, directions = roots[kept] ** 2, directions[kept]
        total, dimension = float(values.sum()), int(varying.sum())
        if not total:
            # Divided by d all the same, as everywhere in this metric.
            gain = 1 / np.sqrt(max(dimension, 1))
            none = np.zeros((0, items))
            return cls(mean, scale, none, np.zeros(0), float(gain), 1.0, np.zeros(len(counts)))
        shrinkage = _ledoit_wolf(np.einsum("nd,nd->n", z, z), weights, values, dimension)
        floor = shrinkage * total / dimension
        gain = 1 / np.sqrt(floor * dimension)
        gains = 1 / np.sqrt(((1 - shrinkage) * values + floor) * dimension) - gain
        # `shares` is in the whitened space, where covariance is 1/d; see `_left_out`.
        shares = (1 - shrinkage) * heard / freedom * dimension
        return cls(mean, scale, directions, gains, float(gain), shrinkage, shares)

    def whiten(self, vectors: NDArray[Any]) -> Floats:
        """`[N, d]` → float64 `[N, d]`."""
        z = (vectors - self.mean) / self.scale
        whitened: Floats = self.gain * z + ((z @ self.directions.T) * self.gains) @ self.directions
        return whitened


def _ledoit_wolf(squares: Floats, weights: Floats, values: Floats, items: int) -> float:
    """How far to pull the covariance towards equal variances, for weighted rows.

    Args:
        squares: ‖z‖² of each row, `[n]`.
        weights: of the rows, `[n]`.
        values: eigenvalues of their covariance above 0.
        items: d.
    """
    share = weights / weights.sum()
    squared = float((values**2).sum())
    beyond = squared - float(values.sum()) ** 2 / items
    if beyond <= 0:  # equal variances already
        return 1.0
    error = float((share**2 * squares**2).sum()) - squared * float((share**2).sum())
    return float(np.clip(error / beyond, _LEAST_SHRINKAGE, 1.0))


def _left_out(
    whitened: Floats, members: NDArray[np.int64], means: Floats, shares: Floats, to_mean: bool
) -> Floats:
    """D² of each part from the others of its class, by mean and covariance without it; nan for a class of one.

    With W the whitening, r the part's difference from its class mean, g = n/(n − 1) and Σ the covariance, leaving it
    out gives Σ − a·g·rrᵀ, and by Sherman and Morrison
    δᵀ(Σ − a·g·rrᵀ)⁻¹δ = δᵀΣ⁻¹δ + a·g(δᵀΣ⁻¹r)²/(1 − a·g·rᵀΣ⁻¹r). The shrinkage is not found anew.
    """
    found = np.full(len(whitened), np.nan)
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
            found[own] = grown**2 * squares / left
            continue
        # δ to each other part j: δ·r = r·r − rⱼ·r
        along = squares[:, None] - products
        between = np.asarray(cdist(whitened[own], whitened[own], "sqeuclidean"), np.float64)
        between += (share / left)[:, None] * along**2
        np.fill_diagonal(between, np.inf)
        found[own] = between.min(axis=1)
    return found


def _means(vectors: NDArray[Any], members: NDArray[np.int64]) -> Floats:
    """`[n, d]` → float64 `[C, d]`."""
    return np.stack([vectors[members == place].mean(axis=0) for place in range(int(members.max()) + 1)])


def _none_label(classes: NDArray[Any]) -> Any:
    return -1 if classes.dtype.kind in "iuf" else NONE


def _checked(estimator: DefectTypeClassifier, X: ArrayLike) -> NDArray[Any]:
    """Vectors `[N, d]` as `fit` saw them, all finite."""
    vectors = checked_items(estimator, X)
    refuse_not_finite(estimator, vectors)
    return vectors


def _checked_pairs(
    estimator: DefectTypeClassifier, X: ArrayLike, y: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Vectors `[n, d]`, all finite, and labels `[n]`, as scikit-learn checks them; its refusals in one line."""
    try:
        vectors, labels = validate_data(estimator, X, y, dtype="numeric", ensure_all_finite=False)
        check_classification_targets(labels)
    except ValueError as error:
        raise InputError(" ".join(str(error).split())) from None
    refuse_not_finite(estimator, vectors)
    return vectors, labels
