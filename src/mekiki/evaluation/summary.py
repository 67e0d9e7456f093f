"""All quality figures of a set of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError, name_some
from mekiki.evaluation.labels import LabelledVectors, check_vectors, share_classes
from mekiki.evaluation.nearest_neighbours import neighbour_figures
from mekiki.evaluation.overlap import CLASSES_AT_MOST, overlap_between
from mekiki.evaluation.verification import ALL_PAIRS_UP_TO, histogram_of
from mekiki.storage.json_files import finite

_SILHOUETTE_OF = 5_000
_NAMED_AT_MOST = 5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Quality figures of N vectors.

    Attributes:
        knn_accuracy: share of vectors whose label wins the vote of the `k` nearest reference vectors.
        k: voters.
        recall: for each k asked for, share of vectors with their own label among the k nearest.
        pair_auc: probability that a same-class pair lies closer than a different-class one.
        pair_eer: share of false accepts = share of false rejects, at `eer_threshold`.
        eer_threshold: distance.
        pair_accuracy: mean of true accepts and true rejects at `pair_threshold`, as shares.
        pair_threshold: largest distance accepted as the same class.
        pair_threshold_from: the pairs on which that threshold is the best one; "the same pairs" is optimistic.
        silhouette: mean silhouette of at most 5,000 random vectors, NaN where it is not defined.
        overlap_max: largest cell of `overlap` off the diagonal, NaN if there is none.
        overlap: float64 `[C, C]`, see `mekiki.evaluation.overlap.overlap_between`.
        overlap_classes: labels of its rows and columns.
        n: vectors.
        n_pairs: pairs behind the pair figures.
        pairs_are: all of them or a random sample.
        notes: what was sampled, left out or is unusual, one sentence each.
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
    overlap_max: float
    overlap: NDArray[np.float64]
    overlap_classes: tuple[int | str, ...]
    n: int
    n_pairs: int
    pairs_are: Literal["all", "sampled"]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types; NaN is None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        recall = {f"recall_at_{at}": share for at, share in values.pop("recall").items()}
        first = {f"knn{values.pop('k')}_accuracy": values.pop("knn_accuracy")}
        matrix = {"overlap": self.overlap.tolist()}
        return {name: finite(value) for name, value in (first | recall | values | matrix).items()}


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
    - Pair figures (AUC, EER, accuracy): Euclidean distance of all pairs of up to 10,000 `vectors`, beyond that of
      5,000,000 random pairs of each kind. The accuracy is that of QEUR23_SMNRT19, where half the pairs are
      positive. Its threshold is chosen on pairs of at most 10,000 random reference vectors.
    - Silhouette (Rousseeuw 1987, doi 10.1016/0377-0427(87)90125-7) of at most 5,000 random vectors.
    - Overlap θᵢⱼ between classes: probability that two members of class i lie farther apart than a member of i
      and one of j (ties half).

    A figure that the vectors do not define (pair figures of one class, or of classes of one vector each) is NaN,
    and a note says so.

    Memory beyond the arguments stays below 2 GB for 1,000,000 vectors of length 64.

    Args:
        vectors: float32 `[N, d]`, N ≥ 2 where there is no reference.
        labels: `[N]` integers or strings.
        reference: vectors and labels of the training side.
        k: voters of the kNN vote.
        recall_at: the k of recall@k; those larger than the reference are left out, with a note.
        seed: of all samples.

    Raises:
        InputError: wrong shapes or kinds, or values that are not finite.

    Example:
        >>> figures = evaluate([[0.0], [1.0], [5.0], [6.0]], ["ok", "ok", "ng", "ng"], k=1, recall_at=(1,))
        >>> figures.knn_accuracy, figures.pair_auc, figures.overlap_max, figures.pair_threshold_from
        (1.0, 1.0, 0.0, 'the same pairs')
    """
    notes: list[str] = []
    data = check_vectors(vectors, labels, least=2 if reference is None else 1)
    gallery = None
    if reference is not None:
        data, gallery = share_classes(data, check_vectors(*reference, name="reference", least=1))
        notes += _absent_labels(data, gallery)
    voters, recall_at = _limit_neighbours(data, gallery, k, recall_at, notes)
    streams = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(5)]

    pair_figures = _pair_figures(data, gallery, streams, notes)
    near = neighbour_figures(data, gallery, voters, recall_at, streams[2])
    if near.queries < len(data.vectors):
        notes.append(f"kNN and recall from {near.queries} random vectors of {len(data.vectors)}")

    between = overlap_between(data, streams[3])
    names = data.classes.tolist()
    for code in between.single[:_NAMED_AT_MOST]:
        notes.append(f"class {names[code]} has one vector: its row of the overlap is not defined")
    if len(between.single) > _NAMED_AT_MOST:
        notes.append(f"the same holds for {len(between.single) - _NAMED_AT_MOST} more classes of one vector")
    if len(np.unique(data.codes)) > CLASSES_AT_MOST:
        notes.append(f"overlap between the {CLASSES_AT_MOST} largest classes only")
    apart = between.matrix[~np.eye(len(between.matrix), dtype=bool)]

    return Evaluation(
        knn_accuracy=near.accuracy,
        k=k,
        recall=near.recall,
        silhouette=_silhouette(data.sample(_SILHOUETTE_OF, streams[4])),
        overlap=between.matrix,
        overlap_max=float(np.nanmax(apart)) if np.isfinite(apart).any() else math.nan,
        overlap_classes=tuple(names[code] for code in between.codes),
        n=len(data.vectors),
        notes=tuple(notes),
        **pair_figures,
    )


