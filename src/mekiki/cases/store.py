"""What every store of cases does, and what all of them have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import Cases, Encoder, moment
from mekiki.cases.where import Condition
from mekiki.errors import InputError

BATCH = 4096
"""Cases that are read at once."""
ROUNDING = 1e-4
"""Share by which distances in single precision may be wrong."""


@dataclass(frozen=True, eq=False)
class Found:
    """Cases in the order of their distance.

    Attributes:
        cases: the nearest first; of equals, the lower id.
        distances: Euclidean, float64 `[k]`.
    """

    cases: Cases
    distances: NDArray[np.float64]


class Store(Protocol):
    """A place that keeps cases of one encoder.

    Distance is Euclidean, not cosine: whitened vectors, where it is that of Mahalanobis and Taguchi, mean something by
    their length; and for vectors of length 1, as text encoders give them, both have the same order.

    Attributes:
        place: where it is, for people.
        encoder: whose vectors it holds.
    """

    place: str
    encoder: Encoder

    def add(self, cases: Cases) -> int:
        """Keep cases; one whose id is known takes the place of the former. When it returns, they are safe.

        Returns:
            How many ids are new.

        Raises:
            InputError: vectors of another encoder or size; or another process writes, and it should be tried again.
        """

    def get(self, ids: Sequence[str]) -> Cases:
        """Those of these ids that there are, in this order."""

    def search(self, vector: NDArray[np.float32], k: int, where: Condition | None = None) -> Found:
        """The k nearest of those meant, exactly."""

    def forget(self, ids: Sequence[str]) -> int:
        """Remove cases; how many there were."""

    def count(self, where: Condition | None = None) -> int:
        """How many are meant."""

    def read(self, where: Condition | None = None, *, whole: bool = True) -> Iterator[Cases]:
        """All that are meant, some at a time, in no order; without thumbnails unless `whole`."""

    def version(self) -> object:
        """Another one after each change; `None` where nobody knows."""


def check_fit(encoder: Encoder, cases: Cases, place: str) -> None:
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


def check_encoder(kept: Encoder, given: Encoder | None, place: str) -> None:
    """Refuse to open a store of another encoder's vectors.

    Raises:
        InputError: with both names.
    """
    if given is not None and (given.fingerprint, given.dimension) != (kept.fingerprint, kept.dimension):
        raise InputError(f"{place}: holds vectors of {kept}, not of {given}; give another store")


def check_query(encoder: Encoder, vector: NDArray[np.float32], k: int, place: str) -> NDArray[np.float32]:
    """The query as the store wants it.

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


def ranked(fetch: Callable[[int], Cases], query: NDArray[np.float32], k: int) -> Found:
    """The k nearest, by distances in double precision; of equals, the lower id.

    Stores compare in single precision and choose among equals as they like. So some more are fetched than asked for,
    until the last of them is farther away than the k-th for sure.

    Args:
        fetch: gives so many of the nearest cases as the store sees it, or all if there are fewer.
        query: float32 `[d]`.
        k: how many are wanted.
    """
    wanted = k + k // 20 + 8
    while True:
        cases = fetch(wanted)
        apart = distances_to(cases.vectors, query)
        order = by_distance(apart, cases.ids)
        if len(cases) < wanted or apart[order[-1]] > apart[order[k - 1]] * (1 + ROUNDING):
            return Found(cases.rows(order[:k]), apart[order[:k]])
        wanted *= 4


def by_distance(apart: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.intp]:
    """The order of cases by distance; of equals, the lower id first."""
    return np.lexsort((np.array(ids, dtype=object), apart))


def distances_to(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances of rows to one vector: `[N, d]`, `[d]` → float64 `[N]`."""
    difference = vectors.astype(np.float64) - query.astype(np.float64)
    apart: NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", difference, difference))
    return apart


def stats(store: Store) -> dict[str, Any]:
    """What a store holds: `cases`, `labels`, `who`, `notes` (how many have one), `from`, `to`, `encoder`, `place`."""
    labels: Counter[str] = Counter()
    who: Counter[str] = Counter()
    notes, count, first, last = 0, 0, None, None
    for cases in store.read(whole=False):
        count += len(cases)
        labels.update(cases.texts("label"))
        who.update(cases.texts("who"))
        notes += sum(bool(note) for note in cases.texts("note"))
        times = cases.times
        first = int(times.min()) if first is None else min(first, int(times.min()))
        last = int(times.max()) if last is None else max(last, int(times.max()))
    return {
        "cases": count,
        "labels": dict(sorted(labels.items())),
        "who": dict(sorted(who.items())),
        "notes": notes,
        "from": None if first is None else moment(first).isoformat(),
        "to": None if last is None else moment(last).isoformat(),
        "encoder": vars(store.encoder),
        "place": store.place,
    }


def open_store(place: str | Path, name: str = "images", encoder: Encoder | None = None) -> Store:
    """Open the store at a place.

    Args:
        place: a folder, or `qdrant+http://HOST:PORT/PREFIX` (or `https`), with the API key in `MEKIKI_QDRANT_KEY`.
        name: which of the stores there: one holds images, another notes.
        encoder: whose vectors it holds or is to hold; `None` opens one that is there.

    Raises:
        InputError: there is none and no encoder is given; it is of another encoder; or the server cannot be reached.
        MissingExtraError: the extra `cases` is not installed.
    """
    if str(place).startswith("qdrant+"):
        from mekiki.cases.qdrant import QdrantStore, connect

        client, prefix = connect(str(place))
        return QdrantStore(client, f"{prefix}-{name}", encoder, place=str(place))
    from mekiki.cases.lance import LanceStore

    return LanceStore(Path(place), name, encoder)
