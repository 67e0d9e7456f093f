"""The MT method and MTA against the R package's figures, SciPy and scikit-learn."""

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf, MinCovDet, ledoit_wolf_shrinkage
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

from mekiki.errors import DataWarning, InputError
from mekiki.judging import unit_space as module
from mekiki.judging.mahalanobis_taguchi import MT, MTA, products_of_others

FLOWERS = load_iris().data
UNIT = FLOWERS[60:100]


def correlated(number, items, condition=20.0, seed=0):
    """Vectors with correlated items of different means and scales; float64."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(items, items)))[0]
    spread = np.geomspace(1, 1 / np.sqrt(condition), items)
    return rng.normal(size=(number, items)) * spread @ turn * rng.uniform(0.1, 5, items) + rng.normal(
        size=items
    )


def adjugate(matrix):
    """The adjugate of a symmetric matrix, as MTA makes it."""
    values, directions = np.linalg.eigh(matrix)
    return (directions * products_of_others(values)) @ directions.T


def by_definition(unit, vectors):
    """D² of MT, written out."""
    z = (vectors - unit.mean(0)) / unit.std(0, ddof=1)
    inverse = np.linalg.inv(np.corrcoef(unit.T))
    return np.einsum("ni,ij,nj->n", z, inverse, z) / unit.shape[1]


# scikit-learn's check wants outliers among its own three blobs; at the customary 4 there is none.
@parametrize_with_checks([MT(threshold=1.0), MT("robust", threshold=1.0), MTA(threshold=0.5)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_the_distances_of_the_r_package():
    mt = MT().fit(UNIT)
    assert mt.covariance_ == "empirical"
    for first, wanted in [(60, [1.351, 0.802, 1.164, 0.643]), (0, [5.061, 4.270, 4.561]),
                          (50, [1.483, 0.870, 1.152]), (100, [3.375, 2.138, 2.268])]:  # fmt: skip
        assert mt.distance(FLOWERS[first : first + len(wanted)]).round(3).tolist() == wanted


@pytest.mark.parametrize("covariance", ["empirical", "pseudo-inverse"])
@pytest.mark.parametrize(("number", "items"), [(40, 4), (10, 9), (500, 1), (300, 150)])
def test_mean_over_the_unit_space_is_almost_one(covariance, number, items):
    unit = correlated(number, items)
    assert MT(covariance).fit(unit).squared_distance(unit).mean() == pytest.approx((number - 1) / number)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_distance_does_not_change_with_the_units_or_the_mixing_of_items(items, seed):
    rng = np.random.default_rng(seed)
    unit, others = rng.normal(size=(40, items)), rng.normal(size=(7, items)) * 3
    mixing, shift = rng.normal(size=(items, items)), rng.normal(size=items) * 10
    assume(np.linalg.cond(mixing) < 1e3)
    plain = MT("empirical").fit(unit).distance(others)
    mixed = MT("empirical").fit(unit @ mixing + shift).distance(others @ mixing + shift)
    assert mixed == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("covariance", ["empirical", "ledoit-wolf", "robust", "pseudo-inverse"])
def test_distance_does_not_change_with_the_units_of_items(covariance):
    unit, others, units = correlated(60, 5), correlated(9, 5, seed=1), np.array([1e-6, 1e5, 1, -3, 0.1])
    plain = MT(covariance).fit(unit).distance(others)
    assert MT(covariance).fit(unit * units + 7).distance(others * units + 7) == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("items", [1, 2, 64, 200, 300])
def test_agrees_with_scipy(items):
    unit, others = correlated(1000, items), correlated(3000, items, seed=1)
    inverse = np.linalg.inv(np.atleast_2d(np.cov(unit.T)))
    theirs = cdist(others, unit.mean(0)[None], "mahalanobis", VI=inverse)[:, 0] / np.sqrt(items)
    mt = MT("empirical").fit(unit)
    assert mt.distance(others) == pytest.approx(theirs, rel=1e-10)
    assert mt.squared_distance(others) == pytest.approx(theirs**2, rel=1e-10)


@pytest.mark.parametrize(
    "condition, narrow", [(1.0, True), (300.0, True), (1e5, False), (1e8, False)]
)  # of the vectors' covariance, before standardising
@pytest.mark.parametrize("items", [2, 64, 300])
def test_float32_gives_what_float64_gives(condition, narrow, items):
    unit = correlated(4000, items, condition).astype(np.float32)
    mt = MT("empirical").fit(unit)
    assert mt.form_.float32_will_do == narrow
    values, directions = np.linalg.eigh(np.cov(unit.T.astype(np.float64)))
    along = (10 * np.sqrt(values) * directions).T + unit.mean(
        0, dtype=np.float64
    )  # the worst that can be asked
    asked = np.concatenate([along, unit[:500], 1e3 * unit[:500]]).astype(np.float32)
    exact = MT("empirical").fit(unit.astype(np.float64)).distance(asked.astype(np.float64))
    found = mt.distance(asked)
    assert found.dtype == np.float64
    assert found == pytest.approx(exact, rel=1e-5)


def test_a_mean_far_from_zero_is_subtracted_in_enough_digits():
    unit = (correlated(4000, 8) + 10_000).astype(np.float32)
    mt = MT("empirical").fit(unit)
    assert mt.form_.float32_will_do
    assert mt.distance(unit) == pytest.approx(
        np.sqrt(by_definition(*[unit.astype(np.float64)] * 2)), rel=1e-5
    )


def test_far_is_far_and_nothing_is_clamped():
    unit = correlated(400, 3).astype(np.float32)
    mt = MT("empirical").fit(unit)
    assert mt.form_.float32_will_do
    steps = np.float32([1e10, 1e20, 1e30])[:, None] * np.ones(3, np.float32)  # their squares leave float32
    exact = MT("empirical").fit(unit.astype(np.float64)).distance(steps.astype(np.float64))
    assert np.isfinite(exact).all()
    assert mt.distance(steps) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, bool])
def test_numbers_of_any_type_are_taken_as_they_are(dtype):
    unit = np.random.default_rng(0).integers(0, 2 if dtype is bool else 100, (50, 3)).astype(dtype)
    assert MT("empirical").fit(unit).squared_distance(unit) == pytest.approx(
        by_definition(*[unit.astype(np.float64)] * 2)
    )


def test_memory_does_not_grow_with_the_vectors():
    vectors = correlated(20_000, 64).astype(np.float32)
    mt = MT().fit(vectors)
    tracemalloc.start()
    try:
        mt.distance(vectors[:5000])
        few = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        mt.distance(vectors)
        many = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert many - few < 4 * 8 * 15_000  # the result and a mask or two; the vectors are 3.8 MB


@pytest.mark.parametrize("estimator", [MT(), MT("ledoit-wolf"), MT("pseudo-inverse"), MTA()])
def test_contributions_sum_to_the_squared_distance(estimator):
    unit, others = correlated(60, 5), correlated(3000, 5, seed=1)
    estimator.fit(unit)
    shares = estimator.contributions(others)
    assert shares.shape == others.shape
    assert shares.sum(1) == pytest.approx(estimator.squared_distance(others))
    assert (shares < 0).any()


def test_contributions_are_shapley_values():
    from itertools import permutations

    mt = MT().fit(UNIT)
    part, centre = FLOWERS[0], UNIT.mean(0)
    shares = np.zeros(4)
    orders = list(permutations(range(4)))
    for order in orders:
        known = centre.copy()
        for item in order:
            before = mt.squared_distance(known[None])[0]
            known[item] = part[item]
            shares[item] += mt.squared_distance(known[None])[0] - before
    assert mt.contributions(part[None])[0] == pytest.approx(shares / len(orders))


def test_the_outlier_convention_and_the_threshold():
    mt = MT(threshold=2.0)
    told = mt.fit_predict(UNIT)
    squared = mt.squared_distance(UNIT)
    assert (told == np.where(squared <= 2, 1, -1)).all()
    assert {1, -1} == set(told.tolist())
    assert mt.offset_ == -2
    assert (mt.score_samples(UNIT) == -squared).all()
    assert mt.decision_function(UNIT) == pytest.approx(2 - squared)
    assert MT().fit(UNIT).offset_ == -4


def test_ledoit_wolf_is_scikit_learns():
    unit, others = correlated(30, 20), correlated(50, 20, seed=1)
    mt = MT("ledoit-wolf").fit(unit)
    z = (unit - unit.mean(0)) / unit.std(0, ddof=1)
    assert mt.shrinkage_ == pytest.approx(ledoit_wolf_shrinkage(z, assume_centered=True))
    theirs = (
        LedoitWolf(assume_centered=True).fit(z).mahalanobis((others - unit.mean(0)) / unit.std(0, ddof=1))
    )
    assert mt.squared_distance(others) == pytest.approx(theirs / 20 * 29 / 30)  # they divide by n, not n − 1


def test_robust_is_scikit_learns_and_is_not_moved_by_bad_parts():
    unit = correlated(200, 4)
    spoilt = np.concatenate([unit, unit[:30] + 50])
    robust = MT("robust").fit(spoilt)
    theirs = MinCovDet(random_state=0).fit((spoilt - spoilt.mean(0)) / spoilt.std(0, ddof=1))
    wanted = theirs.mahalanobis((unit - spoilt.mean(0)) / spoilt.std(0, ddof=1)) / 4
    assert robust.squared_distance(unit) == pytest.approx(wanted)
    bad = spoilt[-30:]
    assert (robust.predict(bad) == -1).all()
    assert (MT("empirical").fit(spoilt).predict(bad) == 1).any()
    with pytest.raises(InputError, match="10 parts for 6 items are too few for robust"):
        MT("robust").fit(correlated(10, 6))


@pytest.mark.parametrize(
    ("number", "items", "chosen", "reason"),
    [
        (40, 4, "empirical", "40 parts for 4 items, at least three an item"),
        (11, 4, "ledoit-wolf", "11 parts for 4 items, fewer than three.*about 2.4 times"),
        (5, 4, "ledoit-wolf", "5 parts for 4 items, fewer than three.*many times"),
        (4, 4, "ledoit-wolf", "4 parts for 4 items, so R as it is has no inverse"),
        (2, 4, "ledoit-wolf", "2 parts for 4 items"),
        (10, 300, "ledoit-wolf", "10 parts for 300 items"),
    ],
)
def test_auto_chooses_and_says_why(number, items, chosen, reason):
    import re

    mt = MT().fit(correlated(number, items))
    assert mt.covariance_ == chosen
    assert re.search(reason, mt.reason_)
    assert np.isfinite(mt.distance(correlated(5, items, seed=1))).all()
    assert MT("ledoit-wolf").fit(correlated(number, items)).reason_ == "ledoit-wolf, as asked for"


def test_the_excess_that_the_reason_names_is_the_true_one():
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(500):
        unit = rng.normal(size=(15, 6))
        mt = MT("empirical").fit(unit)
        excess.append(mt.squared_distance(rng.normal(size=(200, 6))).mean() / (14 / 15))
    assert np.mean(excess) == pytest.approx(16 / 7, rel=0.1)
    assert "about 2.3 times" in MT().fit(rng.normal(size=(15, 6))).reason_


def test_an_item_that_follows_from_others_is_met_by_shrinking():
    unit = correlated(100, 3)
    unit = np.column_stack([unit, unit[:, 0] - unit[:, 1]])
    mt = MT().fit(unit)
    assert mt.covariance_ == "ledoit-wolf"
    assert "follow from others" in mt.reason_
    with pytest.raises(InputError, match=r"singular \(rank 3\).*ledoit-wolf"):
        MT("empirical").fit(unit)
    blind = MT("pseudo-inverse").fit(unit)
    assert blind.rank_ == 3
    broken = unit[:1] + blind.scale_ * np.linalg.svd(blind.correlation_)[0][:, -1] * 9
    assert blind.distance(broken) == pytest.approx(
        blind.distance(unit[:1])
    )  # it does not see it, as documented
    assert mt.distance(broken)[0] > 3 * mt.distance(unit[:1])[0]


def test_a_unit_space_of_fewer_parts_than_items():
    unit, others = correlated(10, 30), correlated(5, 30, seed=1)
    with pytest.raises(InputError, match=r"R of 10 parts and 30 items is singular \(rank 9\)"):
        MT("empirical").fit(unit)
    inverse = np.linalg.pinv(np.corrcoef(unit.T), rcond=1e-10)
    z = (others - unit.mean(0)) / unit.std(0, ddof=1)
    mt = MT("pseudo-inverse").fit(unit)
    assert mt.squared_distance(others) == pytest.approx(np.einsum("ni,ij,nj->n", z, inverse, z) / 9)
    assert MT().fit(unit).distance(others).shape == (5,)


@pytest.mark.parametrize("estimator", [MT(), MTA()])
def test_constant_items_are_told_and_left_out(estimator):
    unit = np.insert(UNIT, 2, 0.3, axis=1)
    with pytest.warns(
        DataWarning, match=r"1 of 5 items are constant in the unit space \(x2\): they are left out"
    ):
        estimator.fit(unit)
    assert estimator.varying_.tolist() == [True, True, False, True, True]
    other = np.insert(FLOWERS[:3], 2, 0.4, axis=1)
    without = type(estimator)().fit(UNIT)
    assert estimator.distance(other) == pytest.approx(without.distance(FLOWERS[:3]))
    shares = estimator.contributions(other)
    assert (shares[:, 2] == 0).all()
    assert np.delete(shares, 2, 1) == pytest.approx(without.contributions(FLOWERS[:3]))


def test_or_a_departure_in_a_constant_item_is_infinitely_far():
    mt = MT(constant_items="infinite")
    with pytest.warns(DataWarning, match=r"\(x4\): a vector that differs there lies infinitely far"):
        mt.fit(np.insert(UNIT, 4, 0.3, axis=1))
    other = np.insert(FLOWERS[:3], 4, [0.3, 0.4, 0.3 + 1e-17], axis=1)
    distance = mt.distance(other)
    assert distance[[0, 2]].round(3).tolist() == [5.061, 4.561]
    assert distance[1] == np.inf
    assert mt.contributions(other)[1, 4] == np.inf
    assert mt.contributions(other)[0, 4] == 0
    assert mt.predict(other).tolist() == [-1, -1, -1]


def test_what_differs_by_rounding_alone_is_constant():
    unit = np.insert(UNIT, 0, 0.1 * 3, axis=1)
    unit[::2, 0] = 0.3
    assert unit[:, 0].std() > 0
    with pytest.warns(DataWarning, match="1 of 5 items are constant"):
        MT().fit(unit)


def test_the_adjugate():
    root = np.sqrt(3)
    matrix = np.array([[2, root, 1], [root, 2, root], [1, root, 2]]) / 2
    wanted = np.array([[1, -root, 1], [-root, 3, -root], [1, -root, 1]]) / 4
    assert np.linalg.matrix_rank(matrix) == 2
    assert adjugate(matrix) == pytest.approx(wanted, abs=1e-12)
    assert adjugate([[5.0]]).tolist() == [[1.0]]
    assert adjugate(np.diag([1.0, 0.0, 0.0])) == pytest.approx(np.zeros((3, 3)))


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(0, 2**32 - 1), st.booleans())
def test_the_adjugate_is_that_of_the_minors(size, seed, singular):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(size, size))
    matrix += matrix.T
    if singular and size > 1:
        matrix[-1] = matrix[:-1].sum(0)
        matrix[:, -1] = matrix[:, :-1].sum(1)
    minors = np.array([
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(matrix, i, 0), j, 1)) for i in range(size)]
        for j in range(size)
    ])  # fmt: skip
    assert adjugate(matrix) == pytest.approx(minors, rel=1e-6, abs=1e-6 * max(1, np.abs(minors).max()))


def test_mta_is_mt_times_the_determinant_where_r_has_an_inverse():
    mta = MTA().fit(UNIT)
    determinant = np.linalg.det(np.corrcoef(UNIT.T))
    assert mta.squared_distance(FLOWERS) == pytest.approx(determinant * by_definition(UNIT, FLOWERS))
    assert mta.adjugate_ == pytest.approx(determinant * np.linalg.inv(np.corrcoef(UNIT.T)))


def test_mta_measures_where_r_has_no_inverse_and_refuses_where_its_adjugate_is_zero():
    unit = correlated(50, 3)
    once = np.column_stack([unit, unit[:, 0] + unit[:, 1]])
    mta = MTA().fit(once)
    z = (once - once.mean(0)) / once.std(0, ddof=1)
    assert mta.squared_distance(once) == pytest.approx(np.zeros(50), abs=1e-12)
    other = np.array([[1.0, 0, 0, 0]]) + once[:1]
    z = (other - once.mean(0)) / once.std(0, ddof=1)
    assert mta.squared_distance(other) == pytest.approx((z @ adjugate(np.corrcoef(once.T)) @ z.T)[0] / 4)
    with pytest.raises(InputError, match=r"has rank 3: its adjugate is zero.*ledoit-wolf"):
        MTA().fit(np.column_stack([once, unit[:, 1] - unit[:, 2]]))
    with pytest.raises(InputError, match="determinant too small"):
        MTA().fit(correlated(2000, 400, condition=1e10))


ERRORS = [
    (
        MT("emprical"),
        UNIT,
        "covariance 'emprical' is not known; choose one of auto, .*did you mean empirical",
    ),
    (MT(constant_items="x"), UNIT, "constant_items 'x' is not known"),
    (MT(threshold=0), UNIT, "threshold must be a number above 0"),
    (MT(threshold="4"), UNIT, "threshold must be a number above 0"),
    (MTA(threshold=np.nan), UNIT, "threshold must be a number above 0"),
    (MT(), UNIT[:1], "Found array with 1 sample.* while a minimum of 2 is required by MT"),
    (MT(), UNIT[:0], "Found array with 0 sample"),
    (MT(), UNIT[0], "Expected 2D array, got 1D array"),
    (MT(), [["a", "b"], ["c", "d"]], "^X: these are words; give numbers"),
    (MT(), np.full((5, 2), 3.0), "all 5 vectors of the unit space are equal"),
    (MT(), UNIT * 1e200, "too large to be squared"),
]


@pytest.mark.parametrize(("estimator", "unit", "said"), ERRORS)
def test_what_cannot_be_used_gets_one_line(estimator, unit, said):
    with pytest.raises(InputError, match=said) as caught:
        estimator.fit(unit)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("estimator", [MT(), MTA(), MT("robust")])
@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_that_are_none_are_found_and_named(estimator, what, dtype):
    bad = UNIT.astype(dtype)
    bad[3, 1] = bad[7, 0] = what
    said = r"^X: 2 of 40 vectors hold NaN or infinity, first in row 3, item x1; leave them out or fill them$"
    with pytest.raises(InputError, match=said):
        estimator.fit(bad)
    estimator.fit(UNIT)
    for method in (estimator.distance, estimator.predict, estimator.contributions):
        with pytest.raises(InputError, match=said):
            method(bad)


def test_a_nan_in_any_place_is_found_however_the_panels_lie(monkeypatch):
    monkeypatch.setattr(module, "_PANEL", 2)
    unit = correlated(100, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mt = MT(constant_items="infinite").fit(np.insert(unit, 3, 1.0, axis=1))
    for item in range(8):
        bad = np.insert(unit[:2], 3, 1.0, axis=1)
        assert mt.squared_distance(bad) == pytest.approx(by_definition(unit, unit[:2]))
        bad[1, item] = np.nan
        with pytest.raises(InputError, match=f"row 1, item x{item};"):
            mt.distance(bad)


def test_columns_of_a_frame_are_named():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(UNIT, columns=["sepal", "width", "petal", "colour"])
    mt = MT().fit(frame)
    frame.loc[2, "petal"] = np.nan
    with pytest.raises(InputError, match="row 2, item petal"):
        mt.distance(frame)


def test_vectors_of_another_length_are_refused():
    mt = MT().fit(UNIT)
    for method in (mt.distance, mt.predict, mt.contributions):
        with pytest.raises(InputError, match="X has 3 features, but MT is expecting 4 features as input"):
            method(UNIT[:, :3])
