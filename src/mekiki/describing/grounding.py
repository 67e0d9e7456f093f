"""The proof that a describer reads its vectors: parts it has not seen, described from vectors that are not theirs too.

A language model writes well of anything. Whether it speaks of *this* part is another matter, and shows only when the
vector is changed and the words get worse: for another part's, for zeros, for none. The loss of the true texts is
compared part by part (Wilcoxon signed-rank test, one-sided); at p ≥ .01 the describer is said to guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from mekiki.console import Progress, silent
from mekiki.describing.answer import ATTRIBUTES, Text
from mekiki.describing.describer import Describer, Example, examples_of
from mekiki.describing.part_vectors import PartVectors
from mekiki.describing.projector import tensors

VECTORS = ("true", "shuffled", "zeros", "none")
"""What a part is described from: its own vector, another part's, one of which every item has its mean, or no vector."""
CHANCE = 0.01
"""p-value from which on the describer is said to guess."""


@dataclass(frozen=True)
class Proof:
    """What came of it.

    Attributes:
        parts: how many held-out parts it rests on.
        loss: of each of `VECTORS`, mean loss of a token of the true texts, nats.
        right: of each of `VECTORS`, the share of parts of which each of `ATTRIBUTES` is right.
        most: of each of `ATTRIBUTES`, the share of its most frequent value: what a guess without looking gets.
        p: that the true vectors do no better than shuffled ones: of the loss, and of each of `ATTRIBUTES`.
        readable: of each of `ATTRIBUTES`, what a linear probe reads from the whole vector, and with patches.
    """

    parts: int
    loss: Mapping[str, float]
    right: Mapping[str, Mapping[str, float]]
    most: Mapping[str, float]
    p: Mapping[str, float]
    readable: Mapping[str, Mapping[str, float]]

    @property
    def reads(self) -> bool:
        """Whether it reads the vector."""
        return self.p["loss"] < CHANCE

    @property
    def sentence(self) -> str:
        """The same in words."""
        if self.reads:
            return (
                f"It reads the vector: of {self.parts} parts it had not seen, what people wrote costs "
                f"{self.loss['true']:.3f} nats a token with the part's own vector and {self.loss['shuffled']:.3f} with "
                f"another's (p = {self.p['loss']:.2g})."
            )
        return (
            f"It is guessing: of {self.parts} parts it had not seen, the part's own vector does no better than "
            f"another's beyond chance ({self.loss['true']:.3f} and {self.loss['shuffled']:.3f} nats a token, "
            f"p = {self.p['loss']:.2g})."
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"reads": self.reads, "sentence": self.sentence}


def prove(
    describer: Describer,
    parts: PartVectors,
    texts: Sequence[Text],
    held: NDArray[np.intp],
    *,
    readable: Mapping[str, Mapping[str, float]] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Proof:
    """Describe parts that had no part in learning, with vectors that are theirs and that are not.

    Args:
        describer: what is to be proved.
        parts: vectors of all parts.
        texts: what people wrote of them.
        held: rows of the parts that it has not seen.
        readable: what a linear probe reads, to be told beside it.
        seed: of which part gets whose vector.
        progress: told after each of `VECTORS`.
    """
    held = np.sort(held)
    order = np.random.default_rng(seed).permutation(held)
    # A circle through all of them: no part keeps its own vector.
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    source = {
        "true": parts.rows(held),
        "shuffled": parts.rows(np.array([other[row] for row in held.tolist()])),
        "zeros": parts.rows(held),
        "none": parts.rows(held),
    }
    examples = examples_of(describer, texts, held)
    place = {row: number for number, row in enumerate(held.tolist())}
    facts = {text.part: text for text in texts if text.whole and text.part in place}
    loss, right = {}, {}
    for number, vectors in enumerate(VECTORS):
        loss[vectors] = _losses(describer, examples, source[vectors], place, vectors)
        if describer.values and facts:
            right[vectors] = _right(describer, source[vectors], facts, place, vectors)
        progress("proving that it reads the vectors", number + 1, len(VECTORS))
    p = {"loss": _better(loss["shuffled"] - loss["true"])}
    most = {}
    for name in ATTRIBUTES if right else ():
        p[name] = _more_often(right["true"][name], right["shuffled"][name])
        values = [text.fields[name] for text in facts.values()]
        most[name] = max(values.count(value) for value in set(values)) / len(values)
    return Proof(
        len(held),
        {vectors: float(each.mean()) for vectors, each in loss.items()},
        {
            vectors: {name: float(each.mean()) for name, each in by_name.items()}
            for vectors, by_name in right.items()
        },
        most,
        p,
        readable or {},
    )


def _losses(
    describer: Describer,
    examples: Sequence[Example],
    parts: PartVectors,
    place: Mapping[int, int],
    vectors: str,
) -> NDArray[np.float64]:
    """Mean loss of a token of all that was written of each part: `[n]`."""
    total, tokens = np.zeros(len(place)), np.zeros(len(place))
    given = tensors(parts)
    with torch.inference_mode():
        for start in range(0, len(examples), 32):
            batch = examples[start : start + 32]
            rows = [place[example.part] for example in batch]
            own = [replace(each, part=row) for row, each in zip(rows, batch, strict=True)]
            blind = np.ones(len(batch), np.bool_) if vectors == "zeros" else None
            soft = None if vectors == "none" else describer.soft(own, given, blind)
            sums = describer.losses(own, soft)
            np.add.at(total, rows, sums.double().cpu().numpy())
            np.add.at(tokens, rows, [len(each.answer) for each in batch])
    return total / np.maximum(tokens, 1)


def _right(
    describer: Describer,
    parts: PartVectors,
    facts: Mapping[int, Text],
    place: Mapping[int, int],
    vectors: str,
) -> dict[str, NDArray[np.bool_]]:
    """Of each of `ATTRIBUTES`, which parts it is said rightly of: bool `[n]`."""
    said: dict[int, dict[str, str]] = {}
    for language in sorted({text.language for text in facts.values()}):
        meant = [part for part, text in facts.items() if text.language == language]
        given = parts.rows(np.array([place[part] for part in meant]))
        told = describer.reports(given, language, vectors="true" if vectors == "shuffled" else vectors)
        said |= dict(zip(meant, told, strict=True))
    return {
        name: np.array([said[part][name] == text.fields[name] for part, text in facts.items()])
        for name in ATTRIBUTES
    }


def _better(differences: NDArray[np.float64]) -> float:
    """p-value that differences paired by part are not above zero."""
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, alternative="greater").pvalue)


def _more_often(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """p-value that `one` is right no more often, paired by part (McNemar's exact test, one-sided)."""
    only, not_it = int((one & ~other).sum()), int((other & ~one).sum())
    return float(stats.binomtest(only, only + not_it, alternative="greater").pvalue) if only + not_it else 1.0
