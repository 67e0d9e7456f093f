"""Trade-off between false rejects (overkill) and misses (escape), once NG parts are there, and its costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from mekiki.errors import InputError
from mekiki.judging.score_checks import Scores, check_finite_scores, check_number, check_share


@dataclass(frozen=True)
class ErrorRates:
    """Both errors of a threshold, counted, with exact intervals (Clopper & Pearson 1934, doi 10.1093/biomet/26.4.404).

    The intervals hold for a threshold fixed without looking at these parts.

    Attributes:
        threshold: a part is NG if its score is larger.
        false_reject: share of the OK parts rejected (overkill).
        miss: share of the NG parts passed (escape).
        false_reject_interval: where the share lies in the long run.
        miss_interval: the same for the miss share.
    """

    threshold: float
    false_reject: float
    miss: float
    false_reject_interval: tuple[float, float]
    miss_interval: tuple[float, float]


@dataclass(frozen=True)
class CheapestThreshold:
    """The threshold with the least expected cost.

    Attributes:
        threshold: a part is NG if its score is larger; −inf if rejecting every part is cheapest.
        cost: expected cost of one part, on the parts at hand. It was minimised on them, so it is optimistic.
        cost_interval: where the expected cost of this threshold lies in the long run, the choice allowed for.
        false_reject: share of the OK parts rejected.
        miss: share of the NG parts passed.
        ng_share: share of NG parts on the line that the cost assumes.
    """

    threshold: float
    cost: float
    cost_interval: tuple[float, float]
    false_reject: float
    miss: float
    ng_share: float


@dataclass(frozen=True, eq=False)
class TradeOff:
    """Both errors at every threshold that makes a difference, counted exactly; made by `from_scores`.

    Attributes:
        thresholds: float64 `[T]`, −inf and then every score that occurs, ascending; a part is NG if its score is
            larger, so OK and NG parts of one score fall on the same side.
        rejected: int64 `[T]`, OK parts rejected at each.
        missed: int64 `[T]`, NG parts passed at each.
        ok: number of OK parts.
        ng: number of NG parts.
    """

    thresholds: Scores
    rejected: NDArray[np.int64]
    missed: NDArray[np.int64]
    ok: int
    ng: int

    @classmethod
    def from_scores(cls, ok_scores: ArrayLike, ng_scores: ArrayLike) -> Self:
        """Overkill against escape for every threshold, from OK and NG parts that the scorer was not fitted on.

        Args:
            ok_scores: `[n]` scores of OK parts, finite.
            ng_scores: `[m]` scores of NG parts, finite.

        Raises:
            InputError: a score is not finite, or there are no OK or no NG parts.

        Example:
            >>> curve = TradeOff.from_scores([1.0, 2.0], [2.0, 3.0])
            >>> curve.thresholds, curve.false_rejects, curve.misses
            (array([-inf,   1.,   2.,   3.]), array([1. , 0.5, 0. , 0. ]), array([0. , 0. , 0.5, 1. ]))
        """
        ok = np.sort(check_finite_scores(ok_scores, "OK scores"))
        ng = np.sort(check_finite_scores(ng_scores, "NG scores"))
        thresholds = np.concatenate([[-np.inf], np.unique(np.concatenate([ok, ng]))])
        return cls(
            thresholds,
            len(ok) - np.searchsorted(ok, thresholds, side="right"),
            np.searchsorted(ng, thresholds, side="right"),
            len(ok),
            len(ng),
        )

    @property
    def false_rejects(self) -> Scores:
        """Share of OK parts rejected at each threshold (overkill), float64 `[T]`, falling from 1 to 0."""
        return self.rejected / self.ok

    @property
    def misses(self) -> Scores:
        """Share of NG parts passed at each threshold (escape), float64 `[T]`, rising from 0 to 1."""
        return self.missed / self.ng

    def auroc(self) -> float:
        """Probability that an NG part scores higher than an OK part, ties counted half.

        Example:
            >>> TradeOff.from_scores([1.0, 2.0], [2.0, 3.0]).auroc()
            0.875
        """
        ok_here = -np.diff(self.rejected)
        twice = ok_here @ (2 * self.ng - self.missed[1:] - self.missed[:-1])
        return float(twice) / (2 * self.ok * self.ng)

    def at(self, threshold: float, level: float = 0.95) -> ErrorRates:
        """Both errors of one threshold, each with its Clopper–Pearson interval.

        Raises:
            InputError: the threshold is NaN, or `level` is not between 0 and 1.

        Example:
            >>> errors = TradeOff.from_scores([1.0, 2.0, 3.0, 4.0], [3.0, 5.0]).at(3.0)
            >>> errors.false_reject, errors.miss, [round(end, 3) for end in errors.miss_interval]
            (0.25, 0.5, [0.013, 0.987])
        """
        if np.isnan(check_number(threshold, "threshold")):
            raise InputError("the threshold is NaN; give a number")
        check_share(level, "level")
        place = int(np.searchsorted(self.thresholds, threshold, side="right")) - 1
        rejected, missed = int(self.rejected[place]), int(self.missed[place])
        return ErrorRates(
            float(threshold),
            rejected / self.ok,
            missed / self.ng,
            _interval(rejected, self.ok, level),
            _interval(missed, self.ng, level),
        )

    def cheapest(
        self,
        miss_cost: float,
        false_reject_cost: float,
        *,
        ng_share: float | None = None,
        level: float = 0.95,
    ) -> CheapestThreshold:
        """The threshold with the least expected cost of one part.

        Cost = ng_share · miss_cost · miss + (1 − ng_share) · false_reject_cost · false reject. Of several thresholds
        that cost the same the lowest is taken, which misses least; it stands in the middle of the gap to the next
        score, and at the largest score if passing every part is cheapest.

        The interval of the cost comes from the bands of Dvoretzky, Kiefer & Wolfowitz (Massart 1990,
        doi 10.1214/aop/1176990746), which hold at all thresholds at once and so at the one chosen. There is no
        interval for the threshold itself: a best split of this kind settles with the cube root of the number
        of parts only, and there the bootstrap is not consistent (Abrevaya & Huang 2005,
        doi 10.1111/j.1468-0262.2005.00625.x).

        Args:
            miss_cost: cost of one NG part passed (escape), in any unit.
            false_reject_cost: cost of one OK part rejected (overkill), in the same unit.
            ng_share: share of NG parts on the line; left out, that of the parts at hand, which is rarely the line's.
            level: probability with which the cost lies in its interval.

        Raises:
            InputError: a cost that is negative or not finite, both 0, or a share or level out of range.

        Example:
            >>> curve = TradeOff.from_scores([1.0, 2.0, 3.0, 4.0], [3.5, 6.0])
            >>> curve.cheapest(miss_cost=100, false_reject_cost=1).threshold
            3.25
            >>> curve.cheapest(miss_cost=100, false_reject_cost=1, ng_share=0.001).threshold
            5.0
        """
        costs = (check_number(miss_cost, "miss_cost"), check_number(false_reject_cost, "false_reject_cost"))
        if not all(np.isfinite(cost) and cost >= 0 for cost in costs) or not any(costs):
            raise InputError(
                f"costs {miss_cost} and {false_reject_cost}: give two numbers, 0 or more, not both 0"
            )
        share = self.ng / (self.ok + self.ng) if ng_share is None else check_number(ng_share, "ng_share")
        if not 0 <= share <= 1:
            raise InputError(f"ng_share {ng_share} is no share; give a number from 0 to 1")
        check_share(level, "level")
        weights = share * miss_cost, (1 - share) * false_reject_cost
        costs_at = weights[0] * self.misses + weights[1] * self.false_rejects
        # Sums that are equal on paper may differ in the last digits; the lowest threshold is meant all the same.
        place = int(np.argmax(costs_at <= costs_at.min() * (1 + 1e-12)))
        ends = []
        for sign in (-1, 1):  # each band may fail with half of what is left
            slack = sign * np.sqrt(np.log(4 / (1 - level)) / (2 * np.array([self.ng, self.ok])))
            shares = np.clip([self.misses[place] + slack[0], self.false_rejects[place] + slack[1]], 0, 1)
            ends.append(float(shares @ weights))
        return CheapestThreshold(
            self._middle_after(place),
            float(costs_at[place]),
            (ends[0], ends[1]),
            float(self.false_rejects[place]),
            float(self.misses[place]),
            share,
        )

    def _middle_after(self, place: int) -> float:
        low = float(self.thresholds[place])
        if place in (0, len(self.thresholds) - 1):
            return low
        high = float(self.thresholds[place + 1])
        middle = low / 2 + high / 2
        return middle if low <= middle < high else low  # neighbouring numbers have no middle


def _interval(count: int, number: int, level: float) -> tuple[float, float]:
    interval = binomtest(count, number).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)
