"""Conformal thresholds: OK or NG at a stated false-reject rate, from the scores of OK parts alone.

Scores are numbers, larger = farther from good, and are never clamped. A part is NG if its score exceeds the threshold
by more than `TOLERANCE` of it, so a part on the threshold is OK. Every promise assumes that the OK parts to come are
*exchangeable* with the OK parts calibrated on: same product, camera and light, and none of them used to fit the scorer
(for that case see `cross_conformal_threshold`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv

from mekiki.errors import InputError
from mekiki.judging.score_checks import Scores, check_finite_scores, check_scores, check_share

Language = Literal["en", "ja"]
"""Languages in which a threshold can state its promise."""
TOLERANCE = 1e-5
"""Share of itself by which a score may exceed another and still count as equal to it. Rounding differs between one
part alone and many at once, and between the program and an exported graph; a verdict must not."""

_PREMISE_JA = "今後の良品が校正に使った良品と同様であれば、過検出率（良品を NG と判定する割合）は、"


class Threshold(Protocol):
    """A rule that judges parts at a stated false-reject rate."""

    @property
    def false_reject(self) -> float:
        """The share of OK parts that may be rejected, as asked for."""

    @property
    def calibration(self) -> Scores:
        """Scores of the OK parts calibrated on, float64 `[n]`."""

    @property
    def folds(self) -> NDArray[np.int64]:
        """The model that scored each of them without having seen it, int64 `[n]`."""

    @property
    def largest_p(self) -> float:
        """A part is NG if its p-value is at most this."""

    @property
    def value(self) -> float | None:
        """The score beyond which a part is NG; `None` where several models are compared each with its own scores."""

    def p_values(self, scores: ArrayLike) -> Scores:
        """P-values of parts, float64 `[N]`, from scores `[N]`, or `[N, K]` where there are K models."""

    def judge(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which parts are NG, bool `[N]`; scores as for `p_values`."""

    def promise(self, language: Language = "en") -> str:
        """What holds, in one sentence."""

    def to_dict(self) -> dict[str, Any]:
        """Value and bounds of the false-reject rate, for JSON."""


def upper_end(scores: Any) -> Any:
    """The largest score that counts as equal to each of these; for numbers, arrays and tensors alike."""
    with np.errstate(over="ignore"):
        return scores + TOLERANCE * abs(scores)


