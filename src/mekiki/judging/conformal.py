"""Where OK ends: thresholds with a stated false-reject rate, and the trade-off once NG parts are there.

Scores are numbers, larger = farther from good, and are never clamped. A part is judged NG if its score is *above* the
threshold; a part exactly on it is OK, so ties never add false rejects. Every promise here assumes one thing, that
the OK parts to come are *exchangeable* with the OK parts calibrated on: same product, camera and light, and none of
them used to learn the scorer (for that case see `cross_conformal_threshold`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv

from mekiki.errors import InputError, not_known

Scores = NDArray[np.float64]

Language = Literal["en", "ja"]
"""What a promise can be told in."""
HOWS = ("sum", "max")
"""How surprises of several views are joined."""
_TAIL_SHARE = 0.1  # of the calibration scores, from which the slope beyond them is read
_TAIL_LEAST = 10
_PREMISE_JA = "今後の良品が校正に使った良品と同様であるとき、誤って NG とされる割合は、"
_SHRINK = 2.0**-600  # a power of two: no digit is lost


@dataclass(frozen=True)
class Threshold:
    """A threshold from OK parts only, with what it promises.

    Attributes:
        value: a part is NG if its score is larger; one of the calibration scores.
        false_reject: the share of OK parts that may be rejected, as asked for.
        parts: how many OK parts it was calibrated on.
        rank: `value` is the rank-th largest of their scores.
        tied: how many of their scores equal `value`; above 1, fewer parts are rejected than asked for.
        confidence: `None` if the rate holds on average over calibrations, else how surely it holds for this one.
    """

    value: float
    false_reject: float
    parts: int
    rank: int
    tied: int
    confidence: float | None = None

    def judge(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which parts are NG: scores `[N]` → bool `[N]`.

        Raises:
            InputError: a score is NaN.
        """
        return _scores(scores, "scores") > self.value

    @property
    def expected(self) -> float:
        """The share of OK parts rejected, averaged over calibrations with as many parts: rank / (parts + 1)."""
        return self.rank / (self.parts + 1)

    @property
    def guarantee(self) -> str:
        """What is promised, in one sentence."""
        return self.promised()

    def promised(self, language: Language = "en") -> str:
        """The same in another language."""
        rate = _percent(self.false_reject)
        if language == "ja":
            if self.confidence is None:
                said = f"{self.parts} 個の良品による校正を平均して {rate} 以下"
            else:
                said = f"この閾値では信頼度 {_percent(self.confidence)} で {rate} 以下"
            if self.tied > 1:
                said += f"（{self.parts} 個のうち {self.tied} 個の値が閾値に等しく、実際はさらに少ないことがあります）"
            return f"{_PREMISE_JA}{said}です。"
        if self.confidence is None:
            said = (
                f"Averaged over calibrations with {self.parts} OK parts, at most {rate} of the OK parts to come are "
                "rejected, if they are like those calibrated on"
            )
        else:
            said = (
                f"With {_percent(self.confidence)} confidence this threshold rejects at most {rate} of the OK parts "
                "to come, if they are like those calibrated on"
            )
        if self.tied > 1:
            said += (
                f" ({self.tied} of the {self.parts} scores tie with the threshold, so fewer may be rejected)"
            )
        return said + "."

    def realised(self, level: float = 0.95) -> tuple[float, float]:
        """Between which rates the false rejects of *this* threshold lie in the long run.

        With scores that do not tie, the share of OK parts above the r-th largest of n is a draw from
        Beta(r, n + 1 − r), whatever the distribution of the scores; these are its central quantiles. With ties the
        share can only be lower: the upper end still holds, the lower does not.

        Args:
            level: how surely it lies between.

        Raises:
            InputError: `level` is not between 0 and 1.

        Example:
            >>> [round(rate, 4) for rate in conformal_threshold(range(99), 0.01).realised()]
            [0.0003, 0.0366]
        """
        _between_0_and_1(level, "level")
        ends = betaincinv(self.rank, self.parts + 1 - self.rank, [(1 - level) / 2, (1 + level) / 2])
        return float(ends[0]), float(ends[1])


