"""What people said of cases that were found: a log that only grows, and how it changes what is found next.

**The formula.** Of a query q, a case c lies at

    D(q, c) = d(q, c) − Σⱼ yⱼ · sⱼ · K(d(q, qⱼ); near qⱼ) · K(d(c, cⱼ); near cⱼ)

where d is Euclidean, and the sum is over judgements in force: of query qⱼ, case cⱼ was said to be good (yⱼ = 1) or bad
(yⱼ = −1). Of several on one case for one query, the last counts. K is 1 up to the distance a, 0 from the distance b on,
and (1 − t²)² with t = (x − a)/(b − a) between. What a judgement may do is fixed when it is made, by the store as it
then is:

- sⱼ, how far it moves: from the query's nearest case to its `DEPTH`-th, so that a nearest case said to be bad comes
  just behind those;
- among cases, a is the distance to the nearest other case and b that to the `REACH`-th, so that no more than that many
  are moved (copies counting as one), whatever the size of the store;
- among queries, a is the distance to the nearest case and b that to the `DEPTH`-th, so that a query as near as that is
  the same question, and beyond that neighbourhood nothing at all changes.

Both numbers are at most a twentieth of the store. All lengths lie in the log, so the order is a function of the store
and of the log alone: taking a judgement back restores it exactly. A good word moves the case itself by s, and no other
farther, so it never loses a place by it.

**Where it comes from.** Rocchio (1971, in Salton, *The SMART Retrieval System*) moves the query towards what was judged
relevant and away from what was not; then one word moves everything. Here, as in Giacinto and Roli, *Instance-Based
Relevance Feedback for Image Retrieval* (NIPS 2004), what counts is how near a case is to those judged. K is the
quartic kernel of density estimation, which unlike the Gaussian ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.store import Store
from mekiki.errors import InputError
from mekiki.storage.atomic import user
from mekiki.storage.events import append_event, damaged_line, read_events
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import FEEDBACK

DEPTH = 50
"""Places that a case may lose by one word, about; and how far, in neighbours, a query is similar to another."""
REACH = 10
"""Cases that one word moves at most."""
SHARE = 20
"""Both are at most one in so many of the store."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a person said of one case that a query found.

    Attributes:
        number: counted from 1; those said in one go have the same `go`.
        go: counted from 1.
        space: whose vectors they are: `images` or `notes`.
        encoder: fingerprint of what made them.
        asked: the query, for people.
        query: float32 `[d]`.
        case: id of the case.
        vector: float32 `[d]`, of the case.
        good: what was said.
        step: s, how far it moves.
        reach: a and b among cases.
        similar: a and b among queries.
        who: the user.
        when: UTC, ISO 8601.
        undone: whether it was taken back.
    """

    number: int
    go: int
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
        """The same without vectors, for JSON."""
        return {name: value for name, value in vars(self).items() if name not in ("query", "vector")}


class FeedbackLog:
    """The log of a run folder: `feedback.jsonl`, which only grows.

    What is said in one go is one line, so a crash leaves all of it or nothing.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FEEDBACK

    def judgements(self) -> list[Judgement]:
        """All of them in order, those taken back too.

        Raises:
            InputError: a line other than a last one that a crash cut short cannot be read.
        """
        found: list[Judgement] = []
        undone: set[int] = set()
        goes = 0
        for row, facts in enumerate(read_events(self.path)):
            try:
                if "undo" in facts:
                    undone.add(int(facts["undo"]))
                    continue
                goes += 1
                found += _judgements(facts, goes, len(found))
            except (ValueError, TypeError, LookupError):
                raise damaged_line(self.path, row + 1) from None
        return [replace(each, undone=True) if each.go in undone else each for each in found]

    def in_force(self, space: str, encoder: str) -> list[Judgement]:
        """Those that hold: not taken back, of this encoder, and of several on one case for one query the last."""
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
        """Write down, in one go, which cases are what the query wanted and which are not.

        Raises:
            InputError: there is no such case, none is named, or one is said to be both.
        """
        named = [*good, *bad]
        if not named:
            raise InputError("no case is judged; name some as good or bad")
        both = sorted(set(good) & set(bad))
        if both:
            raise InputError(f"case {both[0]} is said to be good and bad; say one")
        cases = store.get(named)
        missing = [id_ for id_ in named if id_ not in set(cases.ids)]
        if missing:
            raise InputError(
                f"case {missing[0]}: there is none in {store.place}; `mekiki search` shows their ids"
            )
        query = np.asarray(query, np.float32)
        step, similar = scales(store, query)
        said = [
            {
                "case": case.id,
                "vector": case.vector.tolist(),
                "good": case.id in set(good),
                "reach": reach_of(store, case.vector),
            }
            for case in cases
        ]
        facts = {
            "space": space,
            "encoder": store.encoder.fingerprint,
            "asked": asked,
            "query": query.tolist(),
            "step": step,
            "similar": similar,
            "who": who or user(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "said": said,
        }
        self._append(lambda: facts)
        return [each for each in self.judgements() if each.query.tobytes() == query.tobytes()][-len(said) :]

    def undo(self, go: int | None = None, *, who: str | None = None) -> list[Judgement]:
        """Take back what was said in one go, the last that is in force if none is named.

        Raises:
            InputError: there is none, or it was taken back before.
        """
        taken: list[Judgement] = []

        def facts() -> dict[str, Any]:
            """Which it is is settled when nobody else writes."""
            judgements = self.judgements()
            chosen = go
            if chosen is None:
                held = [each.go for each in judgements if not each.undone]
                if not held:
                    raise InputError("no feedback is in force, so there is none to undo")
                chosen = held[-1]
            taken.extend(each for each in judgements if each.go == chosen)
            if not taken:
                raise InputError(f"feedback {chosen}: there is none; `mekiki feedback RUN --list` shows it")
            if taken[0].undone:
                raise InputError(f"feedback {chosen}: was taken back before")
            when = datetime.now(UTC).isoformat(timespec="seconds")
            return {"undo": chosen, "who": who or user(), "when": when}

        self._append(facts)
        return taken

    def _append(self, facts: Callable[[], dict[str, Any]]) -> None:
        """Write one line, made when nobody else writes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.path.parent, "writing feedback"):
            append_event(self.path, facts())


def shifts(
    judgements: Sequence[Judgement], query: NDArray[np.float32], vectors: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What judgements add to the distances of cases from a query: `[N, d]` → float64 `[N]`; negative is nearer.

    Args:
        judgements: those in force.
        query: float32 `[d]`.
        vectors: of the cases.
    """
    moved = np.zeros(len(vectors))
    for each, weight in active(judgements, query):
        difference = vectors - each.vector
        apart = np.sqrt(np.einsum("nd,nd->n", difference, difference, dtype=np.float64))
        moved -= (1 if each.good else -1) * each.step * weight * kernel(apart, each.reach)
    return moved


def active(judgements: Sequence[Judgement], query: NDArray[np.float32]) -> list[tuple[Judgement, float]]:
    """Those judgements that have a say for a query, and how much, over 0 to 1."""
    if not judgements:
        return []
    queries = np.stack([each.query for each in judgements]).astype(np.float64)
    apart = np.sqrt(np.square(queries - query).sum(axis=1))
    weights = [
        float(kernel(np.array([d]), each.similar)[0]) for d, each in zip(apart, judgements, strict=True)
    ]
    return [(each, weight) for each, weight in zip(judgements, weights, strict=True) if weight > 0]


def kernel(apart: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.float64]:
    """K: 1 up to the first of two distances, 0 from the second on.

    Example:
        >>> kernel(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), (1.0, 3.0))
        array([1.    , 1.    , 0.5625, 0.    , 0.    ])
    """
    full, nothing = ends
    if nothing <= full:
        return (apart <= full).astype(np.float64)
    between = np.clip((apart - full) / (nothing - full), 0.0, 1.0)
    shares: NDArray[np.float64] = np.square(1.0 - np.square(between))
    return shares


def scales(store: Store, query: NDArray[np.float32]) -> tuple[float, tuple[float, float]]:
    """How far a word on this query moves, and how far it reaches among queries."""
    near = store.search(query, _places(store, DEPTH)).distances
    return float(near[-1] - near[0]), _ends(near)


def reach_of(store: Store, vector: NDArray[np.float32]) -> tuple[float, float]:
    """How far a word on the case at this vector reaches among cases."""
    near = store.search(vector, _places(store, REACH) + 1).distances  # itself, and so many others
    return _ends(near)


def _places(store: Store, most: int) -> int:
    return max(1, min(most, store.count() // SHARE))


def _ends(near: NDArray[np.float64]) -> tuple[float, float]:
    """Where a kernel begins to fall and where it ends, from the distances to neighbours; copies count as oneself."""
    others = near[near > 0]
    if not len(others) or others[0] == others[-1]:
        return 0.0, 0.0
    return float(others[0]), float(others[-1])


def _pair(ends: Sequence[float]) -> tuple[float, float]:
    full, nothing = ends
    return float(full), float(nothing)


def _judgements(facts: dict[str, Any], go: int, before: int) -> list[Judgement]:
    query = np.array(facts["query"], np.float32)
    return [
        Judgement(
            before + place + 1,
            go,
            facts["space"],
            facts["encoder"],
            facts["asked"],
            query,
            said["case"],
            np.array(said["vector"], np.float32),
            bool(said["good"]),
            float(facts["step"]),
            _pair(said["reach"]),
            _pair(facts["similar"]),
            facts["who"],
            facts["when"],
        )
        for place, said in enumerate(facts["said"])
    ]
