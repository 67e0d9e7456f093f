"""The grounding test: whether descriptions depend on the vector, tested on parts that were not used in training.

A language model writes plausible text about anything. Whether it describes *this* part shows when the vector is
changed and the descriptions get worse: to another part's vector, to zeros, to none. The loss of the true texts is
compared part by part (Wilcoxon signed-rank test, one-sided); at p ≥ .01 the describer is at chance.

Linear probes show what the vectors hold at all, independently of the describer (Alain and Bengio, *Understanding
intermediate layers using linear classifier probes*, 2016, arXiv 1610.01644).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mekiki.console import Progress, silent
from mekiki.describing.describer import AnswerTokens, Describer, answer_tokens
from mekiki.describing.projector import PartVectors
from mekiki.describing.schema import ATTRIBUTES
from mekiki.describing.texts import PartText

VECTORS = ("true", "shuffled", "zeros", "none")
"""What a part is described from: its own vector, another part's, the mean vector, or a no-vector prompt."""
SIGNIFICANCE = 0.01
"""p-value from which on the describer is at chance."""
PROBE_COMPONENTS = 200
"""Components that a probe uses at most; longer vectors are reduced to this many principal components."""
PROBE_PARTS = 4_000
"""Parts that a probe is trained on at most."""

Table = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class GroundingTest:
    """Result of a grounding test.

    Attributes:
        parts: number of test parts.
        loss: by `VECTORS`, mean loss of a token of the true texts, nats.
        accuracy: by `VECTORS` and `ATTRIBUTES`, the share of parts with the right value.
        majority: by `ATTRIBUTES`, the share of the most frequent value.
        p_values: p-value that the true vectors do no better than shuffled ones: of the loss, and of `ATTRIBUTES`.
        probes: by source and `ATTRIBUTES`, the accuracy of a linear probe.
    """

    parts: int
    loss: Mapping[str, float]
    accuracy: Table
    majority: Mapping[str, float]
    p_values: Mapping[str, float]
    probes: Table

    @property
    def passed(self) -> bool:
        """Whether the descriptions depend on the vector."""
        return self.p_values["loss"] < SIGNIFICANCE

    @property
    def sentence(self) -> str:
        """The result in words."""
        true, shuffled, p = self.loss["true"], self.loss["shuffled"], self.p_values["loss"]
        if self.passed:
            return (
                f"The describer reads the vector: on {self.parts} test parts, the loss of the written texts is "
                f"{true:.3f} nats a token with the part's own vector and {shuffled:.3f} with another's (p = {p:.2g})."
            )
        return (
            f"The describer is at chance: on {self.parts} test parts, the part's own vector does not do significantly "
            f"better than another's ({true:.3f} and {shuffled:.3f} nats a token, p = {p:.2g})."
        )

    def to_dict(self) -> dict[str, Any]:
        """The result under the keys of the stored files and of `--json`."""
        return {
            "parts": self.parts,
            "loss": self.loss,
            "right": self.accuracy,
            "most": self.majority,
            "p": self.p_values,
            "readable": self.probes,
            "reads": self.passed,
            "sentence": self.sentence,
        }


def evaluate_grounding(
    describer: Describer,
    parts: PartVectors,
    texts: Sequence[PartText],
    test: NDArray[np.intp],
    *,
    probes: Table | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> GroundingTest:
    """Describe the test parts from their own vectors, from other parts' vectors, from zeros and from none.

    Args:
        describer: the describer.
        parts: vectors of all parts.
        texts: what people wrote about them.
        test: rows of the parts that were not used in training.
        probes: accuracy of linear probes, for the result.
        seed: seed of the assignment of shuffled vectors.
        progress: called after each of `VECTORS`.
    """
    test = np.sort(test)
    order = np.random.default_rng(seed).permutation(test)
    # In a circle through all parts, so that no part keeps its own vector.
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    own = parts.rows(test)
    shuffled = parts.rows(np.array([other[row] for row in test.tolist()]))
    answers = answer_tokens(describer, texts, test)
    position = {row: number for number, row in enumerate(test.tolist())}
    known = {text.part: text for text in texts if text.has_attributes and text.part in position}
    loss, right = {}, {}
    for number, vectors in enumerate(VECTORS):
        source = shuffled if vectors == "shuffled" else own
        loss[vectors] = _token_losses(describer, answers, source, position, vectors)
        if describer.values and known:
            right[vectors] = _right_answers(describer, source, known, position, vectors)
        progress("grounding test", number + 1, len(VECTORS))
    p_values = {"loss": _wilcoxon(loss["shuffled"] - loss["true"])}
    majority = {}
    for name in ATTRIBUTES if right else ():
        p_values[name] = _mcnemar(right["true"][name], right["shuffled"][name])
        values = [text.fields[name] for text in known.values()]
        majority[name] = max(values.count(value) for value in set(values)) / len(values)
    return GroundingTest(
        len(test),
        {vectors: float(each.mean()) for vectors, each in loss.items()},
        {vectors: {name: float(each.mean()) for name, each in row.items()} for vectors, row in right.items()},
        majority,
        p_values,
        probes or {},
    )


def _token_losses(
    describer: Describer,
    answers: Sequence[AnswerTokens],
    parts: PartVectors,
    position: Mapping[int, int],
    vectors: str,
) -> NDArray[np.float64]:
    """Mean loss of a token of everything that was written about each part: `[n]`."""
    moved = [replace(answer, part=position[answer.part]) for answer in answers]
    rows = [answer.part for answer in moved]
    total, tokens = np.zeros(len(position)), np.zeros(len(position))
    np.add.at(total, rows, describer.answer_losses(moved, parts.tensors(), vectors=vectors))
    np.add.at(tokens, rows, [len(answer.answer) for answer in answers])
    return total / np.maximum(tokens, 1)


def _right_answers(
    describer: Describer,
    parts: PartVectors,
    known: Mapping[int, PartText],
    position: Mapping[int, int],
    vectors: str,
) -> dict[str, NDArray[np.bool_]]:
    """For each of `ATTRIBUTES`, which parts are described with the right value: bool `[n]`."""
    answers: dict[int, dict[str, str]] = {}
    for language in sorted({text.language for text in known.values()}):
        rows = [part for part, text in known.items() if text.language == language]
        source = parts.rows(np.array([position[part] for part in rows]))
        replies = describer.answer_fields(source, language, vectors=vectors)
        answers |= dict(zip(rows, replies, strict=True))
    return {
        name: np.array([answers[part][name] == text.fields[name] for part, text in known.items()])
        for name in ATTRIBUTES
    }


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    """p-value that differences paired by part are not above zero."""
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, alternative="greater").pvalue)