def p_values(scores: ArrayLike, calibration: ArrayLike) -> Scores:
    """How ordinary each part would be as an OK part: (1 + calibration scores at least as large) / (n + 1).

    For an OK part, P(p ≤ α) ≤ α for every α, averaged over calibrations: the split-conformal p-value (Vovk, Gammerman
    & Shafer 2005; for outliers Bates et al. 2023, doi 10.1214/22-AOS2244). A tie counts against calling a part NG.
    The smallest value there can be is 1 / (n + 1), so parts beyond all calibration scores tie: rank parts by
    score, not by p.

    Args:
        scores: `[N]`, infinite ones allowed.
        calibration: `[n]` scores of OK parts that the scorer did not learn from.

    Returns:
        float64 `[N]` in (0, 1].

    Raises:
        InputError: a score is NaN, a calibration score is not finite, or there is none.

    Example:
        >>> p_values([0.5, 3.0, 9.0], [1.0, 2.0, 3.0, 4.0])
        array([1. , 0.6, 0.2])
    """
    values, known = _scores(scores, "scores"), np.sort(_calibration_scores(calibration))
    at_least = len(known) - np.searchsorted(known, values, side="left")
    return np.asarray((1 + at_least) / (len(known) + 1), np.float64)


def conformal_threshold(
    scores: ArrayLike, false_reject: float = 0.01, *, confidence: float | None = None
) -> Threshold:
    """The lowest threshold that keeps a false-reject rate, from OK parts alone.

    Without `confidence` the promise is on average over calibrations: judging NG is then the same as
    `p_values(…) <= false_reject`. One calibration may do better or worse; `Threshold.realised` says by how much.
    With `confidence` the rate holds for the threshold at hand with that confidence: a distribution-free
    upper tolerance limit (Wilks 1941, doi 10.1214/aoms/1177731788). It asks for more parts and misses more NG.

    Args:
        scores: `[n]` scores of OK parts that the scorer did not learn from.
        false_reject: share of OK parts that may be rejected, between 0 and 1.
        confidence: how surely the rate is to hold for this very threshold, between 0 and 1.

    Raises:
        InputError: scores that are not finite, a rate out of range, or too few parts; the message says how many it
            takes (`parts_needed`).

    Example:
        >>> threshold = conformal_threshold(range(1, 200), 0.05)
        >>> threshold.value, threshold.judge([190, 191]).tolist()
        (190.0, [False, True])
        >>> print(threshold.guarantee)
        Averaged over calibrations with 199 OK parts, at most 5 % of the OK parts to come are rejected, if ...
        >>> conformal_threshold(range(1, 200), 0.05, confidence=0.95).value
        195.0
    """
    known = np.sort(_calibration_scores(scores))
    rank = _checked_rank(len(known), false_reject, confidence)
    value = known[-rank]
    return Threshold(
        float(value),
        float(false_reject),
        len(known),
        rank,
        int((known == value).sum()),
        None if confidence is None else float(confidence),
    )


def parts_needed(false_reject: float, confidence: float | None = None) -> int:
    """The fewest OK parts with which `calibrate` can keep a rate.

    On average over calibrations the smallest n with 1 / (n + 1) ≤ α; with confidence c the smallest n with
    1 − (1 − α)ⁿ ≥ c.

    Raises:
        InputError: a rate or confidence that is not between 0 and 1.

    Example:
        >>> parts_needed(0.01), parts_needed(0.01, confidence=0.95)
        (99, 299)
    """
    _between_0_and_1(false_reject, "false_reject")
    if confidence is not None:
        _between_0_and_1(confidence, "confidence")
    high = 1
    while not _keeps(1, high, false_reject, confidence):
        high *= 2
    low = high // 2  # too few, and `high` enough; with more parts the rate only gets easier to keep
    while high - low > 1:
        middle = (low + high) // 2
        if _keeps(1, middle, false_reject, confidence):
            high = middle
        else:
            low = middle
    return high


