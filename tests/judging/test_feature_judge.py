"""The judge: the rate it states is kept, with and without lessons; lessons act at once and can be taken back."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mekiki.errors import DataWarning, InputError
from mekiki.judging.conformal import TOLERANCE, CrossThreshold, SplitThreshold
from mekiki.judging.feature_judge import Judge
from mekiki.judging.judge_result import TaughtPart
from mekiki.judging.learning_split import LEAST_TO_SPLIT, learning_parts
from mekiki.judging.mahalanobis_taguchi import MT


def parts(n, seed, shift=None):
    """OK parts in two views of vectors and one of ready scores; `shift` moves the first view."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(6, 6))
    colour = rng.normal(size=(n, 6)) @ mixing
    if shift is not None:
        colour = colour + np.asarray(shift) @ mixing
    return {"colour": colour, "shape": rng.normal(size=(n, 3)) * 5 + 2, "rough": rng.exponential(size=n)}


def one(views, row=0):
    return {name: view[row : row + 1] for name, view in views.items()}


def lesson(views, *, ng, note=""):
    return TaughtPart(ng, {name: view[0] for name, view in views.items() if view.ndim == 2}, note)


def calibrated(rate=0.05, seed=0, n=199, how="sum"):
    judge = Judge(how).fit(parts(300, seed))
    judge.calibrate(parts(n, seed + 1), rate)
    return judge


@pytest.mark.parametrize("how", ["sum", "max"])
def test_the_stated_rate_is_kept_on_average_over_calibrations(how):
    judge = Judge(how).fit(parts(100, 0))
    fresh = parts(4000, 1)
    realised = []
    for seed in range(100):
        judge.calibrate(parts(99, 1000 + seed), 0.05)
        realised.append(judge.judge(fresh).ng.mean())
    # Beta(4, 96) has mean .04 (rank 5 would be .05): 99 parts give rank 5 exactly.
    assert np.mean(realised) == pytest.approx(0.05, abs=3 * np.std(realised) / np.sqrt(100))


def test_with_one_view_parts_are_ranked_as_mt_ranks_them():
    learn, new = parts(200, 0)["colour"], parts(50, 1, shift=[1, 0, 0, 0, 0, 0])["colour"]
    scores = Judge().fit({"colour": learn}).score({"colour": new})
    squared = MT("auto").fit(learn).squared_distance(new)
    in_order = scores[np.argsort(squared)]
    assert (np.diff(in_order) >= 0).all()  # among the ordinary, ranks among 200 parts may tie
    assert (np.diff(in_order[-5:]) > 0).all()


def test_units_of_a_view_do_not_matter():
    judge, other = calibrated(), Judge().fit(scaled(parts(300, 0)))
    other.calibrate(scaled(parts(199, 1)), 0.05)
    new = parts(40, 2, shift=[2, 0, 0, 0, 0, 0])
    assert np.array_equal(judge.judge(new).ng, other.judge(scaled(new)).ng)
    np.testing.assert_allclose(judge.score(new), other.score(scaled(new)), rtol=1e-6)


def scaled(views):
    return {
        "colour": views["colour"] * 1e4,
        "shape": views["shape"] / 300 + 7,
        "rough": views["rough"] * 12 + 3,
    }


def test_each_view_can_reject_alone_and_is_named():
    judge = calibrated(0.01, how="max")
    good = parts(3, 7)
    good["colour"][0] += 40
    good["shape"][1] += 90
    good["rough"][2] = 50
    verdicts = judge.judge(good)
    assert verdicts.ng.all()
    assert verdicts.leading_groups() == ["colour", "shape", "rough"]


def test_scores_of_worse_and_worse_parts_never_tie():
    judge = calibrated()
    far = {
        "colour": np.arange(1, 9)[:, None] * np.full((8, 6), 100.0),
        "shape": np.full((8, 3), 2.0),
        "rough": np.ones(8),
    }
    assert (np.diff(judge.score(far)) > 0).all()


