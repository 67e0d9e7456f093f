"""Relevance feedback: an append-only log of judged cases, and the shift of distances that it causes.

A case c lies from a query q at

    D(q, c) = d(q, c) − Σⱼ yⱼ · sⱼ · K(d(q, qⱼ); near qⱼ) · K(d(c, cⱼ); near cⱼ)

where d is Euclidean and the sum is over active judgements: for query qⱼ, case cⱼ was judged good (yⱼ = 1) or bad
(yⱼ = −1). Of several judgements of one case for one query, the last counts. K is 1 up to the distance a, 0 from the
distance b on, and (1 − t²)² with t = (x − a)/(b − a) between. The lengths of a judgement are measured in the store when
it is made:

- sⱼ, the step: from the query's nearest case to its `DEPTH`-th, so that a nearest case judged bad moves just behind it;
- among cases, a is the distance to the nearest other case and b that to the `REACH`-th, so that at most that many cases
  move (copies counting as one), whatever the size of the store;
- among queries, a is the distance to the nearest case and b that to the `DEPTH`-th: a query within a is the same
  question, and from b on nothing changes.

Both numbers are at most a twentieth of the store. All lengths are in the log, so the order is a function of the store
and the log alone, and undoing a judgement restores it exactly. Positive feedback moves the judged case by s and any
other case by at most s, so its rank cannot fall.

References:
    Giacinto and Roli, "Instance-based relevance feedback for image retrieval", NIPS 2004: what counts is how near a
    case is to those judged. Rocchio (1971) moves the query instead, and with it every case. K is the quartic kernel of
    density estimation, which unlike the Gaussian has an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.store import Store, complete_ids
from mekiki.errors import InputError
from mekiki.storage.events import Event, EventLog
from mekiki.storage.run_folder import FEEDBACK

DEPTH = 50
"""Ranks that a case may lose by one judgement, about; and the number of neighbours within which queries are similar."""
REACH = 10
"""Cases that one judgement moves at most."""
SHARE = 20
"""Both are at most the number of cases divided by this."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """One case judged good or bad for a query.

    Attributes:
        number: counted from 1.
        entry: number of the log entry; those given together have the same one.
        space: which vectors: `images` or `notes`.
        encoder: fingerprint of their encoder.
        asked: the query, for people.
        query: float32 `[d]`.
        case: id of the case.
        vector: float32 `[d]`, of the case.
        good: whether it was judged good.
        step: s, how far it moves.
        reach: a and b among cases.
        similar: a and b among queries.
        who: the user.
        when: UTC, ISO 8601.
        undone: whether it was undone.
    """

    number: int
    entry: int
    space: str
    encoder: str
    asked: str
    query: NDArray[np.float32]
    case: str
    vector: NDArray[np.float32]
    good: bool
    step: float
    reach: tuple[float, float]
    similar: tuple[float, float]
    who: str
    when: str
    undone: bool = False

    def to_dict(self) -> dict[str, Any]:
        """All but the vectors, for JSON; `go` is the number of the entry."""
        names = {"entry": "go"}
        return {
            names.get(name, name): each
            for name, each in vars(self).items()
            if name not in ("query", "vector")
        }


class FeedbackLog:
    """The feedback of a run folder, `feedback.jsonl`; judgements given together are one entry.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FEEDBACK
        self._log = EventLog(self.path, "feedback", "mekiki feedback list RUN")

    def judgements(self) -> list[Judgement]:
        """All judgements in order, those undone too.

        Raises:
            InputError: a line other than a last one that a crash cut short cannot be read.
        """
        entries = self._log.read(_judgements)
        judgements = (judgement for entry in entries for judgement in entry)
        return [replace(each, number=number) for number, each in enumerate(judgements, start=1)]

    def active(self, space: str, encoder: str) -> list[Judgement]:
        """Those that count: not undone, of this encoder, and of several on one case for one query the last."""
        last = {
            (each.query.tobytes(), each.case): each
            for each in self.judgements()
            if not each.undone and (each.space, each.encoder) == (space, encoder)
        }
        return sorted(last.values(), key=lambda each: each.number)

    def add(
        self,
        store: Store,
        space: str,
        query: NDArray[np.float32],
        good: Sequence[str],
        bad: Sequence[str],
        *,
        asked: str = "",
        who: str | None = None,
    ) -> list[Judgement]:
        """Write one entry: which cases, by their ids or beginnings, are what the query wanted and which are not.

        Raises:
            InputError: there is no such case, none is named, or one is named as both.
        """
        good, bad = (complete_ids(store, ids) for ids in (good, bad))
        if not good and not bad:
            raise InputError("no case is judged; name some as good or bad")
        both = sorted(set(good) & set(bad))
        if both:
            raise InputError(f"case {both[0]} is named as good and bad; name it once")
        query = np.asarray(query, np.float32)
        step, similar = query_lengths(store, query)
        content = {
            "space": space,
            "encoder": store.encoder.fingerprint,
            "asked": asked,
            "query": query.tolist(),
            "step": step,
            "similar": similar,
            "said": [
                {
                    "case": case.id,
                    "vector": case.vector.tolist(),
                    "good": case.id in good,
                    "reach": case_lengths(store, case.vector),
                }
                for case in store.get([*good, *bad])
            ],
        }
        return self._of_entry(self._log.append(content, who=who))

    def undo(self, entry: int | None = None, *, who: str | None = None) -> list[Judgement]:
        """Undo one entry, the last active one if none is named, and return its judgements.

        Raises:
            InputError: there is none, or it was undone before.
        """
        return self._of_entry(self._log.undo(entry, who=who))

    def _of_entry(self, event: Event) -> list[Judgement]:
        return [each for each in self.judgements() if each.entry == event.number]


