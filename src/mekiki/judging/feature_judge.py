"""`Judge`: OK or NG from several feature groups at once, at a stated false-reject rate, with corrections.

A *feature group* describes each part by vectors `[N, d]`, whose distance from the unit space is taken (MT), or by ready
scores `[N]`, larger = farther from good. Groups go by name and are passed together as a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mekiki.errors import InputError, not_known
from mekiki.judging.conformal import (
    CrossThreshold,
    SplitThreshold,
    Threshold,
    check_parts,
    conformal_threshold,
    parts_needed,
)
from mekiki.judging.judge_result import CORRECTION_COLUMN, JudgeResult, Slopes, TaughtPart, UnseenNG
from mekiki.judging.mahalanobis_taguchi import COVARIANCES
from mekiki.judging.scoring import COMBINATIONS, Scoring, ScoringModel
from mekiki.judging.tensor_blocks import run_in_blocks, to_tensor
from mekiki.judging.whitening import Whitening

Groups = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

LEAST_TO_LEARN = 8
"""OK parts below which no unit space is made: fewer say nothing of how good parts vary."""
_CROSS_FOLDS = 10
_LEARN_SHARE = 2 / 3


class Judge:
    """OK or NG from several feature groups, with a false-reject rate that is stated and kept.

    `fit` makes one unit space per group from OK parts. It finds the usual scores of each group by 5-fold
    cross-fitting: unit spaces without a fifth of the parts score that fifth. −log p among these scores (`NegLogP`)
    makes groups of different units comparable.

    `calibrate` takes *other* OK parts and sets the threshold: by split-conformal prediction the rate holds whatever the
    groups are worth. `cross_calibrate` fits and calibrates with the same parts, for small sets: ten models, each
    without a tenth of the parts (CV+).

    Corrections (`teach`) act at once, without fitting again; see `CorrectionRule`. The threshold is set again on the
    same calibration parts, so the stated rate goes on to hold as long as no correction is one of these parts.

    Args:
        how: `"sum"` for defects that several groups see a little of, `"max"` for those that one group sees alone.
        covariance: of the unit spaces; see `MT`.

    Attributes:
        groups: the names of the feature groups, in order.
        threshold: the calibrated threshold, or `None`.
        rate: the false-reject rate asked for.
        taught: the corrections in effect.
        known_ng: NG parts by feature group, by which the effect of corrections is weighed; empty where none are known.
        scoring: the module that computes scores and verdicts; the export writes it as a graph.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> good = lambda n: {"colour": rng.normal(size=(n, 3)), "roughness": rng.exponential(size=n)}
        >>> judge = Judge().fit(good(200))
        >>> print(judge.calibrate(good(199), false_reject=0.05).promise())
        Averaged over calibrations with 199 OK parts, at most 5 % of the OK parts to come are rejected, if ...
        >>> bad = {"colour": [[9.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "roughness": [1.0, 30.0]}
        >>> result = judge.judge(bad)
        >>> result.ng, result.leading_groups()
        (array([ True,  True]), ['colour', 'roughness'])
    """

    def __init__(self, how: str = "sum", covariance: str = "auto") -> None:
        if how not in COMBINATIONS:
            raise not_known("how", how, COMBINATIONS)
        if covariance not in COVARIANCES:
            raise not_known("covariance", covariance, COVARIANCES)
        self.how = how
        self.covariance = covariance
        self.groups: tuple[str, ...] = ()
        self.threshold: Threshold | None = None
        self.rate: float | None = None
        self.confidence: float | None = None
        self.taught: tuple[TaughtPart, ...] = ()
        self.known_ng: dict[str, NDArray[Any]] = {}
        self.scoring = Scoring([])
        self._models: list[ScoringModel] = []
        self._calibration: dict[str, NDArray[Any]] = {}
        self._folds: NDArray[np.int64] = np.zeros(0, np.int64)

    def fit(self, groups: Mapping[str, ArrayLike]) -> Self:
        """Learn what good parts look like; calibration and corrections of before are dropped.

        Args:
            groups: of OK parts, each `[n, d]` or `[n]`; at least `LEAST_TO_LEARN` parts, at least one group of vectors.

        Raises:
            InputError: too few parts, groups of unequal length, or numbers that are not finite.
        """
        parts = _check_groups(groups, None)
        _refuse_too_few(_length(parts))
        if not any(group.ndim == 2 for group in parts.values()):
            raise InputError(f"feature groups {', '.join(parts)}: none has vectors [N, d]; give at least one")
        self.groups = tuple(parts)
        self.threshold, self.rate, self.confidence, self.taught = None, None, None, ()
        self.known_ng = {}
        self._calibration, self._folds = {}, np.zeros(0, np.int64)
        self._models = [ScoringModel.fit(parts, self.how, self.covariance)]
        self.scoring = Scoring(self._models)
        return self

    def calibrate(
        self,
        groups: Mapping[str, ArrayLike],
        false_reject: float = 0.01,
        *,
        confidence: float | None = None,
    ) -> SplitThreshold:
        """Set the threshold from OK parts that `fit` has not seen.

        Args:
            groups: of these parts.
            false_reject: share of OK parts that may be rejected.
            confidence: how surely; see `conformal_threshold`.

        Raises:
            InputError: too few parts for the rate (the message says how many it takes), or groups that do not fit.
        """
        parts = self._check(groups)
        scores = self._run(parts, Scoring(self._models[:1]))["score"]
        threshold = conformal_threshold(scores, false_reject, confidence=confidence)
        del self._models[1:]
        self._calibration, self._folds = parts, threshold.folds
        self.rate, self.confidence = threshold.false_reject, confidence
        self._use(threshold)
        return threshold

    def cross_calibrate(self, groups: Mapping[str, ArrayLike], false_reject: float = 0.01) -> CrossThreshold:
        """Fit and calibrate with the same parts (CV+), where there are too few to set some aside.

        Parts are assigned to ten folds in turn; their order must not be informative.

        Raises:
            InputError: as `fit` and `calibrate`.
        """
        parts = _check_groups(groups, None)
        number = _length(parts)
        _refuse_too_few(number)
        check_parts(number, false_reject)
        folds = np.arange(number) % min(_CROSS_FOLDS, number)
        self.groups = tuple(parts)
        self.taught, self.confidence, self.rate = (), None, float(false_reject)
        self.known_ng = {}
        self._models = [
            ScoringModel.fit(_rows(parts, folds != fold), self.how, self.covariance)
            for fold in range(int(folds.max()) + 1)
        ]
        self._calibration, self._folds = parts, folds
        threshold = CrossThreshold(self._score_calibration(), folds, self.rate)
        self._use(threshold)
        return threshold

    def weigh_by(self, groups: Mapping[str, ArrayLike]) -> None:
        """Weigh corrections by what they do to these NG parts too; the parts move no threshold.

        Args:
            groups: of NG parts, such as those that `calibrate` was given to see what is missed.

        Raises:
            InputError: groups do not fit.
        """
        self.known_ng = self._check(groups)
        if self.taught:
            self.teach(self.taught)

    def teach(self, parts: Sequence[TaughtPart]) -> None:
        """Put these corrections into effect in place of those before; an empty sequence drops all.

        Near copies of a corrected part get its verdict. Beyond them NG corrections act only if NG parts that had no
        part in them are told from OK parts the better for it: other corrections, and those of `weigh_by`.

        Raises:
            InputError: a part does not fit the feature groups, or `calibrate` was not called yet.
        """
        self._check_fitted()
        if self.rate is None:
            raise InputError("a judge is taught after it is calibrated; call calibrate first")
        for part in parts:
            self._check({name: [vector] for name, vector in part.vectors.items()}, some=True)
        if not parts and not self.taught:
            return
        self.taught = tuple(parts)
        for model in self._models:
            model.teach([(part.ng, part.vectors) for part in parts], self.known_ng)
        self._recalibrate()

    @property
    def acts_beyond_copies(self) -> bool:
        """Whether corrections act on parts that are no near copies of those corrected."""
        return any(model.rule is not None and model.rule.share > 0 for model in self._models)

    def judge_unseen(self) -> UnseenNG:
        """Verdicts on known NG parts by the corrections that they had no part in.

        Raises:
            InputError: the judge is not calibrated.
        """
        if self.threshold is None:
            raise InputError("the judge is not calibrated; call calibrate with OK parts")
        rules = [model.rule for model in self._models if model.rule is not None]
        known, copies = np.zeros(0, np.bool_), np.zeros(0, np.bool_)
        corrections: dict[str, bool] = {}
        if self.known_ng:
            known = self.judge(self.known_ng).ng
            copies = np.zeros(len(known), np.bool_)
        if rules:
            columns = np.stack([rule.unseen for rule in rules], axis=1)
            unseen = np.flatnonzero(~np.isnan(columns).any(axis=1))
            ng = self.threshold.judge(columns[unseen] if len(rules) > 1 else columns[unseen, 0])
            corrections = {
                self.taught[place].note: bool(each) for place, each in zip(unseen, ng, strict=True)
            }
            if self.known_ng:
                copies = np.any([~rule.other_unseen for rule in rules], axis=0)
        return UnseenNG(known, copies, corrections)

    @property
    def spaces(self) -> dict[str, Whitening]:
        """The unit space of each group of vectors; after `cross_calibrate`, those of the first of its models."""
        self._check_fitted()
        return {name: self._models[0].space(name) for name in self._models[0].places}

    @property
    def calibration_scores(self) -> Floats:
        """Scores of the calibration parts, each by a model that did not see it: float64 `[n]`."""
        return np.zeros(0) if self.threshold is None else self.threshold.calibration

    def set_rate(self, false_reject: float) -> Threshold:
        """Ask for another rate on the same calibration parts.

        Raises:
            InputError: they are too few for it, or `calibrate` was not called yet.
        """
        number = len(self.calibration_scores)
        if number < parts_needed(false_reject):
            raise InputError(f"{number} calibration parts do not suffice for a rate of {false_reject:g}")
        self.rate, self.confidence = float(false_reject), None
        return self._recalibrate()

    def score(self, groups: Mapping[str, ArrayLike]) -> Floats:
        """Joined scores of parts: float64 `[N]`, never clamped.

        After `cross_calibrate` each is the median of the scores that its models give.
        """
        return np.asarray(self._run(self._check(groups), self.scoring)["score"], np.float64)

    def judge(self, groups: Mapping[str, ArrayLike]) -> JudgeResult:
        """Verdicts on parts.

        Raises:
            InputError: the judge is not calibrated, or groups do not fit.
        """
        self._check_fitted()
        if self.threshold is None:
            raise InputError("the judge is not calibrated; call calibrate with OK parts")
        result = self._run(self._check(groups), self.scoring)
        names = (*self.groups, CORRECTION_COLUMN)[: result["neg_log_p"].shape[1]]
        return JudgeResult(
            result["ng"],
            result["score"],
            result["p"],
            result["neg_log_p"],
            names,
            result["nearest"],
            result["whitened"],
        )

    def whiten(self, groups: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """Parts in the common space of all groups of vectors, float32 `[N, Σd]`, where distance is MT's.

        Corrections have no effect on it.
        """
        parts = self._check(groups, some=True)
        return self._models[0].whiten(parts).astype(np.float32)

    def contributions(self, groups: Mapping[str, ArrayLike], name: str) -> Floats:
        """The share of each item of a group of vectors in D²: float64 `[N, d]`; see `MT.contributions`."""
        parts = self._check(groups, some=True)
        if name not in self.spaces:
            raise not_known("feature group of vectors", name, self.spaces)
        space = self.spaces[name]
        return np.asarray((parts[name] - space.centre) * space.gradient(parts[name]), np.float64)

    def slopes(self, groups: Mapping[str, ArrayLike]) -> dict[str, Slopes]:
        """Half the gradient of D² in each group of vectors, to attribute D² to what its items were made of.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> judge = Judge().fit({"colour": rng.normal(size=(200, 3))})
            >>> slopes = judge.slopes({"colour": [[9.0, 0.0, 0.0]]})["colour"]
            >>> int(np.argmax(np.abs(slopes.gradient * ([9.0, 0.0, 0.0] - slopes.centre))))
            0
        """
        parts, model = self._check(groups, some=True), self._models[0]
        usual = dict(zip(self.groups, model.reference.mean(axis=0), strict=True))
        return {
            name: Slopes(space.centre, space.gradient(parts[name]) / max(float(usual[name]), 1e-300))
            for name, space in self.spaces.items()
            if name in parts
        }

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that was learnt, as arrays by name and settings for JSON; corrections are not part of it."""
        self._check_fitted()
        arrays: dict[str, NDArray[Any]] = {"folds": self._folds}
        arrays |= {f"calibration/{name}": group for name, group in self._calibration.items()}
        arrays |= {f"known_ng/{name}": group for name, group in self.known_ng.items()}
        for number, model in enumerate(self._models):
            arrays |= {f"model{number}/{name}": array for name, array in model.to_arrays().items()}
        settings = {
            "how": self.how,
            "covariance": self.covariance,
            "views": list(self.groups),
            "models": len(self._models),
            "false_reject": self.rate,
            "confidence": self.confidence,
        }
        return arrays, settings

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Judge:
        """The judge that `state` described, without corrections.

        Raises:
            InputError: something is missing.
        """
        try:
            judge = cls(settings["how"], settings["covariance"])
            judge.groups = tuple(settings["views"])
            judge._folds = np.asarray(arrays["folds"], np.int64)
            judge._models = [
                ScoringModel.from_arrays(judge.groups, _under(arrays, f"model{number}/"), judge.how)
                for number in range(settings["models"])
            ]
            calibration = _under(arrays, "calibration/")
            known_ng = _under(arrays, "known_ng/")  # absent in files of earlier versions
            judge.known_ng = {name: known_ng[name] for name in judge.groups} if known_ng else {}
            judge.rate, judge.confidence = settings["false_reject"], settings["confidence"]
        except KeyError as error:
            raise InputError(f"the judge's file lacks {error}; calibrate again") from None
        judge.scoring = Scoring(judge._models)
        if calibration:
            judge._calibration = {name: calibration[name] for name in judge.groups}
            judge._recalibrate()
        return judge

    def _recalibrate(self) -> Threshold:
        """Set the threshold again on the calibration parts, with the corrections in effect."""
        if self.rate is None:
            raise InputError("the judge is not calibrated; call calibrate with OK parts")
        scores = self._score_calibration()
        threshold: Threshold = (
            conformal_threshold(scores, self.rate, confidence=self.confidence)
            if len(self._models) == 1
            else CrossThreshold(scores, self._folds, self.rate)
        )
        self._use(threshold)
        return threshold

    def _use(self, threshold: Threshold) -> None:
        self.threshold = threshold
        self.scoring = Scoring(self._models, threshold)

    def _score_calibration(self) -> Floats:
        """Score of each calibration part by the model that did not see it."""
        scores = np.empty(len(self._folds))
        for fold, model in enumerate(self._models):
            own = self._folds == fold
            scores[own] = self._run(_rows(self._calibration, own), Scoring([model]))["score"]
        return scores

    def _run(self, parts: Groups, scoring: Scoring) -> dict[str, NDArray[Any]]:
        result: dict[str, Tensor] = run_in_blocks(scoring, *(to_tensor(parts[name]) for name in self.groups))
        return {name: tensor.numpy() for name, tensor in result.items()}

    def _check_fitted(self) -> None:
        if not self._models:
            raise InputError("the judge is not fitted; call fit with OK parts")

    def _check(self, groups: Mapping[str, ArrayLike], *, some: bool = False) -> dict[str, NDArray[Any]]:
        self._check_fitted()
        return _check_groups(groups, self._models[0], some=some)


def learning_parts(number: int, false_reject: float, confidence: float | None = None) -> int:
    """The number of OK parts, of `number`, to fit to; the others calibrate.

    Two thirds, or fewer if the rate needs more calibration parts than the last third has. 0 means that the parts
    do not suffice for both, and are to be used by `Judge.cross_calibrate`.

    Raises:
        InputError: not even all of them would suffice for the rate.

    Example:
        >>> learning_parts(476, 0.01), learning_parts(150, 0.01), learning_parts(100, 0.01)
        (317, 51, 0)
    """
    needed = check_parts(number, false_reject, confidence, least=LEAST_TO_LEARN)
    learning = min(int(number * _LEARN_SHARE), number - needed)
    return learning if learning >= max(LEAST_TO_LEARN, needed // 4) else 0


def _check_groups(
    groups: Mapping[str, ArrayLike], model: ScoringModel | None, *, some: bool = False
) -> dict[str, NDArray[Any]]:
    """Feature groups as arrays in the model's order: of one length, finite, as wide as those fitted to."""
    if not groups:
        raise InputError("feature groups: there are none; give at least one, by name")
    names = tuple(groups) if model is None else model.groups
    missing = [name for name in names if name not in groups]
    if any(name not in names for name in groups) or (missing and not some):
        raise InputError(
            f"feature groups {', '.join(groups)}: the judge was fitted to {', '.join(names)}; give these"
        )
    parts = {name: _check_group(name, groups[name], model) for name in names if name in groups}
    lengths = {name: len(group) for name, group in parts.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"feature groups of unequal length: {lengths}; give the same parts in each")
    return parts


def _check_group(name: str, values: ArrayLike, model: ScoringModel | None) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
        raise InputError(
            f"feature group {name}: must be numbers [N, d] or [N], not {array.dtype} {list(array.shape)}"
        )
    array = array if array.dtype == np.float32 else array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise InputError(
            f"feature group {name}: part {row} has numbers that are NaN or infinite; leave it out"
        )
    if model is not None:
        fitted = len(model.space(name).scale) if name in model.places else None
        given = array.shape[1] if array.ndim == 2 else None
        if given != fitted:
            texts = [f"vectors of {width}" if width else "ready scores" for width in (given, fitted)]
            raise InputError(
                f"feature group {name}: {texts[0]} given, and the judge was fitted to {texts[1]}"
            )
    return array


def _under(arrays: Groups, prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _rows(parts: Groups, which: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {name: group[which] for name, group in parts.items()}


def _length(parts: Groups) -> int:
    return len(next(iter(parts.values())))


def _refuse_too_few(number: int) -> None:
    if number < LEAST_TO_LEARN:
        raise InputError(
            f"{number} OK parts are too few to learn what good parts look like; give at least {LEAST_TO_LEARN}"
        )
