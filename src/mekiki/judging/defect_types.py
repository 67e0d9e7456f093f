"""`DefectTypeClassifier`: the defect type of a part by the nearest class of examples, or none of these.

A handful of examples per class is enough, beside as many good parts as there are; classes can be added later.
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from mekiki.errors import DataWarning, InputError, not_known
from mekiki.judging.conformal import parts_needed, upper_end
from mekiki.judging.neg_log_p import count_at_least
from mekiki.judging.tensor_blocks import run_in_blocks, to_tensor
from mekiki.judging.unit_space import check_items, refuse_not_finite
from mekiki.judging.whitening import Whitening
from mekiki.judging.within_class_metric import WithinClassMetric, class_means, leave_one_out

Floats = NDArray[np.float64]

ANCHORS = ("mean", "each", "knn")
METRICS = ("within", "euclidean")
NONE = "none of these"
"""What `predict` says of a part that is like no class, where classes go by names; where they are numbers, −1."""

_SPREAD_PARTS = 300
"""Parts from which on a class's own spread outweighs the one that all classes share; of 30, 100 and 300 the best on
the magnetic tiles with 20 examples a class, and no worse with 5."""
_ELEMENTS = 1 << 22  # differences between parts and anchors that are in memory at once


class NearestClass(nn.Module):
    """The decision of a `DefectTypeClassifier`, as it computes it and as an exported graph does.

    A part belongs to the class with the least D²/scale + offset, D² being that to the nearest anchor of the class, or
    to none of them if its p-value is at most `rate` for every class.

    Args:
        whitening: the metric.
        anchors: of each class, whitened `[m, d]`.
        scale: `[C]`.
        offset: `[C]`.
        known: for each class the D² of parts left out, with which D² is compared; empty where there are none.
        rate: share of the parts of known classes that may be called none of these, or `None`.

    Shapes: `[N, d]` → int64 `[N]`, the number of the class; C means none of these.
    """

    def __init__(
        self,
        whitening: Whitening,
        anchors: list[Floats],
        scale: Floats,
        offset: Floats,
        known: list[Floats],
        rate: float | None,
    ) -> None:
        super().__init__()
        self.whitening, self.rate, self.classes = whitening, rate, len(anchors)
        self.block = max(1, _ELEMENTS // max(1, sum(each.size for each in anchors)))
        self.register_buffer("scale", to_tensor(scale))
        self.register_buffer("offset", to_tensor(offset))
        for place, each in enumerate(anchors):
            self.register_buffer(f"anchors{place}", to_tensor(each))
        for place, distances in enumerate(known):
            self.register_buffer(f"known{place}", to_tensor(upper_end(distances)))

    def forward(self, vectors: Tensor) -> Tensor:
        """Numbers of the nearest classes."""
        squared = self.squared_distances(vectors)
        nearest = (squared / self.get_buffer("scale") + self.get_buffer("offset")).argmin(1)
        return nearest if self.rate is None else torch.where(self.unlike(squared), self.classes, nearest)

    def squared_distances(self, vectors: Tensor) -> Tensor:
        """D² to each class: `[N, d]` → float64 `[N, C]`."""
        z = self.whitening(vectors)[:, None]
        anchors = [self.get_buffer(f"anchors{place}") for place in range(self.classes)]
        return torch.stack([((z - each) ** 2).sum(2).amin(1) for each in anchors], dim=1)

    def p_values(self, squared: Tensor) -> Tensor:
        """P-value of each class: D² `[N, C]` → float64 `[N, C]`."""
        columns = []
        for place in range(self.classes):
            known = self.get_buffer(f"known{place}")
            columns.append((1 + count_at_least(known, squared[:, place])).double() / (len(known) + 1))
        return torch.stack(columns, dim=1)

    def unlike(self, squared: Tensor) -> Tensor:
        """Whether parts are like no class: D² `[N, C]` → bool `[N]`."""
        assert self.rate is not None
        return (self.p_values(squared) <= self.rate).all(1)


class DefectTypeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Nearest-class classifier in the metric of the scatter within classes (`WithinClassMetric`).

    With mean anchors that makes Fisher's discriminant. A mean of few parts lies off by chance, and a class from which
    the metric was mostly learnt lies closer around its mean. Both are measured by leaving each part out in turn: with
    u the mean square distance of parts left out, of n parts, the class with the least (D² − u/n)/u + log u wins.
    Classes of less than some hundred parts mostly share one u. This is for mean anchors in the metric `"within"`;
    elsewhere the smallest distance wins.

    Good parts are best given as a class of their own, all there are, because they show how parts vary anyway. On the
    magnetic tiles that is worth more than anything else (`benchmarks/few_labels.py`).

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
        spread_: u of each class, float64 `[C]`; NaN for all where there are no two parts of one class.
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
        """Learn classes from examples; one per class is enough, two or more give it a scatter.

        Args:
            X: vectors, `[n, d]`.
            y: their labels, `[n]`.

        Raises:
            InputError: vectors, labels or settings cannot be used, or the examples are too few for `none_of_these`
                (the message says how many it takes).
        """
        self._check_settings()
        vectors, labels = _check_pairs(self, X, y)
        self.classes_, members = np.unique(labels, return_inverse=True)
        self.none_label_: Any = _none_label(self.classes_)
        if self.none_of_these is not None and self.none_label_ in self.classes_:
            raise InputError(f"y: {self.none_label_!r} is what a part like no class gets; rename that class")
        self.counts_ = np.bincount(members)
        learn = WithinClassMetric.euclidean if self.metric == "euclidean" else WithinClassMetric.fit
        self._metric = learn(vectors, members)
        self.shrinkage_ = self._metric.shrinkage
        self._examples, self._members = self._whiten(vectors), members
        self._means = class_means(self._examples, members)
        self._left_out = leave_one_out(
            self._examples, members, self._means, self._metric.shares[members], self.anchor == "mean"
        )
        self._shared = self._shared_spread()
        self._check_rate()
        self.spread_ = np.array([self._spread(place) for place in range(len(self.classes_))])
        self.nearest_class_ = self._nearest_class()
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
        vectors = _check_vectors(self, X)
        new = np.asarray([label])
        if new.shape != (1,) or (new.dtype.kind in "US") != (self.classes_.dtype.kind in "USO"):
            raise InputError(
                f"label {label!r} is of another kind than those known, such as {self.classes_[0]!r}"
            )
        if self.none_of_these is not None and label == self.none_label_:
            raise InputError(f"label {label!r} is what a part like no class gets; choose another name")
        same = np.flatnonzero(self.classes_ == new[0])
        place = int(same[0]) if len(same) else len(self.classes_)
        if not len(same):
            self.classes_ = np.concatenate([self.classes_, new])
            self.counts_ = np.append(self.counts_, 0)
        self._examples = np.concatenate([self._examples, self._whiten(vectors)])
        self._members = np.append(self._members, np.full(len(vectors), place))
        self._left_out = np.append(self._left_out, np.full(len(vectors), np.nan))
        own = self._members == place
        self.counts_[place] = own.sum()
        mean = self._examples[own].mean(axis=0)[None]
        self._means = np.concatenate([self._means[:place], mean, self._means[place + 1 :]])
        # The metric did not see the new parts, so leaving one out changes the mean alone.
        self._left_out[own] = leave_one_out(
            self._examples[own],
            np.zeros(own.sum(), np.int64),
            mean,
            np.zeros(own.sum()),
            self.anchor == "mean",
        )
        self.spread_ = np.append(self.spread_[:place], [self._spread(place), *self.spread_[place + 1 :]])
        self.nearest_class_ = self._nearest_class()
        self._warn_of_needy()
        return self

    def distances(self, X: ArrayLike) -> Floats:
        """Distance from each class, from its mean or its nearest example: `[N, d]` → float64 `[N, C]`.

        In the metric `"within"` the square is divided by d, so that scatter within classes makes it about 1.

        Raises:
            InputError: not d numbers a vector, or numbers that are NaN or infinite.
        """
        check_is_fitted(self)
        return np.asarray(np.sqrt(self._squared_distances(_check_vectors(self, X))), np.float64)

    def p_values(self, X: ArrayLike) -> Floats:
        """Jackknife p-value of each class: `[N, d]` → float64 `[N, C]`, in (0, 1].

        The share of a class's parts that lie, when left out, at least as far from the others as the new part does
        (Barber et al. 2021, doi 10.1214/20-AOS1965: the rate is about kept, without a proof for all data). Classes
        with too few parts for the rate `none_of_these`, or with less than two, are compared with the parts of all such
        classes together: the rate then holds for them on average, not for each. Where even these are too few, the parts
        of **all** classes stand in, which keeps the rate only if all scatter alike; `fit` and `add` warn of it.

        Raises:
            InputError: see `distances`; or there are no two parts of one class.
        """
        check_is_fitted(self)
        if not np.isfinite(self._left_out).any():
            raise InputError("p-values need two examples of at least one class; give more")
        squared = self._squared_distances(_check_vectors(self, X))
        return np.asarray(run_in_blocks(self.nearest_class_.p_values, to_tensor(squared)).numpy(), np.float64)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of each part: `[N, d]` → `[N]`.

        Raises:
            InputError: see `distances`.
        """
        check_is_fitted(self)
        vectors, nearest = _check_vectors(self, X), self.nearest_class_
        if self.anchor == "knn":
            squared = self._squared_distances(vectors)
            numbers = self._votes(self._whiten(vectors), squared).argmin(axis=1)
            if nearest.rate is not None:
                unlike = run_in_blocks(nearest.unlike, to_tensor(squared)).numpy()
                numbers = np.where(unlike, nearest.classes, numbers)
        else:
            numbers = run_in_blocks(nearest, to_tensor(vectors), block=nearest.block).numpy()
        if nearest.rate is None:
            return np.asarray(self.classes_[numbers])
        # One array, so that text is as wide as the longest name.
        return np.asarray(np.append(self.classes_, np.asarray([self.none_label_]))[numbers])

    def _nearest_class(self) -> NearestClass:
        """The decision as a module; of neighbours that vote, the distances alone."""
        classes = range(len(self.classes_))
        scale, offset = np.ones(len(classes)), np.zeros(len(classes))
        if self.anchor == "mean" and self.metric == "within" and np.isfinite(self.spread_).all():
            scale, offset = self.spread_, np.log(self.spread_) - 1 / self.counts_
        anchors = [
            self._means[[place]] if self.anchor == "mean" else self._examples[self._members == place]
            for place in classes
        ]
        known = self._compared_with()[0] if np.isfinite(self._left_out).any() else []
        return NearestClass(self._metric.whitening, anchors, scale, offset, known, self.none_of_these)

    def _whiten(self, vectors: NDArray[Any]) -> Floats:
        return np.asarray(run_in_blocks(self._metric.whitening, to_tensor(vectors)).numpy(), np.float64)

    def _squared_distances(self, vectors: NDArray[Any]) -> Floats:
        """D² to each class, `[N, C]`."""
        nearest = self.nearest_class_
        squared = run_in_blocks(nearest.squared_distances, to_tensor(vectors), block=nearest.block)
        return np.asarray(squared.numpy(), np.float64)

    def _votes(self, whitened: Floats, squared: Floats) -> Floats:
        """The less, the more neighbours vote for a class; within one vote, the order of distances: `[N, C]`."""
        between = cdist(whitened, self._examples, "sqeuclidean")
        nearest = np.argsort(between, axis=1, kind="stable")[:, : self.neighbours]
        votes = (self._members[nearest][:, :, None] == np.arange(len(self.classes_))).sum(axis=1)
        order = np.argsort(np.argsort(squared, axis=1, kind="stable"), axis=1)
        return np.asarray(order / len(self.classes_) - votes, np.float64)

    def _compared_with(self) -> tuple[list[Floats], list[int]]:
        """For each class the distances of parts left out to compare with, and the classes that need those of all."""
        least = 2 if self.none_of_these is None else max(2, parts_needed(self.none_of_these))
        measured = np.isfinite(self._left_out)
        small = self.counts_ < least
        together = self._left_out[measured & small[self._members]]
        known, needy = [], []
        for place in range(len(self.classes_)):
            if not small[place]:
                known.append(self._left_out[self._members == place])
            elif len(together) >= least:
                known.append(together)
            else:
                known.append(self._left_out[measured])
                needy.append(place)
        return known, needy

    def _shared_spread(self) -> float:
        """Mean square distance of parts left out, over classes; none counts for more parts than the median class."""
        measured = np.isfinite(self._left_out)
        if not measured.any():
            return float("nan")
        weight = (np.minimum(self.counts_, np.median(self.counts_)) / self.counts_)[self._members[measured]]
        return float(np.average(self._left_out[measured], weights=weight))

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
        number, needed = int(np.isfinite(self._left_out).sum()), parts_needed(self.none_of_these)
        if number < needed:
            raise InputError(
                f"{number} examples in classes of two or more are too few for none_of_these="
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


def _none_label(classes: NDArray[Any]) -> Any:
    return -1 if classes.dtype.kind in "iuf" else NONE


def _check_vectors(estimator: DefectTypeClassifier, X: ArrayLike) -> NDArray[Any]:
    """Vectors `[N, d]` as `fit` saw them, all finite."""
    vectors = check_items(estimator, X)
    refuse_not_finite(estimator, vectors)
    return vectors


def _check_pairs(
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
