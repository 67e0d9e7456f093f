"""The unit space: mean, scale and correlation of good parts `[n, k]`, and the quadratic form that D² is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_feature_names_in, validate_data

from mekiki.errors import InputError
from mekiki.judging.covariance import ledoit_wolf_shrinkage

Floats = NDArray[np.float64]

_BLOCK_BYTES = 1 << 20  # of vectors at work: they stay in the cache between difference, product and sum
_PANEL = 128  # columns of the triangular whitening that are multiplied at once, without the zeros above them
_FLOAT32_CONDITION = 100.0  # of the whitening; it magnifies the rounding of float32, 2⁻²⁴, to 6e-6 at most
_ROUNDING = 4  # units in the last place within which an item counts as constant


@dataclass(frozen=True, eq=False)
class QuadraticForm:
    """D² = ‖(x − m)W‖², a block of vectors at a time.

    Attributes:
        mean: m, float64 `[k]`.
        whitening: W, float64 `[k, r]`, zero above its diagonal.
        float32_will_do: whether vectors of float32 may be multiplied as such.
    """

    mean: Floats
    whitening: Floats
    float32_will_do: bool

    @classmethod
    def of(cls, moments: Moments, directions: Floats, weights: Floats) -> QuadraticForm:
        """zᵀ·(V·diag(w)·Vᵀ)·z for the standardised z of the items that vary.

        Args:
            moments: mean and scale.
            directions: V, float64 `[k, r]`, orthonormal columns.
            weights: w, float64 `[r]`, above 0.
        """
        # Any W with WWᵀ = Vdiag(w)Vᵀ gives the same length. The triangular one costs half the multiplications.
        upper: Floats = np.asarray(np.linalg.qr((directions * np.sqrt(weights)).T, mode="r"))
        root = upper.T
        whitening = np.zeros((len(moments.mean), len(weights)))
        varying = np.flatnonzero(moments.varying)
        whitening[varying] = root / moments.scale[varying, None]
        condition = math.sqrt(weights.max() / weights.min()) if len(weights) == len(varying) else math.inf
        sizes = np.concatenate([moments.scale[varying], [np.abs(root).max()]])
        squares_fit = float(sizes.min()) > 1e-15 and float(sizes.max()) < 1e15 > np.abs(moments.mean).max()
        return cls(moments.mean, whitening, bool(squares_fit and condition <= _FLOAT32_CONDITION))

    def squared_length(self, vectors: NDArray[Any]) -> Floats:
        """D² `[N]` of vectors `[N, k]`; what is not finite stays so."""
        result = np.empty(len(vectors))
        narrow = vectors.dtype == np.float32 and self.float32_will_do
        dtype: type[np.float32 | np.float64] = np.float32 if narrow else np.float64
        mean, whitening = self.mean.astype(dtype), self.whitening.astype(dtype)
        rest = (np.subtract(self.mean, mean, dtype=np.float64) @ self.whitening).astype(
            dtype
        )  # of the mean, which float32 does not hold
        directions = whitening.shape[1]
        panels = []
        for left in range(0, directions, _PANEL):
            columns = slice(left, left + _PANEL)
            # Above the diagonal W is zero. The first panel takes all rows, so that no NaN is passed over.
            rows_from = int(np.argmax(whitening[:, columns].any(axis=1))) if left else 0
            panels.append((rows_from, columns))
        rows = _rows(len(mean), dtype().itemsize)
        centred, turned = np.empty((rows, len(mean)), dtype), np.empty((rows, directions), dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, len(vectors), rows):
                block = vectors[start : start + rows]
                z, y = centred[: len(block)], turned[: len(block)]
                np.subtract(block, mean, out=z)
                for first, columns in panels:
                    np.matmul(z[:, first:], whitening[first:, columns], out=y[:, columns])
                if narrow:
                    y -= rest
                squared = np.einsum("nr,nr->n", y, y)
                if narrow and not np.isfinite(squared).all():  # beyond float32, perhaps not beyond float64
                    y64 = (block.astype(np.float64) - self.mean) @ self.whitening
                    squared = np.einsum("nr,nr->n", y64, y64)
                result[start : start + rows] = squared
        return result

    def contributions(self, vectors: NDArray[Any]) -> Floats:
        """(x − m)ᵢ·(WWᵀ(x − m))ᵢ: float64 `[N, k]`, whose rows sum to D²."""
        result = np.empty(vectors.shape)
        with np.errstate(invalid="ignore", over="ignore"):
            for part in blocks(len(vectors), vectors.shape[1]):
                z = np.subtract(vectors[part], self.mean, dtype=np.float64)
                np.matmul(z @ self.whitening, self.whitening.T, out=result[part])
                result[part] *= z
        return result


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean, scale and correlation of the unit space.

    Attributes:
        n: number of vectors.
        mean: float64 `[k]`.
        scale: standard deviation with n − 1, float64 `[k]`; 0 where constant.
        varying: bool `[k]`.
        noise: difference from the mean up to which a constant item counts as unchanged, float64 `[k]`.
        correlation: of the items that vary.
    """

    n: int
    mean: Floats
    scale: Floats
    varying: NDArray[np.bool_]
    noise: Floats
    correlation: Floats

    def standardise(self, vectors: NDArray[Any]) -> Floats:
        """The z of the items that vary, float64 `[N, v]`."""
        z = vectors[:, self.varying].astype(np.float64)
        z -= self.mean[self.varying]
        z /= self.scale[self.varying]
        return z


