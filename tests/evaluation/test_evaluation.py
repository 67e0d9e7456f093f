import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu, ortho_group
from sklearn.metrics import roc_auc_score, roc_curve, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from mekiki.errors import InputError
from mekiki.evaluation.confused_pairs import confused_pairs
from mekiki.evaluation.summary import Evaluation, evaluate
from mekiki.evaluation.verification import PairHistogram, pair_histogram

BIN = 2.0**-12  # relative width of a bin of the pair histogram


def blobs(counts, dimensions=2, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(len(counts), dimensions)) * 3
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return (centres[labels] + spread * rng.normal(size=(len(labels), dimensions))).astype(np.float32), labels


def all_pairs(vectors, labels):
    """Float64 distances of all pairs i < j and whether they are of one class."""
    i, j = np.triu_indices(len(vectors), 1)
    gaps = np.asarray(vectors, np.float64)
    return np.sqrt(((gaps[i] - gaps[j]) ** 2).sum(1)), labels[i] == labels[j]


def eer_of_curve(distances, same):
    """Where the ROC of scikit-learn, linear between its points, crosses FAR = FRR."""
    accepted, kept, _ = roc_curve(same, -distances, drop_intermediate=False)
    lead = accepted - (1 - kept)
    after = np.argmax(lead >= 0)
    part = lead[after - 1] / (lead[after - 1] - lead[after])
    return accepted[after - 1] + part * (accepted[after] - accepted[after - 1])


SHAPES = [([60, 60, 60], 2), ([100, 3, 40], 2), ([30] * 10, 3), ([150, 2], 5), ([40, 50, 60], 32)]


@pytest.mark.parametrize(("counts", "dimensions"), SHAPES)
def test_pair_figures_agree_with_scikit_learn(counts, dimensions):
    vectors, labels = blobs(counts, dimensions, spread=2.0)
    pairs = pair_histogram(vectors, labels)
    distances, same = all_pairs(vectors, labels)
    assert len(pairs) == len(distances)
    assert pairs.same.sum() == same.sum()
    assert pairs.auc() == pytest.approx(roc_auc_score(same, -distances), abs=2e-4)
    rate, threshold = pairs.eer()
    assert rate == pytest.approx(eer_of_curve(distances, same), abs=0.5 / min(same.sum(), 100))
    tolerance = 0.02 + 1 / same.sum()
    assert (distances[~same] <= threshold).mean() == pytest.approx(rate, abs=tolerance)
    assert (distances[same] > threshold).mean() == pytest.approx(rate, abs=tolerance)
    accepted, kept, _ = roc_curve(same, -distances, drop_intermediate=False)
    best = ((kept + 1 - accepted) / 2).max()
    threshold = pairs.best_threshold()
    assert pairs.balanced_accuracy(threshold) == pytest.approx(best, abs=2e-3)
    by_hand = ((distances[same] <= threshold).mean() + (distances[~same] > threshold).mean()) / 2
    assert pairs.balanced_accuracy(threshold) == pytest.approx(by_hand, abs=1e-12)


def test_eer_is_that_of_the_roc_when_bins_are_single_distances():
    distances = np.arange(1, 41) / 8.0
    same = np.random.default_rng(3).random(40) < np.linspace(0.9, 0.1, 40)
    vectors, labels = pairs_on_a_line(distances, same)
    pairs = pair_histogram(vectors, labels)
    near = pairs.bins < np.float32(1000).view(np.int32) >> 11  # points of two different pairs lie far beyond
    alone = PairHistogram(pairs.bins[near], pairs.same[near], pairs.different[near], False)
    assert len(alone) == 40
    assert alone.auc() == pytest.approx(roc_auc_score(same, -distances))
    assert alone.eer()[0] == pytest.approx(eer_of_curve(distances, same))


