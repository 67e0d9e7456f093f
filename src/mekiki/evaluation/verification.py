"""Verification (same class or different?): the ROC of all pairs, from a histogram of their distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.evaluation.distances import distance_rows, paired_distances
from mekiki.evaluation.labels import Codes, LabelledVectors, check_vectors

ALL_PAIRS_UP_TO = 10_000
SAMPLED_PAIRS = 5_000_000

_DROPPED_BITS = 11
_BINS = 1 << (31 - _DROPPED_BITS)
_AT_A_TIME = 1 << 20


class DistanceCurves(NamedTuple):
    """Two densities over the same bins, each with area 1.

    Attributes:
        edges: float64 `[bins + 1]`, from 0 to the largest distance.
        same: float64 `[bins]`, density of the distances within classes.
        different: float64 `[bins]`, density of the distances between classes.
    """

    edges: NDArray[np.float64]
    same: NDArray[np.float64]
    different: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairHistogram:
    """Counts of same-class and different-class pairs by distance.

    A pair is *accepted* as being of one class if its distance is at most a threshold. A **false accept** is an
    accepted different-class pair, a **false reject** a rejected same-class pair.

    A bin is a run of 2¹¹ neighbouring float32 numbers: the bits of a float32 that is not negative, read as an
    integer, rise with its value, so `bits >> 11` is the bin. Bins are at most 2⁻¹² of the distance wide, from
    0 to the largest float; two distances in one bin count as tied, and every threshold is exact to one bin.

    Attributes:
        bins: int64 `[B]`, the bins that hold a pair, ascending.
        same: int64 `[B]`, same-class pairs in each.
        different: int64 `[B]`, different-class pairs in each.
        sampled: whether the pairs are a random sample rather than all of them.
    """

    bins: NDArray[np.int64]
    same: NDArray[np.int64]
    different: NDArray[np.int64]
    sampled: bool

    def __len__(self) -> int:
        return int(self.same.sum() + self.different.sum())

    def auc(self) -> float:
        """Probability that a same-class pair lies closer than a different-class pair, ties counted half."""
        farther = self.different.sum() - self.different.cumsum()
        wins = self.same @ farther.astype(np.float64) + self.same @ self.different.astype(np.float64) / 2
        return float(wins / (float(self.same.sum()) * float(self.different.sum())))

    def eer(self) -> tuple[float, float]:
        """The equal error rate, and the distance at which it is reached.

        There the shares of false accepts and of false rejects are equal. The ROC is linear between its points.
        """
        accepted = np.concatenate([[0.0], self.different.cumsum() / self.different.sum()])
        rejected = 1 - np.concatenate([[0.0], self.same.cumsum() / self.same.sum()])
        lead = accepted - rejected
        after = int(np.argmax(lead >= 0))  # never 0: where nothing is accepted, everything is rejected
        part = lead[after - 1] / (lead[after - 1] - lead[after])
        rate = accepted[after - 1] + part * (accepted[after] - accepted[after - 1])
        if lead[after] == 0:
            return float(rate), self._threshold_after(after - 1)
        low, high = _first(self.bins[after - 1]), _last(self.bins[after - 1])
        return float(rate), float(low + part * (high - low))

    def best_threshold(self) -> float:
        """The smallest distance with the highest `balanced_accuracy`; between two bins, the middle of the gap."""
        true_accepts = self.same.cumsum() * float(self.different.sum())
        false_accepts = self.different.cumsum() * float(self.same.sum())
        return self._threshold_after(int(np.argmax(true_accepts - false_accepts)))

    def balanced_accuracy(self, threshold: float) -> float:
        """(true accepts + true rejects) / 2, as shares: the accuracy where half of the pairs are positive.

        Args:
            threshold: the largest distance accepted, 0 or more; its whole bin is accepted.
        """
        accepted = self.bins <= _bin_of(np.array([threshold]))
        true_accepts = self.same[accepted].sum() / self.same.sum()
        false_accepts = self.different[accepted].sum() / self.different.sum()
        return float((true_accepts + 1 - false_accepts) / 2)

    def quantiles(self, same: bool, q: ArrayLike) -> NDArray[np.float64]:
        """Distances below which the shares `q` of the same-class (or different-class) pairs lie, to one bin."""
        counts = self.same if same else self.different
        rank = np.ceil(np.asarray(q, np.float64) * counts.sum()).clip(1)
        at = np.searchsorted(counts.cumsum(), rank)
        return np.asarray(self._middles()[at], np.float64)

    def curves(self, bins: int = 100) -> DistanceCurves:
        """Both densities over `bins` equal bins from 0 to the largest distance."""
        top = float(_last(self.bins[-1])) if self.bins[-1] else 1.0
        edges = np.linspace(0, top, bins + 1)
        same, different = (
            np.histogram(self._middles(), edges, weights=counts / counts.sum())[0] / (top / bins)
            for counts in (self.same, self.different)
        )
        return DistanceCurves(edges, same, different)

    def _middles(self) -> NDArray[np.float64]:
        middles: NDArray[np.float64] = (_first(self.bins) + _last(self.bins)) / 2
        return middles

    def _threshold_after(self, index: int) -> float:
        end = float(_last(self.bins[index]))
        if index + 1 == len(self.bins) or self.bins[index + 1] == self.bins[index] + 1:
            return end
        return end + (float(_first(self.bins[index + 1])) - end) / 2


def pair_histogram(vectors: ArrayLike, labels: ArrayLike, *, seed: int = 0) -> PairHistogram:
    """Histogram of the distances of pairs within and between classes.

    Up to 10,000 vectors: all pairs i < j, in blocks. Beyond: 5,000,000 same-class and 5,000,000
    different-class pairs, drawn with replacement and uniformly from all pairs of their kind.

    Args:
        vectors: float32 `[N, d]`.
        labels: `[N]` integers or strings.
        seed: of the sample of pairs.

    Raises:
        InputError: unusable vectors or labels, or no same-class or no different-class pair among them.

    Example:
        >>> pairs = pair_histogram([[0.0], [1.0], [5.0], [7.0]], ["ok", "ok", "ng", "ng"])
        >>> len(pairs), pairs.auc(), pairs.eer()[0], round(pairs.best_threshold(), 1)
        (6, 1.0, 0.0, 3.0)
    """
    return histogram_of(check_vectors(vectors, labels), np.random.default_rng(seed))


def histogram_of(data: LabelledVectors, rng: np.random.Generator, name: str = "vectors") -> PairHistogram:
    """`pair_histogram` of checked vectors, which an error message calls `name`."""
    counts = np.bincount(data.codes, minlength=len(data.classes))
    if np.count_nonzero(counts) < 2:
        raise InputError(f"{name}: one class only; pairs of different classes need at least two")
    if counts.max() < 2:
        raise InputError(f"{name}: no two vectors of one class, so there are no same-class pairs; add some")
    sampled = len(data.vectors) > ALL_PAIRS_UP_TO
    tally = _sample_pairs(data, rng) if sampled else _all_pairs(data)
    same, different = tally[:_BINS], tally[_BINS : 2 * _BINS]
    bins = np.flatnonzero(same + different)
    return PairHistogram(bins, same[bins], different[bins], sampled)


def _all_pairs(data: LabelledVectors) -> NDArray[np.int64]:
    """Counts by bin: of same-class pairs, of different-class pairs, and of all that are not pairs i < j."""
    tally = np.zeros(2 * _BINS + 1, np.int64)
    for start, block in distance_rows(data.vectors, upper=True):
        keys = _bin_of(block)
        rows = len(block)
        keys += _BINS * (data.codes[start : start + rows, None] != data.codes[start:])
        keys[np.tril_indices(rows)] = 2 * _BINS
        tally += np.bincount(keys.ravel(), minlength=len(tally))
    return tally


def _sample_pairs(data: LabelledVectors, rng: np.random.Generator) -> NDArray[np.int64]:
    order = np.argsort(data.codes, kind="stable")
    counts = np.bincount(data.codes, minlength=len(data.classes))
    starts = counts.cumsum() - counts
    total = len(order)
    tally = np.zeros(2 * _BINS + 1, np.int64)
    within = counts * (counts - 1.0)
    across = counts * (total - counts.astype(np.float64))
    for done in range(0, SAMPLED_PAIRS, _AT_A_TIME):
        size = min(_AT_A_TIME, SAMPLED_PAIRS - done)

        own = rng.choice(len(counts), size, p=within / within.sum())
        first, second = rng.integers(counts[own]), rng.integers(counts[own] - 1)
        second += second >= first
        close = paired_distances(data.vectors, order[starts[own] + first], order[starts[own] + second])

        own = rng.choice(len(counts), size, p=across / across.sum())
        first, second = rng.integers(counts[own]), rng.integers(total - counts[own])
        second += counts[own] * (second >= starts[own])  # skip the members of the class itself
        far = paired_distances(data.vectors, order[starts[own] + first], order[second])

        tally += np.bincount(np.append(_bin_of(close), _bin_of(far) + _BINS), minlength=len(tally))
    return tally


def _bin_of(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    bits = np.minimum(distances, np.finfo(np.float32).max).astype(np.float32).view(np.int32)
    return (bits >> _DROPPED_BITS).astype(np.int64)


def _first(bins: Codes) -> NDArray[np.float64]:
    """The smallest distance in each bin."""
    return np.asarray(bins << _DROPPED_BITS, np.int32).view(np.float32).astype(np.float64)


def _last(bins: Codes) -> NDArray[np.float64]:
    """The largest distance in each bin."""
    return np.asarray(((bins + 1) << _DROPPED_BITS) - 1, np.int32).view(np.float32).astype(np.float64)