@dataclass(frozen=True, eq=False)
class CrossThreshold:
    """A verdict at a stated rate from parts that also taught the scorer; made by `cross_conformal_threshold`.

    Attributes:
        calibration: float64 `[n]`, the score of each OK part by the model that did not see it.
        folds: int64 `[n]`, which model that is.
        false_reject: the rate asked for.
    """

    calibration: Scores
    folds: NDArray[np.int64]
    false_reject: float

    def p_values(self, scores: ArrayLike) -> Scores:
        """`cross_p_values` of parts: scores `[N, K]`, one column a model → float64 `[N]`."""
        return cross_p_values(scores, self.calibration, self.folds)

    def judge(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which parts are NG, p ≤ false_reject: scores `[N, K]`, one column a model → bool `[N]`."""
        return self.p_values(scores) <= self.false_reject

    @property
    def worst_case(self) -> float:
        """The false-reject rate that is *proven* not to be exceeded, averaged over calibrations.

        Leave-one-out: 2α (Barber, Candès, Ramdas & Tibshirani 2021, doi 10.1214/20-AOS1965, theorem 1).
        K equal folds: 2α + min(2(1 − 1/K) / (n/K + 1), (1 − K/n) / (K + 1)) (the same, theorem 4). Unequal
        folds: 2((n + 1)α + K − 1) / (n + K), since the mean of valid p-values, weighted, is valid when doubled
        (Vovk & Wang 2020, doi 10.1093/biomet/asaa027). At most 1.
        """
        number = len(self.calibration)
        sizes = np.bincount(self.folds)
        models = len(sizes)
        averaged = 2 * ((number + 1) * self.false_reject + models - 1) / (number + models)
        if (sizes != sizes[0]).any():
            return float(min(1.0, averaged))
        tournament = 2 * self.false_reject + (1 - models / number) / (models + 1)
        return float(min(1.0, averaged, tournament))

    @property
    def guarantee(self) -> str:
        """What is promised, in one sentence."""
        return self.promised()

    def promised(self, language: Language = "en") -> str:
        """The same in another language."""
        if language == "ja":
            return (
                f"{_PREMISE_JA}部品 1 個の増減で判定器がほとんど変わらなければ約 {_percent(self.false_reject)} です。"
                f"証明されているのは、校正を平均して {_percent(self.worst_case)} 以下であることです。"
            )
        return (
            f"About {_percent(self.false_reject)} of the OK parts to come are rejected where one part more or less "
            f"hardly changes the scorer; proven, averaged over calibrations, is at most {_percent(self.worst_case)}, "
            "if they are like those calibrated on."
        )


def cross_conformal_threshold(
    calibration: ArrayLike, folds: ArrayLike | None = None, false_reject: float = 0.01
) -> CrossThreshold:
    """A verdict at a stated rate where the OK parts are too few to set some aside for calibration.

    Leave one part (or one fold) out, learn the scorer from the others, score what was left out; keep every one
    of these models. A new part is scored by all of them, and its score by model k is compared only with those of
    the parts that model k did not see. There is no single number to compare with, hence `judge` takes one column of
    scores a model. This is the jackknife+ / CV+ of Barber et al. 2021, in its p-value form the cross-conformal
    predictor (Vovk 2015, doi 10.1007/s10472-013-9368-4); for outliers see Hennhöfer & Preisach 2024 (arXiv
    2402.16388). The rate is usually close to the one asked for, but proven is only about twice that
    (`CrossThreshold.worst_case`): for a proof, ask for half.

    Args:
        calibration: `[n]` score of part i by the model that did not see it.
        folds: `[n]` the number of that model, 0 … K − 1; left out, every part has its own (leave-one-out).
        false_reject: share of OK parts that may be rejected, between 0 and 1.

    Raises:
        InputError: scores that are not finite, folds that do not fit, a rate out of range, or too few parts.

    Example:
        >>> parts = np.array([0.0, 1.0, 2.0, 4.0])  # scored by their distance from the mean of the others
        >>> means = (parts.sum() - parts) / 3
        >>> verdict = cross_conformal_threshold(abs(parts - means), false_reject=0.2)
        >>> verdict.judge(abs(np.array([[1.5], [9.0]]) - means)).tolist()
        [False, True]
        >>> round(verdict.worst_case, 3)
        0.4
    """
    known = _calibration_scores(calibration)
    models = _checked_folds(folds, len(known))
    _checked_rank(len(known), false_reject, None)
    return CrossThreshold(known, models, float(false_reject))


def cross_p_values(scores: ArrayLike, calibration: ArrayLike, folds: ArrayLike | None = None) -> Scores:
    """P-values where calibration part i has its score from the model that did not see it.

    p = (1 + #{i : calibration score of i ≥ score of the part by the model of i}) / (n + 1). For an OK part
    P(p ≤ α) is about α, and at most `CrossThreshold.worst_case`. Needs a scorer that does not care about the order of
    the parts it learns from.

    Args:
        scores: `[N, K]`, the score of each part by each model; infinite ones allowed.
        calibration: `[n]` score of part i by the model that did not see it.
        folds: `[n]` the number of that model, 0 … K − 1; left out, every part has its own (K = n).

    Returns:
        float64 `[N]` in (0, 1].

    Raises:
        InputError: a score is NaN, a calibration score is not finite, or shapes and folds do not fit.

    Example:
        >>> cross_p_values([[0.5, 0.6], [7.0, 2.0]], [1.0, 2.0, 3.0, 4.0], folds=[0, 0, 1, 1])
        array([1. , 0.6])
    """
    known = _calibration_scores(calibration)
    models = _checked_folds(folds, len(known))
    number = int(models.max()) + 1
    values = _scores(scores, "scores", dimensions=2)
    if values.shape[1] != number:
        raise InputError(
            f"scores [N, {values.shape[1]}] for {number} models: give one column for each of the models"
        )
    at_least = np.zeros(len(values), np.int64)
    for model in range(number):
        own = np.sort(known[models == model])
        at_least += len(own) - np.searchsorted(own, values[:, model], side="left")
    return np.asarray((1 + at_least) / (len(known) + 1), np.float64)


def combine(p: ArrayLike, how: str = "sum") -> Scores:
    """One score a part from its p-values under several detectors, *to be calibrated again*.

    The p-values of one part depend on one another, for all detectors look at the same image; so the χ² law of
    Fisher's sum does not hold, and rules that hold under any dependence (J times the smallest) give much away. As a
    score, any function will do: calibrate it on OK parts that none of the p-values were computed from, and the
    rate holds whatever the dependence. P-values stop at 1 / (n + 1), so very bad parts tie; where the scores
    are at hand, `combine_scores` does not tie them.

    Args:
        p: `[N, J]` p-values in (0, 1], one column a detector.
        how: `"sum"`, half of Fisher's statistic, −Σ log p, for departures seen a little by many; `"max"`,
            −log min p, for those seen by one detector alone.

    Returns:
        float64 `[N]`, 0 or more, larger = farther from good.

    Raises:
        InputError: values outside (0, 1], a wrong shape, or an unknown `how`.

    Example:
        >>> combine([[0.5, 0.1], [0.01, 1.0]]).round(2), combine([[0.5, 0.1], [0.01, 1.0]], "max").round(2)
        (array([3. , 4.61]), array([2.3 , 4.61]))
    """
    values = _scores(p, "p-values", dimensions=2)
    if not ((values > 0) & (values <= 1)).all():
        raise InputError(
            f"p-values must be above 0 and at most 1; {_shown(values[(values <= 0) | (values > 1)])}"
        )
    return joined_surprise(-np.log(values), how)


def combine_scores(scores: ArrayLike, calibration: ArrayLike, how: str = "sum") -> Scores:
    """One score a part from its scores by several detectors, *to be calibrated again*; see `combine`.

    Each detector's score becomes −log p, so that detectors with other units and tails count alike. Beyond its largest
    tenth of calibration scores (at least 10) −log p goes on as a straight line, as in an exponential tail, so that
    parts far out do not tie. The line need not be true, for the result is calibrated again: on other OK parts than
    these, or what is promised does not hold.

    Args:
        scores: `[N, J]`, one column a detector, finite.
        calibration: `[n, J]` scores of OK parts by the same detectors.
        how: `"sum"` or `"max"`, as for `combine`.

    Returns:
        float64 `[N]`, 0 or more, larger = farther from good.

    Raises:
        InputError: scores that are not finite, shapes that do not fit, or an unknown `how`.

    Example:
        >>> good = np.column_stack([np.arange(100.0), np.arange(100.0) / 7])
        >>> combine_scores([[50, 7], [200, 30], [2000, 300]], good).round(1)
        array([  1.3,  46.6, 717.5])
    """
    values = _scores(scores, "scores", dimensions=2)
    known = _scores(calibration, "calibration scores", dimensions=2)
    if not len(known) or values.shape[1] != known.shape[1]:
        raise InputError(
            f"scores {list(values.shape)} and calibration {list(known.shape)}: give both one column a detector, "
            "and at least one calibration part"
        )
    _all_finite(values, "scores")
    _all_finite(known, "calibration scores")
    surprise = [_surprise(values[:, column], known[:, column]) for column in range(values.shape[1])]
    return joined_surprise(np.stack(surprise, axis=1), how)


@dataclass(frozen=True)
class Errors:
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
class Cheapest:
    """The threshold with the least expected cost.

    Attributes:
        threshold: a part is NG if its score is larger; −inf if rejecting every part is cheapest.
        cost: expected cost of one part, on the parts at hand. It was minimised on them, so it flatters.
        cost_interval: where the expected cost of this threshold lies in the long run, the choice allowed for.
        false_reject: share of the OK parts rejected.
        miss: share of the NG parts passed.
        ng_share: share of NG on the line that was reckoned with.
    """

    threshold: float
    cost: float
    cost_interval: tuple[float, float]
    false_reject: float
    miss: float
    ng_share: float


@dataclass(frozen=True, eq=False)
class TradeOff:
    """Both errors at every threshold that makes a difference, counted exactly; made by `trade_off`.

    Attributes:
        thresholds: float64 `[T]`, −inf and then every score that occurs, ascending; a part is NG if its score is
            larger, so OK and NG parts of one score fall on the same side.
        rejected: int64 `[T]`, OK parts rejected at each.
        missed: int64 `[T]`, NG parts passed at each.
        ok: how many OK parts there are.
        ng: how many NG parts there are.
    """

    thresholds: Scores
    rejected: NDArray[np.int64]
    missed: NDArray[np.int64]
    ok: int
    ng: int

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
            >>> trade_off([1.0, 2.0], [2.0, 3.0]).auroc()
            0.875
        """
        ok_here = -np.diff(self.rejected)
        twice = ok_here @ (2 * self.ng - self.missed[1:] - self.missed[:-1])
        return float(twice) / (2 * self.ok * self.ng)

    def at(self, threshold: float, level: float = 0.95) -> Errors:
        """Both errors of one threshold, each with its Clopper–Pearson interval.

        Raises:
            InputError: the threshold is NaN, or `level` is not between 0 and 1.

        Example:
            >>> errors = trade_off([1.0, 2.0, 3.0, 4.0], [3.0, 5.0]).at(3.0)
            >>> errors.false_reject, errors.miss, [round(end, 3) for end in errors.miss_interval]
            (0.25, 0.5, [0.013, 0.987])
        """
        if np.isnan(_number(threshold, "threshold")):
            raise InputError("the threshold is NaN; give a number")
        _between_0_and_1(level, "level")
        place = int(np.searchsorted(self.thresholds, threshold, side="right")) - 1
        rejected, missed = int(self.rejected[place]), int(self.missed[place])
        return Errors(
            float(threshold),
            rejected / self.ok,
            missed / self.ng,
            _clopper_pearson(rejected, self.ok, level),
            _clopper_pearson(missed, self.ng, level),
        )

    def cheapest(
        self,
        miss_cost: float,
        false_reject_cost: float,
        *,
        ng_share: float | None = None,
        level: float = 0.95,
    ) -> Cheapest:
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
            level: how surely the cost lies in its interval.

        Raises:
            InputError: a cost that is negative or not finite, both 0, or a share or level out of range.

        Example:
            >>> curve = trade_off([1.0, 2.0, 3.0, 4.0], [3.5, 6.0])
            >>> curve.cheapest(miss_cost=100, false_reject_cost=1).threshold
            3.25
            >>> curve.cheapest(miss_cost=100, false_reject_cost=1, ng_share=0.001).threshold
            5.0
        """
        costs = (_number(miss_cost, "miss_cost"), _number(false_reject_cost, "false_reject_cost"))
        if not all(np.isfinite(cost) and cost >= 0 for cost in costs) or not any(costs):
            raise InputError(
                f"costs {miss_cost} and {false_reject_cost}: give two numbers, 0 or more, not both 0"
            )
        share = self.ng / (self.ok + self.ng) if ng_share is None else _number(ng_share, "ng_share")
        if not 0 <= share <= 1:
            raise InputError(f"ng_share {ng_share} is no share; give a number from 0 to 1")
        _between_0_and_1(level, "level")
        weights = share * miss_cost, (1 - share) * false_reject_cost
        costs_at = weights[0] * self.misses + weights[1] * self.false_rejects
        # Sums that are equal on paper may differ in the last digits; the lowest of them is meant all the same.
        place = int(np.argmax(costs_at <= costs_at.min() * (1 + 1e-12)))
        ends = []
        for sign in (-1, 1):  # each band may fail with half of what is left
            slack = sign * np.sqrt(np.log(4 / (1 - level)) / (2 * np.array([self.ng, self.ok])))
            shares = np.clip([self.misses[place] + slack[0], self.false_rejects[place] + slack[1]], 0, 1)
            ends.append(float(shares @ weights))
        return Cheapest(
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


def trade_off(ok_scores: ArrayLike, ng_scores: ArrayLike) -> TradeOff:
    """Overkill against escape for every threshold, from OK and NG parts that the scorer did not learn from.

    Args:
        ok_scores: `[n]` scores of OK parts, finite.
        ng_scores: `[m]` scores of NG parts, finite.

    Raises:
        InputError: a score is not finite, or there are no OK or no NG parts.

    Example:
        >>> curve = trade_off([1.0, 2.0], [2.0, 3.0])
        >>> curve.thresholds, curve.false_rejects, curve.misses
        (array([-inf,   1.,   2.,   3.]), array([1. , 0.5, 0. , 0. ]), array([0. , 0. , 0.5, 1. ]))
    """
    ok, ng = (
        np.sort(_calibration_scores(ok_scores, "OK scores")),
        np.sort(_calibration_scores(ng_scores, "NG scores")),
    )
    thresholds = np.concatenate([[-np.inf], np.unique(np.concatenate([ok, ng]))])
    return TradeOff(
        thresholds,
        len(ok) - np.searchsorted(ok, thresholds, side="right"),
        np.searchsorted(ng, thresholds, side="right"),
        len(ok),
        len(ng),
    )


def _keeps(rank: int, number: int, false_reject: float, confidence: float | None) -> bool:
    """Whether the rank-th largest of `number` scores keeps the rate."""
    if confidence is None:
        return rank / (number + 1) <= false_reject  # the very comparison that p-values are judged with
    return bool(betainc(rank, number + 1 - rank, false_reject) >= confidence)


def _checked_rank(number: int, false_reject: float, confidence: float | None) -> int:
    """The largest rank that keeps the rate; refuses if not even the largest score does."""
    needed = parts_needed(false_reject, confidence)
    if number < needed:
        sure = "" if confidence is None else f" with {_percent(confidence)} confidence"
        raise InputError(
            f"{number} OK parts are too few for a false-reject rate of {_percent(false_reject)}{sure}: "
            f"it takes at least {needed}; give more OK parts or ask for a higher rate"
        )
    low, high = 1, number  # `low` keeps the rate; keeping it gets harder with the rank
    while low < high:
        middle = (low + high + 1) // 2
        if _keeps(middle, number, false_reject, confidence):
            low = middle
        else:
            high = middle - 1
    return low


def _surprise(scores: Scores, calibration: Scores) -> Scores:
    """−log p up to a high quantile of the calibration scores, and on from there as a straight line."""
    known = np.sort(calibration)
    near = -np.log(p_values(scores, known))
    if known[-1] / 2 - known[0] / 2 > 1e150:  # sums of differences, or squares, would not be finite
        scores, known = scores * _SHRINK, known * _SHRINK
    start, height, scale = tail(known)
    with np.errstate(over="ignore"):  # farther than a number can say is infinitely far
        line = height + (scores - start) / scale
    return np.where(scores > start, line, near)


def tail(calibration: ArrayLike) -> tuple[float, float, float]:
    """The straight line on which the surprise of `combine_scores` goes on beyond a high quantile.

    Args:
        calibration: `[n]` scores of OK parts.

    Returns:
        Where it starts, the surprise there, and how much more score brings 1 more surprise.

    Example:
        >>> tail(range(100))
        (89.0, 2.217..., 5.5)
    """
    known = np.sort(_calibration_scores(calibration))
    beyond = min(max(round(_TAIL_SHARE * len(known)), _TAIL_LEAST), len(known) - 1)
    start = float(known[-1 - beyond])
    excess = float((known[len(known) - beyond :] - start).mean()) if beyond else 0.0
    scale = excess or float((known - start).std()) or 1.0  # scores that hardly vary say nothing of their tail
    # As −log p is computed, to the last bit: else a score just beyond could be less of a surprise.
    return start, float(-np.log((beyond + 1) / (len(known) + 1))), scale


def joined_surprise(surprise: Scores, how: str) -> Scores:
    """Surprises `[N, columns]` joined to one `[N]`: their `"sum"` or their `"max"`."""
    if how == "sum":
        return np.asarray(surprise.sum(axis=1), np.float64)
    if how == "max":
        return np.asarray(surprise.max(axis=1), np.float64)
    raise not_known("how", how, HOWS)


def _clopper_pearson(count: int, number: int, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low = float(betaincinv(count, number - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, number - count, 1 - tail)) if count < number else 1.0
    return low, high


def _scores(values: ArrayLike, what: str, dimensions: int = 1) -> Scores:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be numbers") from None
    if array.ndim != dimensions or (dimensions == 2 and array.shape[1] == 0):
        shape = "[N]" if dimensions == 1 else "[N, columns]"
        raise InputError(f"{what} must be {shape}, not {list(array.shape)}")
    bad = np.flatnonzero(
        np.isnan(array).any(axis=tuple(range(1, dimensions))) if dimensions > 1 else np.isnan(array)
    )
    if len(bad):
        raise InputError(
            f"{what}: {len(bad)} of {len(array)} are NaN, the first at {bad[0]}; leave them out or mend them"
        )
    return array


def _calibration_scores(values: ArrayLike, what: str = "calibration scores") -> Scores:
    array = _scores(values, what)
    if not len(array):
        raise InputError(f"{what}: there are none; give at least one")
    _all_finite(array, what)
    return array


def _all_finite(array: Scores, what: str) -> None:
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise InputError(f"{what}: {bad} are infinite; look at these parts, they cannot be calibrated with")


def _checked_folds(folds: ArrayLike | None, number: int) -> NDArray[np.int64]:
    if folds is None:
        return np.arange(number)
    try:
        given = np.asarray(folds)
    except ValueError:  # lists of unequal length
        given = np.empty(0)
    if given.shape != (number,) or not np.issubdtype(given.dtype, np.integer):
        raise InputError(f"folds must be [{number}] whole numbers, one a calibration score")
    if given.min() != 0 or len(np.unique(given)) != given.max() + 1 or given.max() == 0:
        raise InputError(
            "folds must be numbered 0 … K − 1, none of them empty, and there must be at least two"
        )
    return given.astype(np.int64)


def _between_0_and_1(value: float, what: str) -> None:
    if not 0 < _number(value, what) < 1:
        raise InputError(f"{what} {value} is not between 0 and 1; give a share such as 0.01 for 1 %")


def _number(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputError(f"{what} must be a number, not {value!r}")
    return float(value)


def _shown(values: Scores) -> str:
    return f"{len(values)} are not, for example {values[0]:g}"


def _percent(share: float) -> str:
    said = f"{100 * share:.4g}"
    return f"{100 * share:.10g} %" if said == "100" else f"{said} %"  # 99.999 % is not certainty
