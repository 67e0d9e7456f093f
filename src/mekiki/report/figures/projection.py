"""Projection of vectors to points on a plane (PCA, t-SNE), and the part of the plane that is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.extras import require

Points = NDArray[np.float64]

MOST_TSNE = 20_000
"""Vectors that t-SNE is fitted to at most; the others are placed among them."""


class Frame(NamedTuple):
    """The square part of the plane that is drawn, and how many points lie outside it."""

    x: tuple[float, float]
    y: tuple[float, float]
    outside: int


@dataclass(frozen=True, eq=False)
class Projection:
    """Vectors drawn as points of a plane.

    Attributes:
        points: float64 `[N, 2]`.
        axis_names: of the horizontal and the vertical axis.
        note: how the points were projected, in a sentence.
    """

    points: Points
    axis_names: tuple[str, str]
    note: str
    _place: Callable[[Points], Points] = field(repr=False)
    _width: int = field(repr=False)

    def transform(self, vectors: ArrayLike) -> Points:
        """Points `[M, 2]` of other vectors `[M, d]`, by the same projection.

        Raises:
            InputError: the vectors are not finite, or of another length than the first ones.
        """
        return self._place(_check_vectors(vectors, self._width))


def check_method(method: str) -> None:
    """Check the name of a projection and that its library is installed.

    Raises:
        InputError: an unknown method.
        MissingExtraError: t-SNE without openTSNE.

    Example:
        >>> check_method("pca")
    """
    if method not in ("pca", "tsne"):
        raise InputError(f"projection: method must be 'pca' or 'tsne', not {method!r}")
    if method == "tsne":
        _opentsne()


def project(
    vectors: ArrayLike,
    method: Literal["pca", "tsne"] = "pca",
    fit: ArrayLike | None = None,
    seed: int = 0,
) -> Projection:
    """Draw vectors on a plane: as they are when they have two dimensions, else by PCA or t-SNE.

    Args:
        vectors: `[N, d]`. With d = 2 nothing is projected; with d = 1 the second axis is jitter for legibility.
        method: `"pca"` keeps as much variance as a plane can; `"tsne"` keeps neighbourhoods and has no unit
            (van der Maaten & Hinton 2008; openTSNE, needs the extra `tsne`).
        fit: vectors `[M, d]` to fit the projection to, such as those of the training images; without it,
            `vectors` themselves.
        seed: of the jitter, of PCA's solver and of t-SNE.

    Raises:
        InputError: no vectors, not finite, of two lengths, or an unknown method.
        MissingExtraError: t-SNE without openTSNE.

    Example:
        >>> train = np.array([[0.0, 0, 0], [2, 0, 0], [4, 0, 0], [6, 1, 0]])
        >>> projection = project(train)
        >>> projection.points.shape, projection.axis_names[0]
        ((4, 2), 'PCA 1 (99 % of variance)')
        >>> projection.transform(train[:2]).shape
        (2, 2)
    """
    array = _check_vectors(vectors)
    train = array if fit is None else _check_vectors(fit)
    check_method(method)
    width = train.shape[1]
    if width == 2:
        place, axes, note = _copy()
    elif width == 1:
        place, axes, note = _jitter(train, seed)
    else:
        place, axes, note = (_pca if method == "pca" else _tsne)(train, seed)
    return Projection(place(_check_vectors(array, width)), axes, note, place, width)


def frame(points: ArrayLike, share: float = 0.998) -> Frame:
    """A square frame with one scale on both axes, around nearly all points.

    Args:
        points: `[N, 2]`.
        share: of the points along each axis that must lie inside; a frame only a little larger that holds all
            points is preferred.

    Example:
        >>> crowd = np.linspace(0, 1, 2000)
        >>> frame(np.column_stack([np.append(crowd, 1e6), np.append(crowd, 0)])).outside
        1
        >>> frame([[0, 0], [2, 1]]).outside
        0
    """
    shown = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if not len(shown):
        return Frame((-1.0, 1.0), (-1.0, 1.0), 0)
    rest = (1 - share) / 2
    low, high = np.quantile(shown, [rest, 1 - rest], axis=0)
    least, most = shown.min(axis=0), shown.max(axis=0)
    if (most - least).max() <= 1.5 * (high - low).max():
        low, high = least, most
    middle = (low + high) / 2
    half = 0.54 * float((high - low).max())
    if half == 0:  # all points coincide: a collapsed embedding still gets a picture
        half = max(0.05 * float(np.abs(middle).max()), 0.5)
    x, y = ((float(centre) - half, float(centre) + half) for centre in middle)
    outside = (shown[:, 0] < x[0]) | (shown[:, 0] > x[1]) | (shown[:, 1] < y[0]) | (shown[:, 1] > y[1])
    return Frame(x, y, int(outside.sum()))


def _check_vectors(vectors: ArrayLike, width: int | None = None) -> Points:
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or not len(array) or not array.shape[1]:
        raise InputError(f"projection: vectors must be [N, d] with at least one row, not {list(array.shape)}")
    if not np.isfinite(array).all():
        rows = int((~np.isfinite(array)).any(axis=1).sum())
        raise InputError(f"projection: {rows} of {len(array)} vectors are not finite")
    if width is not None and array.shape[1] != width:
        raise InputError(f"projection: fitted to vectors of length {width}, given {array.shape[1]}")
    return array


_Fit = tuple[Callable[[Points], Points], tuple[str, str], str]
"""How a fitted projection places vectors, the names of its axes, and a note."""


def _copy() -> _Fit:
    return np.copy, ("dimension 1", "dimension 2"), "the two dimensions of the vectors, not projected"


def _jitter(train: Points, seed: int) -> _Fit:
    height = 0.1 * float(np.ptp(train)) or 0.1

    def place(vectors: Points) -> Points:
        jitter = np.random.default_rng(seed).uniform(-height, height, len(vectors))
        return np.column_stack([vectors[:, 0], jitter])

    return place, ("dimension 1", "jitter (no meaning)"), "one dimension; the height is jitter for legibility"


def _pca(train: Points, seed: int) -> _Fit:
    from sklearn.decomposition import PCA

    count = min(2, len(train))
    with np.errstate(divide="ignore", invalid="ignore"):  # one vector, or all equal: the variance is 0
        model = PCA(n_components=count, random_state=seed).fit(train)
    shares = np.zeros(2)
    shares[:count] = np.nan_to_num(model.explained_variance_ratio_)

    def place(vectors: Points) -> Points:
        points = np.zeros((len(vectors), 2))
        points[:, :count] = model.transform(vectors)
        return points

    first, second = (f"PCA {axis + 1} ({100 * shares[axis]:.0f} % of variance)" for axis in (0, 1))
    note = f"PCA of {train.shape[1]} dimensions, learnt from {len(train):,} vectors"
    return place, (first, second), note


def _opentsne() -> Any:
    return require("openTSNE", extra="tsne", purpose="a t-SNE projection")


def _tsne(train: Points, seed: int) -> _Fit:
    if len(train) < 4:
        raise InputError(f"projection: t-SNE needs at least 4 vectors, not {len(train)}; use method='pca'")
    rows = np.arange(len(train))
    if len(train) > MOST_TSNE:
        rows = np.sort(np.random.default_rng(seed).choice(len(train), MOST_TSNE, replace=False))
    perplexity = min(30.0, (len(rows) - 1) / 3)
    embedding = _opentsne().TSNE(perplexity=perplexity, random_state=seed, n_jobs=1).fit(train[rows])

    def place(vectors: Points) -> Points:
        points = np.empty((len(vectors), 2))
        others = np.ones(len(vectors), bool)
        if vectors is train:
            points[rows] = embedding
            others[rows] = False
        if others.any():
            points[others] = embedding.transform(vectors[others])
        return points

    note = f"t-SNE (perplexity {perplexity:.0f}) of {train.shape[1]} dimensions, learnt from {len(rows):,} vectors"
    return place, ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)"), note
