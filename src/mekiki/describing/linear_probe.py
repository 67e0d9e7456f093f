"""Linear probes: what can be read from vectors at all, by the simplest reader there is.

Where a probe of the vector that holds the class cannot read the place, no describer can be blamed for not saying it;
and where it can from the patches, they are worth giving (Alain and Bengio, *Understanding intermediate layers using
linear classifier probes*, 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mekiki.describing.answer import ATTRIBUTES, Text
from mekiki.describing.part_vectors import PartVectors

WIDEST = 200
"""Items that a probe reads at most; wider vectors are brought to so many principal components."""
MOST = 4_000
"""Parts that teach it at most."""


def probe(
    taught: NDArray[np.float32], values: Sequence[str], held: NDArray[np.float32], truth: Sequence[str]
) -> float:
    """Share of held-out rows of which a linear classifier reads the value rightly.

    Args:
        taught: float32 `[N, d]`.
        values: `[N]`.
        held: float32 `[M, d]`.
        truth: `[M]`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 3)).astype(np.float32)
        >>> y = ["left" if row[0] < 0 else "right" for row in x]
        >>> probe(x[:150], y[:150], x[150:], y[150:]) > 0.9
        True
    """
    return _read(*_narrowed(taught, held), values, truth)


def _narrowed(
    taught: NDArray[np.float32], held: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Standardised, and no wider than a probe reads: work that is the same for every value it is asked for."""
    steps = [StandardScaler()]
    width = min(WIDEST, len(taught) // 2)
    if taught.shape[1] > width:
        steps.append(PCA(width, random_state=0))
    made = make_pipeline(*steps, StandardScaler()).fit(taught)
    return made.transform(taught), made.transform(held)


def _read(
    taught: NDArray[np.float32], held: NDArray[np.float32], values: Sequence[str], truth: Sequence[str]
) -> float:
    if len(set(values)) < 2:
        return float(np.mean([each == values[0] for each in truth]))
    reader = LogisticRegression(C=0.1, max_iter=300).fit(taught, np.array(values))
    return float(np.mean(reader.predict(held) == np.array(truth)))


def readable(
    parts: PartVectors, texts: Sequence[Text], teach: NDArray[np.intp], held: NDArray[np.intp]
) -> dict[str, dict[str, float]]:
    """Of each of `ATTRIBUTES`, what probes read from the whole vector, and with the patches beside it.

    Args:
        parts: vectors of all parts.
        texts: what is known of them.
        teach: rows of the parts that teach.
        held: rows of those held out.

    Returns:
        By what is read: `the whole vector`, and `whole and patches` where there are any; empty without fields.
    """
    facts = {text.part: text.fields for text in texts if text.whole}
    taught, asked = ([int(row) for row in rows if int(row) in facts] for rows in (teach[:MOST], held))
    if not taught or not asked:
        return {}
    sides = parts.rows(taught), parts.rows(asked)
    sources = {"the whole vector": [side.whole for side in sides]}
    if parts.places is not None:
        sources["whole and patches"] = [
            np.concatenate([side.whole, side.places.reshape(len(side.whole), -1)], axis=1)
            for side in sides
            if side.places is not None
        ]
    found = {}
    for source, (rows, others) in sources.items():
        narrow = _narrowed(rows, others)
        found[source] = {
            name: _read(*narrow, [facts[row][name] for row in taught], [facts[row][name] for row in asked])
            for name in ATTRIBUTES
        }
    return found
