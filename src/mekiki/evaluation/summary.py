"""`evaluate`: every figure about a set of vectors, in one object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.evaluation.labels import Labelled, checked, sampled, together
from mekiki.evaluation.nearest_neighbours import neighbour_figures
from mekiki.evaluation.overlap import CLASSES_AT_MOST, overlap_between
from mekiki.evaluation.verification import ALL_PAIRS_UP_TO, PairHistogram, histogram_of

_SILHOUETTE_OF = 5_000
_NAMED_AT_MOST = 5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures about N vectors.

    Attributes:
        knn_accuracy: share of vectors whose label wins the vote of the `k` nearest reference vectors.
        k: voters.
        recall: for each k asked for, share of vectors with their own label among the k nearest.
        pair_auc: probability that a same-class pair lies closer than a different-class one.
        pair_eer: share of false accepts = share of false rejects, at `eer_threshold`.
        eer_threshold: distance.
        pair_accuracy: mean of true accepts and true rejects at `pair_threshold`: accuracy, were half the
            pairs positive.
        pair_threshold: largest distance taken for the same class.
        pair_threshold_from: the pairs on which that threshold is the best one; "the same pairs" flatters.
        silhouette: mean silhouette of at most 5,000 random vectors, NaN where it is not defined.
        overlap: float64 `[C, C]`, how far each class reaches into each other one.
        overlap_max: the largest off the diagonal, NaN if there is none.
        overlap_classes: labels of its rows and columns.
        n: vectors.
        n_pairs: pairs the pair figures rest on.
        pairs_are: all of them or a random sample.
        notes: what was sampled, left out or is odd, one sentence each.
    """

    knn_accuracy: float
    k: int
    recall: dict[int, float]
    pair_auc: float
    pair_eer: float
    eer_threshold: float
    pair_accuracy: float
    pair_threshold: float
    pair_threshold_from: Literal["reference", "the same pairs"]
    silhouette: float
    overlap: NDArray[np.float64]
    overlap_max: float
    overlap_classes: tuple[int | str, ...]
    n: int
    n_pairs: int
    pairs_are: Literal["all", "sampled"]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types; what is not defined (NaN) is None."""
        return {
            f"knn{self.k}_accuracy": self.knn_accuracy,
            **{f"recall_at_{at}": share for at, share in self.recall.items()},
            "pair_auc": _or_none(self.pair_auc),
            "pair_eer": _or_none(self.pair_eer),
            "eer_threshold": _or_none(self.eer_threshold),
            "pair_accuracy": _or_none(self.pair_accuracy),
            "pair_threshold": _or_none(self.pair_threshold),
            "pair_threshold_from": self.pair_threshold_from,
            "silhouette": _or_none(self.silhouette),
            "overlap_max": _or_none(self.overlap_max),
            "overlap": [[_or_none(cell) for cell in row] for row in self.overlap.tolist()],
            "overlap_classes": list(self.overlap_classes),
            "n": self.n,
            "n_pairs": self.n_pairs,
            "pairs_are": self.pairs_are,
            "notes": list(self.notes),
        }


def evaluate(
    vectors: ArrayLike,
    labels: ArrayLike,
    reference: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    k: int = 5,
    recall_at: Sequence[int] = (1, 5, 10),
    seed: int = 0,
) -> Evaluation:
    """Measure vectors by their labels.

    - kNN accuracy and recall@k: against the reference; without one, leave-one-out among the vectors
      themselves. At most 20,000 random vectors are asked. A `k` larger than the reference asks all of it.
    - Same-or-different figures (AUC, EER, accuracy): Euclidean distance of all pairs of `vectors` up to
      10,000, of 5,000,000 random pairs of each kind beyond. The accuracy is that of QEUR23_SMNRT19, where half
      the pairs are positive. Its threshold is chosen on pairs of at most 10,000 random reference vectors.
    - Silhouette (Rousseeuw 1987, doi 10.1016/0377-0427(87)90125-7) of at most 5,000 random vectors.
    - Overlap θᵢⱼ between classes: probability that two members of class i lie farther apart than a member of i
      and one of j (ties half).

    What the vectors do not define (pair figures of one class, or of classes of one vector each) is NaN, and a
    note says so.

    Memory beyond the arguments stays below 2 GB for 1,000,000 vectors of length 64.

    Args:
        vectors: float32 `[N, d]`, N ≥ 2 where there is no reference.
        labels: `[N]` integers or strings.
        reference: vectors and labels of the training side.
        k: voters of the kNN vote.
        recall_at: the k of recall@k; those larger than the reference are left out, with a note.
        seed: fixes everything that is sampled.

    Returns:
        The figures.

    Raises:
        InputError: wrong shapes or kinds, or values that are not finite.

    Example:
        >>> figures = evaluate([[0.0], [1.0], [5.0], [6.0]], ["ok", "ok", "ng", "ng"], k=1, recall_at=(1,))
        >>> figures.knn_accuracy, figures.pair_auc, figures.overlap_max, figures.pair_threshold_from
        (1.0, 1.0, 0.0, 'the same pairs')
    """
    notes: list[str] = []
    data = checked(vectors, labels, least=2 if reference is None else 1)
    gallery = None
    if reference is not None:
        data, gallery = together(data, checked(*reference, where="reference", least=1))
        notes += _absent(data, gallery)
    voters, recall_at = _within_reach(data, gallery, k, recall_at, notes)
    streams = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(5)]

    pairs = _pairs(data, streams[0], notes)
    chosen_on = None if pairs is None else _threshold_pairs(gallery, streams[1], notes)
    threshold = math.nan if pairs is None else (chosen_on or pairs).best_threshold()
    eer, eer_threshold = (math.nan, math.nan) if pairs is None else pairs.eer()

    near = neighbour_figures(data, gallery, voters, recall_at, streams[2])
    if near.queries < len(data.vectors):
        notes.append(f"kNN and recall from {near.queries} random vectors of {len(data.vectors)}")

    between = overlap_between(data, streams[3])
    names = data.classes.tolist()
    for code in between.single[:_NAMED_AT_MOST]:
        notes.append(f"class {names[code]} has one vector: its row of the overlap is not defined")
    if len(between.single) > _NAMED_AT_MOST:
        notes.append(f"so it is with {len(between.single) - _NAMED_AT_MOST} more classes of one vector")
    if len(np.unique(data.codes)) > CLASSES_AT_MOST:
        notes.append(f"overlap between the {CLASSES_AT_MOST} largest classes only")
    apart = between.matrix[~np.eye(len(between.matrix), dtype=bool)]

    return Evaluation(
        knn_accuracy=near.accuracy,
        k=k,
        recall=near.recall,
        pair_auc=math.nan if pairs is None else pairs.auc(),
        pair_eer=eer,
        eer_threshold=eer_threshold,
        pair_accuracy=math.nan if pairs is None else pairs.balanced_accuracy(threshold),
        pair_threshold=threshold,
        pair_threshold_from="reference" if chosen_on else "the same pairs",
        silhouette=_silhouette(sampled(data, _SILHOUETTE_OF, streams[4])),
        overlap=between.matrix,
        overlap_max=float(np.nanmax(apart)) if np.isfinite(apart).any() else math.nan,
        overlap_classes=tuple(names[code] for code in between.codes),
        n=len(data.vectors),
        n_pairs=0 if pairs is None else len(pairs),
        pairs_are="sampled" if pairs is not None and pairs.sampled else "all",
        notes=tuple(notes),
    )


def _absent(data: Labelled, gallery: Labelled) -> list[str]:
    missing = np.setdiff1d(data.codes, gallery.codes)
    if not len(missing):
        return []
    named = ", ".join(str(data.classes[code]) for code in missing[:_NAMED_AT_MOST])
    more = f" and {len(missing) - _NAMED_AT_MOST} more" if len(missing) > _NAMED_AT_MOST else ""
    count = int(np.isin(data.codes, missing).sum())
    return [
        f"label {named}{more} is absent from the reference: {count} vectors count as wrong in kNN and recall"
    ]


def _within_reach(
    data: Labelled, gallery: Labelled | None, k: int, recall_at: Sequence[int], notes: list[str]
) -> tuple[int, list[int]]:
    reach = len(data.vectors) - 1 if gallery is None else len(gallery.vectors)
    if k < 1:
        raise InputError(f"evaluate: k is {k}; it must be at least 1")
    if k > reach:
        notes.append(f"kNN by the {reach} vectors there are, not {k}")
    if any(at < 1 for at in recall_at):
        raise InputError(f"evaluate: recall_at is {list(recall_at)}; every k must be at least 1")
    beyond = [at for at in recall_at if at > reach]
    if beyond:
        notes.append(f"recall at {', '.join(map(str, beyond))} left out: only {reach} vectors to ask")
    return min(k, reach), [at for at in recall_at if at <= reach]


def _pairs(data: Labelled, rng: np.random.Generator, notes: list[str]) -> PairHistogram | None:
    try:
        pairs = histogram_of(data, rng)
    except InputError as error:
        notes.append(f"pair figures are not defined: {error}")
        return None
    if pairs.sampled:
        notes.append(f"pair figures from {len(pairs)} random pairs of {len(data.vectors)} vectors")
    return pairs


def _threshold_pairs(
    gallery: Labelled | None, rng: np.random.Generator, notes: list[str]
) -> PairHistogram | None:
    if gallery is None:
        return None
    try:
        return histogram_of(sampled(gallery, ALL_PAIRS_UP_TO, rng), rng, where="reference")
    except InputError as error:
        notes.append(f"pair threshold chosen on the measured pairs: {error}")
        return None


def _silhouette(data: Labelled) -> float:
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(data.codes)) < len(data.codes):
        return math.nan
    centre = data.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)  # equal vectors become exactly 0
    return float(silhouette_score(data.vectors - centre, data.codes))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
