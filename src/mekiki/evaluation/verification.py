"""Same or different? The ROC of all pairs, streamed into a histogram of distances that needs no range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.evaluation.distances import distance_rows, paired_distances
from mekiki.evaluation.labels import Codes, Labelled, checked

ALL_PAIRS_UP_TO = 10_000
SAMPLED_PAIRS = 5_000_000

_DROPPED_BITS = 11
_BINS = 1 << (31 - _DROPPED_BITS)
_AT_A_TIME = 1 << 20


class DistanceCurves(NamedTuple):
    """Two densities over the same bins, each with area 1, for drawing.

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
    """How many same-class and how many different-class pairs lie at each distance.

    A pair is *accepted* as being of one class if its distance is at most a threshold. A **false accept** is a
    different-class pair taken for the same class, a **false reject** a same-class pair taken for different.

    A bin is a run of 2¹¹ neighbouring float32 numbers: the bits of a float32 that is not negative, read as an
    integer, rise with its value, so `bits >> 11` is the bin. Bins are 2⁻¹² of the distance wide at most, from
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
        """The equal error rate, where as large a share is falsely accepted as is falsely rejected.

        Between two points of the ROC both shares change linearly.

        Returns:
            The rate and the distance at which it is reached.
        """
        accepted = np.concatenate([[0.0], self.different.cumsum() / self.different.sum()])
        rejected = 1 - np.concatenate([[0.0], self.same.cumsum() / self.same.sum()])
        lead = accepted - rejected
        after = int(np.argmax(lead >= 0))  # never 0: nothing accepted is everything rejected
        part = lead[after - 1] / (lead[after - 1] - lead[after])
        rate = accepted[after - 1] + part * (accepted[after] - accepted[after - 1])
        if lead[after] == 0:
            return float(rate), self._threshold_after(after - 1)
        low, high = _lowest(self.bins[after - 1]), _highest(self.bins[after - 1])
        return float(rate), float(low + part * (high - low))

    def best_threshold(self) -> float:
        """The distance with the highest `balanced_accuracy`, the smallest of several.

        Where no pair lies just beyond it, it stands in the middle of the gap.
        """
        kept = self.same.cumsum() * float(self.different.sum())
        lost = self.different.cumsum() * float(self.same.sum())
        return self._threshold_after(int(np.argmax(kept - lost)))

    def balanced_accuracy(self, threshold: float) -> float:
        """(true accepts + true rejects) / 2, as shares: the accuracy where half of the pairs are positive.

        Args:
            threshold: the largest distance that is accepted, 0 or more; its whole bin is.
        """
        accepted = self.bins <= _bin_of(np.array([threshold]))
        kept = self.same[accepted].sum() / self.same.sum()
        lost = self.different[accepted].sum() / self.different.sum()
        return float((kept + 1 - lost) / 2)

    def quantiles(self, same: bool, q: ArrayLike) -> NDArray[np.float64]:
        """Distances below which the shares `q` of the same-class (or different-class) pairs lie, to one bin."""
        counts = self.same if same else self.different
        rank = np.ceil(np.asarray(q, np.float64) * counts.sum()).clip(1)
        at = np.searchsorted(counts.cumsum(), rank)
        middle = (_lowest(self.bins) + _highest(self.bins)) / 2
        return np.asarray(middle[at], np.float64)

    def curves(self, bins: int = 100) -> DistanceCurves:
        """Both densities over `bins` equal bins from 0 to the largest distance."""
        top = float(_highest(self.bins[-1])) if self.bins[-1] else 1.0
        edges = np.linspace(0, top, bins + 1)
        middle = (_lowest(self.bins) + _highest(self.bins)) / 2
        same, different = (
            np.histogram(middle, edges, weights=counts / counts.sum())[0] / (top / bins)
            for counts in (self.same, self.different)
        )
        return DistanceCurves(edges, same, different)

    def _threshold_after(self, index: int) -> float:
        end = float(_highest(self.bins[index]))
        following = self.bins[index + 1 : index + 2]
        if not len(following) or following[0] == self.bins[index] + 1:
            return end
        return end + (float(_lowest(following)[0]) - end) / 2


def pair_histogram(vectors: ArrayLike, labels: ArrayLike, *, seed: int = 0) -> PairHistogram:
    """The distances of pairs within and between classes.

    Up to 10,000 vectors: all pairs i < j, in blocks. Beyond: 5,000,000 same-class and 5,000,000
    different-class pairs, drawn with replacement and uniformly from all pairs of their kind.

    Args:
        vectors: float32 `[N, d]`.
        labels: `[N]` integers or strings.
        seed: fixes the sampled pairs.

    Returns:
        The histogram; it holds a few megabytes at most, whatever N is.

    Raises:
        InputError: unusable vectors or labels, or no same-class or no different-class pair among them.

    Example:
        >>> pairs = pair_histogram([[0.0], [1.0], [5.0], [7.0]], ["ok", "ok", "ng", "ng"])
        >>> len(pairs), pairs.auc(), pairs.eer()[0], round(pairs.best_threshold(), 1)
        (6, 1.0, 0.0, 3.0)
    """
    return histogram_of(checked(vectors, labels), np.random.default_rng(seed))


def histogram_of(data: Labelled, rng: np.random.Generator, where: str = "vectors") -> PairHistogram:
    """`pair_histogram` for data that are checked already."""
    counts = np.bincount(data.codes, minlength=len(data.classes))
    if np.count_nonzero(counts) < 2:
        raise InputError(f"{where}: one class only; pairs of different classes need at least two")
    if counts.max() < 2:
        raise InputError(f"{where}: no two vectors of one class, so there are no same-class pairs; add some")
    sampled = len(data.vectors) > ALL_PAIRS_UP_TO
    tally = _sample_pairs(data, rng) if sampled else _all_pairs(data)
    same, different = tally[:_BINS], tally[_BINS : 2 * _BINS]
    bins = np.flatnonzero(same + different)
    return PairHistogram(bins, same[bins], different[bins], sampled)


def _all_pairs(data: Labelled) -> NDArray[np.int64]:
    """Counts by bin, same-class pairs first, then different-class ones, then what is no pair i < j."""
    tally = np.zeros(2 * _BINS + 1, np.int64)
    for start, block in distance_rows(data.vectors, upper=True):
        keys = _bin_of(block)
        rows = len(block)
        keys += _BINS * (data.codes[start : start + rows, None] != data.codes[start:])
        keys[np.tril_indices(rows)] = 2 * _BINS
        tally += np.bincount(keys.ravel(), minlength=len(tally))
    return tally


def _sample_pairs(data: Labelled, rng: np.random.Generator) -> NDArray[np.int64]:
    order = np.argsort(data.codes, kind="stable")
    counts = np.bincount(data.codes, minlength=len(data.classes))
    starts = counts.cumsum() - counts
    number = len(order)
    tally = np.zeros(2 * _BINS + 1, np.int64)
    within = counts * (counts - 1.0)
    across = counts * (number - counts.astype(np.float64))
    for done in range(0, SAMPLED_PAIRS, _AT_A_TIME):
        size = min(_AT_A_TIME, SAMPLED_PAIRS - done)

        own = rng.choice(len(counts), size, p=within / within.sum())
        first, second = rng.integers(counts[own]), rng.integers(counts[own] - 1)
        second += second >= first
        close = paired_distances(data.vectors, order[starts[own] + first], order[starts[own] + second])

        own = rng.choice(len(counts), size, p=across / across.sum())
        first, second = rng.integers(counts[own]), rng.integers(number - counts[own])
        second += counts[own] * (second >= starts[own])  # step over the whole class
        far = paired_distances(data.vectors, order[starts[own] + first], order[second])

        keys = _bin_of(np.concatenate([close, far]))
        keys[size:] += _BINS
        tally += np.bincount(keys, minlength=len(tally))
    return tally


def _bin_of(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    bits = np.minimum(distances, np.finfo(np.float32).max).astype(np.float32).view(np.int32)
    return (bits >> _DROPPED_BITS).astype(np.int64)


def _lowest(bins: Codes) -> NDArray[np.float64]:
    """The smallest distance in each bin."""
    return (bins << _DROPPED_BITS).astype(np.int32).view(np.float32).astype(np.float64)


def _highest(bins: Codes) -> NDArray[np.float64]:
    """The largest distance in each bin."""
    last = (bins << _DROPPED_BITS) + (1 << _DROPPED_BITS) - 1
    return last.astype(np.int32).view(np.float32).astype(np.float64)
