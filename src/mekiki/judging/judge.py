"""`Judge`: OK or NG from several views of a part, at a stated false-reject rate, and teachable at once.

A *view* is what one detector has to say about each part: vectors `[N, d]`, whose distance from the unit space is
taken (MT), or ready scores `[N]`, larger = farther from good. Views go by name and travel together as a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError, not_known
from mekiki.judging.conformal import (
    HOWS,
    CrossThreshold,
    Threshold,
    combine_scores,
    conformal_threshold,
    joined_surprise,
    p_values,
    parts_needed,
)
from mekiki.judging.mahalanobis_taguchi import COVARIANCES, MT
from mekiki.products import by_row, one_product_thread

Views = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

LEAST_TO_LEARN = 8
"""OK parts below which no unit space is made: fewer say nothing of how good parts vary."""
_FOLDS = 5
_CROSS_FOLDS = 10
_LEARN_SHARE = 2 / 3


@dataclass(frozen=True, eq=False)
class Lesson:
    """A part whose verdict a person gave, as the judge's views saw it.

    Attributes:
        ng: what the person said.
        vectors: the part in each view that has vectors, `[d]` by name.
        note: what to call it when it decides, such as `"scratch (taught 2026-11-24)"`.
    """

    ng: bool
    vectors: Mapping[str, NDArray[Any]]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Slopes:
    """Which way parts depart from good ones in a view.

    (x − centre)·values is D², in units of the mean D² of the good parts learnt from.

    Attributes:
        centre: float64 `[d]`, the mean of the unit space.
        values: float64 `[N, d]`, half the gradient of D².
    """

    centre: Floats
    values: Floats


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What a judge says of N parts.

    Attributes:
        ng: bool `[N]`.
        score: float64 `[N]`, larger = farther from good, never clamped; parts are ranked by it.
        p: float64 `[N]` in (0, 1], how ordinary the part would be as an OK part; NG means p ≤ the stated rate.
        surprise: float64 `[N, views]`, −log p of each view alone, going on in a straight line beyond the OK parts.
        views: the names of the columns of `surprise`; `"lessons"` is the last one once NG has been taught.
        lesson: int64 `[N]`, position of the NG lesson that a part resembles most, −1 where there is none.
        whitened: float32 `[N, Σd]`, the parts in the common space of all vector views; see `Judge.whitened`.
    """

    ng: NDArray[np.bool_]
    score: Floats
    p: Floats
    surprise: Floats
    views: tuple[str, ...]
    lesson: NDArray[np.int64]
    whitened: NDArray[np.float32]

    def foremost(self) -> list[str]:
        """The view that is most surprised by each part."""
        return [self.views[place] for place in np.argmax(self.surprise, axis=1)]


