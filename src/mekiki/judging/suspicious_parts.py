"""Which of the parts given as OK look as if they were not: out-of-fold scores beyond what the usual parts reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_LEFT_OUT = 0.15
"""Share of the parts, at most, that are found suspicious: more are no exceptions."""
LEAST_PARTS = 20
"""Parts below which none is found suspicious: the tail of fewer cannot be told from exceptions."""
MARGIN = 1.5
"""How far beyond the end of an exponential tail a part must lie, as a factor: rare kinds of good parts lie at its end,
and without two of 300 of them the AUROC on magnetic tiles fell by .005."""
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