@dataclass(frozen=True)
class SplitThreshold:
    """A threshold from OK parts that the scorer was not fitted on (split conformal prediction).

    Attributes:
        value: one of the calibration scores; a part is NG if its score is larger.
        false_reject: the share of OK parts that may be rejected, as asked for.
        parts: number of OK parts calibrated on.
        rank: `value` is the rank-th largest of their scores.
        tied: number of their scores that equal `value`; above 1, fewer parts are rejected than asked for.
        confidence: `None` if the rate holds on average over calibrations, else how surely it holds for this one.
        calibration: float64 `[parts]`, their scores.
    """

    value: float
    false_reject: float
    parts: int
    rank: int
    tied: int
    confidence: float | None
    calibration: Scores = field(repr=False, compare=False)

    @property
    def folds(self) -> NDArray[np.int64]:
        """Zeros `[parts]`: there is one model."""
        return np.zeros(self.parts, np.int64)

    @property
    def largest_p(self) -> float:
        """The share of OK parts rejected, averaged over calibrations with as many parts: rank / (parts + 1)."""
        return self.rank / (self.parts + 1)

    def p_values(self, scores: ArrayLike) -> Scores:
        """`p_values` of parts: scores `[N]` → float64 `[N]`."""
        return p_values(scores, self.calibration)

    def judge(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which parts are NG: scores `[N]` → bool `[N]`.

        Raises:
            InputError: a score is NaN.
        """
        return np.asarray(check_scores(scores, "scores") > upper_end(self.value), np.bool_)

    def promise(self, language: Language = "en") -> str:
        """What holds, in one sentence."""
        rate = _percent(self.false_reject)
        if language == "ja":
            if self.confidence is None:
                claim = f"良品 {self.parts} 個による校正を繰り返したときの平均で {rate} 以下"
            else:
                claim = f"このしきい値では信頼率 {_percent(self.confidence)} で {rate} 以下"
            if self.tied > 1:
                tied = f"{self.parts} 個中 {self.tied} 個のスコアがしきい値と等しく"
                claim += f"（{tied}、実際はさらに低いことがあります）"
            return f"{_PREMISE_JA}{claim}です。"
        if self.confidence is None:
            claim = (
                f"Averaged over calibrations with {self.parts} OK parts, at most {rate} of the OK parts to come are "
                "rejected, if they are like those calibrated on"
            )
        else:
            claim = (
                f"With {_percent(self.confidence)} confidence this threshold rejects at most {rate} of the OK parts "
                "to come, if they are like those calibrated on"
            )
        if self.tied > 1:
            claim += (
                f" ({self.tied} of the {self.parts} scores tie with the threshold, so fewer may be rejected)"
            )
        return claim + "."

    def rate_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Interval in which the false-reject rate of *this* threshold lies in the long run.

        With scores that do not tie, the share of OK parts above the r-th largest of n is a draw from
        Beta(r, n + 1 − r), whatever the distribution of the scores; these are its central quantiles. With ties the
        share can only be lower: the upper end still holds, the lower does not.

        Args:
            level: probability of the interval.

        Raises:
            InputError: `level` is not between 0 and 1.

        Example:
            >>> [round(rate, 4) for rate in conformal_threshold(range(99), 0.01).rate_interval()]
            [0.0003, 0.0366]
        """
        check_share(level, "level")
        ends = betaincinv(self.rank, self.parts + 1 - self.rank, [(1 - level) / 2, (1 + level) / 2])
        return float(ends[0]), float(ends[1])

    def to_dict(self) -> dict[str, Any]:
        """Value and 95 % interval of the false-reject rate, for JSON."""
        return {"threshold": self.value, "realised_between": list(self.rate_interval())}


@dataclass(frozen=True, eq=False)
class CrossThreshold:
    """A rule from parts that were also used to fit the scorer; made by `cross_conformal_threshold`.

    Attributes:
        calibration: float64 `[n]`, the score of each OK part by the model that did not see it.
        folds: int64 `[n]`, the number of that model.
        false_reject: the rate asked for.
    """

    calibration: Scores
    folds: NDArray[np.int64]
    false_reject: float

    @property
    def value(self) -> None:
        """`None`: each model's scores are compared with those of its own calibration parts."""
        return None

    @property
    def largest_p(self) -> float:
        """The rate asked for."""
        return self.false_reject

    def p_values(self, scores: ArrayLike) -> Scores:
        """P-values of parts from their scores by all K models.

        p = (1 + #{i : calibration score of i ≥ score of the part by the model of i}) / (n + 1). For an OK part
        P(p ≤ α) is about α, and at most `worst_case`. The scorer must not depend on the order of the parts it is
        fitted on.

        Args:
            scores: `[N, K]`, the score of each part by each model; infinite ones allowed.

        Returns:
            float64 `[N]` in (0, 1].

        Raises:
            InputError: a score is NaN, or there is not one column for each model.

        Example:
            >>> folds = np.array([0, 0, 1, 1])
            >>> CrossThreshold(np.array([1.0, 2.0, 3.0, 4.0]), folds, 0.5).p_values([[0.5, 0.6], [7.0, 2.0]])
            array([1. , 0.6])
        """
        models = int(self.folds.max()) + 1
        columns = check_scores(scores, "scores", dimensions=2)
        if columns.shape[1] != models:
            raise InputError(
                f"scores [N, {columns.shape[1]}] for {models} models: give one column for each of the models"
            )
        at_least = np.zeros(len(columns), np.int64)
        for model in range(models):
            at_least += _count_at_least(columns[:, model], self.calibration[self.folds == model])
        return np.asarray((1 + at_least) / (len(self.calibration) + 1), np.float64)

    def judge(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which parts are NG, p ≤ false_reject: scores `[N, K]`, one column per model → bool `[N]`."""
        return self.p_values(scores) <= self.largest_p

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

    def promise(self, language: Language = "en") -> str:
        """What holds, in one sentence."""
        if language == "ja":
            return (
                f"{_PREMISE_JA}部品 1 個の増減で判定器がほとんど変わらない場合、約 {_percent(self.false_reject)} です。"
                f"理論的に証明されている上限は、校正を繰り返したときの平均で {_percent(self.worst_case)} です。"
            )
        return (
            f"About {_percent(self.false_reject)} of the OK parts to come are rejected where one part more or less "
            f"hardly changes the scorer; proven, averaged over calibrations, is at most {_percent(self.worst_case)}, "
            "if they are like those calibrated on."
        )

    def to_dict(self) -> dict[str, Any]:
        """The proven bound of the false-reject rate, for JSON."""
        return {"threshold": None, "proven_at_most": self.worst_case}


def conformal_threshold(
    scores: ArrayLike, false_reject: float = 0.01, *, confidence: float | None = None
) -> SplitThreshold:
    """The lowest threshold that keeps a false-reject rate, from OK parts alone.

    Without `confidence` the promise is on average over calibrations: judging NG is then the same as
    `p_values(…) <= false_reject`. One calibration may do better or worse; `rate_interval` says by how much.
    With `confidence` the rate holds for the threshold at hand with that confidence: a distribution-free
    upper tolerance limit (Wilks 1941, doi 10.1214/aoms/1177731788). It needs more parts and misses more NG.

    Args:
        scores: `[n]` scores of OK parts that the scorer was not fitted on.
        false_reject: share of OK parts that may be rejected, between 0 and 1.
        confidence: how surely the rate is to hold for this very threshold, between 0 and 1.

    Raises:
        InputError: scores that are not finite, a rate out of range, or too few parts; the message says how many are
            needed (`parts_needed`).

    Example:
        >>> threshold = conformal_threshold(range(1, 200), 0.05)
        >>> threshold.value, threshold.judge([190, 191]).tolist()
        (190.0, [False, True])
        >>> print(threshold.promise())
        Averaged over calibrations with 199 OK parts, at most 5 % of the OK parts to come are rejected, if ...
        >>> conformal_threshold(range(1, 200), 0.05, confidence=0.95).value
        195.0
    """
    calibration = check_finite_scores(scores)
    rank = _largest_rank(len(calibration), false_reject, confidence)
    value = np.sort(calibration)[-rank]
    return SplitThreshold(
        float(value),
        float(false_reject),
        len(calibration),
        rank,
        int((calibration == value).sum()),
        None if confidence is None else float(confidence),
        calibration,
    )


def cross_conformal_threshold(
    calibration: ArrayLike, folds: ArrayLike | None = None, false_reject: float = 0.01
) -> CrossThreshold:
    """A rule at a stated rate where the OK parts are too few to set some aside for calibration.

    Leave one part (or one fold) out, fit the scorer to the others, score what was left out; keep every one
    of these models. A new part is scored by all of them, and its score by model k is compared only with those of
    the parts that model k did not see. There is no single number to compare with, hence `judge` takes one column of
    scores per model. This is the jackknife+ / CV+ of Barber et al. 2021, in its p-value form the cross-conformal
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
        >>> threshold = cross_conformal_threshold(abs(parts - means), false_reject=0.2)
        >>> threshold.judge(abs(np.array([[1.5], [9.0]]) - means)).tolist()
        [False, True]
        >>> round(threshold.worst_case, 3)
        0.4
    """
    scores = check_finite_scores(calibration)
    models = _check_folds(folds, len(scores))
    _largest_rank(len(scores), false_reject, None)
    return CrossThreshold(scores, models, float(false_reject))


def p_values(scores: ArrayLike, calibration: ArrayLike) -> Scores:
    """Split-conformal p-values: (1 + number of calibration scores at least as large) / (n + 1).

    For an OK part, P(p ≤ α) ≤ α for every α, averaged over calibrations (Vovk, Gammerman & Shafer 2005; for outliers
    Bates et al. 2023, doi 10.1214/22-AOS2244). A tie counts against calling a part NG. The smallest value there can be
    is 1 / (n + 1), so parts beyond all calibration scores tie: rank parts by score, not by p.

    Args:
        scores: `[N]`, infinite ones allowed.
        calibration: `[n]` scores of OK parts that the scorer was not fitted on.

    Returns:
        float64 `[N]` in (0, 1].

    Raises:
        InputError: a score is NaN, a calibration score is not finite, or there is none.

    Example:
        >>> p_values([0.5, 3.0, 9.0], [1.0, 2.0, 3.0, 4.0])
        array([1. , 0.6, 0.2])
    """
    values, known = check_scores(scores, "scores"), check_finite_scores(calibration)
    return np.asarray((1 + _count_at_least(values, known)) / (len(known) + 1), np.float64)


def parts_needed(false_reject: float, confidence: float | None = None) -> int:
    """The fewest OK parts with which `conformal_threshold` can keep a rate.

    On average over calibrations the smallest n with 1 / (n + 1) ≤ α; with confidence c the smallest n with
    1 − (1 − α)ⁿ ≥ c.

    Raises:
        InputError: a rate or confidence that is not between 0 and 1.

    Example:
        >>> parts_needed(0.01), parts_needed(0.01, confidence=0.95)
        (99, 299)
    """
    check_share(false_reject, "false_reject")
    if confidence is not None:
        check_share(confidence, "confidence")
    high = 1
    while not _keeps(1, high, false_reject, confidence):
        high *= 2
    low = high // 2  # too few, and `high` enough; with more parts the rate only gets easier to keep
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _keeps(1, middle, false_reject, confidence) else (middle, high)
    return high


def check_parts(number: int, false_reject: float, confidence: float | None = None, *, least: int = 1) -> int:
    """The number of calibration parts that a rate needs, `parts_needed`.

    Raises:
        InputError: there are fewer than that, or than `least`; the message says how many it takes.
    """
    needed = parts_needed(false_reject, confidence)
    if number < max(needed, least):
        sure = "" if confidence is None else f" with {_percent(confidence)} confidence"
        raise InputError(
            f"{number} OK parts are too few for a false-reject rate of {_percent(false_reject)}{sure}: it takes at "
            f"least {max(needed, least)}; give more OK parts or ask for a higher rate"
        )
    return needed


def _count_at_least(scores: Scores, calibration: Scores) -> NDArray[np.int64]:
    """For each score, the number of calibration scores at least as large, within the tolerance."""
    known = np.sort(upper_end(calibration))
    return np.asarray(len(known) - np.searchsorted(known, scores, side="left"), np.int64)


def _keeps(rank: Any, number: int, false_reject: float, confidence: float | None) -> Any:
    """Whether the rank-th largest of `number` scores keeps the rate; ranks may be an array."""
    if confidence is None:
        return rank / (number + 1) <= false_reject  # the very comparison that p-values are judged with
    return betainc(rank, number + 1 - rank, false_reject) >= confidence


def _largest_rank(number: int, false_reject: float, confidence: float | None) -> int:
    """The largest rank that keeps the rate; refuses if not even the largest score does."""
    check_parts(number, false_reject, confidence)
    return int(np.count_nonzero(_keeps(np.arange(1, number + 1), number, false_reject, confidence)))


def _check_folds(folds: ArrayLike | None, number: int) -> NDArray[np.int64]:
    if folds is None:
        return np.arange(number)
    try:
        array = np.asarray(folds)
    except ValueError:  # lists of unequal length
        array = np.empty(0)
    if array.shape != (number,) or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"folds must be [{number}] whole numbers, one per calibration score")
    if array.min() != 0 or len(np.unique(array)) != array.max() + 1 or array.max() == 0:
        raise InputError(
            "folds must be numbered 0 … K − 1, none of them empty, and there must be at least two"
        )
    return array.astype(np.int64)


def _percent(share: float) -> str:
    text = f"{100 * share:.4g}"
    return f"{100 * share:.10g} %" if text == "100" else f"{text} %"  # 99.999 % is not certainty
