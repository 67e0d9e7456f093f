"""Thresholds and p-values: finite-sample facts, exactly; references are SciPy, scikit-learn and brute force."""

import itertools
import math
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from mekiki.errors import InputError
from mekiki.judging import conformal as module
from mekiki.judging.conformal import (
    CrossThreshold,
    combine,
    combine_scores,
    conformal_threshold,
    cross_conformal_threshold,
    cross_p_values,
    p_values,
    parts_needed,
    trade_off,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
tying = st.integers(-3, 3).map(float)  # so few values that scores tie
any_scores = st.one_of(st.lists(finite, min_size=1, max_size=40), st.lists(tying, min_size=1, max_size=40))
rates = st.floats(0.001, 0.999)


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---- the rate that one threshold realises


@pytest.mark.parametrize(("number", "rate"), [(99, 0.01), (199, 0.05), (30, 0.1), (250, 0.013)])
def test_the_realised_rate_is_a_draw_from_the_beta_distribution(number, rate):
    rng = np.random.default_rng(0)
    thresholds = [conformal_threshold(rng.exponential(size=number), rate) for _ in range(2000)]
    rank = thresholds[0].rank
    assert rank == math.floor(rate * (number + 1))
    realised = np.exp([-threshold.value for threshold in thresholds])  # what lies above, known exactly
    beta = stats.beta(rank, number + 1 - rank)
    assert stats.kstest(realised, beta.cdf).pvalue > 0.001
    assert thresholds[0].expected == pytest.approx(beta.mean())
    for level in (0.5, 0.95):
        low, high = thresholds[0].realised(level)
        assert (low, high) == pytest.approx(beta.interval(level))
        assert np.mean((realised >= low) & (realised <= high)) == pytest.approx(level, abs=0.04)


def test_the_stated_rate_is_not_exceeded_on_average_also_with_ties():
    rng = np.random.default_rng(1)
    for draw in (rng.normal, lambda size: rng.integers(0, 12, size).astype(float)):
        rejected = [
            conformal_threshold(draw(size=60), 0.05).judge(draw(size=200)).mean() for _ in range(3000)
        ]
        assert np.mean(rejected) <= 0.05 + 3 * np.std(rejected) / math.sqrt(3000)


def test_with_ties_the_upper_end_of_the_realised_rate_still_holds():
    rng = np.random.default_rng(2)
    beyond = 0
    for _ in range(3000):
        threshold = conformal_threshold(rng.integers(0, 20, 50).astype(float), 0.1)
        realised = (19 - threshold.value) / 20
        beyond += realised > threshold.realised(0.9)[1]
    assert beyond / 3000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 3000)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("number", "rate"), [(300, 0.05), (1000, 0.01), (80, 0.2)])
def test_tolerance_limit_is_scipys(number, rate, confidence):
    if number < parts_needed(rate, confidence):
        pytest.skip("too few parts")
    rank = conformal_threshold(np.arange(number), rate, confidence=confidence).rank
    # The r-th largest keeps the rate unless fewer than r of n parts fall into the upper share `rate`.
    fewer = stats.binom.cdf(np.arange(number), number, rate)  # P(fewer than r), r = 1 … n
    kept = [r for r in range(1, number + 1) if 1 - fewer[r - 1] >= confidence]
    assert rank == max(kept)
    assert stats.beta.cdf(rate, rank, number + 1 - rank) >= confidence
    assert stats.beta.cdf(rate, rank + 1, number - rank) < confidence