def pairs_on_a_line(distances, same):
    """Two points a pair and 8,192 to the next pair, so that the near distances are exactly those asked for."""
    left = np.arange(1, len(distances) + 1) * 8192.0
    vectors = np.stack([left, left + distances], 1).reshape(-1, 1)
    labels = np.stack(
        [np.arange(len(same)), np.where(same, np.arange(len(same)), -1 - np.arange(len(same)))], 1
    )
    return vectors.astype(np.float32), labels.ravel()


def test_pair_figures_counted_by_hand():
    # same: 1 (0–1), 2 (3–5); different: 3, 5, 2, 4
    pairs = pair_histogram([[0.0], [1.0], [3.0], [5.0]], ["a", "a", "b", "b"])
    assert pairs.auc() == (4 + 3.5) / 8
    rate, threshold = pairs.eer()
    assert rate == pytest.approx(1 / 6)  # on the line from (FAR 0, FRR ½) to (FAR ¼, FRR 0)
    assert 2 <= threshold < 2 * (1 + BIN)
    assert pairs.best_threshold() == pytest.approx(2.5, rel=BIN)
    assert pairs.balanced_accuracy(2.5) == (1 + 0.75) / 2
    assert pairs.balanced_accuracy(1.5) == (0.5 + 1) / 2
    assert pairs.balanced_accuracy(0.5) == 0.5
    assert pairs.quantiles(True, [0, 0.5, 0.51, 1]) == pytest.approx([1, 1, 2, 2], rel=BIN)
    assert pairs.quantiles(False, 0.25) == pytest.approx(2, rel=BIN)
    edges, same, different = pairs.curves(5)
    assert edges == pytest.approx([0, 1, 2, 3, 4, 5], rel=BIN)
    assert same @ np.diff(edges) == pytest.approx(1)
    assert different @ np.diff(edges) == pytest.approx(1)


def test_perfectly_apart_puts_both_thresholds_in_the_gap():
    pairs = pair_histogram([[0.0], [1.0], [10.0], [11.0]], [0, 0, 1, 1])
    assert (pairs.auc(), pairs.eer()[0]) == (1, 0)
    assert pairs.eer()[1] == pytest.approx(5, rel=1e-3)
    assert pairs.best_threshold() == pytest.approx(5, rel=1e-3)


def test_the_threshold_comes_from_the_reference_and_is_applied_to_the_test_pairs():
    reference = ([[0.0], [1.0], [7.0], [8.0]], [0, 0, 1, 1])  # best threshold between 1 and 6
    vectors, labels = [[0.0], [3.0], [4.5], [12.0]], [0, 0, 1, 1]  # same 3, 7.5; different 4.5, 12, 1.5, 9
    figures = evaluate(vectors, labels, reference, k=1)
    assert figures.pair_threshold_from == "reference"
    assert figures.pair_threshold == pytest.approx(3.5, rel=1e-3)
    assert figures.pair_accuracy == (0.5 + 0.75) / 2
    alone = evaluate(vectors, labels, k=1)
    assert alone.pair_threshold_from == "the same pairs"
    assert alone.pair_accuracy == max(0.625, (1 + 0.5) / 2)


def test_a_reference_of_one_vector_a_class_leaves_the_threshold_to_the_measured_pairs():
    vectors, labels = blobs([20, 20])
    figures = evaluate(vectors, labels, ([[0.0, 0.0], [5.0, 5.0]], [0, 1]), k=1)
    assert figures.pair_threshold_from == "the same pairs"
    assert any("no two vectors of one class" in note for note in figures.notes)
    assert any("recall at 5, 10 left out" in note for note in figures.notes)
    assert list(figures.recall) == [1]