def _absent_labels(data: LabelledVectors, gallery: LabelledVectors) -> list[str]:
    missing = np.setdiff1d(data.codes, gallery.codes)
    if not len(missing):
        return []
    labels = name_some([str(data.classes[code]) for code in missing], _NAMED_AT_MOST)
    count = int(np.isin(data.codes, missing).sum())
    return [f"label {labels} is absent from the reference: {count} vectors count as wrong in kNN and recall"]


def _limit_neighbours(
    data: LabelledVectors, gallery: LabelledVectors | None, k: int, recall_at: Sequence[int], notes: list[str]
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


def _pair_figures(
    data: LabelledVectors,
    gallery: LabelledVectors | None,
    streams: Sequence[np.random.Generator],
    notes: list[str],
) -> dict[str, Any]:
    """Those attributes of `Evaluation` that are about pairs."""
    try:
        pairs = histogram_of(data, streams[0])
    except InputError as error:
        notes.append(f"pair figures are not defined: {error}")
        undefined = ("pair_auc", "pair_eer", "eer_threshold", "pair_accuracy", "pair_threshold")
        origin = {"pair_threshold_from": "the same pairs", "n_pairs": 0, "pairs_are": "all"}
        return dict.fromkeys(undefined, math.nan) | origin
    if pairs.sampled:
        notes.append(f"pair figures from {len(pairs)} random pairs of {len(data.vectors)} vectors")
    threshold, origin_of_threshold = pairs.best_threshold(), "the same pairs"
    if gallery is not None:
        try:
            sample = gallery.sample(ALL_PAIRS_UP_TO, streams[1])
            threshold = histogram_of(sample, streams[1], name="reference").best_threshold()
            origin_of_threshold = "reference"
        except InputError as error:
            notes.append(f"pair threshold chosen on the measured pairs: {error}")
    eer, eer_threshold = pairs.eer()
    return {
        "pair_auc": pairs.auc(),
        "pair_eer": eer,
        "eer_threshold": eer_threshold,
        "pair_accuracy": pairs.balanced_accuracy(threshold),
        "pair_threshold": threshold,
        "pair_threshold_from": origin_of_threshold,
        "n_pairs": len(pairs),
        "pairs_are": "sampled" if pairs.sampled else "all",
    }


def _silhouette(data: LabelledVectors) -> float:
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(data.codes)) < len(data.codes):
        return math.nan
    centre = data.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)  # equal vectors become exactly 0
    return float(silhouette_score(data.vectors - centre, data.codes))