def test_verdict_p_value_and_threshold_say_the_same():
    judge = calibrated(0.05)
    verdicts = judge.judge(parts(500, 3, shift=[1, 1, 0, 0, 0, 0]))
    assert np.array_equal(verdicts.ng, verdicts.p <= 0.05)
    assert np.array_equal(verdicts.ng, verdicts.score > judge.threshold.value)
    assert 0 < verdicts.ng.mean() < 1


def test_a_missed_part_taught_as_ng_is_caught_and_so_are_others_with_the_same_departure():
    judge = calibrated(0.05)
    departure = np.array([0, 0, 0, 0, 2.5, 0])  # within the ordinary, all views taken together
    missed = parts(400, 5, shift=departure)
    passed = np.flatnonzero(~judge.judge(missed).ng)
    first = {name: view[passed[0] : passed[0] + 1] for name, view in missed.items()}
    others = {name: view[passed[1:]] for name, view in missed.items()}
    judge.teach([lesson(first, ng=True, note="scratch")])
    assert not judge.acts_beyond_copies  # nothing shows yet that it would help
    verdict = judge.judge(first)
    assert verdict.ng[0]
    assert verdict.leading_groups() == ["lessons"]
    assert verdict.nearest[0] == 0
    ok = parts(4000, 6)
    more = [one({name: view[[row]] for name, view in missed.items()}) for row in passed[1:8]]
    others = {name: view[passed[8:]] for name, view in missed.items()}
    judge.teach([lesson(each, ng=True) for each in (first, *more)])
    assert judge.acts_beyond_copies
    assert judge.judge(others).ng.mean() > 2 * judge.judge(ok).ng.mean()
    assert judge.judge(ok).ng.mean() < 0.10  # one calibration of 199 parts: Beta(10, 190)


def test_the_rate_is_kept_with_lessons_in_force():
    fresh, taught = (
        parts(3000, 1),
        [lesson(parts(1, 70 + i, shift=[0, 0, 2, 0, 0, 0]), ng=i % 2 == 0) for i in range(6)],
    )
    judge = Judge().fit(parts(200, 0))
    realised = []
    for seed in range(60):
        judge.calibrate(parts(99, 500 + seed), 0.05)
        judge.teach(taught)
        realised.append(judge.judge(fresh).ng.mean())
    assert np.mean(realised) == pytest.approx(0.05, abs=3 * np.std(realised) / np.sqrt(60))


def test_a_false_reject_taught_as_ok_passes_and_other_departures_do_not():
    judge = calibrated(0.05)
    rejected = one(parts(1, 8, shift=[0, 9, 0, 0, 0, 0]))
    other = one(parts(1, 8, shift=[9, 0, 0, 0, 0, 0]))
    beyond = one(parts(1, 8, shift=[0, 30, 0, 0, 0, 0]))
    assert judge.judge(rejected).ng[0]
    judge.teach([lesson(rejected, ng=False)])
    assert not judge.judge(rejected).ng[0]
    assert judge.judge(other).ng[0]
    assert judge.judge(beyond).ng[0]


def test_an_ok_lesson_forgives_a_ready_score_of_the_same_part():
    judge = calibrated(0.05, how="max")
    rejected = one(parts(1, 8, shift=[0, 9, 0, 0, 0, 0]))
    rejected["rough"] = np.array([60.0])
    judge.teach([lesson(rejected, ng=False)])
    assert not judge.judge(rejected).ng[0]


def test_lessons_taken_back_leave_no_trace():
    judge, new = calibrated(), parts(50, 9, shift=[2, 0, 0, 0, 0, 0])
    before = judge.judge(new)
    taught = one(parts(1, 6))
    new = {name: np.concatenate([view, taught[name]]) for name, view in new.items()}
    before = judge.judge(new)
    judge.teach([lesson(parts(1, 5), ng=True), lesson(taught, ng=False)])
    assert not np.array_equal(judge.judge(new).score, before.score)
    judge.teach([])
    after = judge.judge(new)
    assert np.array_equal(after.score, before.score)
    assert np.array_equal(after.p, before.p)


