"""Naming by the nearest class: known geometry, scikit-learn as reference, the rate of none of these, few and many."""

import warnings

import numpy as np
import pytest
from benchmarks import few_labels
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.utils.estimator_checks import parametrize_with_checks

from mekiki.errors import DataWarning, InputError
from mekiki.judging import defect_types as module
from mekiki.judging.defect_types import NONE, DefectTypeClassifier


def blobs(counts, items=6, apart=3.0, seed=0, draw=0):
    """Classes with one covariance, far from round; where they lie depends on `seed` alone."""
    where = np.random.default_rng(seed)
    mixing = where.normal(size=(items, items)) * np.geomspace(1, 0.1, items)[:, None]
    centres = where.normal(size=(len(counts), items)) @ mixing * apart
    rng = np.random.default_rng([seed, draw])
    y = np.repeat(np.arange(len(counts)), counts)
    return centres[y] + rng.normal(size=(len(y), items)) @ mixing, y


def balanced(truth, found):
    return np.mean([np.mean(found[truth == label] == label) for label in np.unique(truth)])


@parametrize_with_checks(
    [
        DefectTypeClassifier(),
        DefectTypeClassifier("each"),
        DefectTypeClassifier("knn"),
        DefectTypeClassifier(metric="euclidean"),
    ]
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


# ---- known geometry


CROSS = [[0.0, 0], [0, 2], [9, 0], [9, 2]]
NAMES = ["dent", "dent", "scratch", "scratch"]


def test_mean_anchor_by_hand():
    nearest = DefectTypeClassifier(metric="euclidean").fit(CROSS, NAMES)
    assert nearest.distances([[3, 5], [4.5, 1]]).tolist() == [[5, np.sqrt(36 + 16)], [4.5, 4.5]]
    assert nearest.predict([[3, 5]]).tolist() == ["dent"]


def test_each_example_is_an_anchor_by_hand():
    nearest = DefectTypeClassifier("each", metric="euclidean").fit(CROSS, NAMES)
    assert nearest.distances([[3, 6], [9, 2]]).tolist() == [[5, np.sqrt(36 + 16)], [9, 0]]


def test_neighbours_vote_by_hand():
    line = [[0.0], [3], [4], [10]]
    nearest = DefectTypeClassifier("knn", neighbours=3, metric="euclidean").fit(line, ["a", "b", "b", "a"])
    assert nearest.predict([[1.0]]).tolist() == ["b"]  # a is nearest, but two of three are b
    assert clone(nearest).set_params(neighbours=2).fit(line, ["a", "b", "b", "a"]).predict([[1.0]])[0] == "a"


@pytest.mark.parametrize("anchor", module.ANCHORS)
def test_ties_go_to_the_first_class_whatever_the_order_of_examples(anchor):
    X, y = np.array([[0.0], [2], [8], [10]]), np.array(["b", "b", "a", "a"])
    for order in ([0, 1, 2, 3], [3, 1, 2, 0], [2, 0, 3, 1]):
        nearest = DefectTypeClassifier(anchor, neighbours=4, metric="euclidean").fit(X[order], y[order])
        assert nearest.predict([[5.0]]).tolist() == ["a"]


def test_p_values_by_hand():
    # Left out, the parts of a lie 1.5 · |x − 1| = 1.5, 0, 1.5 from the mean of the other two.
    X, y = [[0.0], [1], [2], [20], [21], [22]], list("aaabbb")
    nearest = DefectTypeClassifier(metric="euclidean").fit(X, y)
    assert nearest.p_values([[1.0], [2.4], [2.6]])[:, 0].tolist() == [1, 3 / 4, 1 / 4]


# ---- references


def test_euclidean_means_are_scikit_learns_nearest_centroid():
    (X, y), (new, _) = blobs([9, 4, 6]), blobs([50] * 3, draw=1)
    assert (
        DefectTypeClassifier(metric="euclidean").fit(X, y).predict(new)
        == NearestCentroid().fit(X, y).predict(new)
    ).all()


@pytest.mark.parametrize("neighbours", [1, 5])
def test_euclidean_votes_are_scikit_learns(neighbours):
    (X, y), (new, _) = (
        blobs([9, 14], apart=1),
        blobs([100] * 2, apart=1, draw=1),
    )  # two classes: no tied votes
    theirs = KNeighborsClassifier(neighbours).fit(X, y).predict(new)
    assert (
        DefectTypeClassifier("knn", neighbours=neighbours, metric="euclidean").fit(X, y).predict(new)
        == theirs
    ).all()


def test_one_neighbour_is_the_nearest_example():
    (X, y), (new, _) = blobs([9, 14, 3], apart=1), blobs([100] * 3, apart=1, draw=1)
    vote, each = DefectTypeClassifier("knn", neighbours=1).fit(X, y), DefectTypeClassifier("each").fit(X, y)
    assert (vote.predict(new) == each.predict(new)).all()


def test_mean_anchors_are_shrunk_linear_discriminant_analysis():
    (X, y), (new, truth) = blobs([400] * 4, apart=1), blobs([500] * 4, apart=1, draw=1)
    ours = DefectTypeClassifier().fit(X, y)
    scale, shrinkage = ours._metric.whitening.scale, ours.shrinkage_
    fisher = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(X / scale, y)
    theirs = fisher.predict(new / scale)
    assert (ours.distances(new).argmin(axis=1) == theirs).all()
    # `predict` also weighs that classes of hundreds have spreads of their own, which here are equal but for chance.
    assert balanced(truth, ours.predict(new)) == pytest.approx(balanced(truth, theirs), abs=0.015)
    plain = DefectTypeClassifier(metric="euclidean").fit(X, y)
    assert balanced(truth, ours.predict(new)) > balanced(truth, plain.predict(new)) + 0.1


@pytest.mark.parametrize(("counts", "items"), [([12, 7, 2], 4), ([6, 5, 4], 40), ([60, 5, 5], 10)])
@pytest.mark.parametrize("anchor", ["mean", "each"])
def test_distances_are_those_of_the_shrunk_covariance_written_out(counts, items, anchor):
    X, y = blobs(counts, items)
    nearest = DefectTypeClassifier(anchor).fit(X, y)
    means = np.stack([X[y == c].mean(axis=0) for c in range(len(counts))])
    weight = (np.minimum(counts, np.median(counts)) / counts)[y]
    freedom = sum(np.minimum(counts, np.median(counts)) / counts * (np.array(counts) - 1))
    apart = X - means[y]
    scale = np.sqrt(weight @ apart**2 / freedom)
    scale = scale + np.median(scale)
    z, shrunk = apart / scale, nearest.shrinkage_
    covariance = (1 - shrunk) * (z * weight[:, None]).T @ z / freedom
    covariance += shrunk * np.trace((z * weight[:, None]).T @ z / freedom) / items * np.eye(items)
    new = blobs([3] * len(counts), items, draw=1)[0]
    anchors = [means[[c]] if anchor == "mean" else X[y == c] for c in range(len(counts))]

    def squared(gaps, matrix):
        return np.einsum("ni,ij,nj->n", gaps / scale, np.linalg.inv(matrix), gaps / scale) / items

    wanted = [[np.sqrt(squared(part - each, covariance).min()) for each in anchors] for part in new]
    assert nearest.distances(new) == pytest.approx(np.array(wanted))
    # A part left out of its class, mean and covariance.
    for i in (0, len(X) - 1):
        n = counts[y[i]]
        without = covariance - (1 - shrunk) / freedom * weight[i] * n / (n - 1) * np.outer(z[i], z[i])
        others = X[(y == y[i]) & (np.arange(len(X)) != i)]
        rest = others.mean(axis=0, keepdims=True) if anchor == "mean" else others
        assert nearest._left_out[i] == pytest.approx(squared(X[i] - rest, without).min())


# ---- few, many, and new ones


def test_two_examples_a_class_are_enough():
    (X, y), (new, truth) = blobs([2] * 5, items=300), blobs([40] * 5, items=300, draw=1)
    assert balanced(truth, DefectTypeClassifier().fit(X, y).predict(new)) > 0.95


@pytest.mark.parametrize("anchor", module.ANCHORS)
def test_one_example_a_class_is_enough(anchor):
    X, y = blobs([1] * 5, items=20)
    nearest = DefectTypeClassifier(anchor, neighbours=1).fit(X, y)
    assert (nearest.predict(X) == y).all()
    assert np.isfinite(nearest.distances(X)).all()
    with pytest.raises(InputError, match="two examples of at least one class"):
        nearest.p_values(X)


def test_a_class_a_hundred_times_as_large_does_not_swallow_the_others():
    (X, y), (new, truth) = (
        blobs([1000, 10, 10], items=40, apart=1.2),
        blobs([300] * 3, items=40, apart=1.2, draw=1),
    )
    found = DefectTypeClassifier().fit(X, y).predict(new)
    even, _ = blobs([10] * 3, items=40, apart=1.2)
    fair = DefectTypeClassifier().fit(even, np.repeat(range(3), 10)).predict(new)
    each = [np.mean(found[truth == label] == label) for label in range(3)]
    assert min(each) > 0.75
    assert balanced(truth, found) >= balanced(truth, fair) - 0.02


@pytest.mark.parametrize("anchor", module.ANCHORS)
def test_a_new_class_leaves_the_others_as_they_were(anchor):
    (X, y), (new, truth) = blobs([8] * 4, items=30), blobs([60] * 4, items=30, draw=1)
    names = np.array(["a", "b", "c", "a longer name"])
    nearest = DefectTypeClassifier(anchor).fit(X[y < 3], names[y[y < 3]])
    before = nearest.distances(new)
    assert nearest.add(X[y == 3], "a longer name") is nearest
    assert nearest.classes_.tolist() == names.tolist()
    assert (nearest.distances(new)[:, :3] == before).all()
    assert balanced(names[truth], nearest.predict(new)) > 0.95
    assert nearest.counts_.tolist() == [8] * 4


def test_examples_added_to_a_class_move_its_anchor_alone():
    nearest = DefectTypeClassifier(metric="euclidean").fit(CROSS, NAMES)
    nearest.add([[0, 7]], "dent")
    assert nearest.distances([[0, 3], [9, 1]])[:, 0].tolist() == [0, np.sqrt(85)]
    assert nearest.counts_.tolist() == [3, 2]
    assert nearest.classes_.tolist() == ["dent", "scratch"]


def test_fitting_again_forgets_what_was_added():
    nearest = DefectTypeClassifier().fit(CROSS, NAMES).add([[4, 90]], "stain").fit(CROSS, NAMES)
    assert nearest.classes_.tolist() == ["dent", "scratch"]


# ---- none of these


@pytest.mark.parametrize("anchor", module.ANCHORS)
@pytest.mark.parametrize("items", [4, 60])
def test_parts_of_known_classes_are_called_none_of_these_at_the_stated_rate(anchor, items):
    rates = []
    for seed in range(20):
        X, y = blobs([30] * 3, items, apart=6, seed=seed)
        new, _ = blobs([100] * 3, items, apart=6, seed=seed, draw=1)
        rates.append(np.mean(DefectTypeClassifier(anchor, none_of_these=0.1).fit(X, y).predict(new) == -1))
    assert 0.05 <= np.mean(rates) <= 0.11  # means of fewer parts lie farther off, so rather below than above


def test_with_five_examples_a_class_the_rate_holds_for_all_classes_together():
    rates = []
    for seed in range(40):
        X, y = blobs([5] * 4, 20, apart=6, seed=seed)
        new, _ = blobs([50] * 4, 20, apart=6, seed=seed, draw=1)
        rates.append(np.mean(DefectTypeClassifier(none_of_these=0.1).fit(X, y).predict(new) == -1))
    assert np.mean(rates) <= 0.1 + 3 * np.std(rates) / np.sqrt(40)


def test_a_part_like_no_class_is_none_of_these():
    X, y = blobs([30] * 3)
    names = np.array(["dent", "scratch", "ok"])[y]
    nearest = DefectTypeClassifier(none_of_these=0.05).fit(X, names)
    assert nearest.predict(X.mean(axis=0, keepdims=True) + 100).tolist() == [NONE]
    assert nearest.none_label_ == NONE
    assert DefectTypeClassifier(none_of_these=0.05).fit(X, y).predict(np.full((1, 6), 1e3)).tolist() == [-1]


def test_a_rate_that_cannot_be_kept_is_refused():
    with pytest.raises(InputError, match=r"4 examples .* none_of_these=0.05: it takes at least 19;"):
        DefectTypeClassifier(none_of_these=0.05).fit(CROSS, NAMES)
    assert DefectTypeClassifier(none_of_these=0.2).fit(CROSS, NAMES).predict([[900, 900]]).tolist() == [NONE]


def test_small_classes_are_compared_with_each_other_and_not_with_the_many():
    counts, rates = [200, 6, 6, 6, 6], []
    for seed in range(30):
        X, y = blobs(counts, 10, apart=6, seed=seed)
        X[y == 0] *= 0.1  # parts so close together that beside them all others would be none of these
        new, _ = blobs([0] + [50] * 4, 10, apart=6, seed=seed, draw=1)
        found = DefectTypeClassifier(none_of_these=0.1, metric="euclidean").fit(X, y).predict(new)
        rates.append(np.mean(found == -1))
    assert np.mean(rates) <= 0.1 + 3 * np.std(rates) / np.sqrt(len(rates))


def test_where_even_these_are_too_few_it_is_said():
    X, y = blobs([60, 60, 3], apart=6)
    names = np.array(["ok", "dent", "scratch"])[y]
    with pytest.warns(DataWarning, match="^scratch: fewer than 19 examples, so more of their parts than 5 %"):
        DefectTypeClassifier(none_of_these=0.05).fit(X, names)
    nearest = DefectTypeClassifier(none_of_these=0.05).fit(X[y < 2], names[y < 2])
    with pytest.warns(DataWarning, match="^scratch: fewer than 19"):
        nearest.add(X[y == 2], "scratch")


def test_a_rate_changes_no_name_of_those_that_get_one():
    (X, y), (new, _) = blobs([30] * 3, apart=1), blobs([200] * 3, apart=1, draw=1)
    plain, told = (
        DefectTypeClassifier().fit(X, y).predict(new),
        DefectTypeClassifier(none_of_these=0.1).fit(X, y).predict(new),
    )
    assert (plain == told)[told != -1].all()


# ---- properties


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.lists(st.integers(2, 6), min_size=2, max_size=4), st.integers(1, 30))
def test_order_of_examples_and_place_and_unit_of_the_items_do_not_matter(seed, counts, items):
    X, y = blobs(counts, items, seed=seed)
    new, _ = blobs([4] * len(counts), items, seed=seed, draw=1)
    order = np.random.default_rng(seed).permutation(len(X))
    wanted = DefectTypeClassifier().fit(X, y).distances(new)
    assert DefectTypeClassifier().fit(X[order], y[order]).distances(new) == pytest.approx(
        wanted, rel=1e-6, abs=1e-9
    )
    moved = DefectTypeClassifier().fit(4 * X + 8, y).distances(4 * new + 8)
    assert moved == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(module.ANCHORS), st.sampled_from(module.METRICS))
