"""Distances between vectors of an embedding, with what they mean for the training pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError
from mekiki.evaluation.verification import pair_histogram

SAMPLE = 4_000
"""Vectors whose pairs are measured: millions of pairs place a quantile well enough, in a fraction of a second."""
LEVELS = np.linspace(0, 1, 1001)


@dataclass(frozen=True)
class Distance:
    """The distance of two examples, and what it means.

    Attributes:
        value: Euclidean distance of the two vectors.
        unit: what it is measured in.
        threshold: below it two examples count as the same class (equal error rate on the training pairs).
        same_closer: share of the same-class pairs of the training side that are closer than this.
        different_closer: share of the different-class pairs of the training side that are closer than this.
    """

    value: float
    unit: str
    threshold: float
    same_closer: float
    different_closer: float

    @property
    def same(self) -> bool:
        """Whether the two count as the same class."""
        return self.value < self.threshold

    def __str__(self) -> str:
        verdict = "the same kind" if self.same else "different kinds"
        return (
            f"{self.value:.3f} {self.unit}: {verdict} (threshold {self.threshold:.3f}). "
            f"{100 * self.same_closer:.1f} % of the training pairs of one kind and "
            f"{100 * self.different_closer:.1f} % of those of different kinds are closer than {self.value:.3f}."
        )


@dataclass(frozen=True, eq=False)
class DistanceScale:
    """The distances of training pairs, with which other distances are compared.

    Attributes:
        margin: of the loss, the unit of distances; `None` where it has none.
        threshold: distance of equal error rate; NaN where no class has two examples.
        same: quantiles of the same-class distances at `LEVELS`, float64.
        different: quantiles of the different-class distances.
    """

    margin: float | None
    threshold: float
    same: NDArray[np.float64]
    different: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], labels: NDArray[np.int64], margin: float | None) -> Self:
        """The scale of training vectors `[N, d]` and their labels `[N]`."""
        rows = np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]
        try:
            histogram = pair_histogram(vectors[rows], labels[rows])
        except InputError:  # one example a class, from which softmax can learn
            unknown = np.full(len(LEVELS), math.nan)
            return cls(margin, math.nan, unknown, unknown)
        same, different = (histogram.quantiles(side, LEVELS) for side in (True, False))
        return cls(margin, histogram.eer()[1], same, different)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Self:
        """The scale that `to_dict` described."""
        names = ("threshold", "same_quantiles", "different_quantiles")
        threshold, same, different = (np.array(saved[name], np.float64) for name in names)  # null becomes NaN
        return cls(saved["margin"], float(threshold), same, different)

    def to_dict(self) -> dict[str, Any]:
        """The scale as JSON has it."""
        return {
            "margin": self.margin,
            "threshold": self.threshold,
            "same_quantiles": self.same.tolist(),
            "different_quantiles": self.different.tolist(),
        }

    @property
    def unit(self) -> str:
        """What distances are measured in."""
        return f"(margin = {self.margin:g})" if self.margin is not None else "(units of the embedding)"

    def measure(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> Distance:
        """The distance of two vectors `[d]`."""
        value = float(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64)))
        shares = (
            float(np.searchsorted(side, value, side="right") / len(side))
            for side in (self.same, self.different)
        )
        return Distance(value, self.unit, self.threshold, *shares)