def _mcnemar(true: NDArray[np.bool_], shuffled: NDArray[np.bool_]) -> float:
    """p-value that `true` is right no more often than `shuffled` (McNemar's exact test, one-sided)."""
    better, worse = int((true & ~shuffled).sum()), int((shuffled & ~true).sum())
    if better + worse == 0:
        return 1.0
    return float(stats.binomtest(better, better + worse, alternative="greater").pvalue)


def linear_probes(
    parts: PartVectors, texts: Sequence[PartText], train: NDArray[np.intp], test: NDArray[np.intp]
) -> dict[str, dict[str, float]]:
    """Accuracy of linear classifiers of each of `ATTRIBUTES`, from the whole vector, and from it with the patches.

    Args:
        parts: vectors of all parts.
        texts: what is known of the parts.
        train: rows of the training parts.
        test: rows of the test parts.

    Returns:
        By source, `the whole vector` and, if there are patches, `whole and patches`; empty without fields.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
        >>> sides = ["left" if row[0] < 0 else "right" for row in x]
        >>> fields = [{"defect": "pit", "place": side, "severity": "minor"} for side in sides]
        >>> texts = [PartText(part, "a pit", "en", each) for part, each in enumerate(fields)]
        >>> probes = linear_probes(PartVectors(x, None), texts, np.arange(150), np.arange(150, 200))
        >>> probes["the whole vector"]["place"] > 0.9
        True
    """
    known = {text.part: text.fields for text in texts if text.has_attributes}
    train_rows, test_rows = (
        [int(row) for row in rows if int(row) in known] for rows in (train[:PROBE_PARTS], test)
    )
    if not train_rows or not test_rows:
        return {}
    sides = [parts.rows(rows) for rows in (train_rows, test_rows)]
    sources = {"the whole vector": [side.whole for side in sides]}
    if parts.places is not None:
        sources["whole and patches"] = [
            np.concatenate([side.whole, side.places.reshape(len(side.whole), -1)], axis=1)
            for side in sides
            if side.places is not None
        ]
    probes = {}
    for source, (x_train, x_test) in sources.items():
        steps: list[Any] = [StandardScaler()]
        components = min(PROBE_COMPONENTS, len(x_train) // 2)
        if x_train.shape[1] > components:
            steps.append(PCA(components, random_state=0))
        scaler = make_pipeline(*steps, StandardScaler()).fit(x_train)
        inputs = scaler.transform(x_train), scaler.transform(x_test)
        probes[source] = {
            name: _probe_accuracy(
                *inputs, [known[row][name] for row in train_rows], [known[row][name] for row in test_rows]
            )
            for name in ATTRIBUTES
        }
    return probes


def _probe_accuracy(
    x_train: NDArray[np.float32], x_test: NDArray[np.float32], y_train: Sequence[str], y_test: Sequence[str]
) -> float:
    if len(set(y_train)) < 2:
        return float(np.mean([value == y_train[0] for value in y_test]))
    classifier = LogisticRegression(C=0.1, max_iter=300).fit(x_train, np.array(y_train))
    return float(np.mean(classifier.predict(x_test) == np.array(y_test)))
