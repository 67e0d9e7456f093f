"""The protocol of a store of cases, and what all stores share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import Cases, EncoderInfo, utc_time
from mekiki.cases.where import Condition, begins_with
from mekiki.errors import InputError

BATCH = 4096
"""Cases read at once."""
SHORTEST_ID = 4
"""Characters of an id that may stand for the whole, if no other id begins with them."""
ROUNDING = 1e-4
"""Largest relative error of distances in single precision."""


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Cases in the order of distance plus shift.

    Attributes:
        cases: the best first; of equals, the lower id first. Thumbnails may be left out (`Store.get` has them).
        distances: Euclidean, between vectors as the encoder or the adapter makes them, float64 `[k]`.
        shifts: what feedback added to them, float64 `[k]`.
    """

    cases: Cases
    distances: NDArray[np.float64]
    shifts: NDArray[np.float64]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a case, for JSON."""
        rows = zip(self.cases, self.distances, self.shifts, strict=True)
        return [
            {"rank": rank, **case.to_dict(), "distance": float(distance), "shift": float(shift)}
            for rank, (case, distance, shift) in enumerate(rows, start=1)
        ]


class Store(Protocol):
    """Cases of one encoder.

    Distance is Euclidean, not cosine: the length of a whitened vector has a meaning (its distance is that of
    Mahalanobis), and for vectors of length 1, as text encoders make them, both have the same order.

    Attributes:
        place: where it is, for people.
        encoder: what makes its vectors.
    """

    place: str
    encoder: EncoderInfo

    def add(self, cases: Cases) -> int:
        """Add cases, or replace those of the same id; they are on disk when it returns.

        Returns:
            How many ids are new.

        Raises:
            InputError: vectors of another encoder or size; or another process is writing.
        """

    def get(self, ids: Sequence[str]) -> Cases:
        """The cases of these ids, in this order; unknown ids are left out."""

    def search(self, vector: NDArray[np.float32], k: int, where: Condition | None = None) -> SearchResult:
        """The k nearest cases that meet a condition, exactly."""

    def forget(self, ids: Sequence[str]) -> int:
        """Remove cases, and return how many there were."""

    def count(self, where: Condition | None = None) -> int:
        """How many cases meet a condition."""

    def read(self, where: Condition | None = None, *, thumbnails: bool = True) -> Iterator[Cases]:
        """All cases that meet a condition, some at a time, in no order."""

    def version(self) -> object:
        """A value that differs after each change; `None` where changes cannot be seen."""


def read_all(store: Store) -> Cases:
    """All cases of a store, without thumbnails."""
    return Cases.concat([Cases.empty(store.encoder.dimension), *store.read(thumbnails=False)])


def matching_ids(store: Store, where: Condition) -> list[str]:
    """Ids of the cases that meet a condition."""
    return [id_ for part in store.read(where, thumbnails=False) for id_ in part.ids]


def complete_ids(store: Store, ids: Sequence[str]) -> list[str]:
    """Whole ids for ids or their beginnings.

    Raises:
        InputError: no case's id begins so, or several do.
    """
    known = set(store.get(list(ids)).ids)
    complete = []
    for id_ in ids:
        matching = [id_] if id_ in known else []
        if not matching and len(id_) >= SHORTEST_ID:
            matching = matching_ids(store, begins_with("id", id_))
        if len(matching) != 1:
            problem = f"{len(matching)} cases begin so" if matching else "there is none"
            raise InputError(f"case {id_}: {problem} in {store.place}; `mekiki search` shows their ids")
        complete += matching
    return complete


def check_cases(encoder: EncoderInfo, cases: Cases, place: str) -> None:
    """Refuse vectors of another encoder or size.

    Raises:
        InputError: with both names.
    """
    width = cases.vectors.shape[1]
    others = sorted(set(cases.table["encoder"].unique().to_pylist()) - {encoder.fingerprint})
    if others:
        raise InputError(
            f"{place}: holds vectors of {encoder}, and these are of {others[0] or 'an encoder without a name'}; "
            "give another store"
        )
    if width != encoder.dimension:
        raise InputError(f"{place}: holds vectors of {encoder}, and these have {width}; give another store")


def check_encoder(stored: EncoderInfo, given: EncoderInfo | None, place: str) -> None:
    """Refuse to open a store of another encoder's vectors.

    Raises:
        InputError: with both names.
    """
    if given is not None and not given.same_vectors(stored):
        raise InputError(f"{place}: holds vectors of {stored}, not of {given}; give another store")


def check_query(encoder: EncoderInfo, vector: NDArray[np.float32], k: int, place: str) -> NDArray[np.float32]:
    """The query as float32 `[d]`.

    Raises:
        InputError: it has another size, holds NaN, or k is below 1.
    """
    query = np.ascontiguousarray(vector, np.float32)
    if query.shape != (encoder.dimension,):
        raise InputError(f"{place}: holds vectors of {encoder}, and the query has {list(query.shape)}")
    if not np.isfinite(query).all():
        raise InputError("the query holds NaN or infinity")
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    return query


def rank_exactly(fetch: Callable[[int], Cases], query: NDArray[np.float32], k: int) -> SearchResult:
    """The k nearest, by distances in double precision; of equals, the lower id.

    Stores compare in single precision and order equals arbitrarily. So more than k are fetched, until the last of them
    is certainly farther away than the k-th.

    Args:
        fetch: returns the n nearest cases by the store's own search, or all if there are fewer.
        query: float32 `[d]`.
        k: how many are wanted.
    """
    wanted = k + k // 20 + 8
    while True:
        cases = fetch(wanted)
        distances = distances_to(cases.vectors, query)
        order = order_by_distance(distances, cases.ids)
        if len(cases) < wanted or distances[order[-1]] > distances[order[k - 1]] * (1 + ROUNDING):
            best = order[:k]
            return SearchResult(cases.rows(best), distances[best], np.zeros(len(best)))
        wanted *= 4


def order_by_distance(distances: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.intp]:
    """The order of cases by distance; of equals, the lower id first."""
    return np.lexsort((np.array(ids, dtype=object), distances))


def distances_to(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances of rows to one vector: `[N, d]`, `[d]` → float64 `[N]`."""
    difference = vectors.astype(np.float64) - query.astype(np.float64)
    distances: NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", difference, difference))
    return distances


def stats(store: Store) -> dict[str, Any]:
    """What a store holds: `cases`, `labels`, `who`, `notes` (how many have one), `from`, `to`, `encoder`, `place`."""
    labels: Counter[str] = Counter()
    who: Counter[str] = Counter()
    notes, times = 0, list[int]()
    for cases in store.read(thumbnails=False):
        labels.update(cases.texts("label"))
        who.update(cases.texts("who"))
        notes += sum(bool(note) for note in cases.texts("note"))
        times += [int(cases.times.min()), int(cases.times.max())]
    return {
        "cases": labels.total(),
        "labels": dict(sorted(labels.items())),
        "who": dict(sorted(who.items())),
        "notes": notes,
        "from": utc_time(min(times)).isoformat() if times else None,
        "to": utc_time(max(times)).isoformat() if times else None,
        "encoder": vars(store.encoder),
        "place": store.place,
    }