@pytest.mark.parametrize("dimensions", [2, 20])
@pytest.mark.parametrize("k", [1, 4, 5, 11])
def test_knn_is_that_of_scikit_learn(k, dimensions):
    vectors, labels = blobs([50, 80, 20, 60], dimensions, spread=3.0)
    reference, reference_labels = blobs([70, 70, 30, 60], dimensions, spread=3.0, seed=1)
    judge = KNeighborsClassifier(k).fit(reference, reference_labels)
    figures = evaluate(vectors, labels, (reference, reference_labels), k=k)
    assert figures.knn_accuracy == judge.score(vectors, labels)
    alone = evaluate(vectors, labels, k=k)
    right = [
        KNeighborsClassifier(k)
        .fit(np.delete(vectors, i, 0), np.delete(labels, i))
        .predict(vectors[i : i + 1])[0]
        == labels[i]
        for i in range(len(vectors))
    ]
    assert alone.knn_accuracy == np.mean(right)


def test_recall_is_that_of_brute_force():
    vectors, labels = blobs([30, 30, 5], spread=4.0)
    figures = evaluate(vectors, labels, recall_at=(1, 3, 10))
    distances = cdist(vectors.astype(float), vectors.astype(float))
    np.fill_diagonal(distances, np.inf)
    nearest = labels[distances.argsort(1)] == labels[:, None]
    assert figures.recall == {at: nearest[:, :at].any(1).mean() for at in (1, 3, 10)}


def test_a_twin_counts_as_a_neighbour_but_the_query_itself_does_not():
    vectors = np.repeat([[0.0], [1.0], [5.0]], 20, axis=0)
    figures = evaluate(vectors, np.repeat([0, 1, 2], 20), k=3)
    assert (figures.knn_accuracy, figures.recall[1]) == (1, 1)
    assert evaluate([[0.0], [0.0], [1.0], [1.0]], [0, 1, 0, 1], k=1, recall_at=(1,)).recall[1] == 0


def test_votes_that_tie_go_to_the_smallest_label():
    reference = ([[1.0], [-1.1], [9.0]], ["b", "a", "c"])
    figures = evaluate([[0.0], [0.0], [0.1], [30.0]], ["a", "b", "b", "b"], reference, k=2)
    assert figures.knn_accuracy == 0.5  # the votes: "a" three times (tied with "b"), then "b" (tied with "c")


def test_silhouette_is_that_of_scikit_learn():
    vectors, labels = blobs([40, 30, 20])
    assert evaluate(vectors, labels).silhouette == pytest.approx(silhouette_score(vectors, labels), abs=1e-5)


def test_overlap_is_a_mann_whitney_statistic():
    vectors, labels = blobs([30, 12, 2], spread=2.5)
    figures = evaluate(vectors, labels)
    for i in range(3):
        members = vectors[labels == i].astype(float)
        within = cdist(members, members)[np.triu_indices(len(members), 1)]
        for j in set(range(3)) - {i}:
            between = cdist(members, vectors[labels == j].astype(float)).ravel()
            expected = mannwhitneyu(within, between).statistic / (len(within) * len(between))
            assert figures.overlap[i, j] == pytest.approx(expected, abs=1e-9)
    assert np.diag(figures.overlap).tolist() == [0.5] * 3
    assert figures.overlap_max == figures.overlap[~np.eye(3, dtype=bool)].max()
    assert figures.overlap_classes == (0, 1, 2)


def test_sampled_overlap_is_close_to_the_whole():
    vectors, labels = blobs([700, 600], spread=3.0)
    sampled = evaluate(vectors, labels).overlap[0, 1]
    members, others = vectors[labels == 0], vectors[labels == 1]
    within, between = cdist(members, members)[np.triu_indices(700, 1)], cdist(members, others).ravel()
    whole = mannwhitneyu(within, between).statistic / (len(within) * len(between))
    assert sampled == pytest.approx(whole, abs=0.01)


def test_a_class_of_one_vector_is_noted_and_has_no_row():
    vectors, labels = blobs([10, 10, 1])
    figures = evaluate(vectors, labels)
    assert np.isnan(figures.overlap[2]).all()
    assert np.isfinite(figures.overlap[:2]).all()
    assert np.isfinite(figures.overlap_max)
    assert "class 2 has one vector: its row of the overlap is not defined" in figures.notes
    assert json.loads(json.dumps(figures.to_dict(), allow_nan=False))["overlap"][2][0] is None