class Judge:
    """OK or NG from several views at once, with a false-reject rate that is stated and kept.

    `fit` makes one unit space a view from OK parts, and learns from parts left out in turn how large a score of each
    view is ordinary, so that views with other units count alike (`combine_scores`). `calibrate` takes *other* OK
    parts and sets the threshold: by split-conformal prediction the rate holds whatever the views are worth. `across`
    does both with the same parts, for small sets: ten models, each without a tenth of the parts (CV+).

    **Lessons** act at once, without learning anew. In the whitened space of the unit spaces an NG part u is a
    direction; how far another part goes in it, z·u/‖u‖, is the best linear test for *this* departure (the matched
    filter, Fisher's discriminant with one example), and becomes one more view. An OK lesson is a direction in which
    parts may go as far as u does: that much is taken off before distances are measured. The threshold is set anew on
    the same calibration parts with the lessons in force, so the stated rate goes on to hold as long as no lesson is
    one of these parts.

    Args:
        how: `"sum"` for departures that several views see a little of, `"max"` for those that one view sees alone.
        covariance: of the unit spaces; see `MT`.

    Attributes:
        names: the views, in order.
        threshold: what `calibrate` found, or `None`.
        rate: the false-reject rate in force.
        lessons: what has been taught.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> good = lambda n: {"colour": rng.normal(size=(n, 3)), "roughness": rng.exponential(size=n)}
        >>> judge = Judge().fit(good(200))
        >>> print(judge.calibrate(good(199), false_reject=0.05).guarantee)
        Averaged over calibrations with 199 OK parts, at most 5 % of the OK parts to come are rejected, if ...
        >>> bad = {"colour": [[9.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "roughness": [1.0, 30.0]}
        >>> verdicts = judge.judge(bad)
        >>> verdicts.ng, verdicts.foremost()
        (array([ True,  True]), ['colour', 'roughness'])
    """

    def __init__(self, how: str = "sum", covariance: str = "auto") -> None:
        if how not in HOWS:
            raise not_known("how", how, HOWS)
        if covariance not in COVARIANCES:
            raise not_known("covariance", covariance, COVARIANCES)
        self.how = how
        self.covariance = covariance
        self.names: tuple[str, ...] = ()
        self.threshold: Threshold | CrossThreshold | None = None
        self.rate: float | None = None
        self.confidence: float | None = None
        self.lessons: tuple[Lesson, ...] = ()
        self._models: list[_Model] = []
        self._calibration: dict[str, NDArray[Any]] = {}
        self._folds: NDArray[np.int64] = np.zeros(0, np.int64)
        self._known: Floats = np.zeros(0)

    def fit(self, views: Mapping[str, ArrayLike]) -> Self:
        """Learn what good parts look like; a calibration, and lessons, are forgotten.

        Args:
            views: of OK parts, each `[n, d]` or `[n]`; at least `LEAST_TO_LEARN` parts, at least one view of vectors.

        Raises:
            InputError: too few parts, views of unequal length, or numbers that are not finite.
        """
        checked = _checked(views, None)
        _refuse_too_few(_length(checked))
        if not any(view.ndim == 2 for view in checked.values()):
            raise InputError(f"views {', '.join(checked)}: none has vectors [N, d]; give at least one")
        self.names = tuple(checked)
        self.threshold, self.rate, self.confidence, self.lessons = None, None, None, ()
        self._calibration, self._folds = {}, np.zeros(0, np.int64)
        self._models = [_Model.learn(checked, self.how, self.covariance)]
        return self

    def calibrate(
        self,
        views: Mapping[str, ArrayLike],
        false_reject: float = 0.01,
        *,
        confidence: float | None = None,
    ) -> Threshold:
        """Set the threshold from OK parts that `fit` has not seen.

        Args:
            views: of these parts.
            false_reject: share of OK parts that may be rejected.
            confidence: how surely; see `mekiki.judging.conformal.calibrate`.

        Raises:
            InputError: too few parts for the rate (the message says how many it takes), or views that do not fit.
        """
        self._check_fitted()
        checked = _checked(views, self._models[0])
        scores = self._models[0].score(checked, self.lessons, self.how)
        threshold = conformal_threshold(scores, false_reject, confidence=confidence)
        del self._models[1:]
        self._calibration, self._folds, self._known = checked, np.zeros(len(scores), np.int64), scores
        self.threshold, self.rate, self.confidence = threshold, threshold.false_reject, confidence
        return threshold

    def across(self, views: Mapping[str, ArrayLike], false_reject: float = 0.01) -> CrossThreshold:
        """Learn and calibrate from the same parts (CV+), where there are too few to set some aside.

        Parts are dealt to ten folds in turn; they should come in no telling order.

        Raises:
            InputError: as `fit` and `calibrate`.
        """
        checked = _checked(views, None)
        number = _length(checked)
        _refuse_too_few(number)
        needed = parts_needed(false_reject)
        if number < needed:
            raise InputError(
                f"{number} OK parts are too few for a false-reject rate of {100 * false_reject:.4g} %: it takes at "
                f"least {needed}; give more OK parts or ask for a higher rate"
            )
        folds = np.arange(number) % min(_CROSS_FOLDS, number)
        self.names = tuple(checked)
        self.lessons, self.confidence, self.rate = (), None, float(false_reject)
        self._models = [
            _Model.learn(_rows(checked, folds != fold), self.how, self.covariance)
            for fold in range(int(folds.max()) + 1)
        ]
        self._calibration, self._folds = checked, folds
        self._known = self._calibration_scores()
        self.threshold = across = CrossThreshold(self._known, folds, self.rate)
        return across

    def teach(self, lessons: Sequence[Lesson]) -> None:
        """Put these lessons in force in place of those before; an empty sequence forgets all.

        Raises:
            InputError: a lesson does not fit the views, or `calibrate` was not called yet.
        """
        self._check_fitted()
        if self.rate is None:
            raise InputError("a judge is taught after it is calibrated; call calibrate first")
        for lesson in lessons:
            _checked({name: [vector] for name, vector in lesson.vectors.items()}, self._models[0], some=True)
        self.lessons = tuple(lessons)
        self._recalibrate()

    @property
    def calibration_scores(self) -> Floats:
        """Scores of the calibration parts, each by a model that did not see it: float64 `[n]`."""
        return self._known

    def state_rate(self, false_reject: float) -> Threshold | CrossThreshold:
        """State another rate on the same calibration parts.

        Raises:
            InputError: they are too few for it, or `calibrate` was not called yet.
        """
        known = self._known
        if self.rate is None or len(known) < parts_needed(false_reject):
            raise InputError(f"{len(known)} calibration parts do not suffice for a rate of {false_reject:g}")
        self.rate, self.confidence = float(false_reject), None
        return self._recalibrate()

    def score(self, views: Mapping[str, ArrayLike]) -> Floats:
        """How far parts are from good: float64 `[N]`, never clamped; the median over the models of `across`."""
        self._check_fitted()
        checked = _checked(views, self._models[0])
        return np.asarray(np.median(self._columns(checked), axis=1), np.float64)

    def judge(self, views: Mapping[str, ArrayLike]) -> Verdicts:
        """Verdicts on parts.

        Raises:
            InputError: the judge is not calibrated, or views do not fit.
        """
        self._check_fitted()
        if self.threshold is None or self.rate is None:
            raise InputError("the judge is not calibrated; call calibrate with OK parts")
        checked = _checked(views, self._models[0])
        seen = [model.surprise(checked, self.lessons) for model in self._models]
        columns = np.stack(
            [model.joined(each, self.how) for model, each in zip(self._models, seen, strict=True)], axis=1
        )
        score = np.asarray(np.median(columns, axis=1), np.float64)
        if isinstance(self.threshold, Threshold):
            p = p_values(score, self._known)
            ng = self.threshold.judge(score)
        else:
            p = self.threshold.p_values(columns)
            ng = p <= self.rate
        surprise = np.median([each.surprise for each in seen], axis=0)
        names = (*self.names, "lessons") if seen[0].lesson is not None else self.names
        lesson = seen[0].lesson if seen[0].lesson is not None else np.full(len(score), -1, np.int64)
        return Verdicts(ng, score, p, surprise, names, lesson, seen[0].whitened.astype(np.float32))

    def whitened(self, views: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """Parts in the common space of all vector views, float32 `[N, Σd]`, where distance is MT's; no lessons."""
        self._check_fitted()
        return self._models[0].whiten(_checked(views, self._models[0], some=True)).astype(np.float32)

    def contributions(self, views: Mapping[str, ArrayLike], name: str) -> Floats:
        """What each item of a view of vectors brings to D²: float64 `[N, d]`; see `MT.contributions`."""
        self._check_fitted()
        checked = _checked(views, self._models[0], some=True)
        if name not in self._models[0].spaces:
            raise not_known("view of vectors", name, self._models[0].spaces)
        return self._models[0].spaces[name].contributions(checked[name])

    def slopes(self, views: Mapping[str, ArrayLike]) -> dict[str, Slopes]:
        """Along which way each view of vectors departs, for whoever knows what its items are made of.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> judge = Judge().fit({"colour": rng.normal(size=(200, 3))})
            >>> slopes = judge.slopes({"colour": [[9.0, 0.0, 0.0]]})["colour"]
            >>> int(np.argmax(np.abs(slopes.values * ([9.0, 0.0, 0.0] - slopes.centre))))
            0
        """
        self._check_fitted()
        model = self._models[0]
        checked = _checked(views, model, some=True)
        usual = dict(zip(model.names, model.ordinary.mean(axis=0), strict=True))
        return {
            name: Slopes(space.mean, space.slopes(checked[name]) / max(float(usual[name]), 1e-300))
            for name, space in model.spaces.items()
            if name in checked
        }

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that was learnt, as arrays by name and facts for JSON; lessons are the caller's to keep."""
        self._check_fitted()
        arrays: dict[str, NDArray[Any]] = {"folds": self._folds}
        arrays |= {f"calibration/{name}": view for name, view in self._calibration.items()}
        for number, model in enumerate(self._models):
            arrays |= {f"model{number}/{name}": array for name, array in model.arrays().items()}
        facts = {
            "how": self.how,
            "covariance": self.covariance,
            "views": list(self.names),
            "models": len(self._models),
            "false_reject": self.rate,
            "confidence": self.confidence,
        }
        return arrays, facts

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Judge:
        """The judge that `state` told of, without lessons.

        Raises:
            InputError: something is missing.
        """
        try:
            judge = cls(facts["how"], facts["covariance"])
            judge.names = tuple(facts["views"])
            judge._folds = np.asarray(arrays["folds"], np.int64)
            judge._models = [
                _Model.of_arrays(judge.names, _under(arrays, f"model{number}/"))
                for number in range(facts["models"])
            ]
            calibration = _under(arrays, "calibration/")
            judge.rate, judge.confidence = facts["false_reject"], facts["confidence"]
        except KeyError as error:
            raise InputError(f"the judge's file lacks {error}; calibrate again") from None
        if calibration:
            judge._calibration = {name: calibration[name] for name in judge.names}
            judge._recalibrate()
        return judge

    def _recalibrate(self) -> Threshold | CrossThreshold:
        """Set the threshold anew on the calibration parts, with the lessons in force."""
        rate = self.rate
        if rate is None:
            raise InputError("the judge is not calibrated; call calibrate with OK parts")
        self._known = self._calibration_scores()
        new: Threshold | CrossThreshold = (
            conformal_threshold(self._known, rate, confidence=self.confidence)
            if len(self._models) == 1
            else CrossThreshold(self._known, self._folds, rate)
        )
        self.threshold = new
        return new

    def _calibration_scores(self) -> Floats:
        """Score of each calibration part by the model that did not see it."""
        scores = np.empty(len(self._folds))
        for fold, model in enumerate(self._models):
            own = self._folds == fold
            scores[own] = model.score(_rows(self._calibration, own), self.lessons, self.how)
        return scores

    def _columns(self, views: Views) -> Floats:
        return np.stack([model.score(views, self.lessons, self.how) for model in self._models], axis=1)

    def _check_fitted(self) -> None:
        if not self._models:
            raise InputError("the judge has learnt nothing yet; call fit with OK parts")


@dataclass(frozen=True, eq=False)
class _Space:
    """A unit space as a map into whitened vectors, whose squared length is D².

    With more parts than items that is MT's own matrix. With fewer, R is known in as many directions as there are
    parts and shrunk to 1/shrinkage in all others: those few directions are kept in the place of an items × items
    matrix, which for a few thousand items would be a hundred times larger and slower.

    Attributes:
        mean: float64 `[k]`.
        whitening: float64 `[k, r]`, or `[k, 0]` where the directions are kept.
        scale: float64 `[k]`; 0 for items that do not vary.
        directions: float32 `[r, k]`, orthonormal; `[0, k]` where there is a whitening matrix.
        gains: float32 `[r]`, by which a direction is stretched beyond the others.
        gain: by which all are.
    """

    mean: Floats
    whitening: Floats
    scale: Floats
    directions: NDArray[np.float32]
    gains: NDArray[np.float32]
    gain: float

    @classmethod
    def learn(cls, vectors: NDArray[Any], covariance: str) -> _Space:
        number, items = vectors.shape
        if number > items or covariance not in ("auto", "ledoit-wolf"):
            form = MT(covariance).fit(vectors).form_
            none = np.zeros((0, items), np.float32)
            return cls(form.mean, form.whitening, np.zeros(items), none, np.zeros(0, np.float32), 0.0)
        x = vectors.astype(np.float64)
        mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
        scale[scale <= 1e-12 * np.maximum(np.abs(mean), 1e-300)] = 0.0
        varying = scale > 0
        if not varying.any():
            raise InputError(
                f"all {number} OK parts are equal in a view, so there is no scale to measure a distance by; give good "
                "parts that differ as good parts do"
            )
        z = _standardised(x, mean, scale)
        count = int(varying.sum())
        gram = z @ z.T
        shrinkage = _ledoit_wolf_of_gram(gram, count)
        values, left = np.linalg.eigh(gram)
        kept = values > 1e-10 * values[-1]
        values, left = values[kept], left[:, kept]
        directions = (left / np.sqrt(values)).T @ z
        shrunk = (1 - shrinkage) * values / (number - 1) + shrinkage
        gain = 1 / np.sqrt(shrinkage * count)
        gains = 1 / np.sqrt(shrunk * count) - gain
        return cls(
            mean,
            np.zeros((items, 0)),
            scale,
            directions.astype(np.float32),
            gains.astype(np.float32),
            float(gain),
        )

    def whiten(self, vectors: NDArray[Any]) -> Floats:
        if not len(self.directions):
            return by_row(vectors.astype(np.float64) - self.mean, self.whitening)
        z = _standardised(vectors, self.mean, self.scale).astype(np.float32)
        along = by_row(z, self.directions.T) * self.gains
        return (self.gain * z + by_row(along, self.directions)).astype(np.float64)

    @property
    def width(self) -> int:
        """Length of a whitened vector."""
        return int(self.whitening.shape[1] or self.directions.shape[1])

    def contributions(self, vectors: NDArray[Any]) -> Floats:
        """(x − m)ᵢ·(A(x − m))ᵢ, whose sum is D²."""
        return np.asarray((vectors.astype(np.float64) - self.mean) * self.slopes(vectors), np.float64)

    def slopes(self, vectors: NDArray[Any]) -> Floats:
        """A(x − m), half the gradient of D²: `[N, k]`."""
        if not len(self.directions):
            centred = vectors.astype(np.float64) - self.mean
            return np.asarray(centred @ self.whitening @ self.whitening.T, np.float64)
        z = _standardised(vectors, self.mean, self.scale)
        squares = (self.gains + self.gain) ** 2 - self.gain**2
        along = (z.astype(np.float32) @ self.directions.T) * squares.astype(np.float32)
        pulled = self.gain**2 * z + along @ self.directions
        return _standardised(pulled, np.zeros(1), self.scale)


def _standardised(vectors: NDArray[Any], mean: Floats, scale: Floats) -> Floats:
    """(x − m)/s, zero for items that do not vary."""
    with np.errstate(divide="ignore"):
        inverse = np.where(scale > 0, 1 / scale, 0.0)
    return np.asarray((vectors - mean) * inverse, np.float64)


def _ledoit_wolf_of_gram(gram: Floats, items: int) -> float:
    """The shrinkage of Ledoit and Wolf (2004) from inner products of standardised parts `[n, n]`.

    The same as scikit-learn's `ledoit_wolf_shrinkage`, which for many more items than parts is far slower.
    """
    number = len(gram)
    squares = np.diag(gram)
    squared_norm = float((gram**2).sum()) / number**2
    mean = float(squares.sum()) / number / items
    noise = (float((squares**2).sum()) / number - squared_norm) / (items * number)
    spread = squared_norm / items - mean**2
    if spread <= 0:
        return 1.0
    return 1.0 if noise >= spread else max(noise / spread, 1 / number)


@dataclass(frozen=True, eq=False)
class _Surprise:
    surprise: Floats
    lesson: NDArray[np.int64] | None
    whitened: Floats


@dataclass(frozen=True, eq=False)
class _Model:
    """One unit space a view, and what is ordinary in each; nothing here has seen a calibration part.

    Attributes:
        names: all views, in order.
        spaces: the unit spaces of the views of vectors.
        learnt: the whitened learning parts, float32 `[n, Σr]`, by which the pull of a lesson is weighed.
        ordinary: scores `[n, views]` of the learning parts, each by a model that had not seen it.
    """

    names: tuple[str, ...]
    spaces: dict[str, _Space]
    learnt: NDArray[np.float32]
    ordinary: Floats
    widths: dict[str, int] = field(default_factory=dict)

    @classmethod
    def learn(cls, views: Views, how: str, covariance: str) -> _Model:
        names = tuple(views)
        spaces = {name: _Space.learn(view, covariance) for name, view in views.items() if view.ndim == 2}
        number = _length(views)
        ordinary = np.empty((number, len(names)))
        folds = np.arange(number) % min(_FOLDS, number)
        for column, name in enumerate(names):
            view = views[name]
            if view.ndim == 1:
                ordinary[:, column] = view
                continue
            for fold in range(int(folds.max()) + 1):
                out = folds == fold
                z = _Space.learn(view[~out], covariance).whiten(view[out])
                ordinary[out, column] = np.einsum("nr,nr->n", z, z)
        learnt = np.concatenate([space.whiten(views[name]) for name, space in spaces.items()], axis=1)
        return cls(names, spaces, learnt.astype(np.float32), ordinary, _widths(spaces))

    def whiten(self, views: Views) -> Floats:
        """Views of vectors side by side; those a lesson lacks are zero, as at the mean."""
        number = _length(views)
        parts = [
            space.whiten(views[name]) if name in views else np.zeros((number, self.widths[name]))
            for name, space in self.spaces.items()
        ]
        return np.concatenate(parts, axis=1)

    @one_product_thread()
    def surprise(self, views: Views, lessons: Sequence[Lesson]) -> _Surprise:
        whitened = z = self.whiten(views)
        scores, ordinary = np.empty((len(z), len(self.names))), self.ordinary
        forgiven = np.zeros(len(z))
        taught = [self._direction(lesson) for lesson in lessons]
        reach = np.linalg.norm(z, axis=1)
        for lesson, u in zip(lessons, taught, strict=True):
            length = float(np.linalg.norm(u))
            if lesson.ng or length == 0:
                continue
            along = by_row(z, (u / length)[:, None])[:, 0]
            with np.errstate(invalid="ignore", divide="ignore"):
                alike = np.where(reach > 0, np.clip(along / reach, 0, 1) ** 2, 0.0)
            forgiven = np.maximum(forgiven, alike)
            z = z - np.clip(along, 0, length)[:, None] * (u / length)
        start = 0
        squared: dict[str, Floats] = {}
        for name, width in self.widths.items():
            own = z[:, start : start + width]
            squared[name] = np.einsum("nr,nr->n", own, own)
            start += width
        low = ordinary.min(axis=0)
        for column, name in enumerate(self.names):
            if name in squared:
                scores[:, column] = squared[name]
            else:  # a ready score goes back to the ordinary as far as the part is like one taught to be OK
                raw = views[name].astype(np.float64)
                scores[:, column] = raw - forgiven * np.maximum(raw - low[column], 0)
        surprise = _each_surprise(scores, ordinary)
        ng = [u for lesson, u in zip(lessons, taught, strict=True) if lesson.ng and np.any(u)]
        if not ng:
            return _Surprise(surprise, None, whitened)
        filters = np.stack([u / np.linalg.norm(u) for u in ng], axis=1)
        places = np.array(
            [place for place, lesson in enumerate(lessons) if lesson.ng and np.any(taught[place])]
        )
        pulls, ordinary_pulls = by_row(z, filters), self.learnt.astype(np.float64) @ filters
        pull = _each_surprise(pulls.max(axis=1)[:, None], ordinary_pulls.max(axis=1)[:, None])
        nearest = places[np.argmax(pulls, axis=1)]
        return _Surprise(np.concatenate([surprise, pull], axis=1), nearest, whitened)

    def score(self, views: Views, lessons: Sequence[Lesson], how: str) -> Floats:
        """How far parts are from good."""
        return self.joined(self.surprise(views, lessons), how)

    def joined(self, seen: _Surprise, how: str) -> Floats:
        """All views joined; then, if NG was taught, whichever is larger: the join or the pull of the lessons."""
        own = seen.surprise[:, : len(self.names)]
        joined = joined_surprise(own, how)
        if seen.lesson is None:
            return joined
        known = joined_surprise(_each_surprise(self.ordinary, self.ordinary), how)
        alone: Floats = _each_surprise(joined[:, None], known[:, None])[:, 0]
        return np.maximum(alone, seen.surprise[:, -1])

    def _direction(self, lesson: Lesson) -> Floats:
        whole: Floats = self.whiten(
            {name: np.asarray(vector)[None] for name, vector in lesson.vectors.items()}
        )[0]
        return whole

    def arrays(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {
            "learnt": self.learnt,
            "ordinary": self.ordinary,
        }
        for name, space in self.spaces.items():
            found |= {f"{fact}/{name}": np.atleast_1d(value) for fact, value in vars(space).items()}
        return found

    @classmethod
    def of_arrays(cls, names: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> _Model:
        facts = {fact: _under(arrays, f"{fact}/") for fact in _Space.__dataclass_fields__}
        spaces = {
            name: _Space(
                facts["mean"][name],
                facts["whitening"][name],
                facts["scale"][name],
                facts["directions"][name],
                facts["gains"][name],
                facts["gain"][name].item(),
            )
            for name in names
            if name in facts["mean"]
        }
        return cls(names, spaces, arrays["learnt"], arrays["ordinary"], _widths(spaces))


def _each_surprise(scores: Floats, ordinary: Floats) -> Floats:
    """`combine_scores` of each column alone, side by side."""
    columns = [
        combine_scores(scores[:, [column]], ordinary[:, [column]]) for column in range(scores.shape[1])
    ]
    return np.stack(columns, axis=1)


def _widths(spaces: Mapping[str, _Space]) -> dict[str, int]:
    return {name: space.width for name, space in spaces.items()}


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _rows(views: Views, which: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {name: view[which] for name, view in views.items()}


def _length(views: Views) -> int:
    return len(next(iter(views.values())))


def _checked(
    views: Mapping[str, ArrayLike], model: _Model | None, *, some: bool = False
) -> dict[str, NDArray[Any]]:
    """Views as arrays in the model's order: of one length, finite, as wide as those learnt from."""
    if not views:
        raise InputError("views: there are none; give at least one, by name")
    names = tuple(views) if model is None else model.names
    missing, extra = (
        [name for name in names if name not in views],
        [name for name in views if name not in names],
    )
    if extra or (missing and not some):
        raise InputError(f"views {', '.join(views)}: the judge learnt from {', '.join(names)}; give these")
    checked: dict[str, NDArray[Any]] = {}
    for name in names:
        if name not in views:
            continue
        array = np.asarray(views[name])
        if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
            raise InputError(
                f"view {name}: must be numbers [N, d] or [N], not {array.dtype} {list(array.shape)}"
            )
        array = array if array.dtype == np.float32 else array.astype(np.float64)
        bad = ~np.isfinite(array)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise InputError(f"view {name}: part {row} has numbers that are NaN or infinite; leave it out")
        if model is not None:
            width = model.spaces[name].mean.shape[0] if name in model.spaces else None
            given = array.shape[1] if array.ndim == 2 else None
            if given != width:
                said = [f"vectors of {each}" if each else "ready scores" for each in (given, width)]
                raise InputError(f"view {name}: {said[0]} given, and the judge learnt from {said[1]}")
        checked[name] = array
    lengths = {name: len(view) for name, view in checked.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"views of unequal length: {lengths}; give the same parts in each")
    return checked


def _refuse_too_few(number: int) -> None:
    if number < LEAST_TO_LEARN:
        raise InputError(
            f"{number} OK parts are too few to learn what good parts look like; give at least {LEAST_TO_LEARN}"
        )


def learn_share(number: int, false_reject: float, confidence: float | None = None) -> int:
    """How many of `number` OK parts to learn from; the others calibrate.

    Two thirds, or fewer if the rate asks for more calibration parts than the last third has. 0 says that the parts
    do not suffice for both, and that they should be judged `Judge.across`.

    Raises:
        InputError: not even all of them would suffice for the rate.

    Example:
        >>> learn_share(476, 0.01), learn_share(150, 0.01), learn_share(100, 0.01)
        (317, 51, 0)
    """
    needed = parts_needed(false_reject, confidence)
    if number < max(needed, LEAST_TO_LEARN):
        sure = "" if confidence is None else f" with {100 * confidence:.4g} % confidence"
        raise InputError(
            f"{number} OK parts are too few for a false-reject rate of {100 * false_reject:.4g} %{sure}: it takes at "
            f"least {max(needed, LEAST_TO_LEARN)}; give more OK parts or ask for a higher rate"
        )
    learning = min(int(number * _LEARN_SHARE), number - needed)
    return learning if learning >= max(LEAST_TO_LEARN, needed // 4) else 0
