"""Thresholds and p-values: finite-sample facts, exactly; references are SciPy, scikit-learn and brute force."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mekiki.errors import InputError
from mekiki.judging import conformal as module
from mekiki.judging.conformal import (
    TOLERANCE,
    CrossThreshold,
    conformal_threshold,
    cross_conformal_threshold,
    p_values,
    parts_needed,
    upper_end,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
tying = st.integers(-3, 3).map(float)  # so few values that scores tie
any_scores = st.one_of(st.lists(finite, min_size=1, max_size=40), st.lists(tying, min_size=1, max_size=40))
rates = st.floats(0.001, 0.999)


def cross_p_values(scores, calibration, folds=None):
    folds = np.arange(len(calibration)) if folds is None else np.asarray(folds)
    return CrossThreshold(np.asarray(calibration), folds, 0.5).p_values(scores)


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
    assert thresholds[0].largest_p == pytest.approx(beta.mean())
    for level in (0.5, 0.95):
        low, high = thresholds[0].rate_interval(level)
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
        beyond += realised > threshold.rate_interval(0.9)[1]
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


@pytest.mark.parametrize("score", [2.0, -3.0, 1e-20, 1e300])
def test_a_score_that_exceeds_another_by_the_tolerance_counts_as_equal(score):
    known = np.full(19, score)
    within, beyond = score + 0.5 * TOLERANCE * abs(score), score + 2 * TOLERANCE * abs(score)
    assert score < within < upper_end(score) < beyond
    threshold = conformal_threshold(known, 0.1)
    assert threshold.judge([score, within, beyond]).tolist() == [False, False, True]
    assert p_values([score, within, beyond], known).tolist() == [1, 1, 1 / 20]
    cross = cross_conformal_threshold(known, None, 0.1)
    assert cross.judge([[within] * 19, [beyond] * 19]).tolist() == [False, True]


@pytest.mark.parametrize("number", [9, 19, 99, 199, 299, 999])
def test_rates_that_are_just_reached_are_reached(number):
    for rank in {1, 2, 3, number // 3, number}:
        rate = rank / (number + 1)
        threshold = conformal_threshold(np.arange(number), rate)
        assert (threshold.rank, threshold.largest_p) == (rank, rate)


def test_scores_are_never_clamped():
    assert p_values([1e300], [1.0, 2.0])[0] == pytest.approx(1 / 3)
    assert conformal_threshold([-1e300, 1e300, 5.0], 0.3).value == 1e300


# ---- the guarantee in words


def test_the_guarantee_says_what_holds():
    assert (
        "Averaged over calibrations with 199 OK parts, at most 5 %"
        in conformal_threshold(range(199), 0.05).promise()
    )
    said = conformal_threshold(range(400), 0.01, confidence=0.95).promise()
    assert said.startswith("With 95 % confidence this threshold rejects at most 1 %")
    assert "tie" not in said
    assert "(7 of the 9 scores tie with the threshold" in conformal_threshold([1, 2] + [3] * 7, 0.2).promise()
    assert "99.999 %" in conformal_threshold(range(30), 0.5, confidence=0.99999).promise()  # and not 100


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
    said = threshold.promise("ja")
    assert sorted(set(figures.findall(threshold.promise())) - {"."}) == sorted(
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
        (lambda: conformal_threshold([1.0], 0.5).rate_interval(1), "level 1"),
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