@pytest.mark.parametrize("mode", ["split", "across"])
def test_state_round_trip_is_bit_equal(mode):
    judge = Judge()
    if mode == "split":
        judge.fit(parts(120, 0)).calibrate(parts(60, 1), 0.05)
    else:
        judge.cross_calibrate(parts(60, 0), 0.05)
    taught = [lesson(parts(1, 3), ng=True)]
    arrays, facts = judge.state()
    again = Judge.from_state(arrays, facts)
    judge.teach(taught)
    again.teach(taught)
    new = parts(30, 4, shift=[1, 0, 0, 0, 0, 0])
    for a, b in zip(vars(judge.judge(new)).values(), vars(again.judge(new)).values(), strict=True):
        assert np.array_equal(a, b)


def test_across_uses_every_part_twice_and_agrees_with_the_cross_conformal_p_values():
    views = parts(40, 0)
    judge = Judge()
    judge.cross_calibrate(views, 0.05)
    new = parts(10, 1, shift=[3, 0, 0, 0, 0, 0])
    folds = np.arange(40) % 10
    models = [Judge().fit({n: v[folds != k] for n, v in views.items()}) for k in range(10)]
    columns = np.stack([model.score(new) for model in models], axis=1)
    own = np.array(
        [models[k].score({n: v[i : i + 1] for n, v in views.items()})[0] for i, k in enumerate(folds)]
    )
    np.testing.assert_array_equal(judge.judge(new).p, CrossThreshold(own, folds, 0.05).p_values(columns))


def test_contributions_of_a_view_sum_to_its_distance():
    judge, new = calibrated(), parts(5, 3)
    squared = MT("auto").fit(parts(300, 0)["colour"]).squared_distance(new["colour"])
    np.testing.assert_allclose(judge.contributions(new, "colour").sum(axis=1), squared, rtol=1e-9)


def test_too_few_parts_are_refused_with_the_number_it_takes():
    judge = Judge().fit(parts(50, 0))
    with pytest.raises(InputError, match="at least 99"):
        judge.calibrate(parts(98, 1), 0.01)
    assert isinstance(judge.calibrate(parts(99, 1), 0.01), SplitThreshold)
    with pytest.raises(InputError, match="at least 8"):
        Judge().fit(parts(7, 0))
    with pytest.raises(InputError, match="at least 19"):
        Judge().cross_calibrate(parts(18, 0), 0.05)
    with pytest.raises(InputError, match="it takes at least 99"):
        learning_parts(90, 0.01)


def test_a_refused_calibration_leaves_the_one_before_in_force():
    judge, new = calibrated(), parts(20, 3)
    before = judge.judge(new)
    with pytest.raises(InputError):
        judge.calibrate(parts(5, 1), 0.01)
    assert np.array_equal(judge.judge(new).p, before.p)


@pytest.mark.parametrize("number", [99, 130, 200, 476, 10_000])
def test_the_share_to_learn_from_leaves_enough_to_calibrate(number):
    learning = learning_parts(number, 0.01)
    assert learning == 0 or number - learning >= 99


def test_few_parts_all_teach_and_calibrate_unless_a_confidence_is_asked_for():
    assert learning_parts(LEAST_TO_SPLIT - 1, 0.05) == 0
    assert learning_parts(LEAST_TO_SPLIT, 0.05) == LEAST_TO_SPLIT * 2 // 3
    assert learning_parts(LEAST_TO_SPLIT - 1, 0.05, confidence=0.9) > 0
    assert learning_parts(60, 0.05, least=0) == 40


@pytest.mark.parametrize("seed", range(4))
def test_few_known_ng_parts_may_help_some_models_and_others_not(seed):
    judge, bad = Judge(), {name: group + 1.5 for name, group in parts(5, 50 + seed).items()}
    judge.cross_calibrate(parts(20, seed), 0.05)
    judge.learn_ng(bad)
    result = judge.judge(parts(7, 90))
    assert result.neg_log_p.shape == (7, len(judge.columns) + 1)