def test_the_rate_holds_with_the_confidence_asked_for():
    rng = np.random.default_rng(3)
    kept = [
        math.exp(-conformal_threshold(rng.exponential(size=120), 0.05, confidence=0.9).value) <= 0.05
        for _ in range(3000)
    ]
    rank = conformal_threshold(np.arange(120), 0.05, confidence=0.9).rank
    exact = stats.beta.cdf(0.05, rank, 121 - rank)
    assert exact >= 0.9
    assert np.mean(kept) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("confidence", [None, 0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("rate", [0.5, 1 / 3, 0.3, 0.2, 0.1, 0.05, 0.03, 0.01, 0.007])
def test_parts_needed_by_brute_force(rate, confidence):
    if confidence is None:
        wanted = next(n for n in itertools.count(1) if 1 / (n + 1) <= rate)
    else:
        wanted = next(n for n in itertools.count(1) if stats.beta.cdf(rate, 1, n) >= confidence)
    assert parts_needed(rate, confidence) == wanted
    assert conformal_threshold(np.arange(wanted), rate, confidence=confidence).rank >= 1
    if wanted > 1:
        sure = "" if confidence is None else " with"
        with pytest.raises(InputError, match=rf"{wanted - 1} OK parts.*{sure}.*at least {wanted};"):
            conformal_threshold(np.arange(wanted - 1), rate, confidence=confidence)
        if confidence is None:
            with pytest.raises(InputError, match=f"at least {wanted};"):
                cross_conformal_threshold(np.arange(wanted - 1.0), None, rate)


def test_parts_needed_answers_at_once_for_absurd_rates():
    assert parts_needed(1e-9) == 999_999_999
    assert parts_needed(1e-17) == pytest.approx(1e17)
    assert parts_needed(1e-300) == pytest.approx(1e300)
    assert parts_needed(1e-13, 0.9999) == pytest.approx(-math.log(1e-4) * 1e13, rel=1e-6)


# ---- p-values


@settings(deadline=None, max_examples=200)
@given(st.lists(tying, min_size=2, max_size=15))
def test_p_values_are_super_uniform_for_any_exchangeable_scores(pool):
    """Each score of a pool is equally likely to be the new part's: count all of these."""
    p = [p_values([pool[new]], pool[:new] + pool[new + 1 :])[0] for new in range(len(pool))]
    for alpha in {*p, 0.05, 0.1, 0.5}:
        assert np.mean(np.array(p) <= alpha + 1e-12) <= alpha + 1e-9
    if len(set(pool)) == len(pool):  # without ties they are exactly uniform on 1/N … 1
        assert sorted(p) == pytest.approx(np.arange(1, len(pool) + 1) / len(pool))


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_are_super_uniform_by_simulation(ties):
    rng = np.random.default_rng(4)
    scores = rng.gamma(2.0, size=(20_000, 20))
    if ties:
        scores = scores.round()
    p = np.array([p_values(row[:1], row[1:])[0] for row in scores])
    for alpha in np.arange(1, 21) / 20:
        error = 4 * math.sqrt(alpha * (1 - alpha) / len(p))
        share = np.mean(p <= alpha + 1e-12)
        assert share <= alpha + error
        if not ties:
            assert share >= alpha - error


def test_p_values_by_their_definition():
    known = np.array([3.0, 1.0, 2.0, 2.0])
    asked = [-np.inf, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, np.inf]
    wanted = [(1 + (known >= score).sum()) / 5 for score in asked]
    assert p_values(asked, known).tolist() == wanted
    assert p_values([], known).shape == (0,)


@settings(deadline=None, max_examples=300)
@given(any_scores, any_scores, rates)
def test_judging_is_the_same_as_comparing_p_values_with_the_rate(known, scores, rate):
    if len(known) < parts_needed(rate):
        with pytest.raises(InputError, match=f"at least {parts_needed(rate)};"):
            conformal_threshold(known, rate)
        return
    with np.errstate(over="ignore"):
        scores = [*scores, *known, *np.nextafter(known, np.inf), np.inf, -np.inf]
    threshold = conformal_threshold(known, rate)
    assert threshold.value in known
    assert threshold.judge(scores).tolist() == (p_values(scores, known) <= rate).tolist()
    assert threshold.tied == known.count(threshold.value)


@pytest.mark.parametrize("number", [9, 19, 99, 199, 299, 999])
def test_rates_that_are_just_reached_are_reached(number):
    for rank in {1, 2, 3, number // 3, number}:
        rate = rank / (number + 1)
        threshold = conformal_threshold(np.arange(number), rate)
        assert (threshold.rank, threshold.expected) == (rank, rate)


def test_scores_are_never_clamped():
    assert p_values([1e300], [1.0, 2.0])[0] == pytest.approx(1 / 3)
    assert conformal_threshold([-1e300, 1e300, 5.0], 0.3).value == 1e300
    parts = np.array([[10.0], [1e3], [1e10], [1e100], [1e250]])
    joined = combine_scores(parts, np.arange(100.0)[:, None])
    assert (np.diff(joined) > 0).all()
    assert joined[-1] > 1e240
    assert (np.diff(combine([[1e-9], [1e-99], [1e-300]], "max")[::-1]) < 0).all()


# ---- the guarantee in words


def test_the_guarantee_says_what_holds():
    assert (
        "Averaged over calibrations with 199 OK parts, at most 5 %"
        in conformal_threshold(range(199), 0.05).guarantee
    )
    said = conformal_threshold(range(400), 0.01, confidence=0.95).guarantee
    assert said.startswith("With 95 % confidence this threshold rejects at most 1 %")
    assert "tie" not in said
    assert "(7 of the 9 scores tie with the threshold" in conformal_threshold([1, 2] + [3] * 7, 0.2).guarantee
    assert "99.999 %" in conformal_threshold(range(30), 0.5, confidence=0.99999).guarantee  # and not 100


@pytest.mark.parametrize(
    "threshold",
    [
        conformal_threshold(range(199), 0.05),
        conformal_threshold(range(400), 0.01, confidence=0.95),
        conformal_threshold([1, 2] + [3] * 7, 0.2),
        cross_conformal_threshold(range(20), false_reject=0.1),
    ],
)
def test_the_guarantee_says_the_same_in_japanese(threshold):
    figures = re.compile(r"[\d.]+ %|[\d.]+")
    said = threshold.promised("ja")
    assert sorted(set(figures.findall(threshold.guarantee)) - {"."}) == sorted(
        set(figures.findall(said.replace("部品 1 個", "部品"))) - {"."}
    )
    assert said.startswith("今後の良品") and said.endswith("です。")
    assert said.isprintable()


# ---- parts that also taught the scorer


def test_cross_p_values_by_hand():
    folds, known = [0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0]
    # Model 0 scores the part 1.5: of 1 and 2 one is at least as large. Model 1 scores it 4: of 3 and 4 one.
    assert cross_p_values([[1.5, 4.0]], known, folds).tolist() == [3 / 5]
    # In the other order of models, 4 has none above it among 1 and 2, and 1.5 has both 3 and 4.
    assert cross_p_values([[4.0, 1.5]], known, folds).tolist() == [3 / 5]
    assert cross_p_values([[2.0, 3.0], [9.0, 9.0], [-np.inf, np.inf]], known, folds).tolist() == [
        0.8,
        0.2,
        0.6,
    ]


def test_jackknife_plus_by_hand():
    parts = np.array([0.0, 1.0, 2.0, 9.0])
    means = np.array([12, 11, 10, 3]) / 3  # of the other three
    scores = abs(parts - means)  # 4, 8/3, 4/3, 8
    new = 7.0
    larger = [abs(new - mean) for mean in means]  # 3, 10/3, 11/3, 6
    wanted = (1 + sum(own >= seen for own, seen in zip([4, 8 / 3, 4 / 3, 8], larger, strict=True))) / 5
    assert wanted == 3 / 5
    verdict = cross_conformal_threshold(scores, false_reject=0.6)
    assert verdict.p_values([larger]).tolist() == [wanted]
    assert verdict.judge([larger, [0, 0, 0, 0]]).tolist() == [True, False]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_cross_p_values_are_a_count(data):
    models = data.draw(st.integers(2, 5))
    folds = list(range(models)) + data.draw(st.lists(st.integers(0, models - 1), max_size=20))
    known = data.draw(st.lists(tying, min_size=len(folds), max_size=len(folds)))
    part = data.draw(st.lists(tying, min_size=models, max_size=models))
    wanted = (1 + sum(known[i] >= part[folds[i]] for i in range(len(folds)))) / (len(folds) + 1)
    assert cross_p_values([part], known, folds).tolist() == [wanted]


def test_one_scorer_for_all_folds_gives_plain_p_values():
    rng = np.random.default_rng(5)
    known, scores, folds = rng.normal(size=50), rng.normal(size=20), np.arange(50) % 5
    assert (cross_p_values(np.repeat(scores[:, None], 5, 1), known, folds) == p_values(scores, known)).all()


def test_the_worst_case_follows_its_formulas():
    def worst(sizes, rate):
        folds = np.repeat(np.arange(len(sizes)), sizes)
        return CrossThreshold(np.zeros(len(folds)), folds, rate).worst_case

    assert worst([1] * 50, 0.05) == pytest.approx(0.1)  # leave-one-out: 2α
    for models, size, rate in [(10, 10, 0.05), (5, 100, 0.01), (2, 30, 0.1), (20, 5, 0.02), (4, 1000, 0.001)]:
        number = models * size
        barber = 2 * rate + min(2 * (1 - 1 / models) / (size + 1), (1 - models / number) / (models + 1))
        assert worst([size] * models, rate) <= barber + 1e-12  # as published, or sharper
        assert worst([size] * models, rate) >= barber - 2 * rate * (models - 1) / (number + models) - 1e-12
    assert worst([3, 4, 5], 0.1) == pytest.approx(2 * (13 * 0.1 + 2) / 15)
    assert worst([1, 2], 0.9) == 1.0


def test_the_worst_case_is_not_exceeded_by_a_scorer_that_overfits():
    """One nearest neighbour in few dimensions: the scorer changes much with each part left out."""
    rng = np.random.default_rng(6)
    rejected = []
    for _ in range(400):
        parts, new = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
        between = np.linalg.norm(parts[:, None] - parts[None], axis=2)
        np.fill_diagonal(between, np.inf)
        far = np.linalg.norm(new[:, None] - parts[None], axis=2)
        without = np.stack([np.delete(far, i, axis=1).min(axis=1) for i in range(20)], axis=1)
        verdict = cross_conformal_threshold(between.min(axis=1), false_reject=0.1)
        rejected.append(verdict.judge(without).mean())
    assert np.mean(rejected) <= verdict.worst_case
    assert np.mean(rejected) == pytest.approx(0.1, abs=0.03)  # and, as said, about the rate asked for


# ---- several detectors


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
    assert combine(p) == pytest.approx(stats.chi2.isf(stats.combine_pvalues(p, axis=1).pvalue, 4) / 2)


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


# ---- NG parts as well


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


# ---- refusals

NAN = [1.0, math.nan, 2.0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: conformal_threshold(range(50), 0.01),
            "50 OK parts are too few for a false-reject rate of 1 %: .*at least 99",
        ),
        (
            lambda: conformal_threshold(range(298), 0.01, confidence=0.95),
            "with 95 % confidence: it takes at least 299",
        ),
        (lambda: conformal_threshold(NAN, 0.5), "1 of 3 are NaN, the first at 1"),
        (lambda: conformal_threshold([1.0, np.inf], 0.5), "1 are infinite"),
        (lambda: conformal_threshold([], 0.5), "there are none"),
        (lambda: conformal_threshold([[1.0]], 0.5), r"must be \[N\]"),
        (lambda: conformal_threshold(["a"], 0.5), "must be numbers"),
        (lambda: conformal_threshold([1.0], 0), "false_reject 0 is not between 0 and 1"),
        (lambda: conformal_threshold([1.0], math.nan), "false_reject nan"),
        (lambda: conformal_threshold([1.0], "0.5"), "false_reject must be a number"),
        (lambda: conformal_threshold([1.0], True), "false_reject must be a number"),
        (lambda: conformal_threshold([1.0], 0.5, confidence=1.0), "confidence 1.0"),
        (lambda: conformal_threshold([1.0], 0.5).judge([math.nan]), "1 of 1 are NaN"),
        (lambda: conformal_threshold([1.0], 0.5).realised(1), "level 1"),
        (lambda: p_values([math.nan], [1.0]), "scores: 1 of 1 are NaN"),
        (lambda: p_values([1.0], [-np.inf]), "1 are infinite"),
        (lambda: parts_needed(1.0), "false_reject 1.0"),
        (lambda: cross_p_values([[1.0]], [1.0, 2.0]), "for 2 models"),
        (lambda: cross_p_values([1.0], [1.0, 2.0]), r"must be \[N, columns\]"),
        (lambda: cross_conformal_threshold([1.0, 2.0], [0], 0.4), r"folds must be \[2\] whole numbers"),
        (lambda: cross_conformal_threshold([1.0, 2.0], [0.0, 1.0], 0.4), "whole numbers"),
        (lambda: cross_conformal_threshold([1.0, 2.0], [[0], [0, 1]], 0.4), "whole numbers"),
        (lambda: cross_conformal_threshold([1.0, 2.0], [0, 2], 0.4), "none of them empty"),
        (lambda: cross_conformal_threshold([1.0, 2.0], [0, 0], 0.4), "at least two"),
        (lambda: combine([[0.0, 0.5]]), "above 0 and at most 1; 1 are not, for example 0"),
        (lambda: combine([[0.5]], "mean"), "how 'mean' is not known"),
        (lambda: combine_scores([[1.0]], [[1.0, 2.0]]), "one column a detector"),
        (lambda: combine_scores([[np.inf]], [[1.0]]), "infinite"),
        (lambda: combine_scores([[1.0]], [[1.0]], "summ"), "did you mean sum"),
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


def test_the_rank_found_by_halving_is_the_largest_that_keeps_the_rate():
    for number, rate, confidence in [(57, 0.2, 0.8), (57, 0.2, None), (300, 0.1, 0.99)]:
        kept = [r for r in range(1, number + 1) if module._keeps(r, number, rate, confidence)]
        assert kept == list(range(1, len(kept) + 1))
        assert conformal_threshold(np.arange(number), rate, confidence=confidence).rank == len(kept)