def _judgements(event: Event) -> list[Judgement]:
    """The judgements of one entry, not numbered yet."""
    content = event.content
    common = {name: content[name] for name in ("space", "encoder", "asked", "who", "when")}
    return [
        Judgement(
            number=0,
            entry=event.number,
            query=np.array(content["query"], np.float32),
            case=each["case"],
            vector=np.array(each["vector"], np.float32),
            good=bool(each["good"]),
            step=float(content["step"]),
            reach=_pair(each["reach"]),
            similar=_pair(content["similar"]),
            undone=event.undone,
            **common,
        )
        for each in content["said"]
    ]


def _pair(ends: Sequence[float]) -> tuple[float, float]:
    start, end = ends
    return float(start), float(end)


def shifts(
    judgements: Sequence[Judgement], query: NDArray[np.float32], vectors: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What feedback adds to the distances of cases from a query: `[N, d]` → float64 `[N]`; negative is nearer.

    Args:
        judgements: the active ones.
        query: float32 `[d]`.
        vectors: of the cases.
    """
    added = np.zeros(len(vectors))
    for each, weight in relevant(judgements, query):
        difference = vectors - each.vector
        distances = np.sqrt(np.einsum("nd,nd->n", difference, difference, dtype=np.float64))
        added -= (1 if each.good else -1) * each.step * weight * kernel(distances, each.reach)
    return added


def relevant(judgements: Sequence[Judgement], query: NDArray[np.float32]) -> list[tuple[Judgement, float]]:
    """The judgements that count for a query, and their weights, over 0 to 1."""
    if not judgements:
        return []
    queries = np.stack([each.query for each in judgements]).astype(np.float64)
    distances = np.sqrt(np.square(queries - query).sum(axis=1))
    weights = [float(kernel(d, each.similar)) for d, each in zip(distances, judgements, strict=True)]
    return [(each, weight) for each, weight in zip(judgements, weights, strict=True) if weight > 0]


def kernel(distances: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.float64]:
    """K: 1 up to the first of two distances, 0 from the second on.

    Example:
        >>> kernel(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), (1.0, 3.0))
        array([1.    , 1.    , 0.5625, 0.    , 0.    ])
    """
    start, end = ends
    if end <= start:
        return np.asarray(distances <= start, np.float64)
    between = np.clip((distances - start) / (end - start), 0.0, 1.0)
    values: NDArray[np.float64] = np.square(1.0 - np.square(between))
    return values


def query_lengths(store: Store, query: NDArray[np.float32]) -> tuple[float, tuple[float, float]]:
    """The step s of a judgement for this query, and a and b among queries."""
    near = store.search(query, _neighbours(store, DEPTH)).distances
    return float(near[-1] - near[0]), _ends(near)


def case_lengths(store: Store, vector: NDArray[np.float32]) -> tuple[float, float]:
    """Lengths a and b among cases for a judgement of the case at this vector."""
    return _ends(
        store.search(vector, _neighbours(store, REACH) + 1).distances
    )  # the case itself is one of them


def _neighbours(store: Store, most: int) -> int:
    return max(1, min(most, store.count() // SHARE))


def _ends(near: NDArray[np.float64]) -> tuple[float, float]:
    """Where a kernel starts to fall and where it ends, from the distances to neighbours, copies left out."""
    others = near[near > 0]
    if not len(others) or others[0] == others[-1]:
        return 0.0, 0.0
    return float(others[0]), float(others[-1])