@pytest.mark.parametrize("dimensions", [2, 32])
@pytest.mark.parametrize("value", [0.0, 3.3, -1e-30, 1e30])
def test_collapse_is_measured_as_telling_nothing(value, dimensions):
    vectors = np.full((300, dimensions), value, np.float32)
    labels = np.arange(300) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = evaluate(vectors, labels, (vectors[:90], labels[:90]))
        pair_histogram(vectors, labels).curves()
        confused_pairs(vectors, labels)
    assert (figures.pair_auc, figures.pair_eer, figures.pair_accuracy) == (0.5, 0.5, 0.5)
    assert (figures.overlap == 0.5).all()
    assert figures.silhouette == 0


@pytest.mark.parametrize("dimensions", [2, 32])
def test_each_class_in_one_point_is_perfect(dimensions):
    vectors = np.random.default_rng(0).normal(size=(4, dimensions))[np.arange(80) % 4]
    figures = evaluate(vectors, np.arange(80) % 4)
    assert (figures.pair_auc, figures.pair_eer, figures.pair_accuracy) == (1, 0, 1)
    assert (figures.knn_accuracy, figures.overlap_max, figures.silhouette) == (1, 0, 1)


def test_heavy_imbalance_does_not_tip_the_balanced_accuracy():
    vectors, labels = blobs([990, 2, 3], spread=0.1)
    figures = evaluate(vectors, labels)
    assert (figures.pair_accuracy, figures.pair_auc) == (1, 1)
    shuffled = evaluate(vectors, np.random.default_rng(0).permutation(labels))
    assert shuffled.pair_auc == pytest.approx(0.5, abs=0.1)


def numbers(figures: Evaluation):
    kept = figures.to_dict()
    return np.array(
        [kept[name] for name in kept if isinstance(kept[name], float) and "threshold" not in name]
        + np.ravel(figures.overlap).tolist()
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 6, 20]), st.floats(-50, 50), st.floats(0.01, 100))
def test_moving_turning_scaling_and_reordering_change_no_figure(seed, dimensions, shift, scale):
    rng = np.random.default_rng(seed)
    vectors, labels = blobs([25, 12, 18], dimensions, spread=2.0, seed=seed)
    turn = ortho_group.rvs(dimensions, random_state=rng) if dimensions > 1 else np.array([[-1.0]])
    before = numbers(evaluate(vectors, labels))
    moved = numbers(evaluate(scale * (vectors @ turn + shift), labels))
    order = rng.permutation(len(labels))
    reordered = numbers(evaluate(vectors[order], labels[order]))
    # One pair that changes its bin moves the best accuracy of 900 same-class pairs by about a thousandth.
    np.testing.assert_allclose(moved, before, atol=5e-3)
    np.testing.assert_allclose(reordered, before, atol=1e-6)


def test_strings_and_any_integers_are_labels():
    vectors, labels = blobs([20, 20, 20], spread=2.0)
    plain = evaluate(vectors, labels)
    for names in (
        np.array(["fray", "ng", "ok"]),
        np.array(["fray", "ng", "ok"], object),
        np.array([-7, 5, 2**40]),
    ):
        named = evaluate(vectors, names[labels].tolist(), (vectors, names[labels]))
        assert named.overlap_classes == tuple(names.tolist())
        assert named.pair_auc == plain.pair_auc
        np.testing.assert_array_equal(named.overlap, plain.overlap)


def test_a_label_absent_from_the_reference_is_noted():
    vectors, labels = blobs([10, 10, 10])
    kept = labels < 2
    figures = evaluate(vectors, labels, (vectors[kept], labels[kept]), k=1)
    assert (
        "label 2 is absent from the reference: 10 vectors count as wrong in kNN and recall" in figures.notes
    )
    assert figures.knn_accuracy == 20 / 30


