"""Which of the parts given as OK look as if they were not: out-of-fold scores beyond what the usual parts reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.judging.whitening import Whitening

Floats = NDArray[np.float64]

MOST_LEFT_OUT = 0.15
"""Share of the parts, at most, that are found suspicious: more are no exceptions."""
LEAST_PARTS = 20
"""Parts below which none is found suspicious: the tail of fewer cannot be told from exceptions."""
MARGIN = 1.5
"""How far beyond the end of an exponential tail a part must lie, as a factor: rare kinds of good parts lie at its end,
and without two of 300 of them the AUROC on magnetic tiles fell by .005."""
ROUNDS = 16
"""Random choices of parts that learn, in each of two passes of `score_suspicion`."""
_LEARN_SHARE = 2 / 3
_MOST_LEARNT = 300  # parts that learn in a round: more take time, and change little
_ITEMS = 512  # of a group, spread over it
_TRIMMED = 0.1  # share of the parts, the worst of the first pass, that do not learn in the second
_MIDDLE, _UPPER = 0.5, 0.8  # quantiles that the tail is read from; NG parts among the OK ones lie beyond them


def usual_parts(scores: Floats, weights: Sequence[float]) -> NDArray[np.bool_]:
    """Which parts lie within the tail that the others let expect: bool `[n]`.

    Of each score the distance from the median to the 80th percentile is the unit. Neither moves much while fewer than a
    fifth of the parts are NG, unlike mean and standard deviation. The weighted mean over the scores is taken to have an
    exponential tail of the same kind; parts are suspicious beyond `MARGIN` times the point that one part in two such
    sets would reach, and at most `MOST_LEFT_OUT` of all, the worst.

    Args:
        scores: `[n, k]`, finite, larger = farther from good, each by a model made without the part.
        weights: of the k scores, 0 or more.

    Example:
        >>> scores = np.random.default_rng(0).exponential(size=(200, 1))
        >>> scores[:10] += 20
        >>> np.flatnonzero(~usual_parts(scores, [1.0]))
        array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    number = len(scores)
    if number < LEAST_PARTS:
        return np.ones(number, np.bool_)
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    joined = _in_units(_in_units(scores) @ shares)
    limit = MARGIN * np.log(number) / np.log((1 - _MIDDLE) / (1 - _UPPER))
    limit = max(limit, float(np.quantile(joined, 1 - MOST_LEFT_OUT)))
    return np.asarray(joined <= limit)


def _in_units(scores: Floats) -> Floats:
    """Scores as distances from their median, in units of that of the 80th percentile; 0 where they do not vary."""
    middle, upper = np.quantile(scores, [_MIDDLE, _UPPER], axis=0)
    unit = upper - middle
    return np.asarray((scores - middle) / np.where(unit > 0, unit, np.inf), np.float64)


def score_suspicion(vectors: Mapping[str, NDArray[Any]], own: Floats, seed: int = 0) -> Floats:
    """How little each of the parts given as OK is like the others: float64 `[n]`, about 0 usual, larger = less.

    NG parts that teach a model hide each other, and which of them do so is chance. So the MT distance is averaged over
    many models, each learnt from a random choice of the parts and asked about the others. The worst tenth then does not
    learn in as many more: iterated trimming (Rousseeuw and Van Driessen 1999, doi 10.1080/00401706.1999.10485670).
    The result is the mean of that and of the judge's own scores.

    Args:
        vectors: feature groups `[n, d]` of the parts.
        own: `[n]`, the judge's score of each part, by a model made without it.
        seed: of the random choices.

    Example:
        >>> parts = np.random.default_rng(0).normal(size=(60, 5))
        >>> parts[:3] += 9
        >>> scores = score_suspicion({"colour": parts}, np.zeros(60))
        >>> np.sort(np.argsort(-scores)[:3])
        array([0, 1, 2])
    """
    few = {name: group[:, :: -(-group.shape[1] // _ITEMS)] for name, group in vectors.items()}
    rng = np.random.default_rng(seed)
    number = len(own)
    first = _mean_distance(few, np.ones(number, np.bool_), rng)
    learns = np.ones(number, np.bool_)
    learns[np.argsort(-first, kind="stable")[: int(_TRIMMED * number)]] = False
    return _in_units(first + _mean_distance(few, learns, rng)) + _in_units(own)


def _mean_distance(
    vectors: Mapping[str, NDArray[Any]], learns: NDArray[np.bool_], rng: np.random.Generator
) -> Floats:
    """Mean over groups and rounds of D², in units, of each part by models of others that may learn: `[n]`."""
    number = len(learns)
    most = min(int(_LEARN_SHARE * number), _MOST_LEARNT)
    total, rounds = np.zeros(number), np.zeros(number)
    order = rng.permutation(number)
    for round_ in range(ROUNDS):
        # Each part is asked about in one round in three at least, however the choices fall.
        order = np.roll(order, number - most) if round_ % 3 else rng.permutation(number)
        chosen, others = order[:most], order[most:]
        for group in vectors.values():
            space = Whitening.fit(group[chosen[learns[chosen]]], "auto")
            total[others] += _in_units(space.squared_distances(group[others]))
        rounds[others] += 1
    return np.asarray(total / (np.maximum(rounds, 1) * len(vectors)), np.float64)
