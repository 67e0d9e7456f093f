"""`Memory`: a store, what people said of what it found, and what was learnt from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import Cases
from mekiki.cases.cell_index import CellIndex
from mekiki.cases.feedback import Judgement, active, shifts
from mekiki.cases.store import Found, Store, by_distance, check_query, distances_to
from mekiki.cases.where import Condition
from mekiki.errors import InputError

INDEXED = 300_000
"""Above so many cases a query is compared with those in its neighbourhood only."""
_SINGLE = 1e-6
"""Share of the squared distances by which single precision may be wrong."""
TOWARDS, AWAY = 0.75, 0.25
"""Rocchio's weights of what a query should be like and unlike."""

Floats = NDArray[np.float32]


class Map(Protocol):
    """What an adapter is to a memory."""

    def __call__(self, vectors: Floats) -> Floats:
        """Vectors as they should be compared, `[N, d]` → `[N, e]`."""


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Cases in the order in which people would have them.

    Attributes:
        cases: the first is the foremost; thumbnails may be left out, `Store.get` has them.
        distances: as the encoder, or the adapter, sees them, float64 `[k]`.
        shifts: what feedback added to them, float64 `[k]`.
    """

    cases: Cases
    distances: NDArray[np.float64]
    shifts: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """All cases as they were at one version, and what comparing with all of them takes.

    Attributes:
        version: of the store.
        cases: without thumbnails.
        vectors: of the cases.
        mapped: the same as the adapter has them.
        centre: the mean of these.
        centred: these less their mean: fewer digits cancel.
        squares: squared lengths of the centred ones.
        longest: the greatest of these.
        index: where there are very many.
    """

    version: object
    cases: Cases
    vectors: Floats
    mapped: Floats
    centre: Floats
    centred: Floats
    squares: Floats
    longest: float
    index: CellIndex | None


class Memory:
    """Searches a store as people judged what it found.

    Args:
        store: the cases.
        judgements: of people, those in force; see `mekiki.cases.feedback`.
        adapter: how vectors are to be compared; `None` as they are.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mekiki.cases.case import Case, Cases, Encoder
        >>> from mekiki.cases.feedback import FeedbackLog
        >>> from mekiki.cases.store import open_store
        >>> store = open_store(tempfile.mkdtemp(), encoder=Encoder("by hand", "f1", 1))
        >>> rows = [Case(str(i), np.array([i]), encoder="f1") for i in range(100)]
        >>> store.add(Cases.of(rows))
        100
        >>> query = np.array([0.1], np.float32)
        >>> log = FeedbackLog(Path(tempfile.mkdtemp()))
        >>> _ = log.add(store, "images", query, good=["4"], bad=["0"])
        >>> Memory(store, log.in_force("images", "f1")).search(query, 3).cases.ids
        ['4', '5', '3']
    """

    def __init__(
        self, store: Store, judgements: Sequence[Judgement] = (), adapter: Map | None = None
    ) -> None:
        self.store, self.judgements, self.adapter = store, judgements, adapter
        self._snapshot: _Snapshot | None = None

    def search(
        self, vector: Floats, k: int, where: Condition | None = None, *, without: Sequence[str] = ()
    ) -> SearchResult:
        """The k foremost cases; exact, unless there are more than `INDEXED`.

        Vectors are held in memory from the first search on, and read again when the store has changed; a server's are
        not, unless an adapter needs them. Of more than `INDEXED` those in the neighbourhood of the query are looked at,
        by an index that finds about `mekiki.cases.cell_index.RECALL` of the nearest; with a condition, all of them.

        Args:
            vector: the query, float32 `[d]`.
            k: how many.
            where: which are meant.
            without: ids to leave out, such as that of the query itself.
        """
        query = check_query(self.store.encoder, vector, k, self.store.place)
        kept = self._held()
        if kept is not None and (kept.index is None or where is not None):
            return self._among_all(kept, query, k, where, set(without))
        return self._among_near(kept, query, k, where, set(without))

    def _among_near(
        self, kept: _Snapshot | None, query: Floats, k: int, where: Condition | None, without: set[str]
    ) -> SearchResult:
        """By an index or the store's own search: so many of the nearest that none beyond can come before them."""
        heard = active(self.judgements, query)
        most = sum(each.step * weight for each, weight in heard if each.good)
        fetched = k + len(without) + 8 + len(heard) * 10
        while True:
            near = (
                self.store.search(query, fetched, where)
                if kept is None
                else self._indexed(kept, query, fetched)
            )
            moved = shifts(self.judgements, query, near.cases.vectors)
            rows = [row for row, id_ in enumerate(near.cases.ids) if id_ not in without]
            order = by_distance(near.distances[rows] + moved[rows], [near.cases.ids[row] for row in rows])[:k]
            chosen = np.array(rows, np.intp)[order]
            everything = len(near.cases) < fetched
            if everything or (
                len(chosen) == k
                and near.distances[-1] - most >= near.distances[chosen[-1]] + moved[chosen[-1]]
            ):
                return SearchResult(near.cases.rows(chosen), near.distances[chosen], moved[chosen])
            fetched *= 4

    def _indexed(self, kept: _Snapshot, query: Floats, k: int) -> Found:
        """About the k nearest, by the index."""
        assert kept.index is not None
        mapped = self._mapped(query[None])[0]
        rows = kept.index.nearest(mapped, k)
        return Found(kept.cases.rows(rows), distances_to(kept.mapped[rows], mapped))

    def _among_all(
        self, kept: _Snapshot, query: Floats, k: int, where: Condition | None, without: set[str]
    ) -> SearchResult:
        """By comparing with every case."""
        mapped = self._mapped(query[None])[0]
        aim = mapped - kept.centre
        rough = kept.centred @ aim
        rough *= -2
        rough += kept.squares
        # Single precision sorts out those that may come in question; their order is settled in double precision.
        loose = _SINGLE * max(kept.longest, float(aim @ aim))
        moved = None
        if active(self.judgements, query):
            moved = shifts(self.judgements, query, kept.vectors)
            apart = np.sqrt(np.maximum(rough.astype(np.float64) + float(aim @ aim), 0))
            rough, loose = (apart + moved).astype(np.float32), loose**0.5
        if where is not None or without:
            rough[~self._meant(kept, where, without)] = np.inf
        number = min(k, len(rough) if where is None and not without else int(np.isfinite(rough).sum()))
        if number == 0:
            return SearchResult(kept.cases.rows([]), np.zeros(0), np.zeros(0))
        last = np.partition(rough, number - 1)[number - 1]
        rows = np.flatnonzero(rough <= last + loose)
        distances = distances_to(kept.mapped[rows], mapped)
        shifted = np.zeros(len(rows)) if moved is None else moved[rows]
        cases = kept.cases.rows(rows)
        order = by_distance(distances + shifted, cases.ids)[:k]
        return SearchResult(cases.rows(order), distances[order], shifted[order])

    def _meant(self, kept: _Snapshot, where: Condition | None, without: set[str]) -> NDArray[np.bool_]:
        ids = kept.cases.ids
        if where is None:
            return np.array([id_ not in without for id_ in ids], np.bool_)
        meant = {id_ for part in self.store.read(where, whole=False) for id_ in part.ids} - without
        return np.array([id_ in meant for id_ in ids], np.bool_)

    def _mapped(self, vectors: Floats) -> Floats:
        return vectors if self.adapter is None or not len(vectors) else self.adapter(vectors)

    def _held(self) -> _Snapshot | None:
        """All cases in memory, or `None` if they lie on a server and no adapter needs them."""
        version = self.store.version()
        if self._snapshot is not None and version is not None and self._snapshot.version == version:
            return self._snapshot
        if self.adapter is None and version is None:
            return None
        parts = list(self.store.read(whole=False))
        cases = Cases.joined(parts) if parts else Cases.none(self.store.encoder.dimension)
        cases = Cases(cases.table.combine_chunks())
        vectors = cases.vectors
        mapped = self._mapped(vectors)
        centre = mapped.mean(axis=0) if len(mapped) else np.zeros(mapped.shape[1], np.float32)
        centred = mapped - centre
        squares = np.einsum("nd,nd->n", centred, centred)
        index = CellIndex.of(mapped) if len(mapped) > INDEXED else None
        longest = float(squares.max(initial=0))
        self._snapshot = _Snapshot(version, cases, vectors, mapped, centre, centred, squares, longest, index)
        return self._snapshot


def steered(query: Floats | None, like: Floats, unlike: Floats) -> Floats:
    """A query moved towards some vectors and away from others (Rocchio 1971): float32 `[d]`.

    q + ¾(mean of like − q) − ¼(mean of unlike − q), which, unlike Rocchio's own sum, does not depend on where the
    origin lies. Without a query it starts from the mean of those that it should be like.

    Args:
        query: `[d]`, or `None`.
        like: `[n, d]`, n may be 0.
        unlike: `[m, d]`, m may be 0.

    Raises:
        InputError: there is neither a query nor anything that it should be like.

    Example:
        >>> steered(np.array([0.0], np.float32), np.array([[4.0]], np.float32), np.zeros((0, 1), np.float32))
        array([3.], dtype=float32)
    """
    if query is None:
        if not len(like):
            raise InputError("nothing to search for; give an image, a text, or cases that it should be like")
        start: Floats = like.mean(axis=0, dtype=np.float32)
    else:
        start = query
    moved = start.astype(np.float64)
    if len(like):
        moved = moved + TOWARDS * (like.mean(axis=0) - start)
    if len(unlike):
        moved = moved - AWAY * (unlike.mean(axis=0) - start)
    result: Floats = moved.astype(np.float32)
    return result
