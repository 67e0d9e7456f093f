"""Both errors at every threshold and their costs: references are SciPy, scikit-learn and brute force."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from mekiki.errors import InputError
from mekiki.judging.trade_off import TradeOff

trade_off = TradeOff.from_scores

finite = st.floats(allow_nan=False, allow_infinity=False)
tying = st.integers(-3, 3).map(float)  # so few values that scores tie
any_scores = st.one_of(st.lists(finite, min_size=1, max_size=40), st.lists(tying, min_size=1, max_size=40))
NAN = [1.0, math.nan, 2.0]


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@settings(deadline=None, max_examples=100)
@given(any_scores, any_scores)
def test_the_trade_off_is_scikit_learns_roc_curve(ok, ng):
    curve = trade_off(ok, ng)
    false, true, thresholds = roc_curve([0] * len(ok) + [1] * len(ng), ok + ng, drop_intermediate=False)
    # Theirs rejects "at least", from +inf downwards; ours "more than", from −inf upwards.
    assert curve.false_rejects == pytest.approx(false[::-1])
    assert 1 - curve.misses == pytest.approx(true[::-1])
    assert curve.thresholds[1:].tolist() == thresholds[:0:-1].tolist()
    assert curve.auroc() == pytest.approx(roc_auc_score([0] * len(ok) + [1] * len(ng), ok + ng))


@settings(deadline=None, max_examples=100)
@given(any_scores, any_scores, st.one_of(st.floats(allow_nan=False), tying))
def test_errors_at_a_threshold_are_counted(ok, ng, threshold):
    errors = trade_off(ok, ng).at(threshold, level=0.9)
    rejected, missed = sum(s > threshold for s in ok), sum(s <= threshold for s in ng)
    assert (errors.false_reject, errors.miss) == (rejected / len(ok), missed / len(ng))
    for count, number, found in [
        (rejected, len(ok), errors.false_reject_interval),
        (missed, len(ng), errors.miss_interval),
    ]:
        wanted = stats.binomtest(count, number).proportion_ci(0.9, method="exact")
        assert found == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(tying, min_size=1, max_size=12),
    st.lists(tying, min_size=1, max_size=12),
    st.integers(0, 50),
    st.integers(1, 50),
    st.one_of(st.none(), st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0])),
)
def test_the_cheapest_threshold_by_brute_force(ok, ng, miss_cost, false_reject_cost, share):
    best = trade_off(ok, ng).cheapest(miss_cost, false_reject_cost, ng_share=share)
    share = len(ng) / (len(ok) + len(ng)) if share is None else share

    def cost(threshold):
        missed, rejected = np.mean(np.array(ng) <= threshold), np.mean(np.array(ok) > threshold)
        return share * miss_cost * missed + (1 - share) * false_reject_cost * rejected

    everywhere = [-np.inf, *np.arange(-4, 5), *(np.arange(-4, 5) + 0.5)]
    least = min(map(cost, everywhere))
    assert best.cost == pytest.approx(least)
    assert cost(best.threshold) == pytest.approx(least)
    low, high = best.cost_interval
    assert low <= best.cost <= high
    assert best.ng_share == share
    cheap = [t for t in everywhere if cost(t) <= least + 1e-12]
    missed_least = min(np.mean(np.array(ng) <= t) for t in cheap)
    assert best.miss == missed_least  # of several equally cheap ones, the one that misses least


def test_the_cost_interval_covers_the_true_cost_of_the_threshold_chosen():
    rng = np.random.default_rng(10)
    covered = 0
    for _ in range(300):
        best = trade_off(rng.normal(size=150), rng.normal(2, size=60)).cheapest(
            10, 1, ng_share=0.1, level=0.8
        )
        true = 0.1 * 10 * stats.norm.cdf(best.threshold - 2) + 0.9 * stats.norm.sf(best.threshold)
        covered += best.cost_interval[0] <= true <= best.cost_interval[1]
    assert covered / 300 >= 0.8


def test_the_cheapest_threshold_stands_between_neighbours(no_warnings):
    assert trade_off([1.0, 2.0], [4.0]).cheapest(1, 1).threshold == 3.0
    low, high = 1.0, float(np.nextafter(1.0, 2))
    assert trade_off([low], [high]).cheapest(1, 1).threshold == low  # neighbouring numbers have no middle
    assert trade_off([-1.7e308], [1.7e308]).cheapest(1, 1).threshold == 0.0
    assert trade_off([5.0], [1.0]).cheapest(100, 1).threshold == -np.inf
    assert trade_off([5.0], [1.0]).cheapest(0, 1).threshold == 5.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: trade_off([], [1.0]), "OK scores: there are none"),
        (lambda: trade_off([1.0], NAN), "NG scores: 1 of 3 are NaN"),
        (lambda: trade_off([1.0], [2.0]).at(math.nan), "the threshold is NaN"),
        (lambda: trade_off([1.0], [2.0]).cheapest(0, 0), "not both 0"),
        (lambda: trade_off([1.0], [2.0]).cheapest(-1, 1), "0 or more"),
        (lambda: trade_off([1.0], [2.0]).cheapest("a", 1), "miss_cost must be a number"),
        (lambda: trade_off([1.0], [2.0]).cheapest(1, 1, ng_share=1.5), "ng_share 1.5"),
        (lambda: trade_off([1.0], [2.0]).cheapest(1, 1, level=0), "level 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(call, said):
    with pytest.raises(InputError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