def test_distances_are_finite_and_not_negative_whatever_the_examples(seed, anchor, metric):
    rng = np.random.default_rng(seed)
    X = rng.integers(-1, 2, (rng.integers(2, 9), rng.integers(1, 6))).astype(np.float32)  # repeats, constants
    y = rng.integers(0, 3, len(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nearest = DefectTypeClassifier(anchor, metric=metric).fit(X, y)
        distances = nearest.distances(X)
        assert np.isfinite(distances).all()
        assert (distances >= 0).all()
        assert set(nearest.predict(X)) <= set(y)


def test_float32_is_as_good():
    (X, y), (new, _) = blobs([8] * 3), blobs([20] * 3, draw=1)
    wide, narrow = DefectTypeClassifier().fit(X, y), DefectTypeClassifier().fit(X.astype(np.float32), y)
    assert narrow.distances(new.astype(np.float32)) == pytest.approx(wide.distances(new), rel=1e-4)


# ---- refusals


def test_nan_is_refused_in_one_line():
    nearest = DefectTypeClassifier().fit(CROSS, NAMES)
    hole = [[1.0, 2.0], [np.nan, 0.0]]
    for asked in (nearest.predict, nearest.distances, nearest.p_values, lambda X: nearest.add(X, "x"),
                  lambda X: DefectTypeClassifier().fit(X, ["a", "b"])):  # fmt: skip
        with pytest.raises(
            InputError, match="1 of 2 vectors hold NaN or infinity, first in row 1, item x0"
        ) as told:
            asked(hole)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"anchor": "men"}, "did you mean mean"),
        ({"metric": "cosine"}, "metric 'cosine' is not known"),
        ({"neighbours": 0}, "neighbours must be a whole number from 1"),
        ({"none_of_these": 1.5}, "1.5 is not between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense(settings_, words):
    with pytest.raises(InputError, match=words):
        DefectTypeClassifier(**settings_).fit(CROSS, NAMES)


def test_labels_that_cannot_be_told_apart_from_none_of_these():
    with pytest.raises(InputError, match="rename that class"):
        DefectTypeClassifier(none_of_these=0.3).fit(CROSS, [NONE, NONE, "a", "a"])
    nearest = DefectTypeClassifier(none_of_these=0.3).fit(CROSS, [0, 0, 1, 1])
    with pytest.raises(InputError, match="choose another name"):
        nearest.add([[5, 5]], -1)
    with pytest.raises(InputError, match="of another kind"):
        nearest.add([[5, 5]], "stain")


# ---- spread, and the benchmark


def test_the_class_named_weighs_distance_against_spread_as_said():
    (X, y), (new, _) = blobs([600, 8, 8], 20, apart=1), blobs([100] * 3, 20, apart=1, draw=1)
    nearest = DefectTypeClassifier().fit(X, y)
    u, n, squared = nearest.spread_, nearest.counts_, nearest.distances(new) ** 2
    assert (nearest.predict(new) == ((squared - u / n) / u + np.log(u)).argmin(axis=1)).all()
    assert abs(u[1] - u[2]) < abs(u[0] - u[1])  # few examples share one spread
    # What it stands for: the mean square distance of parts not seen.
    later, kinds = blobs([500] * 3, 20, apart=1, draw=2)
    far = nearest.distances(later[kinds == 0])[:, 0] ** 2
    assert u[0] == pytest.approx(far.mean(), rel=0.25)


def test_the_benchmark_never_tests_a_photograph_that_was_shown():
    labels = np.repeat(few_labels.CLASSES, [600, 40, 40, 40, 32, 40])
    learn, aside, test = few_labels.split(labels, 20, seed=0)
    assert sorted([*learn, *aside, *test]) == list(range(len(labels)))
    assert (labels[aside] == "free").all()
    assert len(aside) == few_labels.OK_PARTS
    assert [np.sum(labels[learn] == label) for label in few_labels.CLASSES] == [20] * 6


def test_the_benchmark_forgets_where_a_quarter_was():
    quarters = np.arange(2 * 2 * 4 * 3.0).reshape(1, 2, 2, 4, 3)
    found = few_labels.wherever(quarters.reshape(1, -1))
    assert found == pytest.approx(few_labels.wherever(quarters[:, :, :, [2, 0, 3, 1]].reshape(1, -1)))
    assert found.shape == (1, 2 * 2 * 2 * 3)
