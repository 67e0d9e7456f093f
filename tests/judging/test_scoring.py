"""−log p of several feature groups on one scale and combined; the judge that uses it is in test_feature_judge.py."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mekiki.judging.conformal import conformal_threshold, p_values
from mekiki.judging.neg_log_p import NegLogP
from mekiki.judging.scoring import join

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def combine_scores(scores, known, how="sum"):
    """Scores `[N, groups]` among reference scores `[n, groups]`, joined to `[N]`."""
    scores, known = torch.tensor(np.asarray(scores, np.float64)), np.asarray(known, np.float64)
    columns = [NegLogP(known[:, column])(scores[:, column]) for column in range(known.shape[1])]
    return join(torch.stack(columns, dim=1), how, torch.ones(len(columns), dtype=torch.float64)).numpy()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=30), st.data())
def test_combined_scores_never_fall_when_a_score_rises(known, data):
    low = np.array(data.draw(st.lists(finite, min_size=2, max_size=2)))
    high = np.maximum(low, data.draw(st.lists(finite, min_size=2, max_size=2)))
    for how in ("sum", "max"):
        joined = combine_scores([low, high], known, how)
        assert not np.isnan(joined).any()
        assert joined[0] <= joined[1]
        assert (joined >= 0).all()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.lists(st.integers(-40, 40), min_size=3, max_size=3))
def test_combined_scores_do_not_change_with_the_units(seed, number, powers):
    rng = np.random.default_rng(seed)
    known, asked = rng.normal(size=(number, 3)), 3 * rng.normal(size=(10, 3))
    if number == 1:
        known = np.concatenate([known, known + 1])  # one score alone has no unit
    units = 2.0 ** np.array(powers)
    for how in ("sum", "max"):
        plain = combine_scores(asked, known, how)
        assert combine_scores(asked * units, known * units, how).tolist() == plain.tolist()
        assert combine_scores(asked * 3.3 + 7, known * 3.3 + 7, how) == pytest.approx(plain, rel=1e-6)


def test_combined_scores_are_minus_log_p_among_ordinary_parts():
    rng = np.random.default_rng(7)
    known = rng.exponential(size=(400, 2))
    ordinary = np.quantile(known, [[0.1, 0.5], [0.8, 0.3]], axis=0)[:, 0]
    p = np.stack([p_values(ordinary[:, j], known[:, j]) for j in range(2)], axis=1)
    assert combine_scores(ordinary, known) == pytest.approx(-np.log(p).sum(axis=1))
    assert combine_scores(ordinary, known, "max") == pytest.approx(-np.log(p.min(axis=1)))


def test_the_line_beyond_the_ordinary_is_the_exponential_tail():
    known = np.sort(np.random.default_rng(8).exponential(2.5, size=20_000))
    far = np.array([12.0, 25.0, 60.0])
    assert combine_scores(far[:, None], known[:, None]) == pytest.approx(far / 2.5, rel=0.05)


def test_combined_scores_calibrated_again_keep_the_rate_whatever_the_dependence():
    rng = np.random.default_rng(9)

    def detectors(n):
        base = rng.normal(size=n)
        return np.stack([base, base**3 + 0.1 * rng.normal(size=n), -base], axis=1)

    known = detectors(60)
    for how in ("sum", "max"):
        rejected = []
        for _ in range(300):
            threshold = conformal_threshold(combine_scores(detectors(99), known, how), 0.05)
            rejected.append(threshold.judge(combine_scores(detectors(300), known, how)).mean())
        assert np.mean(rejected) <= 0.05 + 3 * np.std(rejected) / math.sqrt(300)


def test_scores_that_span_all_numbers_are_combined(no_warnings):
    joined = combine_scores([[-1e308], [0.0], [1.5e308]], [[-1e308], [1e308]])
    assert np.isfinite(joined).all()
    assert (np.diff(joined) > 0).all()
    assert combine_scores([[1e300]], [[0.0], [1e-300]])[0] == np.inf  # farther than a number can say
    assert combine_scores([[5.0], [4.0], [6.0]], [[5.0], [5.0]]).tolist()[:2] == [0.0, 0.0]
    assert combine_scores([[1.6e308], [1.7e308]], [[1.6e308]] * 5)[1] > 1e300


def test_scores_are_never_clamped():
    parts = np.array([[10.0], [1e3], [1e10], [1e100], [1e250]])
    joined = combine_scores(parts, np.arange(100.0)[:, None])
    assert (np.diff(joined) > 0).all()
    assert joined[-1] > 1e240