def test_the_dictionary_is_json_with_named_figures():
    vectors, labels = blobs([20, 20])
    figures = evaluate(vectors, labels, k=3)
    kept = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert {"knn3_accuracy", "recall_at_1", "recall_at_5", "recall_at_10", "pair_auc", "overlap_max"} <= set(
        kept
    )
    assert (kept["n"], kept["n_pairs"], kept["pairs_are"], kept["overlap_classes"]) == (
        40,
        780,
        "all",
        [0, 1],
    )


def test_beyond_ten_thousand_vectors_pairs_are_sampled_and_agree_with_all(monkeypatch):
    vectors, labels = blobs([2000, 500, 100, 1], spread=2.5)
    whole = pair_histogram(vectors, labels)
    monkeypatch.setattr("mekiki.evaluation.verification.ALL_PAIRS_UP_TO", 1000)
    monkeypatch.setattr("mekiki.evaluation.verification.SAMPLED_PAIRS", 400_000)
    monkeypatch.setattr("mekiki.evaluation.nearest_neighbours.QUERIES_AT_MOST", 1500)
    sampled = pair_histogram(vectors, labels)
    assert (sampled.sampled, sampled.same.sum(), sampled.different.sum()) == (True, 400_000, 400_000)
    assert sampled.auc() == pytest.approx(whole.auc(), abs=3e-3)
    assert sampled.eer()[0] == pytest.approx(whole.eer()[0], abs=3e-3)
    levels = [0.1, 0.5, 0.9]
    for same in (True, False):
        assert sampled.quantiles(same, levels) == pytest.approx(whole.quantiles(same, levels), rel=0.01)
    figures = evaluate(vectors, labels)
    assert figures.pairs_are == "sampled"
    assert figures.n_pairs == 800_000
    assert "pair figures from 800000 random pairs of 2601 vectors" in figures.notes
    assert "kNN and recall from 1500 random vectors of 2601" in figures.notes
    np.testing.assert_equal(evaluate(vectors, labels).to_dict(), figures.to_dict())


def greedy_by_brute_force(distances, allowed, count):
    found, free = [], np.ones(len(distances), bool)
    i, j = np.triu_indices(len(distances), 1)
    for p in np.argsort(distances[i, j], kind="stable"):
        if allowed[i[p], j[p]] and free[i[p]] and free[j[p]] and len(found) < count:
            found.append((i[p], j[p]))
            free[[i[p], j[p]]] = False
    return found


@pytest.mark.parametrize("dimensions", [2, 8])
def test_confused_pairs_are_those_of_a_greedy_search(dimensions):
    vectors, labels = blobs([60, 40, 20], dimensions, spread=3.0)
    vectors[7] = 40  # an outlier is the farthest of its class from everyone, yet comes once
    close, far = confused_pairs(vectors, labels, count=12)
    distances = cdist(vectors.astype(float), vectors.astype(float))
    alike = labels[:, None] == labels
    assert [tuple(pair) for pair in close.indices] == greedy_by_brute_force(distances, ~alike, 12)
    assert [tuple(pair) for pair in far.indices] == greedy_by_brute_force(-distances, alike, 12)
    for found in (close, far):
        assert found.distances == pytest.approx(distances[tuple(found.indices.T)])
        assert len(np.unique(found.indices)) == 24


def test_confused_pairs_may_be_fewer():
    close, far = confused_pairs([[0.0], [1.0], [2.0]], ["a", "b", "c"])
    assert len(close.indices) == 1
    assert far.indices.shape == (0, 2)
    one_class, _ = confused_pairs([[0.0], [1.0], [2.0]], ["a", "a", "a"])
    assert one_class.distances.shape == (0,)


