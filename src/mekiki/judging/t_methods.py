"""Taguchi's other methods: RT, which judges by two numbers a vector, and T(1), Ta and Tb, which estimate a value.

RT looks at the pattern of a vector: how large it is against the mean pattern of the unit space, and how far it is off
that pattern. The T methods estimate a measured value from many items, each weighed by its signal-to-noise ratio, and
need no correlation matrix either.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mekiki.errors import DataWarning, InputError
from mekiki.judging.mahalanobis_taguchi import MT, DistanceEstimator
from mekiki.judging.unit_space import Floats, blocks, check_items, refuse_not_finite

_CENTRED = 100
"""Units in the last place of the numbers' mean size, up to which a mean counts as zero."""
_EXACT = 1e-14
"""Share of an item's variation that its line leaves, up to which the item counts as following y exactly."""


class RT(DistanceEstimator):
    """The Recognition–Taguchi method: the distance of a vector's pattern from the pattern of the unit space.

    With m the mean of the unit space, r = Σmᵢ² and L = Σmᵢxᵢ (x is **not** centred), each vector becomes two numbers:
    Y₁ = β = L/r, the size of its pattern, and Y₂ = √Vₑ with Vₑ = Σ(xᵢ − βmᵢ)²/(k − 1), what is off the pattern
    (Taguchi 2006, *Journal of Quality Engineering Society* 14(2), 5–9).

    The distance is the one of `MT` in (Y₁, Y₂): both standardised over the unit space, the inverse of their 2 × 2
    correlation, divided by 2. So D² is about 1 for a good part, and a threshold means what it means for `MT`. Texts
    differ here: some take the cofactor matrix of the covariance, and the R package MTSYS the inverse of the correlation
    for Y that are centred only; their numbers lie on another scale.

    Any number of items of one unit will do, also more than parts. Items of different units must be brought to one
    before, and m must not be zero: do not centre.

    Args:
        covariance: of (Y₁, Y₂), see `MT`.
        threshold: D² up to which `predict` says +1. It promises no rate of false rejects;
            `mekiki.judging.conformal` finds one that does.

    Attributes:
        mean_: m, float64 `[k]`.
        unit_space_: the `MT` of (Y₁, Y₂).
        covariance_, reason_: its choice, and why.
        n_samples_: n.
        n_features_in_: k.
        offset_: −threshold.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> flowers = load_iris().data
        >>> rt = RT().fit(flowers[60:100])
        >>> rt.pattern(flowers[[60, 0]]).round(3)
        array([[0.825, 0.179],
               [0.741, 1.449]])
        >>> rt.predict(flowers[[60, 0]])
        array([ 1, -1])
    """

    def __init__(self, covariance: str = "auto", *, threshold: float = 4.0) -> None:
        self.covariance = covariance
        self.threshold = threshold

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn the unit space.

        Args:
            X: the vectors of good parts, `[n, k]`, n ≥ 2 and k ≥ 2.
            y: not used.

        Raises:
            InputError: settings or vectors cannot be used, or the mean of every item is zero.
        """
        self._check_threshold()
        vectors = check_items(self, X, fit=True)
        if vectors.shape[1] < 2:
            raise InputError(
                "X: a pattern needs at least 2 items, and n_features = 1 was given; for one item use MT"
            )
        with np.errstate(invalid="ignore", over="ignore"):
            self.mean_ = vectors.mean(axis=0, dtype=np.float64)
        if not np.isfinite(self.mean_).all():
            refuse_not_finite(self, vectors)
            raise InputError("X: the numbers are too large to be summed; divide them by their size first")
        size = sum(float(np.abs(vectors[part], dtype=np.float64).sum()) for part in blocks(*vectors.shape))
        kind = vectors.dtype if vectors.dtype.kind == "f" else np.dtype(np.float64)
        if np.abs(self.mean_).max() <= _CENTRED * float(np.finfo(kind).eps) * size / vectors.size:
            raise InputError(
                "X: the mean of every item is zero, so there is no pattern to compare with; RT takes vectors that "
                "are not centred"
            )
        self.n_samples_ = len(vectors)
        pairs = self._pairs(vectors)
        self.unit_space_ = MT(self.covariance, threshold=self.threshold).fit(pairs)
        self.covariance_, self.reason_ = self.unit_space_.covariance_, self.unit_space_.reason_
        self._mean_terms = np.zeros((2, vectors.shape[1]))
        for part in blocks(*vectors.shape):
            for number, terms in enumerate(self._terms(vectors[part], pairs[part])):
                self._mean_terms[number] += terms.sum(axis=0) / len(vectors)
        return self

    def pattern(self, X: ArrayLike) -> Floats:
        """Y₁ and Y₂ of each vector: `[N, k]` → float64 `[N, 2]`.

        Raises:
            InputError: not k numbers a vector, or numbers that are NaN or infinite.
        """
        check_is_fitted(self)
        return self._pairs(check_items(self, X))

    def squared_distance(self, X: ArrayLike) -> Floats:
        """D² of each vector: `[N, k]` → float64 `[N]`, never clamped.

        Raises:
            InputError: see `pattern`.
        """
        pairs = self.pattern(X)
        return self.unit_space_.squared_distance(pairs)

    def contributions(self, X: ArrayLike) -> Floats:
        """The share of each item in D²: `[N, k]` → float64 `[N, k]`, whose rows sum to D².

        Y₁ and Y₂ are sums over items, of mᵢxᵢ/r and of (xᵢ − βmᵢ)²/((k − 1)·Y₂). What `MT.contributions` gives
        to Y₁ and to Y₂ is shared among the items by how far their terms are from their means over the unit space. For
        Y₁ that is linear; for Y₂ it is one way among others, since a root is shared, and this project's own. It can be
        negative.

        Raises:
            InputError: see `pattern`.
        """
        check_is_fitted(self)
        vectors = check_items(self, X)
        pairs = self._pairs(vectors)
        form, result = self.unit_space_.form_, np.empty(vectors.shape)
        weights = (pairs - form.mean) @ form.whitening @ form.whitening.T
        for part in blocks(*vectors.shape):
            first, second = self._terms(vectors[part], pairs[part])
            result[part] = (first - self._mean_terms[0]) * weights[part, :1]
            result[part] += (second - self._mean_terms[1]) * weights[part, 1:]
        return result

    def _pairs(self, vectors: NDArray[Any]) -> Floats:
        result = np.empty((len(vectors), 2))
        size = self.mean_ @ self.mean_
        with np.errstate(invalid="ignore", over="ignore"):
            for part in blocks(*vectors.shape):
                x = vectors[part].astype(np.float64)
                result[part, 0] = x @ self.mean_ / size
                x -= result[part, :1] * self.mean_  # squares of what is left, not a difference of squares
                result[part, 1] = np.sqrt(np.einsum("nk,nk->n", x, x) / (x.shape[1] - 1))
        if not np.isfinite(result).all():
            refuse_not_finite(self, vectors)
            raise InputError("X: the numbers are too large to be squared; divide them by their size first")
        return result

    def _terms(self, vectors: NDArray[Any], pairs: Floats) -> tuple[Floats, Floats]:
        """What the items add to Y₁ and to Y₂, each `[rows, k]`."""
        first: Floats = vectors * (self.mean_ / (self.mean_ @ self.mean_))
        off = vectors - pairs[:, :1] * self.mean_
        root = pairs[:, 1:] * (vectors.shape[1] - 1)
        second = np.divide(off**2, root, out=np.zeros_like(off), where=root > 0)
        return first, second


class _TMethod(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Base of T(1), Ta and Tb, which differ in where they put the centre.

    Each item is taken to be proportional to y: x − cₓ = β(y − c). It is weighed by its signal-to-noise ratio η.
    """

    def predict(self, X: ArrayLike) -> Floats:
        """Estimates: `[N, k]` → float64 `[N]`.

        Raises:
            InputError: not k numbers a vector, or numbers that are NaN or infinite.
        """
        gaps = self._centre(X)
        return np.asarray(gaps @ self.coef_ + self.center_y_, np.float64)

    def contributions(self, X: ArrayLike) -> Floats:
        """The share of each item in the estimate: `[N, k]` → float64 `[N, k]`, in units of y.

        (ηᵢ/Ση)·(xᵢ − cᵢ)/βᵢ; a row sums to `predict` − `center_y_`.

        Raises:
            InputError: see `predict`.
        """
        shares = self._centre(X)
        shares *= self.coef_
        return shares

    def _centre(self, X: ArrayLike) -> Floats:
        check_is_fitted(self)
        vectors = check_items(self, X)
        refuse_not_finite(self, vectors)
        gaps: Floats = np.subtract(vectors, self.center_, dtype=np.float64)
        return gaps

    def _check_pairs(self, X: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        if y is None:
            raise InputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: it learns to estimate y"
            )
        try:
            vectors, values = validate_data(
                self, X, y, dtype=np.float64, ensure_all_finite=False, y_numeric=True, ensure_min_samples=3
            )
        except ValueError as error:
            raise InputError(" ".join(str(error).split())) from None
        refuse_not_finite(self, vectors)
        values = values.astype(np.float64)
        if values.min() == values.max():
            raise InputError(f"y: all {len(values)} values are {values[0]:g}; there is nothing to estimate")
        return vectors, values

    def _learn(self, signal: Signals, center: Floats, center_y: float | Floats) -> None:
        """Set the attributes: β and η of each item, and the weighted sum that the estimate is."""
        self.beta_, self.eta_ = signal
        with np.errstate(divide="ignore"):
            self.eta_db_ = 10 * np.log10(self.eta_)
        exact = np.isinf(self.eta_)
        weights = exact.astype(np.float64) if exact.any() else self.eta_
        total = weights.sum()
        if total > 0:
            weights = weights / total
        else:
            warnings.warn(
                f"none of the {len(weights)} items follows y (every signal-to-noise ratio is 0); the estimate is the "
                "centre for every vector",
                DataWarning,
                stacklevel=3,
            )
        self.weights_ = weights
        self.coef_ = np.divide(weights, self.beta_, out=np.zeros_like(weights), where=weights > 0)
        self.center_ = center
        centres = np.broadcast_to(np.asarray(center_y, np.float64), weights.shape)
        self.center_y_ = float(weights @ centres) if total > 0 else float(centres.mean())


