"""MT distance of a million vectors, against SciPy's and scikit-learn's Mahalanobis distance.

Each side is timed alone in a fresh process, in turn, on the same float32 vectors and the same unit space; what it costs
to learn the unit space is left out. Memory is what a process needs at its largest beyond what it held before. The
distances of the first vectors are compared with those of float64, written out.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.evaluation import peak_bytes
from benchmarks.measuring import measured, median

VECTORS = 1_000_000
DIMENSIONS = (64, 384)
SIDES = ("ours", "scipy", "sklearn")
ROUNDS = 3
UNIT_SPACE = 5_000
COMPARED = 10_000
"""Vectors whose distances are held against float64."""

MEASURE = """
import json, sys
from benchmarks.mt_distance import measure
print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:]))))
"""


def main(
    vectors: int = VECTORS, dimensions: tuple[int, ...] = DIMENSIONS, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Measure and print."""
    rows: list[dict[str, Any]] = []
    print(
        f"{'d':>4} {'vectors':>10} {'side':>8} {'seconds':>8} {'more memory, GB':>16} {'largest error':>14}"
    )
    for dim in dimensions:
        # A million of the longer vectors would be 1.5 GB, and twice that again for those who copy them.
        number = vectors * min(dimensions) // dim
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for round_ in range(rounds):
            for turn in range(len(SIDES)):
                side = SIDES[(turn + round_) % len(SIDES)]
                found[side].append(measured(MEASURE, side, number, dim))
        sides = {
            side: {
                "seconds": median(one["seconds"] for one in ones),
                "more_gb": max(one["more_gb"] for one in ones),
                "largest_error": max(one["largest_error"] for one in ones),
                "rounds": ones,
            }
            for side, ones in found.items()
        }
        for side, figures in sides.items():
            print(
                f"{dim:>4} {number:>10,} {side:>8} {figures['seconds']:>8.3f} {figures['more_gb']:>16.2f} "
                f"{figures['largest_error']:>14.1e}"
            )
        faster = {side: sides[side]["seconds"] / sides["ours"]["seconds"] for side in SIDES if side != "ours"}
        print(
            "mt_distance: " + ", ".join(f"{times:.1f}× as fast as {side}" for side, times in faster.items())
        )
        rows.append({"dim": dim, "vectors": number, "sides": sides, "times_faster": faster})
    return {"rows": rows}


def measure(side: str, vectors: int, dim: int) -> dict[str, Any]:
    """The distances of `vectors` vectors from one unit space, as `side` finds them."""
    from scipy.spatial.distance import cdist
    from sklearn.covariance import EmpiricalCovariance

    from mekiki.judging.mahalanobis_taguchi import MT

    rng = np.random.default_rng(0)
    mixing = (rng.standard_normal((dim, dim)) / np.sqrt(dim) + np.eye(dim)).astype(np.float32)
    asked = rng.standard_normal((vectors, dim), dtype=np.float32)
    for start in range(0, vectors, UNIT_SPACE):
        asked[start : start + UNIT_SPACE] = asked[start : start + UNIT_SPACE] @ mixing
    unit = rng.standard_normal((UNIT_SPACE, dim), dtype=np.float32) @ mixing

    mean, covariance = unit.mean(0, dtype=np.float64), np.cov(unit.T.astype(np.float64))
    precision = np.linalg.inv(covariance)
    exact = _by_definition(asked[:COMPARED], mean, precision)
    if side == "ours":
        mt = MT("empirical").fit(unit)
        distance = mt.distance
    elif side == "scipy":
        scale = np.sqrt(dim)

        def distance(rows):
            return cdist(rows, mean[None], "mahalanobis", VI=precision)[:, 0] / scale
    else:
        model = EmpiricalCovariance().fit(unit.astype(np.float64))  # divides by n, not n − 1
        factor = (UNIT_SPACE - 1) / UNIT_SPACE / dim

        def distance(rows):
            return np.sqrt(model.mahalanobis(rows) * factor)

    distance(asked[:1000])  # loads what is loaded at first use
    before = peak_bytes()
    start = time.perf_counter()
    found = distance(asked)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "more_gb": (peak_bytes() - before) / 1e9,
        "largest_error": float(np.abs(found[:COMPARED] / exact - 1).max()),
    }


def _by_definition(vectors, mean, precision):
    gaps = vectors.astype(np.float64) - mean
    return np.sqrt(np.einsum("ni,ij,nj->n", gaps, precision, gaps, optimize=True) / len(mean))