def test_weights_of_a_fold_are_found_on_the_parts_that_its_model_learns_from():
    asked = []

    def weigh(rows):
        asked.append(rows)
        return {"colour": 0.0} if len(asked) == 1 else {"colour": 7.0}

    judge = Judge()
    judge.cross_calibrate(parts(60, 0), 0.05, weigh=weigh)
    assert [len(rows) for rows in asked] == [54] * 10
    left_out = [np.setdiff1d(np.arange(60), rows) for rows in asked]
    assert np.array_equal(np.sort(np.concatenate(left_out)), np.arange(60))
    plain = Judge()
    plain.cross_calibrate(parts(60, 0), 0.05)
    # Parts of other folds than the first count colour seven times.
    first = left_out[0]
    rises = judge.calibration_scores - plain.calibration_scores
    assert (rises[first] <= 0).all()
    assert (np.delete(rises, first) >= 0).all()
    assert np.delete(rises, first).max() > 1


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ({}, "none"),
        ({"colour": np.zeros((3, 6)), "shape": np.zeros((3, 3))}, "give these"),
        (parts(3, 0) | {"smell": np.zeros(3)}, "give these"),
        (parts(3, 0) | {"rough": np.zeros(2)}, "unequal length"),
        (parts(3, 0) | {"rough": [1.0, np.nan, 2.0]}, "part 1"),
        (parts(3, 0) | {"shape": np.zeros((3, 4))}, "vectors of 4"),
        (parts(3, 0) | {"shape": np.zeros(3)}, "ready scores given"),
        (parts(3, 0) | {"shape": np.array([["a"] * 3] * 3)}, "must be numbers"),
    ],
)
def test_views_that_do_not_fit_are_refused_in_one_line(views, said):
    with pytest.raises(InputError, match=said) as caught:
        calibrated().judge(views)
    assert "\n" not in str(caught.value)


def test_a_judge_must_be_calibrated_before_it_judges_or_is_taught():
    judge = Judge().fit(parts(50, 0))
    for act in (lambda: judge.judge(parts(2, 1)), lambda: judge.teach([lesson(parts(1, 1), ng=True)])):
        with pytest.raises(InputError, match="calibrate"):
            act()
    with pytest.raises(InputError, match="fit"):
        Judge().score(parts(1, 0))
    with pytest.raises(InputError, match="none has vectors"):
        Judge().fit({"rough": np.zeros(20)})


@pytest.mark.parametrize("constant", [0, 3])
def test_with_more_items_than_parts_distances_are_those_of_mt_with_ledoit_wolf(constant):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(60, 90)) @ rng.normal(size=(90, 90)) + rng.normal(size=90) * 5
    vectors[:, :constant] = 7.0
    learn, new = vectors[:40], vectors[40:] * 1.3
    new[:, :constant] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        mt = MT("ledoit-wolf").fit(learn)
    judge = Judge().fit({"many": learn})
    np.testing.assert_allclose(
        np.square(judge.whiten({"many": new})).sum(axis=1), mt.squared_distance(new), rtol=2e-4
    )
    np.testing.assert_allclose(
        judge.contributions({"many": new}, "many"), mt.contributions(new), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("items", [6, 400])  # MT's own matrix, and directions kept in its place
@pytest.mark.parametrize("taught", [False, True])
def test_a_part_has_the_same_score_and_verdict_alone_as_among_others(items, taught):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(300, items)).astype(np.float32)
    judge = Judge().fit({"view": vectors[:100]})
    judge.calibrate({"view": vectors[100:200]}, 0.05)
    if taught:
        judge.teach([TaughtPart(ng, {"view": vectors[200 + ng] + 1}) for ng in (False, True)])
    together = judge.judge({"view": vectors[100:]})
    alone = [judge.judge({"view": vectors[row : row + 1]}) for row in range(100, 300)]
    for name in ("score", "p", "ng"):
        own = [getattr(result, name)[0] for result in alone]
        np.testing.assert_allclose(getattr(together, name), own, rtol=TOLERANCE)
    np.testing.assert_allclose(together.score[:100], judge.calibration_scores, rtol=TOLERANCE)


def test_the_part_that_set_the_threshold_is_ok_when_it_comes_alone():
    vectors = np.random.default_rng(0).normal(size=(199, 500)).astype(np.float32)
    judge = Judge().fit({"view": vectors[:100]})
    threshold = judge.calibrate({"view": vectors[100:]}, 0.05)
    ng = [judge.judge({"view": vectors[row : row + 1]}).ng[0] for row in range(100, 199)]
    assert sum(ng) == threshold.rank - 1
