"""`JudgeModel` and `Judge` with patch groups: columns, weights, checks, few parts, the stated rate, and the state."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mekiki.errors import InputError
from mekiki.judging.feature_judge import Judge
from mekiki.judging.judge_model import DETECTOR_NAMES, JudgeModel, check_groups
from mekiki.judging.judge_result import TaughtPart

ON_PATCHES = ("memory", "places", "subspace")
COLUMNS = ("colour", "shape", "patches: memory", "patches: places", "patches: subspace")


def parts(number, seed=0, spot=0.0):
    """Two groups of vectors and one of patches; `spot` is added to the patch of one place."""
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(number, 4, 4, 5)).astype(np.float32)
    patches[:, 1, 2] += spot
    return {"colour": rng.normal(size=(number, 3)), "shape": rng.normal(size=(number, 2)), "patches": patches}


def fit_model(groups, detectors=DETECTOR_NAMES):
    return JudgeModel.fit(groups, "sum", "auto", detectors)


def test_columns_are_vectors_and_a_score_of_each_detector():
    model = fit_model(parts(30))
    assert model.scoring.groups == COLUMNS
    assert model.patch_groups == ("patches",)
    detected = model.detect([torch.from_numpy(group) for group in parts(6, seed=1).values()])
    *detected, departures = detected
    assert [each.ndim for each in detected] == [2, 2, 1, 1, 1]
    assert model.scoring.inputs == (*COLUMNS, "patches, departure")
    assert departures.shape == (6, 2 * parts(6)["patches"].shape[-1])
    own = model.detectors_of("patches").score(parts(6, seed=1)["patches"])
    np.testing.assert_array_equal(torch.stack(detected[2:], dim=1).numpy(), own)


@pytest.mark.parametrize(
    ("detectors", "weights"),
    [
        (DETECTOR_NAMES, [1, 1, 2, 2, 2]),
        (("mt",), [1, 1]),
        (("memory",), [0, 0, 2]),
        (("mt", "subspace"), [1, 1, 2]),
        (ON_PATCHES, [0, 0, 2, 2, 2]),
    ],
)
def test_all_distances_of_vectors_weigh_as_much_as_one_detector(detectors, weights):
    groups = parts(30)
    if detectors == ("mt",):
        del groups["patches"]
    assert fit_model(groups, detectors).scoring.weights == weights


def test_the_score_is_the_weighted_sum_of_minus_log_p():
    judge = Judge().fit(parts(60))
    judge.calibrate(parts(40, 1), 0.05)
    result = judge.judge(parts(20, 2))
    assert result.groups == COLUMNS
    np.testing.assert_allclose(result.score, result.neg_log_p @ [1, 1, 2, 2, 2])


@pytest.mark.parametrize("seed", range(3))
def test_what_is_taught_ng_is_found_at_other_places(seed):
    """A faint defect at random places, taught at some and found at others; the vectors say nothing."""
    rng = np.random.default_rng(seed)
    direction = np.array([1, -1, 1, 0, 0, 0], np.float32)

    def grids(number, strength=0.0):
        patches = rng.normal(size=(number, 8, 8, 6)).astype(np.float32)
        for grid in patches:
            row, column = rng.integers(0, 7, 2)
            grid[row : row + 2, column : column + 2] += strength * direction
        return {"colour": rng.normal(size=(number, 20)), "patches": patches}

    judge = Judge().fit(grids(200))
    judge.calibrate(grids(200), 0.05)
    bad, good, taught = grids(400, 1.8), grids(400), grids(30, 1.8)
    before = roc_auc_score(np.repeat([1, 0], 400), np.r_[judge.score(bad), judge.score(good)])
    judge.teach([TaughtPart(True, {name: each[row] for name, each in taught.items()}) for row in range(30)])
    after = roc_auc_score(np.repeat([1, 0], 400), np.r_[judge.score(bad), judge.score(good)])
    assert judge.acts_beyond_copies
    assert after > before + 0.02
    assert judge.judge(good).ng.mean() < 0.1


@pytest.mark.parametrize("detector", ON_PATCHES)
def test_a_single_detector_decides_alone(detector):
    judge = Judge(detectors=(detector,)).fit(parts(60))
    judge.calibrate(parts(40, 1), 0.05)
    new = parts(20, 2)
    other = new | {"colour": new["colour"] + 100, "shape": new["shape"] - 100}
    np.testing.assert_array_equal(judge.score(new), judge.score(other))
    spotted = parts(5, 3, spot=20)
    spotted["colour"] += 1000  # does not count, so it is no reason either
    result = judge.judge(spotted)
    assert result.ng.all()
    assert set(result.leading_groups()) == {f"patches: {detector}"}


def test_the_mt_distance_is_all_there_is_without_patches():
    groups = {name: group for name, group in parts(40).items() if name != "patches"}
    new = {name: group for name, group in parts(5, 1).items() if name != "patches"}
    np.testing.assert_array_equal(
        Judge().fit(groups).score(new), Judge(detectors=("mt",)).fit(groups).score(new)
    )
    with pytest.raises(InputError, match="colour, shape have none; choose mt"):
        Judge(detectors=("memory",)).fit(groups)


def test_reference_scores_are_those_of_cross_fitting():
    groups = parts(40)
    model = fit_model(groups)
    fitted = model.detectors_of("patches").score(groups["patches"])
    reference = model.scoring.reference[:, 2:]
    # The memory holds the very patches that it was fitted to: by itself it would find nothing unusual.
    assert fitted[:, 0].max() < 1e-2
    assert reference[:, 0].min() > 0.1


def test_a_small_spot_is_found_on_patches_and_located():
    judge = Judge().fit(parts(60))
    judge.calibrate(parts(60, 1), 0.05)
    spotted = parts(10, 2, spot=8)
    assert judge.judge(spotted).ng.all()
    (maps,) = judge.patch_maps(spotted).values()
    assert maps.shape == (10, 4, 4)
    assert {divmod(int(each.argmax()), 4) for each in maps} == {(1, 2)}
    assert (
        not Judge(detectors=("mt",))
        .fit({"colour": parts(60)["colour"]})
        .patch_maps({"colour": spotted["colour"]})
    )


@pytest.mark.parametrize("number", [8, 20])
def test_few_ok_parts_judge_by_cross_calibration(number):
    judge = Judge()
    threshold = judge.cross_calibrate(parts(number), 0.2)
    assert len(threshold.calibration) == number
    assert np.isfinite(threshold.calibration).all()
    assert threshold.calibration.std() > 0
    result = judge.judge(parts(30, 1))
    assert np.isfinite(result.score).all()
    assert judge.judge(parts(5, 2, spot=50)).ng.all()
    assert (judge.score(parts(5, 2, spot=50)) > np.median(result.score)).all()


def test_the_stated_rate_is_kept_with_patches():
    judge, fresh = Judge().fit(parts(60)), parts(1500, 1)
    realised = []
    for seed in range(25):
        judge.calibrate(parts(59, 100 + seed), 0.1)
        realised.append(judge.judge(fresh).ng.mean())
    # Of 59 parts rank 54 sets the threshold: 6 of 60 are above it on average.
    assert np.mean(realised) == pytest.approx(0.1, abs=3 * np.std(realised) / np.sqrt(25))


def test_corrections_act_on_patches_and_are_undone():
    judge = Judge().fit(parts(60))
    judge.calibrate(parts(60, 1), 0.05)
    new = parts(40, 2)
    passed = int(np.flatnonzero(~judge.judge(new).ng)[0])
    before = judge.score(new)
    missed = {name: group[passed] for name, group in new.items()}
    judge.teach([TaughtPart(True, missed, "a dent")])
    assert judge.judge({name: each[None] for name, each in missed.items()}).ng[0]
    judge.teach([])
    np.testing.assert_array_equal(judge.score(new), before)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("detectors", [DETECTOR_NAMES, ("places",)])
def test_the_state_gives_equal_scores_to_the_bit(cross, detectors):
    judge = Judge(detectors=detectors)
    if cross:
        judge.cross_calibrate(parts(30), 0.1)
    else:
        judge.fit(parts(30)).calibrate(parts(30, 1), 0.1)
    judge.learn_ng(parts(4, 5, spot=3))
    again = Judge.from_state(*judge.state())
    new = parts(20, 2)
    np.testing.assert_array_equal(again.judge(new).score, judge.judge(new).score)
    np.testing.assert_array_equal(again.judge(new).p, judge.judge(new).p)
    np.testing.assert_array_equal(again.patch_maps(new)["patches"], judge.patch_maps(new)["patches"])
    assert again.columns == judge.columns
    assert again.detectors == judge.detectors
    assert again.judge_unseen().known.tolist() == judge.judge_unseen().known.tolist()


def test_scores_of_detectors_can_be_given_in_place_of_patches():
    judge = Judge().fit(parts(30))
    judge.calibrate(parts(30, 1), 0.1)
    new = parts(6, 2)
    one_by_one = [
        judge._models[0].detect_one({name: group[row] for name, group in new.items()}) for row in range(6)
    ]
    columns = {name: np.stack([each[name] for each in one_by_one]) for name in one_by_one[0]}
    np.testing.assert_allclose(judge.score_columns(columns), judge.score(new), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda groups: groups.clear(), "there are none"),
        (lambda groups: groups.pop("patches"), "fitted to colour, shape, patches; give these"),
        (
            lambda groups: groups.update(other=groups["colour"]),
            "fitted to colour, shape, patches; give these",
        ),
        (lambda groups: groups.update(patches=groups["patches"][:3]), "of unequal length"),
        (
            lambda groups: groups.update(patches=groups["patches"][:, :3]),
            r"patches \[3, 4, 5\] given, and the judge was fitted to patches \[4, 4, 5\]",
        ),
        (
            lambda groups: groups.update(patches=groups["patches"].mean((1, 2))),
            r"vectors of 5 given, and the judge was fitted to patches \[4, 4, 5\]",
        ),
        (lambda groups: groups.update(patches=groups["patches"][..., 0]), r"not float32 \[6, 4, 4\]"),
        (
            lambda groups: groups["patches"].__setitem__((4, 0, 0, 0), np.nan),
            "group patches: part 4 has numbers",
        ),
    ],
)
def test_groups_that_do_not_fit_are_refused_in_one_line(change, message):
    model, groups = fit_model(parts(20)), parts(6, 1)
    change(groups)
    with pytest.raises(InputError, match=message) as error:
        check_groups(groups, model)
    assert "\n" not in str(error.value)


def test_groups_are_put_in_order_and_some_may_be_missing():
    model, groups = fit_model(parts(20)), parts(6, 1)
    assert tuple(check_groups(dict(reversed(groups.items())), model)) == ("colour", "shape", "patches")
    assert tuple(check_groups({"patches": groups["patches"]}, model, some=True)) == ("patches",)


def test_an_unknown_detector_and_none_are_refused():
    with pytest.raises(InputError, match="detector 'nonsense' is not known; choose one of mt, memory"):
        Judge(detectors=("mt", "nonsense"))
    with pytest.raises(InputError, match="there are none; choose some of mt, memory"):
        Judge(detectors=())
