"""`Memory`: search of a store that takes feedback and an adapter into account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import Cases
from mekiki.cases.cell_index import CellIndex
from mekiki.cases.feedback import Judgement, relevant, shifts
from mekiki.cases.store import (
    SearchResult,
    Store,
    check_query,
    distances_to,
    matching_ids,
    order_by_distance,
    read_all,
)
from mekiki.cases.where import Condition
from mekiki.errors import InputError

INDEXED = 300_000
"""Number of cases above which an index selects those that are compared with the query."""
_ROUNDING = 1e-6
"""Largest error of squared distances in single precision, as a share of the squared lengths."""
TOWARDS, AWAY = 0.75, 0.25
"""Rocchio's weights of wanted and unwanted vectors."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """All cases of one version of the store, prepared for comparison with a query.

    Attributes:
        version: of the store.
        cases: without thumbnails.
        adapted: their vectors after the adapter.
        centre: mean of the adapted vectors.
        centred: adapted vectors less their mean, so that fewer digits cancel.
        squares: squared lengths of the centred vectors.
        index: where there are very many.
    """

    version: object
    cases: Cases
    adapted: Floats
    centre: Floats
    centred: Floats
    squares: Floats
    index: CellIndex | None

    @classmethod
    def of(cls, version: object, cases: Cases, adapted: Floats) -> _Snapshot:
        """Prepare cases for comparison."""
        centre = adapted.mean(axis=0) if len(adapted) else np.zeros(adapted.shape[1], np.float32)
        centred = adapted - centre
        squares = np.einsum("nd,nd->n", centred, centred)
        index = CellIndex.of(adapted) if len(adapted) > INDEXED else None
        return cls(version, cases, adapted, centre, centred, squares, index)

    def nearest(self, query: Floats, allowed: NDArray[np.bool_] | None) -> Callable[[int], SearchResult]:
        """A function that gives the n nearest cases: by the index if there is one and all are allowed, else exactly."""
        if self.index is None or allowed is not None:
            centred = query - self.centre
            rough = self.centred @ centred
            rough *= -2
            rough += self.squares
            if allowed is not None:
                rough[~allowed] = np.inf
            # Single precision selects candidates; double precision orders them.
            tolerance = _ROUNDING * max(float(self.squares.max(initial=0)), float(centred @ centred))

        def fetch(n: int) -> SearchResult:
            if self.index is not None and allowed is None:
                rows = self.index.nearest(query, n)
            elif n < len(rough):
                rows = np.flatnonzero(rough <= np.partition(rough, n - 1)[n - 1] + tolerance)
            else:
                rows = np.arange(len(rough))
            if allowed is not None:
                rows = rows[allowed[rows]]
            distances = distances_to(self.adapted[rows], query)
            cases = self.cases.rows(rows)
            order = order_by_distance(distances, cases.ids)[:n]
            return SearchResult(cases.rows(order), distances[order], np.zeros(len(order)))

        return fetch


class Memory:
    """Search of a store, re-ranked by feedback.

    Args:
        store: the cases.
        judgements: active feedback; see `mekiki.cases.feedback`.
        adapter: maps vectors `[N, d]` to those that are compared, `[N, e]`; `None` compares them as they are.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mekiki.cases.case import Case, Cases, EncoderInfo
        >>> from mekiki.cases.feedback import FeedbackLog
        >>> from mekiki.cases.store_address import open_store
        >>> folder = Path(tempfile.mkdtemp())
        >>> store = open_store(folder / "cases", encoder=EncoderInfo("by hand", "f1", 1))
        >>> rows = [Case(str(i), np.array([i]), encoder="f1") for i in range(100)]
        >>> store.add(Cases.of(rows))
        100
        >>> query = np.array([0.1], np.float32)
        >>> log = FeedbackLog(folder)
        >>> _ = log.add(store, "images", query, good=["4"], bad=["0"])
        >>> Memory(store, log.active("images", "f1")).search(query, 3).cases.ids
        ['4', '5', '3']
    """

    def __init__(
        self,
        store: Store,
        judgements: Sequence[Judgement] = (),
        adapter: Callable[[Floats], Floats] | None = None,
    ) -> None:
        self.store, self.judgements, self.adapter = store, judgements, adapter
        self._last: _Snapshot | None = None

    def search(
        self, vector: Floats, k: int, where: Condition | None = None, *, without: Sequence[str] = ()
    ) -> SearchResult:
        """The k best cases; exact, unless there are more than `INDEXED`.

        Vectors are kept in memory from the first search on, and read again when the store has changed; those of a
        server are not, unless an adapter needs them. Of more than `INDEXED` cases an index selects the neighbours of
        the query, about `mekiki.cases.cell_index.RECALL` of them; with a condition all are compared.

        Args:
            vector: the query, float32 `[d]`.
            k: how many.
            where: the condition that cases must meet.
            without: ids to leave out, such as that of the query itself.
        """
        query = check_query(self.store.encoder, vector, k, self.store.place)
        snapshot = self._snapshot()
        if snapshot is None:
            fetch: Callable[[int], SearchResult] = partial(self.store.search, query, where=where)
        else:
            allowed = None
            if where is not None:
                matching = set(matching_ids(self.store, where))
                allowed = np.array([id_ in matching for id_ in snapshot.cases.ids], np.bool_)
            fetch = snapshot.nearest(self._adapt(query[None])[0], allowed)
        weighted = relevant(self.judgements, query)
        largest_gain = sum(each.step * weight for each, weight in weighted if each.good)
        wanted = k + len(without) + 8 + len(weighted) * 10
        while True:  # until no case beyond those fetched can be among the k best
            near = fetch(wanted)
            added = shifts(self.judgements, query, near.cases.vectors)
            values = near.distances + added
            ids = near.cases.ids
            rows = np.array([row for row, id_ in enumerate(ids) if id_ not in without], np.intp)
            best = rows[order_by_distance(values[rows], [ids[row] for row in rows])[:k]]
            complete = len(ids) < wanted
            if complete or (len(best) == k and near.distances[-1] - largest_gain > values[best[-1]]):
                return SearchResult(near.cases.rows(best), near.distances[best], added[best])
            wanted *= 4

    def _adapt(self, vectors: Floats) -> Floats:
        return vectors if self.adapter is None or not len(vectors) else self.adapter(vectors)

    def _snapshot(self) -> _Snapshot | None:
        """All cases in memory, or `None` if they lie on a server and no adapter needs them."""
        version = self.store.version()
        if self._last is not None and version is not None and self._last.version == version:
            return self._last
        if self.adapter is None and version is None:
            return None
        cases = Cases(read_all(self.store).table.combine_chunks())
        self._last = _Snapshot.of(version, cases, self._adapt(cases.vectors))
        return self._last


def move_query(query: Floats | None, like: Floats, unlike: Floats) -> Floats:
    """Move a query towards some vectors and away from others: float32 `[d]`.

    q + ¾(mean of like − q) − ¼(mean of unlike − q), which unlike Rocchio's own sum does not depend on the origin.
    Without a query it starts from the mean of those that it should be like.

    Args:
        query: `[d]`, or `None`.
        like: `[n, d]`, n may be 0.
        unlike: `[m, d]`, m may be 0.

    Raises:
        InputError: there is neither a query nor anything that it should be like.

    Example:
        >>> move_query(np.array([0.0], np.float32), np.array([[4.0]], np.float32), np.zeros((0, 1), np.float32))
        array([3.], dtype=float32)

    References:
        Rocchio, "Relevance feedback in information retrieval", in Salton, The SMART Retrieval System, 1971.
    """
    if query is None:
        if not len(like):
            raise InputError("nothing to search for; give an image, a text, or cases that it should be like")
        query = like.mean(axis=0, dtype=np.float32)
    moved = query.astype(np.float64)
    if len(like):
        moved += TOWARDS * (like.mean(axis=0) - query)
    if len(unlike):
        moved -= AWAY * (unlike.mean(axis=0) - query)
    return moved.astype(np.float32)