class Signals(NamedTuple):
    """Slope β and signal-to-noise ratio η (as a ratio) of each item."""

    beta: Floats
    eta: Floats


def signals(squares: Floats, products: Floats, size: float | Floats, number: int) -> Signals:
    """β and η of items from sums over the signal data, which are centred.

    r = ΣM², β = ΣXM/r, S_β = (ΣXM)²/r, Vₑ = (ΣX² − S_β)/(l − 1), η = (S_β − Vₑ)/(r·Vₑ), 0 where that is negative. It
    is infinite for an item that follows y exactly.

    Args:
        squares: ΣX², float64 of any shape.
        products: ΣXM, likewise.
        size: r = ΣM², above 0 wherever ΣXM is not 0.
        number: l, the number of signal data.

    Example:
        >>> x, m = np.array([[1.0], [2.0], [-1.0]]), np.array([1.0, 2.0, -2.0])
        >>> signal = signals((x**2).sum(axis=0), m @ x, m @ m, 3)
        >>> signal.beta.round(3), signal.eta.round(3)
        (array([0.778]), array([2.067]))
    """
    signal = products**2 / size
    left = squares - signal
    noise = np.maximum(left, 0.0) / (number - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(signal - noise, 0.0) / (size * noise)
    ratio = np.where(left <= _EXACT * squares, math.inf, ratio)
    return Signals(products / size, np.where(products == 0, 0.0, ratio))


class T1(_TMethod):
    """T(1), the two-sided Taguchi method: estimates a value, with its centre in a unit space of middling parts.

    Items and value are centred on the mean of the unit space; β and η of each item come from the other rows, the signal
    data (see `Signals`), and the estimate is ŷ = c + Σ(η·x/β)/Ση (Taguchi 2006; Inou, Nagata, Horita and Mori 2012).

    Args:
        unit_share: the share of the rows, those nearest the median of y, that are the unit space where `fit` gets none.

    Attributes:
        unit_: which rows were the unit space, bool `[n]`.
        beta_: β of each item, float64 `[k]`, in units of the item by those of y.
        eta_: η of each item, float64 `[k]`, as a ratio; 0 for an item without information about y.
        eta_db_: η in decibels, 10·log₁₀η; −∞ for 0.
        weights_: η/Ση. Items that follow y exactly (η = ∞) share all the weight.
        coef_: weights_/β, so that the estimate is `center_y_ + (x − center_) @ coef_`.
        center_: of the items, float64 `[k]`.
        center_y_: of the value.
        n_features_in_: k.

    Example:
        >>> X = np.array([[1.0, 7.0], [2.0, 5.0], [3.0, 6.0], [4.0, 7.0], [5.1, 5.0], [6.0, 6.0]])
        >>> y = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
        >>> t1 = T1().fit(X, y, unit=[2, 3])
        >>> t1.eta_db_.round(1)
        array([ 5.5, -inf])
        >>> t1.predict([[4.5, 6.0]]).round(2)
        array([44.91])
    """

    def __init__(self, *, unit_share: float = 0.2) -> None:
        self.unit_share = unit_share

    def fit(self, X: ArrayLike, y: ArrayLike, unit: ArrayLike | None = None) -> Self:
        """Learn from parts whose value is known.

        Args:
            X: `[n, k]`, n ≥ 3.
            y: the values, `[n]`.
            unit: the rows that are the unit space, as a mask of booleans `[n]` or as numbers of rows from 0. At least
                one row must be in it and two not.

        Raises:
            InputError: settings, vectors or values cannot be used.
        """
        share = self.unit_share
        if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 < share < 1:
            raise InputError(f"unit_share must be a number between 0 and 1, not {share!r}")
        vectors, values = self._check_pairs(X, y)
        self.unit_ = self._unit(values, unit)
        center, center_y = vectors[self.unit_].mean(axis=0), float(values[self.unit_].mean())
        x, m = vectors[~self.unit_] - center, values[~self.unit_] - center_y
        size = float(m @ m)
        if size == 0:
            raise InputError(
                "y: all rows outside the unit space have its mean value, so no item has a slope; choose another "
                "unit space"
            )
        self._learn(signals(np.einsum("nk,nk->k", x, x), m @ x, size, len(m)), center, center_y)
        return self

    def _unit(self, values: Floats, unit: ArrayLike | None) -> NDArray[np.bool_]:
        number = len(values)
        mask = np.zeros(number, np.bool_)
        if unit is None:
            rows = min(max(1, round(float(self.unit_share) * number)), number - 2)
            mask[np.argsort(np.abs(values - np.median(values)), kind="stable")[:rows]] = True
            return mask
        chosen = np.asarray(unit)
        if chosen.dtype == np.bool_ and chosen.shape != mask.shape:
            raise InputError(
                f"unit: a mask of shape {list(chosen.shape)} for {number} rows; give one truth value a row"
            )
        if chosen.dtype.kind not in "biu" or chosen.ndim != 1:
            raise InputError(f"unit: need a mask or numbers of rows, not {chosen.dtype} {list(chosen.shape)}")
        if (
            chosen.dtype != np.bool_
            and len(chosen)
            and not (-number <= chosen.min() <= chosen.max() < number)
        ):
            raise InputError(f"unit: rows {chosen.min()} to {chosen.max()} for {number} rows; count from 0")
        mask[chosen] = True
        if not mask.any() or mask.sum() > number - 2:
            raise InputError(
                f"unit: {int(mask.sum())} of {number} rows; give at least one, and leave at least two as signal data"
            )
        return mask


class Ta(_TMethod):
    """The Ta method: T(1) with the mean of all rows as the centre, and all rows as signal data.

    Inou, Nagata, Horita and Mori (2012), *Journal of the Japanese Society for Quality Control* 42(2), 103–115.

    Attributes:
        beta_, eta_, eta_db_, weights_, coef_, center_, center_y_, n_features_in_: see `T1`.

    Example:
        >>> X = np.array([[1.0, 7.0], [2.0, 5.0], [3.0, 6.0], [4.0, 7.0], [5.1, 5.0], [6.0, 6.0]])
        >>> Ta().fit(X, [10, 20, 30, 40, 50, 60]).predict([[4.5, 6.0]]).round(1)
        array([44.7])
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from parts whose value is known.

        Args:
            X: `[n, k]`, n ≥ 3.
            y: the values, `[n]`.

        Raises:
            InputError: vectors or values cannot be used.
        """
        vectors, values = self._check_pairs(X, y)
        center, center_y = vectors.mean(axis=0), float(values.mean())
        x, m = vectors - center, values - center_y
        self._learn(signals(np.einsum("nk,nk->k", x, x), m @ x, float(m @ m), len(m)), center, center_y)
        return self


class Tb(_TMethod):
    """The Tb method: each item has the row for its centre that gives it the largest signal-to-noise ratio.

    The centre of the value is the mean of those rows' values, weighed by η. All rows are signal data (Inou, Nagata,
    Horita and Mori 2012, see `Ta`). Because each item picks its best of n centres, η is too high by nature; compare
    items by it, do not promise anything with it.

    Attributes:
        center_rows_: the row that each item chose, int64 `[k]`; the first of several as good.
        beta_, eta_, eta_db_, weights_, coef_, center_, center_y_, n_features_in_: see `T1`.

    Example:
        >>> X = np.array([[1.0, 7.0], [2.0, 5.0], [3.0, 6.0], [4.0, 7.0], [5.1, 5.0], [6.0, 6.0]])
        >>> tb = Tb().fit(X, [10, 20, 30, 40, 50, 60])
        >>> tb.center_rows_
        array([1, 0])
        >>> tb.predict([[4.5, 6.0]]).round(1)
        array([44.8])
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from parts whose value is known.

        Args:
            X: `[n, k]`, n ≥ 3.
            y: the values, `[n]`.

        Raises:
            InputError: vectors or values cannot be used.
        """
        vectors, values = self._check_pairs(X, y)
        number = len(values)
        x, m = vectors - vectors.mean(axis=0), values - values.mean()
        # About row s instead of about the mean: Σ(x − xₛ)(m − mₛ) = Σxm + n·xₛ·mₛ, so all n centres cost n·k.
        everywhere = signals(
            np.einsum("nk,nk->k", x, x) + number * x**2,
            m @ x + number * m[:, None] * x,
            (m @ m + number * m**2)[:, None],
            number,
        )
        self.center_rows_ = everywhere.eta.argmax(axis=0)
        best = self.center_rows_, np.arange(vectors.shape[1])
        signal = Signals(everywhere.beta[best], everywhere.eta[best])
        self._learn(signal, vectors[best], values[self.center_rows_])
        return self
