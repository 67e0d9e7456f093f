"""`Judge`: OK or NG from several feature groups at once, at a stated false-reject rate, with corrections.

A *feature group* describes each part by vectors `[N, d]`, whose distance from the unit space is taken (MT), by patches
`[N, h, w, c]`, which the detectors of `mekiki.judging.detectors` score, or by ready scores `[N]`, larger = farther from
good. Groups go by name and are passed together as a mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError, not_known
from mekiki.judging.calibration_parts import CalibrationParts
from mekiki.judging.conformal import (
    CrossThreshold,
    SplitThreshold,
    Threshold,
    check_parts,
    conformal_threshold,
    parts_needed,
)
from mekiki.judging.judge_model import DETECTOR_NAMES, DISCRIMINANT, JudgeModel, check_groups
from mekiki.judging.judge_result import CORRECTION_COLUMN, JudgeResult, Slopes, TaughtPart, UnseenNG
from mekiki.judging.learning_split import refuse_too_few
from mekiki.judging.mahalanobis_taguchi import COVARIANCES
from mekiki.judging.scoring import COMBINATIONS, Scoring
from mekiki.judging.unseen_ng import judge_unseen, score_unseen
from mekiki.judging.whitening import Whitening

Groups = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

_CROSS_FOLDS = 10
_CROSS_FOLDS_OF_PATCHES = 5  # each fold is a set of detectors, which every photograph then passes


class Judge:
    """OK or NG from several feature groups, with a false-reject rate that is stated and kept.

    `fit` makes one unit space per group from OK parts. It finds the usual scores of each group by 5-fold
    cross-fitting: unit spaces without a fifth of the parts score that fifth. −log p among these scores (`NegLogP`)
    makes groups of different units comparable.

    `calibrate` takes *other* OK parts and sets the threshold: by split-conformal prediction the rate holds whatever the
    groups are worth. `cross_calibrate` fits and calibrates with the same parts, for small sets: ten models, five with
    patches, each without its share of the parts (CV+).

    Corrections (`teach`) act at once, without fitting again; see `CorrectionRule`. The threshold is set again on the
    same calibration parts, so the stated rate goes on to hold as long as no correction is one of these parts.

    Args:
        how: `"sum"` for defects that several groups see a little of, `"max"` for those that one group sees alone.
        covariance: of the unit spaces; see `MT`.
        detectors: some of `DETECTOR_NAMES`; those other than `mt` take patch groups.
        robust: OK parts that look suspicious among the others do not teach, so that NG parts hidden among them do
            little harm; all the same they set the threshold where they calibrate. See `usual_parts`.

    Attributes:
        groups: the names of the feature groups, in order.
        threshold: the calibrated threshold, or `None`.
        rate: the false-reject rate asked for.
        learning_scores: float64 `[n]`, scores of the parts given to `fit`, each by a model made without it; empty after
            `cross_calibrate` and in a judge read from a file.
        left_out: bool `[n]`, which parts looked suspicious and were left out; after `cross_calibrate` those that none
            of its models learnt from.
        factors: by which columns count in a sum, by name, 1 where there is none; set them before `fit`.
        taught: the active corrections.
        known_ng: NG parts as each model scores them, which the discriminant learns from and by which the effect of
            corrections is weighed; empty where none are known.
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

    def __init__(
        self,
        how: str = "sum",
        covariance: str = "auto",
        detectors: Sequence[str] = DETECTOR_NAMES,
        robust: bool = False,
    ) -> None:
        for name in detectors:
            if name not in DETECTOR_NAMES:
                raise not_known("detector", name, DETECTOR_NAMES)
        if not detectors:
            raise InputError(f"detectors: there are none; choose some of {', '.join(DETECTOR_NAMES)}")
        if how not in COMBINATIONS:
            raise not_known("how", how, COMBINATIONS)
        if covariance not in COVARIANCES:
            raise not_known("covariance", covariance, COVARIANCES)
        self.how = how
        self.covariance = covariance
        self.detectors = tuple(name for name in DETECTOR_NAMES if name in detectors)
        self.robust = robust
        self.groups: tuple[str, ...] = ()
        self.threshold: Threshold | None = None
        self.rate: float | None = None
        self.confidence: float | None = None
        self.factors: Mapping[str, float] = {}
        self.taught: tuple[TaughtPart, ...] = ()
        self.known_ng: list[dict[str, NDArray[Any]]] = []
        self.learning_scores: Floats = np.zeros(0)
        self.left_out: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.scoring = Scoring([])
        self._models: list[JudgeModel] = []
        self._calibration: CalibrationParts | None = None

    def fit(self, groups: Mapping[str, ArrayLike], trusted: ArrayLike | None = None) -> Self:
        """Learn what good parts look like; calibration and corrections of before are dropped.

        Args:
            groups: of OK parts, each `[n, d]`, `[n]` or `[n, h, w, c]`; at least 8 parts and one group
                of vectors.
            trusted: bool `[n]`, parts that teach in a robust judge too, however suspicious they look.

        Raises:
            InputError: too few parts, groups of unequal length, or numbers that are not finite.
        """
        parts = check_groups(groups, None)
        refuse_too_few(_length(parts))
        if not any(group.ndim == 2 for group in parts.values()):
            raise InputError(f"feature groups {', '.join(parts)}: none has vectors [N, d]; give at least one")
        self.groups = tuple(parts)
        self.threshold, self.rate, self.confidence, self.taught = None, None, None, ()
        self.known_ng = []
        self._calibration = None
        model = self._fit_model(parts, self._doubt(_length(parts), trusted), self.factors)
        self._models = [model]
        self.scoring = Scoring(self._models)
        self.left_out = ~model.usual
        self.learning_scores = np.empty(len(model.usual))
        self.learning_scores[model.usual] = model.scoring.join_reference()
        if self.left_out.any():
            self.learning_scores[self.left_out] = self.score(_rows(parts, self.left_out))
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
        reduced = self._models[0].reduce(parts)
        scores = Scoring([self._models[0].scoring]).run(reduced)["score"]
        threshold = conformal_threshold(scores, false_reject, confidence=confidence)
        del self._models[1:]
        self._calibration = CalibrationParts(reduced, threshold.folds)
        self.rate, self.confidence = threshold.false_reject, confidence
        self._use(threshold)
        return threshold

    def cross_calibrate(
        self,
        groups: Mapping[str, ArrayLike],
        false_reject: float = 0.01,
        trusted: ArrayLike | None = None,
        weigh: Callable[[NDArray[np.int64]], Mapping[str, float]] | None = None,
    ) -> CrossThreshold:
        """Fit and calibrate with the same parts (CV+), where there are too few to set some aside.

        Parts are assigned to ten folds in turn, or five with patches; their order must not be informative. `weigh`
        gives factors in place of `factors` from the rows a model learns from: no part has a say in the weights of the
        model that scores it for the threshold. The other arguments are those of `fit` and `calibrate`.

        Raises:
            InputError: as `fit` and `calibrate`.
        """
        parts = check_groups(groups, None)
        number = _length(parts)
        refuse_too_few(number)
        check_parts(number, false_reject)
        most = _CROSS_FOLDS if all(group.ndim < 4 for group in parts.values()) else _CROSS_FOLDS_OF_PATCHES
        folds = np.arange(number) % min(most, number)
        self.groups = tuple(parts)
        self.taught, self.confidence, self.rate = (), None, float(false_reject)
        self.known_ng = []
        doubtful = self._doubt(number, trusted)
        self._models = [
            self._fit_model(
                _rows(parts, folds != fold),
                doubtful[folds != fold],
                weigh(np.flatnonzero(folds != fold)) if weigh else self.factors,
            )
            for fold in range(int(folds.max()) + 1)
        ]
        reduced = [model.reduce(_rows(parts, folds == fold)) for fold, model in enumerate(self._models)]
        self._calibration = CalibrationParts.join(reduced, folds)
        self.learning_scores, self.left_out = np.zeros(0), np.ones(number, np.bool_)
        for fold, model in enumerate(self._models):
            self.left_out[np.flatnonzero(folds != fold)[model.usual]] = False
        threshold = CrossThreshold(self._calibration.scores(self._models), folds, self.rate)
        self._use(threshold)
        return threshold

    def learn_ng(self, groups: Mapping[str, ArrayLike]) -> None:
        """Learn to tell these NG parts from OK parts, if `detectors` has the discriminant; weigh corrections by them.

        The threshold is set again on the same OK parts, so the stated rate goes on to hold.

        Args:
            groups: of parts known to be NG.

        Raises:
            InputError: groups do not fit, or `calibrate` was not called yet.
        """
        parts = self._check(groups)
        self.known_ng = [model.reduce(parts) for model in self._models]
        self._apply_corrections()

    def teach(self, parts: Sequence[TaughtPart]) -> None:
        """Activate these corrections in place of those before; an empty sequence drops all.

        Near copies of a corrected part get its verdict. Beyond them NG corrections act only if NG parts that had no
        part in them are told from OK parts the better for it: other corrections, and those of `learn_ng`.

        Raises:
            InputError: a part does not fit the feature groups, or `calibrate` was not called yet.
        """
        self._check_fitted()
        if self.rate is None:
            raise InputError("a judge is taught after it is calibrated; call calibrate first")
        for part in parts:
            self._check({name: np.asarray(each)[None] for name, each in part.features.items()}, some=True)
        if not parts and not self.taught:
            return
        self.taught = tuple(parts)
        self._apply_corrections()

    def _apply_corrections(self) -> None:
        """Apply corrections and known NG parts, and set the threshold again."""
        for number, model in enumerate(self._models):
            model.scoring.teach(
                [(part.ng, model.detect_one(part.features)) for part in self.taught],
                self.known_ng[number] if self.known_ng else None,
                learn_known=DISCRIMINANT in self.detectors,
            )
        self._recalibrate()

    @property
    def acts_beyond_copies(self) -> bool:
        """Whether corrections act on parts that are no near copies of those corrected."""
        return any(model.scoring.rule is not None and model.scoring.rule.share > 0 for model in self._models)

    def judge_unseen(self) -> UnseenNG:
        """Verdicts on known NG parts by the corrections that they had no part in.

        Raises:
            InputError: the judge is not calibrated.
        """
        if self.threshold is None:
            raise InputError("the judge is not calibrated; call calibrate with OK parts")
        return judge_unseen(self._models, self.known_ng, self.threshold, [part.note for part in self.taught])

    def unseen_scores(self) -> Floats:
        """Scores of the parts of `learn_ng`, each without its own part in the discriminant: float64 `[q]`.

        After `cross_calibrate` each is the median of the scores that its models give.
        """
        return np.asarray(np.median(score_unseen(self._models, self.known_ng), axis=1), np.float64)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the scores that are joined: of each group of vectors or ready scores, and of each detector."""
        self._check_fitted()
        return self._models[0].scoring.groups

    @property
    def patch_groups(self) -> tuple[str, ...]:
        """Names of the feature groups of patches."""
        self._check_fitted()
        return self._models[0].patch_groups

    @property
    def spaces(self) -> dict[str, Whitening]:
        """The unit space of each group of vectors; after `cross_calibrate`, those of the first of its models."""
        self._check_fitted()
        return {name: self._models[0].scoring.space(name) for name in self._models[0].scoring.places}

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

    def select(self, groups: Groups) -> dict[str, NDArray[Any]]:
        """Those of these groups that the judge was fitted to; an extractor may offer more than an older judge knows."""
        return {name: groups[name] for name in self.groups if name in groups}

    def score(self, groups: Mapping[str, ArrayLike]) -> Floats:
        """Joined scores of parts: float64 `[N]`, never clamped.

        After `cross_calibrate` each is the median of the scores that its models give.
        """
        return np.asarray(self.scoring.run(self._check(groups))["score"], np.float64)

    def neg_log_p(self, groups: Mapping[str, ArrayLike]) -> Floats:
        """−log p of parts in each of `columns`: float64 `[N, columns]`; no threshold is needed."""
        return np.asarray(self.scoring.run(self._check(groups))["neg_log_p"], np.float64)

    def score_columns(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Joined scores `[N]` from vectors by group, departures, and scores `[N]` of detectors as in `columns`."""
        parts = {name: columns[name] for name in self._models[0].scoring.inputs}
        return np.asarray(Scoring([model.scoring for model in self._models]).run(parts)["score"], np.float64)

    def judge(self, groups: Mapping[str, ArrayLike]) -> JudgeResult:
        """Verdicts on parts.

        Raises:
            InputError: the judge is not calibrated, or groups do not fit.
        """
        self._check_fitted()
        if self.threshold is None:
            raise InputError("the judge is not calibrated; call calibrate with OK parts")
        result = self.scoring.run(self._check(groups))
        names = (*self.columns, CORRECTION_COLUMN)[: result["neg_log_p"].shape[1]]
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
        return self._models[0].scoring.whiten(parts).astype(np.float32)

    def patch_maps(self, groups: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
        """Distances place by place in each patch group: float32 `[N, h, w]`.

        See `JudgeModel.patch_maps`; of the models of `cross_calibrate` the first is asked.
        """
        parts = self._check(groups, some=True)
        return self._models[0].patch_maps(parts)

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
        parts, model = self._check(groups, some=True), self._models[0].scoring
        usual = dict(zip(model.groups, model.reference.mean(axis=0), strict=True))
        return {
            name: Slopes(space.centre, space.gradient(parts[name]) / max(float(usual[name]), 1e-300))
            for name, space in self.spaces.items()
            if name in parts
        }

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that was learnt, as arrays by name and settings for JSON; corrections are not part of it."""
        self._check_fitted()
        calibration = self._calibration or CalibrationParts({}, np.zeros(0, np.int64))
        arrays = calibration.to_arrays()
        for number, parts in enumerate(self.known_ng):
            arrays |= {f"known_ng{number}/{name}": group for name, group in parts.items()}
        for number, model in enumerate(self._models):
            arrays |= {f"model{number}/{name}": array for name, array in model.to_arrays().items()}
        settings = {
            "how": self.how,
            "covariance": self.covariance,
            "detectors": list(self.detectors),
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
            judge = cls(settings["how"], settings["covariance"], settings.get("detectors", ("mt",)))
            judge.groups = tuple(settings["views"])
            judge._models = [
                JudgeModel.from_arrays(judge.groups, _under(arrays, f"model{number}/"), judge.how)
                for number in range(settings["models"])
            ]
            judge._calibration = CalibrationParts.from_arrays(arrays)
            if "known_ng0/" + judge.columns[0] in arrays:  # absent in files of earlier versions
                judge.known_ng = [
                    {name: arrays[f"known_ng{number}/{name}"] for name in model.scoring.inputs}
                    for number, model in enumerate(judge._models)
                ]
            judge.rate, judge.confidence = settings["false_reject"], settings["confidence"]
        except KeyError as error:
            raise InputError(f"the judge's file lacks {error}; calibrate again") from None
        judge.scoring = Scoring(judge._models)
        if judge._calibration is not None:
            judge._apply_corrections()
        return judge

    def _recalibrate(self) -> Threshold:
        """Set the threshold again on the calibration parts, with the active corrections."""
        if self.rate is None or self._calibration is None:
            raise InputError("the judge is not calibrated; call calibrate with OK parts")
        scores = self._calibration.scores(self._models)
        threshold: Threshold = (
            conformal_threshold(scores, self.rate, confidence=self.confidence)
            if len(self._models) == 1
            else CrossThreshold(scores, self._calibration.folds, self.rate)
        )
        self._use(threshold)
        return threshold

    def _use(self, threshold: Threshold) -> None:
        self.threshold = threshold
        self.scoring = Scoring(self._models, threshold)

    def _fit_model(
        self, parts: Groups, doubtful: NDArray[np.bool_], factors: Mapping[str, float]
    ) -> JudgeModel:
        return JudgeModel.fit(parts, self.how, self.covariance, self.detectors, doubtful, factors)

    def _doubt(self, number: int, trusted: ArrayLike | None) -> NDArray[np.bool_]:
        """Which parts do not teach if they look suspicious."""
        if not self.robust:
            return np.zeros(number, np.bool_)
        return np.ones(number, np.bool_) if trusted is None else ~np.asarray(trusted, np.bool_)

    def _check_fitted(self) -> None:
        if not self._models:
            raise InputError("the judge is not fitted; call fit with OK parts")

    def _check(self, groups: Mapping[str, ArrayLike], *, some: bool = False) -> dict[str, NDArray[Any]]:
        self._check_fitted()
        return check_groups(groups, self._models[0], some=some)


def _under(arrays: Groups, prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _rows(parts: Groups, which: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {name: group[which] for name, group in parts.items()}


def _length(parts: Groups) -> int:
    return len(next(iter(parts.values())))
