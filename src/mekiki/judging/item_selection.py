"""Item selection by Taguchi's orthogonal array, with a held-out check of the choice.

Woodall et al. (2003, doi 10.1198/004017002188618626) show that the choice by gains need not find good items. The chosen
items are therefore compared with all items on parts that were not used for choosing.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, t
from sklearn.base import clone

from mekiki.console import Progress, silent
from mekiki.errors import DataWarning, InputError
from mekiki.judging.mahalanobis_taguchi import MT
from mekiki.judging.unit_space import Floats, check_items, item_names, refuse_not_finite

SMALLEST_ARRAY = 8
NEAREST = 1e-6
"""Smallest D² that counts, so that one part in the very centre does not make a ratio of −∞ dB."""
LEAST_PARTS = 5
"""NG and OK parts to judge in each split, and NG parts to choose with; with fewer there is no held-out check."""
CONFIDENCE = 0.95

Array = NDArray[np.int8]
Chosen = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HeldOutCheck:
    """The chosen items against all items, on parts that were not used for choosing, split again and again.

    In each split half of the NG parts and two thirds of the OK parts choose the items and make the unit space; the
    others are judged. So what is checked is the way of choosing on this data, not one lucky choice.

    Attributes:
        auroc_all: with all items, float64 `[splits]`.
        auroc_chosen: with the items chosen in that split.
        gain: mean of `auroc_chosen − auroc_all`.
        low: lower end of the 95 % interval of `gain`. Splits share parts, so their spread is widened as Nadeau and
            Bengio (2003, *Machine Learning* 52, 239–281) say.
        high: upper end.
    """

    auroc_all: Floats
    auroc_chosen: Floats
    gain: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ItemSelection:
    """Which items an orthogonal array finds worth keeping, and whether that helps.

    Attributes:
        names: of the items, `[k]`.
        array: the design, int8 `[runs, k]`: 1 where a run uses the item, 2 where it does not. Items that are constant
            in the unit space are in no run: 2 throughout.
        sn_ratios: larger-is-better signal-to-noise ratio of the NG parts in each run, dB, float64 `[runs]`.
        level_means: mean ratio of the runs with the item and of those without, dB, float64 `[k, 2]`: the factor-effect
            chart. NaN for constant items.
        gains: their difference, dB, float64 `[k]`. NaN for constant items.
        kept: gain above 0, bool `[k]`; use as `X[:, selection.kept]`.
        covariance: how R was estimated in every run.
        check: the held-out check; None where there were too few parts.
        helps: whether the check shows that choosing judges better than all items do. None without a check.
        verdict: what the check found, in a sentence.
    """

    names: tuple[str, ...]
    array: Array
    sn_ratios: Floats
    level_means: Floats
    gains: Floats
    kept: Chosen
    covariance: str
    check: HeldOutCheck | None
    helps: bool | None
    verdict: str


def orthogonal_array(items: int) -> Array:
    """The smallest two-level orthogonal array with a column for each item.

    L8, L16, L32, L64, L128 and so on after Sylvester, L12 after Plackett and Burman, others (L20, L24, L28, …) after
    Paley or by doubling. The first run uses all items. Any two columns hold each pair of levels equally often.

    Args:
        items: how many.

    Returns:
        int8 `[runs, items]`, 1 = use, 2 = leave out; runs ≥ 8 and runs > items.

    Raises:
        InputError: no item.

    Example:
        >>> orthogonal_array(4)
        array([[1, 1, 1, 1],
               [2, 1, 2, 1],
               [1, 2, 2, 1],
               [2, 2, 1, 1],
               [1, 1, 1, 2],
               [2, 1, 2, 2],
               [1, 2, 2, 2],
               [2, 2, 1, 2]], dtype=int8)
        >>> [len(orthogonal_array(items)) for items in (7, 8, 11, 12, 31, 127, 500)]
        [8, 12, 12, 16, 32, 128, 504]
    """
    if isinstance(items, bool) or not isinstance(items, int | np.integer) or items < 1:
        raise InputError(f"items must be a whole number of at least 1, not {items!r}")
    runs = max(SMALLEST_ARRAY, 4 * math.ceil((int(items) + 1) / 4))
    while (signs := _hadamard(runs)) is None:
        runs += 4
    return np.where(signs[:, 1 : int(items) + 1] > 0, 1, 2).astype(np.int8)


def sn_ratio(squared_distances: ArrayLike) -> float:
    """Larger-is-better signal-to-noise ratio of NG parts, −10·log₁₀((1/t)Σ1/D²), in dB.

    D² below 1e-6 counts as 1e-6.

    Args:
        squared_distances: D² of the NG parts, `[t]`.

    Example:
        >>> sn_ratio([10.0, 10.0]), round(sn_ratio([1.0, 100.0]), 2)
        (10.0, 2.97)
    """
    squared = np.maximum(np.asarray(squared_distances, np.float64), NEAREST)
    return float(-10 * np.log10(np.mean(1 / squared)))


def select_items(
    ok: ArrayLike,
    ng: ArrayLike,
    *,
    mt: MT | None = None,
    splits: int = 20,
    seed: int = 0,
    progress: Progress = silent,
) -> ItemSelection:
    """Choose items by an orthogonal array, and check the choice on parts kept out.

    Each run of `orthogonal_array` measures the NG parts' distance from the unit space with the items of level 1 and
    gives their larger-is-better ratio (`sn_ratio`). The gain of an item is the mean over the runs with it less the
    mean over those without; items with a gain above 0 are kept (Taguchi and Jugulum 2002). A run that uses no item
    cannot tell parts apart: every part is as far as a good one is on average, D² = 1, which is 0 dB.

    Args:
        ok: vectors of good parts, the unit space, `[n, k]`.
        ng: vectors of parts that are not, `[t, k]`.
        mt: the distance, fitted in each run; `MT()` if None. Where its covariance is `"auto"`, what it chooses for
            all items and parts holds for every run, so that runs compare.
        splits: of the held-out check; 0 for none.
        seed: fixes the splits.
        progress: called after each array of runs.

    Raises:
        InputError: settings or vectors that cannot be used, or vectors of different lengths.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> ok, ng = rng.normal(size=(300, 15)), rng.normal(size=(100, 15))
        >>> ng[:, :3] += 1.5  # three items differ, twelve do not
        >>> selection = select_items(ok, ng)
        >>> np.flatnonzero(selection.kept)
        array([ 0,  1,  2,  8, 14])
        >>> print(selection.verdict)
        Choosing helps: on parts kept out of it, AUROC is 0.813 with the items chosen and 0.753 with all ...
    """
    if isinstance(splits, bool) or not isinstance(splits, int | np.integer) or (splits < 2 and splits != 0):
        raise InputError(f"splits must be a whole number of at least 2, or 0 for no check, not {splits!r}")
    judge = clone(MT() if mt is None else mt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # constant items: left out here, and named in the result
        good = _vectors(judge, ok, "ok", fit=True)
        names = tuple(map(str, item_names(judge)))
        bad = _vectors(judge, ng, "ng")
        try:
            covariance = str(judge.fit(good).covariance_)
        except InputError as error:
            raise InputError(str(error).replace("X: ", "ok: ", 1)) from None
        judge.set_params(covariance=covariance)
        choice = _choose(judge, good, bad)
        progress("choosing items", 1, splits + 1)
        check, verdict = _held_out(judge, good, bad, int(splits), seed, progress)
    if not choice.kept.any():
        verdict = f"No item has a gain above 0, so there is none to keep; use all of them. {verdict}"
    helps = None if check is None else check.low > 0
    return ItemSelection(names, *choice, covariance, check, helps, verdict)


class _Choice(NamedTuple):
    """See `ItemSelection`."""

    array: Array
    sn_ratios: Floats
    level_means: Floats
    gains: Floats
    kept: Chosen


def _choose(mt: MT, good: NDArray[Any], bad: NDArray[Any]) -> _Choice:
    """One array of runs."""
    varying = clone(mt).fit(good).varying_
    columns = orthogonal_array(int(varying.sum()))
    array = np.full((len(columns), len(varying)), 2, np.int8)
    array[:, varying] = columns
    ratios = np.zeros(len(array))
    for run, used in enumerate(array == 1):
        if used.any():
            ratios[run] = sn_ratio(clone(mt).fit(good[:, used]).squared_distance(bad[:, used]))
    level_means = np.full((len(varying), 2), math.nan)
    for item in np.flatnonzero(varying):
        level_means[item] = [ratios[array[:, item] == level].mean() for level in (1, 2)]
    gains = level_means[:, 0] - level_means[:, 1]
    return _Choice(array, ratios, level_means, gains, gains > 0)


def _held_out(
    mt: MT, good: NDArray[Any], bad: NDArray[Any], splits: int, seed: int, progress: Progress
) -> tuple[HeldOutCheck | None, str]:
    """The check, or None, and what it says."""
    if not splits:
        return None, "Not checked on parts kept out: no splits were asked for."
    few = []
    if len(bad) < 2 * LEAST_PARTS:
        few.append(f"{len(bad)} NG parts, where {2 * LEAST_PARTS} are the least")
    if len(good) < 3 * LEAST_PARTS:
        few.append(f"{len(good)} OK parts, where {3 * LEAST_PARTS} are the least")
    if few:
        return (
            None,
            f"Not checked on parts kept out: there are {' and '.join(few)}. Whether choosing helps is open.",
        )
    rng = np.random.default_rng(seed)
    learnt_good, learnt_bad = len(good) - len(good) // 3, len(bad) // 2
    areas = np.empty((splits, 2))
    for split in range(splits):
        order_good, order_bad = rng.permutation(len(good)), rng.permutation(len(bad))
        unit, good_left = good[order_good[:learnt_good]], good[order_good[learnt_good:]]
        bad_left = bad[order_bad[learnt_bad:]]
        try:
            kept = _choose(mt, unit, bad[order_bad[:learnt_bad]]).kept
            every = np.ones_like(kept)
            for column, used in enumerate((every, kept if kept.any() else every)):
                fitted = clone(mt).fit(unit[:, used])
                near = fitted.squared_distance(good_left[:, used])
                areas[split, column] = _auroc(near, fitted.squared_distance(bad_left[:, used]))
        except InputError as error:
            return (
                None,
                f"Not checked on parts kept out: two thirds of the OK parts are not enough ({error}).",
            )
        progress("choosing items", split + 2, splits + 1)
    difference = areas[:, 1] - areas[:, 0]
    shared = max((len(bad) - learnt_bad) / learnt_bad, (len(good) - learnt_good) / learnt_good)
    half = float(t.ppf((1 + CONFIDENCE) / 2, splits - 1)) * math.sqrt(
        difference.var(ddof=1) * (1 / splits + shared)
    )
    gain = float(difference.mean())
    check = HeldOutCheck(areas[:, 0], areas[:, 1], gain, gain - half, gain + half)
    if check.low > 0:
        finding = "Choosing helps"
    elif check.high < 0:
        finding = "Choosing harms"
    else:
        finding = "Choosing is not shown to help"
    return check, (
        f"{finding}: on parts kept out of it, AUROC is {areas[:, 1].mean():.3f} with the items chosen and "
        f"{areas[:, 0].mean():.3f} with all (difference {gain:+.3f}, {CONFIDENCE:.0%} interval {check.low:+.3f} to "
        f"{check.high:+.3f}, {splits} splits)."
    )


def _auroc(near: Floats, far: Floats) -> float:
    """Share of pairs in which the NG part lies farther than the OK part, ties counted half."""
    ranks = rankdata(np.concatenate([near, far]))
    return float((ranks[len(near) :].mean() - (len(far) + 1) / 2) / len(near))


def _vectors(mt: MT, X: ArrayLike, where: str, *, fit: bool = False) -> NDArray[Any]:
    try:
        vectors = check_items(mt, X, fit=fit)
        refuse_not_finite(mt, vectors)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('X: ')}") from None
    return vectors


@cache
def _hadamard(order: int) -> Array | None:
    """A Hadamard matrix of 1 and −1 whose first row and column are 1, or None where no construction here gives one."""
    if order <= 2:
        return np.array([[1, 1], [1, -1]], np.int8)[:order, :order]
    if order % 4:
        return None
    signs = None
    if order & (order - 1) and _prime(order - 1):  # Paley's first; powers of two are left to Sylvester
        signs = np.eye(order, dtype=np.int8) + _jacobsthal(order - 1, -1)
    elif order & (order - 1) and (order // 2 - 1) % 4 == 1 and _prime(order // 2 - 1):  # Paley's second
        half = order // 2
        signs = np.kron(_jacobsthal(half - 1, 1), np.array([[1, 1], [1, -1]], np.int8))
        signs += np.kron(np.eye(half, dtype=np.int8), np.array([[1, -1], [-1, -1]], np.int8))
    elif (smaller := _hadamard(order // 2)) is not None:
        signs = np.kron(np.array([[1, 1], [1, -1]], np.int8), smaller)
    if signs is None:
        return None
    signs = signs * signs[0]
    return np.asarray(signs * signs[:, :1], np.int8)


def _jacobsthal(prime: int, corner: int) -> Array:
    """Jacobsthal's matrix, 1 where i − j is a square modulo the prime and −1 where not, with a border of ones."""
    residues = np.full(prime, -1, np.int8)
    residues[np.arange(1, prime) ** 2 % prime] = 1
    residues[0] = 0
    steps = np.arange(prime)
    matrix = np.zeros((prime + 1, prime + 1), np.int8)
    matrix[1:, 1:] = residues[(steps[:, None] - steps) % prime]
    matrix[0, 1:], matrix[1:, 0] = 1, corner
    return matrix


def _prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
