"""Shrinkage covariance: the Ledoit–Wolf estimate, and whitening by it with fewer parts than items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_VALUE = 1e-10  # eigenvalues below this share of the largest are rounding
_LEAST_SCALE = 0.5  # of the root mean square of all


def common_scale(deviations: Floats) -> Floats:
    """What items of one unit are divided by: their deviation, or half the root mean square of all where that is larger.

    The channels of a network share a unit. One that is nearly always 0 in OK parts would lie tens of thousands of its
    own deviations away in another good part, and one that hardly varies is mostly noise. With this floor in place of a
    tenth of it the image AUROC of a patch memory rises from .946 to .955 on solar cells and from .935 to .944 on
    magnetic tiles; with twice it, that of the filters falls from .935 to .906 on the tiles.

    Args:
        deviations: standard deviations `[k]`; items with 0 do not vary, and keep it.

    Example:
        >>> common_scale(np.array([0.0, 0.1, 3.0, 4.0])).round(2).tolist()
        [0.0, 1.44, 3.0, 4.0]
    """
    varies = deviations > 0
    if not varies.any():
        return deviations
    usual = float(np.sqrt((deviations[varies] ** 2).mean()))
    return np.where(varies, np.maximum(deviations, _LEAST_SCALE * usual), 0.0)


def ledoit_wolf_shrinkage(
    squares: Floats, scatter: Floats, items: int, *, weights: Floats | None = None, least: float
) -> float:
    """The share by which to pull a covariance S of rows z towards equal variances, tr(S)/k·1.

    Ledoit and Wolf (2004, doi 10.1016/S0047-259X(03)00096-4), for weighted rows and from sums alone, so that a
    caller needs neither all rows at once nor a k × k matrix. With equal weights and S = ZᵀZ/n it is the number of
    scikit-learn's `ledoit_wolf_shrinkage(Z, assume_centered=True)`.

    Args:
        squares: ‖z‖² of each row, `[n]`.
        scatter: S `[k, k]`, or the matrix of inner products of the rows `[n, n]` that has the same eigenvalues.
        items: k.
        weights: of the rows in S, `[n]`; equal if left out.
        least: the smallest result. Where rows are not normally distributed the estimate can be 0, which would leave S
            singular.

    Returns:
        From `least` to 1.

    Example:
        >>> z = np.random.default_rng(0).normal(size=(30, 4))
        >>> round(ledoit_wolf_shrinkage((z**2).sum(axis=1), z.T @ z / 30, 4, least=1 / 30), 6)
        0.930824
    """
    shares = np.full(len(squares), 1 / len(squares)) if weights is None else weights / weights.sum()
    norm = float((scatter**2).sum())
    spread = norm - float(scatter.trace()) ** 2 / items
    noise = float((shares**2 * squares**2).sum()) - norm * float((shares**2).sum())
    return 1.0 if noise >= spread or spread <= 0 else float(max(noise / spread, least))


def shrunk_whitening(rows: Floats, shrinkage: float, items: int) -> tuple[Floats, Floats, float]:
    """The map into vectors whose squared length is zᵀC⁻¹z/k, with C = (1 − s)·S + s·tr(S)/k·1 and S = rowsᵀ·rows.

    S is known in as many directions as there are rows and C has one variance in all others, so those few directions
    stand for a k × k matrix, which for some thousand items would be a hundred times larger and slower:
    z ↦ gain·z + ((z·directionsᵀ)·gains)·directions.

    Args:
        rows: `[n, k]`, scaled so that rowsᵀ·rows is the covariance; not all zero.
        shrinkage: s, above 0.
        items: k, items that do not vary not counted.

    Returns:
        Directions `[r, k]` (orthonormal), gains `[r]` and gain.
    """
    # The smaller of the two matrices of inner products gives the directions; rows are often much longer than many.
    if len(rows) <= rows.shape[1]:
        values, left = np.linalg.eigh(rows @ rows.T)
        kept = values > _LEAST_VALUE * values[-1]
        directions = (left[:, kept] / np.sqrt(values[kept])).T @ rows
    else:
        values, vectors = np.linalg.eigh(rows.T @ rows)
        kept = values > _LEAST_VALUE * values[-1]
        directions = vectors[:, kept].T
    floor = shrinkage * float(values[kept].sum()) / items
    gain = 1 / np.sqrt(floor * items)
    gains = 1 / np.sqrt(((1 - shrinkage) * values[kept] + floor) * items) - gain
    return directions, gains, float(gain)