def unit_moments(estimator: BaseEstimator, vectors: NDArray[Any]) -> Moments:
    """Mean, scale and correlation in two passes over blocks, in float64.

    Raises:
        InputError: NaN or infinite numbers, or numbers so large that their squares are.
    """
    number, items = vectors.shape
    mean = np.zeros(items)
    scatter = np.zeros((items, items))
    with np.errstate(invalid="ignore", over="ignore"):
        for part in blocks(number, items):
            mean += vectors[part].sum(axis=0, dtype=np.float64)
        mean /= number
        for part in blocks(number, items):
            gap = np.subtract(vectors[part], mean, dtype=np.float64)
            scatter += gap.T @ gap
    if not np.isfinite(scatter).all():
        refuse_not_finite(estimator, vectors)
        raise InputError("X: the numbers are too large to be squared; divide them by their size first")
    kind = vectors.dtype if vectors.dtype.kind == "f" else np.dtype(np.float64)
    noise = _ROUNDING * float(np.finfo(kind).eps) * np.abs(mean)
    scale = np.sqrt(np.diag(scatter) / (number - 1))
    varying = scale > noise
    scale[~varying] = 0.0
    among = scatter[np.ix_(varying, varying)] / (number - 1)
    correlation = among / scale[varying] / scale[varying, None]
    correlation = (correlation + correlation.T) / 2
    correlation[np.diag_indices_from(correlation)] = 1.0
    return Moments(number, mean, scale, varying, noise, correlation)


def shrinkage(vectors: NDArray[Any], moments: Moments) -> float:
    """The Ledoit–Wolf shrinkage of R towards no correlation, from 1/n to 1, a block of vectors at a time.

    For normal items the estimate is at least 1/n; for others it can be 0, which would leave R singular.
    """
    squares = np.empty(moments.n)
    for part in blocks(moments.n, len(moments.mean)):
        z = moments.standardise(vectors[part])
        squares[part] = np.einsum("nk,nk->n", z, z)
    covariance = (moments.n - 1) / moments.n * moments.correlation
    return ledoit_wolf_shrinkage(squares, covariance, len(covariance), least=1 / moments.n)


def check_items(estimator: BaseEstimator, X: ArrayLike, *, fit: bool = False) -> NDArray[Any]:
    """Vectors as an array `[N, k]` of numbers, not copied and of the type they have where that is one of numbers.

    Whether they are finite is checked by `refuse_not_finite`.

    Raises:
        InputError: of another shape than `[N, k]`, none, no numbers, or at `fit` fewer than two.
    """
    try:
        vectors: NDArray[Any] = validate_data(
            estimator,
            X,
            reset=fit,
            dtype="numeric",
            ensure_all_finite=False,
            ensure_min_samples=2 if fit else 1,
        )
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"X: {'these are words; give numbers' if 'numeric' in reason else reason}") from None
    return vectors


def refuse_not_finite(estimator: BaseEstimator, vectors: NDArray[Any]) -> None:
    """Refuse NaN and infinite numbers.

    Raises:
        InputError: there are some; the message says where.
    """
    bad, first = 0, ""
    for part in blocks(*vectors.shape):
        wrong = ~np.isfinite(vectors[part].astype(np.float64, copy=False))
        rows = np.flatnonzero(wrong.any(axis=1))
        if len(rows) and not bad:
            name = item_names(estimator)[int(np.argmax(wrong[rows[0]]))]
            first = f"row {part.start + rows[0]}, item {name}"
        bad += len(rows)
    if bad:
        raise InputError(
            f"X: {bad} of {len(vectors)} vectors hold NaN or infinity, first in {first}; leave them out or fill them"
        )


def item_names(estimator: BaseEstimator) -> NDArray[Any]:
    """The names of the items, as scikit-learn has them: the columns of a data frame, or x0, x1 and so on."""
    names: NDArray[Any] = _check_feature_names_in(estimator)
    return names


def blocks(number: int, items: int) -> Iterator[slice]:
    """Slices over `number` vectors, each of a size that stays in the cache."""
    rows = _rows(items, 8)
    for start in range(0, number, rows):
        yield slice(start, start + rows)


def _rows(items: int, size: int) -> int:
    return max(16, _BLOCK_BYTES // (items * size))
