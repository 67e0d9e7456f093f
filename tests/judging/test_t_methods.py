"""RT, T(1), Ta and Tb against the R package's figures and the formulas written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

from mekiki.errors import DataWarning, InputError
from mekiki.judging.mahalanobis_taguchi import MT
from mekiki.judging.t_methods import RT, T1, Ta, Tb

FLOWERS = load_iris().data
UNIT = FLOWERS[60:100]

# R's stackloss: air flow, water temperature, acid concentration, stack loss.
STACKLOSS = np.array([
    [80, 27, 89, 42], [80, 27, 88, 37], [75, 25, 90, 37], [62, 24, 87, 28], [62, 22, 87, 18], [62, 23, 87, 18],
    [62, 24, 93, 19], [62, 24, 93, 20], [58, 23, 87, 15], [58, 18, 80, 14], [58, 18, 89, 14], [58, 17, 88, 13],
    [58, 18, 82, 11], [58, 19, 93, 12], [50, 18, 89, 8], [50, 18, 86, 7], [50, 19, 72, 8], [50, 19, 79, 8],
    [50, 20, 80, 9], [56, 20, 82, 15], [70, 20, 91, 15],
], float)  # fmt: skip
HELD_OUT = [1, 11, 18]
USED = [row for row in range(21) if row not in HELD_OUT]
X, Y = STACKLOSS[USED, :3], STACKLOSS[USED, 3]
CENTRE = np.isin(USED, [8, 9, 10, 19, 20])


# At the customary threshold there is no outlier among the three blobs of scikit-learn's check.
@pytest.mark.filterwarnings("ignore::mekiki.errors.DataWarning")
@parametrize_with_checks([RT(threshold=1.0), T1(), T1(unit_share=0.5), Ta(), Tb()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_t1_estimates_what_the_r_package_does():
    t1 = T1().fit(X, Y, unit=CENTRE)
    assert t1.predict(STACKLOSS[HELD_OUT, :3]).round(3).tolist() == [41.281, 8.552, 7.416]
    signal = X[~CENTRE]
    wanted = [26.750, 19.845, 8.668, 5.258, 6.963, 9.080, 9.080, -4.755, -2.296, -9.977, -10.183, -9.438,
              -8.958]  # fmt: skip
    assert (t1.predict(signal) - t1.center_y_).round(3).tolist() == wanted
    assert t1.center_y_ == pytest.approx(14.6)
    assert (t1.unit_ == CENTRE).all()


def written_out(x, y, signal_x, signal_y, center_x, center_y):
    """β and η of one item."""
    x, m = signal_x - center_x, signal_y - center_y
    r, products = (m**2).sum(), (x * m).sum()
    signal = products**2 / r
    noise = ((x**2).sum() - signal) / (len(m) - 1)
    return products / r, max(0.0, (signal - noise) / (r * noise))


def test_the_formulas_written_out():
    t1, ta, tb = T1().fit(X, Y, unit=CENTRE), Ta().fit(X, Y), Tb().fit(X, Y)
    for item, x in enumerate(X.T):
        beta, eta = written_out(x, Y, x[~CENTRE], Y[~CENTRE], x[CENTRE].mean(), Y[CENTRE].mean())
        assert (t1.beta_[item], t1.eta_[item]) == pytest.approx((beta, eta))
        beta, eta = written_out(x, Y, x, Y, x.mean(), Y.mean())
        assert (ta.beta_[item], ta.eta_[item]) == pytest.approx((beta, eta))
        all_rows = [written_out(x, Y, x, Y, x[row], Y[row]) for row in range(len(Y))]
        best = int(np.argmax([eta for _, eta in all_rows]))
        assert tb.center_rows_[item] == best
        assert (tb.beta_[item], tb.eta_[item]) == pytest.approx(all_rows[best])
    assert tb.center_y_ == pytest.approx((tb.eta_ * Y[tb.center_rows_]).sum() / tb.eta_.sum())
    for method in (t1, ta, tb):
        new = STACKLOSS[HELD_OUT, :3]
        by_hand = ((new - method.center_) * method.eta_ / method.beta_).sum(1) / method.eta_.sum()
        assert method.predict(new) == pytest.approx(method.center_y_ + by_hand)
        assert method.eta_db_ == pytest.approx(10 * np.log10(method.eta_))
        shares = method.contributions(new)
        assert shares.shape == (3, 3)
        assert shares.sum(1) == pytest.approx(method.predict(new) - method.center_y_)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([T1, Ta, Tb]))
def test_estimates_do_not_change_with_the_units_of_items_and_follow_those_of_the_value(seed, method):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=30)
    x = y[:, None] * rng.normal(size=4) + rng.normal(size=(30, 4))
    units, shift = rng.choice([1e-4, 1e3, -2.0], 4), rng.normal(size=4) * 10
    plain = method().fit(x, y).predict(x)
    other = method().fit(x * units + shift, 1000 * y + 5).predict(x * units + shift)
    assert other == pytest.approx(1000 * plain + 5, rel=1e-6, abs=1e-5)


def test_the_unit_space_may_be_a_mask_row_numbers_or_the_middle_of_y():
    by_mask = T1().fit(X, Y, unit=CENTRE)
    by_rows = T1().fit(X, Y, unit=np.flatnonzero(CENTRE))
    assert (by_mask.coef_ == by_rows.coef_).all()
    middle = T1(unit_share=0.3).fit(X, Y)
    assert middle.unit_.sum() == round(0.3 * len(Y))
    gap = np.abs(Y - np.median(Y))
    assert gap[middle.unit_].max() <= gap[~middle.unit_].min()


def test_an_item_that_follows_the_value_exactly_has_all_the_weight():
    rng = np.random.default_rng(0)
    y = rng.normal(size=20)
    x = np.column_stack([3 * y + 1, rng.normal(size=20), np.full(20, 7.0), -0.5 * y])
    for method in (T1(), Ta(), Tb()):
        method.fit(x, y)
        assert method.eta_[[0, 3]].tolist() == [np.inf, np.inf]
        assert method.weights_.tolist() == [0.5, 0, 0, 0.5]
        assert method.eta_[2] == 0
        assert method.eta_db_[2] == -np.inf
        assert method.predict(x) == pytest.approx(y)


def test_items_that_tell_nothing_are_told_and_leave_the_centre():
    y = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    x = np.array([[1.0], [-1.0], [1.0], [1.0], [-1.0], [1.0]])
    with pytest.warns(DataWarning, match="none of the 1 items follows y"):
        ta = Ta().fit(x, y)
    assert ta.predict([[100.0]]).tolist() == [3.5]
    assert ta.contributions([[100.0]]).tolist() == [[0.0]]


def test_rt_is_mt_in_two_numbers():
    rt = RT().fit(UNIT)
    mean = UNIT.mean(0)
    beta = FLOWERS @ mean / (mean @ mean)
    total = (FLOWERS**2).sum(1)
    noise = (total - (FLOWERS @ mean) ** 2 / (mean @ mean)) / 3
    pairs = np.column_stack([beta, np.sqrt(noise)])
    assert rt.pattern(FLOWERS) == pytest.approx(pairs)
    assert rt.distance(FLOWERS) == pytest.approx(MT().fit(pairs[60:100]).distance(pairs))
    assert rt.squared_distance(UNIT).mean() == pytest.approx(39 / 40)
    assert (rt.predict(FLOWERS[:50]) == -1).all()
    assert rt.covariance_ == "empirical"
    assert "40 parts for 2 items" in rt.reason_


def test_rt_does_not_change_with_one_unit_for_all_items_and_takes_more_items_than_parts():
    assert RT().fit(UNIT * 1000).distance(FLOWERS * 1000) == pytest.approx(RT().fit(UNIT).distance(FLOWERS))
    rng = np.random.default_rng(0)
    pattern = rng.normal(size=500)
    unit = pattern * rng.uniform(0.9, 1.1, (12, 1)) + 0.1 * rng.normal(size=(12, 500))
    other = pattern[::-1] + 0.1 * rng.normal(size=(3, 500))
    rt = RT().fit(unit)
    assert (rt.predict(other) == -1).all()
    assert rt.squared_distance(unit).mean() < 2


@pytest.mark.parametrize("items", [2, 4, 200])
def test_rt_contributions_sum_to_the_squared_distance(items):
    rng = np.random.default_rng(items)
    unit = rng.uniform(1, 2, items) + 0.1 * rng.normal(size=(3000, items))
    rt = RT().fit(unit)
    other = np.concatenate([unit[:20], unit[:5] * 2, rt.mean_[None], rng.normal(size=(20, items))])
    shares = rt.contributions(other)
    assert shares.sum(1) == pytest.approx(rt.squared_distance(other), abs=1e-9)
    spoilt = rt.mean_.copy()
    spoilt[1] += 5
    assert rt.contributions(spoilt[None])[0].argmax() == 1 or items == 2


def test_rt_in_float32():
    rt = RT().fit(UNIT.astype(np.float32))
    assert rt.distance(FLOWERS.astype(np.float32)) == pytest.approx(
        RT().fit(UNIT).distance(FLOWERS), rel=1e-4
    )


NAN = X.copy()
NAN[4, 2] = np.nan
ERRORS = [
    (lambda: RT().fit(UNIT[:, :1]), "a pattern needs at least 2 items"),
    (lambda: RT().fit(np.concatenate([UNIT, -UNIT])), "mean of every item is zero"),
    (lambda: RT().fit((UNIT - UNIT.mean(0)) / UNIT.std(0)), "mean of every item is zero"),
    (lambda: RT().fit(np.float32(UNIT) - np.float32(UNIT).mean(0)), "mean of every item is zero"),
    (lambda: RT(threshold=-1).fit(UNIT), "threshold must be a number above 0"),
    (lambda: RT("nothing").fit(UNIT), "covariance 'nothing' is not known"),
    (lambda: RT().fit(NAN), "1 of 18 vectors hold NaN or infinity, first in row 4, item x2"),
    (lambda: RT().fit(X).distance(NAN), "1 of 18 vectors hold NaN or infinity, first in row 4, item x2"),
    (lambda: RT().fit(X).contributions(X[:, :2]), "X has 2 features, but RT is expecting 3"),
    (lambda: RT().fit(UNIT[:1]), "minimum of 2 is required by RT"),
    (lambda: T1(unit_share=1.0).fit(X, Y), "unit_share must be a number between 0 and 1, not 1.0"),
    (lambda: T1().fit(X, Y, unit=np.zeros(18, bool)), "unit: 0 of 18 rows; give at least one"),
    (lambda: T1().fit(X, Y, unit=range(17)), "unit: 17 of 18 rows.*leave at least two"),
    (lambda: T1().fit(X, Y, unit=[3, 18]), "unit: rows 3 to 18 for 18 rows; count from 0"),
    (lambda: T1().fit(X, Y, unit=[True, False]), r"unit: a mask of shape \[2\] for 18 rows"),
    (lambda: T1().fit(X, Y, unit=[0.5]), "unit: need a mask or numbers of rows, not float64"),
    (lambda: T1().fit(X[:4], [1.0, 3.0, 2.0, 2.0], unit=[0, 1]), "have its mean value"),
    (lambda: T1().fit(X, None), "requires y to be passed, but the target y is None"),
    (lambda: Ta().fit(X, np.full(18, 3.0)), "y: all 18 values are 3; there is nothing to estimate"),
    (lambda: Tb().fit(X, Y[:5]), "inconsistent numbers of samples"),
    (lambda: Tb().fit(X[:2], Y[:2]), "minimum of 3 is required by Tb"),
    (lambda: Ta().fit(NAN, Y), "1 of 18 vectors hold NaN or infinity, first in row 4, item x2"),
    (lambda: Ta().fit(X, Y).predict(NAN), "1 of 18 vectors hold NaN or infinity, first in row 4, item x2"),
    (lambda: Ta().fit(X, np.where(Y > 40, np.nan, Y)), "y contains NaN"),
    (lambda: Ta().fit(X, Y).predict(X[:, :2]), "X has 2 features, but Ta is expecting 3"),
]


@pytest.mark.parametrize(("act", "said"), ERRORS)
def test_what_cannot_be_used_gets_one_line(act, said):
    with pytest.raises(InputError, match=said) as caught:
        act()
    assert "\n" not in str(caught.value)
