"""Evaluating many vectors: seconds and memory of `evaluate`, and what a thousand queries cost as the reference grows.

N vectors are measured against N others, two and 64 numbers long: there the neighbour search is a tree, here it is
brute force, as scikit-learn chooses. At most 20,000 vectors are asked, so the search grows with the reference alone;
"growth" is the exponent in N from one row to the next, 1 where it is linear.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.measuring import measured

SIZES = (10_000, 100_000, 1_000_000)
DIMENSIONS = (2, 64)
MOST_MEMORY = 2e9
"""Bytes beyond the vectors that are promised for a million of them."""

MEASURE = """
import json, sys
from benchmarks.evaluation import measure
print(json.dumps(measure(*map(int, sys.argv[1:]))))
"""


def main(sizes: tuple[int, ...] = SIZES, dimensions: tuple[int, ...] = DIMENSIONS) -> dict[str, Any]:
    """Measure and print."""
    rows: list[dict[str, Any]] = []
    print(
        f"{'d':>3} {'vectors':>10} {'seconds':>8} {'growth':>7} {'s/1,000 queries':>16} {'growth':>7} "
        f"{'more memory, GB':>16}"
    )
    for dim in dimensions:
        last = None
        for size in sizes:
            row = measured(MEASURE, size, dim)
            row["growth"] = _exponent(last, row, "seconds")
            row["queries_growth"] = _exponent(last, row, "seconds_per_1000_queries")
            print(
                f"{dim:>3} {size:>10,} {row['seconds']:>8.2f} {_shown(row['growth']):>7} "
                f"{row['seconds_per_1000_queries']:>16.3f} {_shown(row['queries_growth']):>7} "
                f"{row['more_gb']:>16.2f}"
            )
            rows.append(row)
            last = row
    most = max(row["more_gb"] for row in rows)
    print(f"evaluation: {most:.2f} GB more at most, where {MOST_MEMORY / 1e9:.0f} GB are promised")
    return {"rows": rows, "more_gb_at_most": most, "within_promise": most * 1e9 <= MOST_MEMORY}


def measure(size: int, dim: int) -> dict[str, Any]:
    """`evaluate` of `size` vectors against as many, in ten overlapping classes."""
    # Loaded now, for libraries to be no part of what evaluating takes.
    import sklearn.metrics
    import sklearn.neighbors  # noqa: F401

    from mekiki.evaluation import summary
    from mekiki.evaluation.summary import evaluate

    vectors, labels = _vectors(size, dim, 0)
    reference = _vectors(size, dim, 1)
    searches: list[tuple[float, int]] = []
    search = summary.neighbour_figures

    def timed(*args, **more):
        start = time.perf_counter()
        figures = search(*args, **more)
        searches.append((time.perf_counter() - start, figures.queries))
        return figures

    before = peak_bytes()
    start = time.perf_counter()
    with patch.object(summary, "neighbour_figures", timed):
        figures = evaluate(vectors, labels, reference)
    seconds = time.perf_counter() - start
    searching, queries = searches[0]
    return {
        "vectors": size,
        "dim": dim,
        "seconds": seconds,
        "seconds_searching": searching,
        "queries": queries,
        "seconds_per_1000_queries": 1000 * searching / queries,
        "more_gb": (peak_bytes() - before) / 1e9,
        "vectors_gb": 2 * vectors.nbytes / 1e9,
        "knn_accuracy": figures.knn_accuracy,
    }


def peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _vectors(size: int, dim: int, seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=size)
    vectors = rng.standard_normal((size, dim), dtype=np.float32)
    vectors[:, 0] += 3 * labels
    return vectors, labels


def _exponent(before: dict[str, Any] | None, after: dict[str, Any], name: str) -> float | None:
    if before is None:
        return None
    return math.log(after[name] / before[name]) / math.log(after["vectors"] / before["vectors"])


def _shown(exponent: float | None) -> str:
    return "" if exponent is None else f"{exponent:.2f}"
