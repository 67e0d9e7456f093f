"""From vectors of any length to points on a plane, and the part of the plane worth showing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.extras import require

Points = NDArray[np.float64]

MOST_TSNE = 20_000  # t-SNE is learnt from at most so many vectors; the others are placed among them


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
        axis_names: what the two axes are.
        note: one sentence about how the points came about.
    """

    points: Points
    axis_names: tuple[str, str]
    note: str
    _place: Callable[[Points], Points] = field(repr=False)

    def transform(self, vectors: ArrayLike) -> Points:
        """Points `[M, 2]` of other vectors `[M, d]`, by what was learnt from the first ones.

        Raises:
            InputError: the vectors are not finite, or of another length than the first ones.
        """
        return self._place(_checked(vectors))


def check_method(method: str) -> None:
    """Check the name of a projection, and that its library is there, before the work that leads up to it.

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
        fit: vectors `[M, d]` to learn the projection from, such as those of the training images; without it,
            `vectors` themselves.
        seed: of the jitter, of PCA's solver and of t-SNE.

    Raises:
        InputError: no vectors, not finite, of two lengths, or an unknown method.
        MissingExtraError: t-SNE without openTSNE.

    Example:
        >>> train = np.array([[0.0, 0, 0], [2, 0, 0], [4, 0, 0], [6, 1, 0]])
        >>> shown = project(train)
        >>> shown.points.shape, shown.axis_names[0]
        ((4, 2), 'PCA 1 (99 % of variance)')
        >>> shown.transform(train[:2]).shape
        (2, 2)
    """
    given = _checked(vectors)
    learnt = given if fit is None else _checked(fit)
    check_method(method)
    width = learnt.shape[1]
    if width == 2:
        place, axes, note = _as_they_are()
    elif width == 1:
        place, axes, note = _jittered(learnt, seed)
    elif method == "pca":
        place, axes, note = _pca(learnt, seed)
    else:
        return _tsne(given, fit is None, learnt, seed)
    place = _guarded(place, width)
    return Projection(place(given), axes, note, place)


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
    if half == 0:  # every point in one place: a collapsed embedding still gets a picture
        half = max(0.05 * float(np.abs(middle).max()), 0.5)
    x, y = ((float(centre) - half, float(centre) + half) for centre in middle)
    outside = (shown[:, 0] < x[0]) | (shown[:, 0] > x[1]) | (shown[:, 1] < y[0]) | (shown[:, 1] > y[1])
    return Frame(x, y, int(outside.sum()))


def _checked(vectors: ArrayLike) -> Points:
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or not len(array) or not array.shape[1]:
        raise InputError(f"projection: vectors must be [N, d] with at least one row, not {list(array.shape)}")
    if not np.isfinite(array).all():
        rows = int((~np.isfinite(array)).any(axis=1).sum())
        raise InputError(f"projection: {rows} of {len(array)} vectors are not finite")
    return array


def _guarded(place: Callable[[Points], Points], width: int) -> Callable[[Points], Points]:
    def checked_place(vectors: Points) -> Points:
        if vectors.shape[1] != width:
            raise InputError(f"projection: learnt from vectors of length {width}, given {vectors.shape[1]}")
        return place(vectors)

    return checked_place


_Learnt = tuple[Callable[[Points], Points], tuple[str, str], str]


def _as_they_are() -> _Learnt:
    return np.copy, ("dimension 1", "dimension 2"), "the two dimensions of the vectors, not projected"


def _jittered(learnt: Points, seed: int) -> _Learnt:
    height = 0.1 * float(np.ptp(learnt)) or 0.1

    def place(vectors: Points) -> Points:
        jitter = np.random.default_rng(seed).uniform(-height, height, len(vectors))
        return np.column_stack([vectors[:, 0], jitter])

    return place, ("dimension 1", "jitter (no meaning)"), "one dimension; the height is jitter for legibility"


def _pca(learnt: Points, seed: int) -> _Learnt:
    from sklearn.decomposition import PCA

    count = min(2, len(learnt))
    with np.errstate(divide="ignore", invalid="ignore"):  # one vector, or all equal: no variance to share out
        model = PCA(n_components=count, random_state=seed).fit(learnt)
    shares = np.zeros(2)
    shares[:count] = np.nan_to_num(model.explained_variance_ratio_)

    def place(vectors: Points) -> Points:
        points = np.zeros((len(vectors), 2))
        points[:, :count] = model.transform(vectors)
        return points

    first, second = (f"PCA {axis + 1} ({100 * shares[axis]:.0f} % of variance)" for axis in (0, 1))
    note = f"PCA of {learnt.shape[1]} dimensions, learnt from {len(learnt):,} vectors"
    return place, (first, second), note


def _opentsne() -> Any:
    return require("openTSNE", extra="tsne", purpose="a t-SNE projection")


def _tsne(given: Points, own: bool, learnt: Points, seed: int) -> Projection:
    library = _opentsne()
    if len(learnt) < 4:
        raise InputError(f"projection: t-SNE needs at least 4 vectors, not {len(learnt)}; use method='pca'")
    rows = np.arange(len(learnt))
    if len(learnt) > MOST_TSNE:
        rows = np.sort(np.random.default_rng(seed).choice(len(learnt), MOST_TSNE, replace=False))
    perplexity = min(30.0, (len(rows) - 1) / 3)
    embedding = library.TSNE(perplexity=perplexity, random_state=seed, n_jobs=1).fit(learnt[rows])
    base = np.asarray(embedding, dtype=np.float64)

    def place(vectors: Points) -> Points:
        return np.asarray(embedding.transform(vectors), dtype=np.float64)

    if own:
        points = np.empty((len(given), 2))
        points[rows] = base
        others = np.setdiff1d(np.arange(len(given)), rows)
        if len(others):
            points[others] = place(given[others])
    else:
        points = _guarded(place, learnt.shape[1])(given)
    note = f"t-SNE (perplexity {perplexity:.0f}) of {learnt.shape[1]} dimensions, learnt from {len(rows):,} vectors"
    return Projection(
        points, ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)"), note, _guarded(place, learnt.shape[1])
    )