GOOD = ([[0.0, 1], [1, 0], [4, 4], [5, 4]], [0, 0, 1, 1])
GOOD_1D = ([[0.0], [1.0], [5.0], [6.0]], [1, 1, 2, 2])
BAD = {
    "one dimension": (([1.0, 2], [0, 1]), r"shape \[N, d\].*\[2\]"),
    "words": (([["a"], ["b"]], [0, 1]), "need numbers"),
    "label count": (([[0.0], [1.0]], [0, 1, 1]), r"2 vectors and labels of shape \[3\]"),
    "labels as fractions": (([[0.0], [1.0]], [0.5, 1]), "whole numbers or strings"),
    "mixed labels": (([[0.0], [1.0]], np.array(["a", 1], object)), "whole numbers or strings"),
    "one vector": (([[0.0]], [0]), "at least 2"),
    "none": ((np.zeros((0, 2)), []), "at least 2|whole numbers"),
    "nan": (([[np.nan, 0], [0, np.inf], [0, 0]], [0, 1, 1]), "2 of 3 vectors hold NaN or infinity"),
    "too large for float32": (([[1e300], [0], [0]], [0, 1, 1]), "1 of 3 vectors"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(name):
    (vectors, labels), message = BAD[name]
    with pytest.raises(InputError, match=message) as error:
        evaluate(vectors, labels, k=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"recall_at": (0, 1)}, "recall_at"),
        ({"reference": ([[0.0], [1.0]], [0, 1])}, "same encoder"),
        ({"reference": (GOOD[0], list("aabb"))}, "use one kind"),
        ({"reference": ([[0.0, np.nan], [1, 1]], [0, 1])}, "reference: 1 of 2"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        evaluate(*GOOD, **{"k": 1, "recall_at": (1,)} | change)
    with pytest.raises(InputError, match="count is 0"):
        confused_pairs(*GOOD, count=0)


@pytest.mark.parametrize(
    ("labels", "message"), [([1, 1, 1], "one class only"), ([1, 2, 3], "no two vectors of one class")]
)
def test_what_the_vectors_do_not_define_is_nan_with_a_note_and_the_rest_is_measured(labels, message):
    figures = evaluate([[0.0], [1.0], [2.0]], labels, GOOD_1D, k=1)
    assert np.isnan([figures.pair_auc, figures.pair_eer, figures.pair_accuracy]).all()
    assert (figures.n_pairs, figures.to_dict()["pair_auc"]) == (0, None)
    assert any(message in note for note in figures.notes)
    assert 0 <= figures.knn_accuracy <= 1
    with pytest.raises(InputError, match=message):
        pair_histogram([[0.0], [1.0], [2.0]], labels)


def test_a_single_vector_is_measured_against_its_reference():
    figures = evaluate([[0.2]], [1], GOOD_1D, k=1, recall_at=(1,))
    assert (figures.knn_accuracy, figures.recall[1], figures.n) == (1.0, 1.0, 1)
    assert np.isnan(figures.silhouette)


def test_k_beyond_the_reference_asks_all_of_it_and_says_so():
    figures = evaluate([[0.2], [4.9], [5.2]], [1, 2, 2], GOOD_1D, k=9, recall_at=(1,))
    assert any("kNN by the 4 vectors there are, not 9" in note for note in figures.notes)
    assert "knn9_accuracy" in figures.to_dict()


MEMORY = """
import resource, sys
import numpy as np
import sklearn.metrics, sklearn.neighbors
from mekiki.evaluation.confused_pairs import confused_pairs
from mekiki.evaluation.summary import evaluate
rng = np.random.default_rng(0)
dimensions = int(sys.argv[1])
labels = rng.integers(10, size=1_000_000)
vectors = rng.standard_normal((1_000_000, dimensions), dtype=np.float32)
vectors[:, 0] += 3 * labels
if sys.argv[2] == "measure":
    figures = evaluate(vectors, labels)
    assert figures.n == 1_000_000 and figures.pairs_are == "sampled"
    confused_pairs(vectors, labels)
sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 64])
def test_a_million_vectors_take_less_than_two_gigabytes_more(dimensions):
    peak = {
        what: int(
            subprocess.run(
                [sys.executable, "-c", MEMORY, str(dimensions), what],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for what in ("load", "measure")
    }
    assert (peak["measure"] - peak["load"]) / 2**20 < 2
