"""Cases on a Qdrant server, for more than one machine."""

from __future__ import annotations

import base64
import os
import uuid
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import TEXTS, Cases, Encoder
from mekiki.cases.store import BATCH, Found, check_encoder, check_fit, check_query, ranked
from mekiki.cases.where import And, Compare, Condition, Like, Not, OneOf, Or, matches
from mekiki.errors import InputError
from mekiki.extras import require

KEY = "MEKIKI_QDRANT_KEY"
"""Environment variable with the API key."""
_SPACE = uuid.UUID("8d1a4c1e-6e0f-5c5e-9a53-3f1c2f6f3a10")
_UPLOAD = 512
"""Cases in one request."""


def connect(url: str) -> tuple[Any, str]:
    """A client and the prefix of collections for `qdrant+http://HOST:PORT/PREFIX`; without one it is `mekiki`.

    Raises:
        InputError: the address is none.
    """
    client = require("qdrant_client", extra="cases", purpose="a Qdrant store")
    parts = urlsplit(url.removeprefix("qdrant+"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"store {url}: give qdrant+http://HOST:PORT/NAME, or a folder")
    if parts.username or parts.password:
        raise InputError(f"store: an address must hold no password; put the API key into {KEY}")
    port = parts.port or (443 if parts.scheme == "https" else 6333)
    address = f"{parts.scheme}://{parts.hostname}:{port}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a key sent in the clear, which inside a factory may be meant
        made = client.QdrantClient(url=address, api_key=os.environ.get(KEY), check_compatibility=False)
    return made, parts.path.strip("/").replace("/", "-") or "mekiki"


class QdrantStore:
    """A collection of cases.

    Args:
        client: a `qdrant_client.QdrantClient`.
        collection: its name; made if an encoder is given.
        encoder: see `mekiki.cases.open_store`.
        place: where it is, for people.
    """

    def __init__(
        self, client: Any, collection: str, encoder: Encoder | None = None, *, place: str = "qdrant"
    ) -> None:
        self.place = place
        self._client, self._collection = client, collection
        self._models = require("qdrant_client.models", extra="cases", purpose="a Qdrant store")
        if not self._asked("collection_exists"):
            if encoder is None:
                raise InputError(
                    f"{place}: holds no cases in {collection}; `mekiki remember` makes the store"
                )
            self._begin(encoder)
        metadata = self._asked("get_collection").config.metadata or {}
        if "mekiki.encoder" not in metadata:
            raise InputError(f"{place}: {collection} is not a store that mekiki made; give another name")
        self.encoder = Encoder(**metadata["mekiki.encoder"])
        check_encoder(self.encoder, encoder, place)

    def _begin(self, encoder: Encoder) -> None:
        models = self._models
        try:
            self._client.create_collection(
                self._collection,
                vectors_config=models.VectorParams(size=encoder.dimension, distance=models.Distance.EUCLID),
                metadata={"mekiki.encoder": vars(encoder)},
            )
        except Exception as error:
            if not self._asked("collection_exists"):  # else another process was faster
                raise InputError(f"{self.place}: {_said(error)}") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # local mode has no indexes, and says so
            for field in ("label", "who", "run", "id", "time"):
                kind = "integer" if field == "time" else "keyword"
                self._asked("create_payload_index", field_name=field, field_schema=kind)

    def add(self, cases: Cases) -> int:
        """See `Store.add`; safe when the server has written it down."""
        check_fit(self.encoder, cases, self.place)
        cases = cases.last_of_each()
        known = 0
        for start in range(0, len(cases), _UPLOAD):
            part = cases[start : start + _UPLOAD]
            points = [
                self._models.PointStruct(id=_point(payload["id"]), vector=vector.tolist(), payload=payload)
                for vector, payload in zip(part.vectors, _payloads(part), strict=True)
            ]
            known += len(
                self._asked(
                    "retrieve", ids=[point.id for point in points], with_payload=False, with_vectors=False
                )
            )
            self._asked("upsert", points=points, wait=True)
        return len(cases) - known

    def get(self, ids: Sequence[str]) -> Cases:
        """See `Store.get`."""
        wanted = list(dict.fromkeys(ids))
        points: list[Any] = []
        for start in range(0, len(wanted), BATCH):
            some = [_point(id_) for id_ in wanted[start : start + BATCH]]
            points += self._asked("retrieve", ids=some, with_payload=True, with_vectors=True)
        found = {point.payload["id"]: point for point in points}
        return self._cases([found[id_] for id_ in wanted if id_ in found])

    def search(self, vector: NDArray[np.float32], k: int, where: Condition | None = None) -> Found:
        """See `Store.search`."""
        query = check_query(self.encoder, vector, k, self.place)
        meant = self._filter(where)

        def fetch(wanted: int) -> Cases:
            answer = self._asked(
                "query_points",
                query=query.tolist(),
                limit=wanted,
                query_filter=meant,
                search_params=self._models.SearchParams(exact=True),
                with_payload=True,
                with_vectors=True,
            )
            return self._cases(answer.points)

        return ranked(fetch, query, k)

    def forget(self, ids: Sequence[str]) -> int:
        """See `Store.forget`."""
        there = self.get(ids).ids if ids else []
        if there:
            points = self._models.PointIdsList(points=[_point(id_) for id_ in there])
            self._asked("delete", points_selector=points, wait=True)
        return len(there)

    def count(self, where: Condition | None = None) -> int:
        """See `Store.count`."""
        return int(self._asked("count", count_filter=self._filter(where), exact=True).count)

    def read(self, where: Condition | None = None, *, whole: bool = True) -> Iterator[Cases]:
        """See `Store.read`."""
        for points in self._pages(self._filter(where), vectors=True):
            if not whole:
                for point in points:
                    point.payload["thumbnail"] = ""
            yield self._cases(points)

    def version(self) -> object:
        """See `Store.version`: other machines write too, and nobody tells."""
        return None

    def _pages(self, condition: Any, *, vectors: bool) -> Iterator[list[Any]]:
        offset = None
        while True:
            points, offset = self._asked(
                "scroll",
                scroll_filter=condition,
                limit=BATCH,
                offset=offset,
                with_payload=True,
                with_vectors=vectors,
            )
            if points:
                yield points
            if offset is None:
                return

    def _filter(self, where: Condition | None) -> Any:
        """A condition as a filter; what Qdrant has no words for is looked up in all cases first."""
        if where is None:
            return None
        translated = self._translated(where)
        if translated is None:
            meant = [
                point.id
                for points in self._pages(None, vectors=False)
                for point in points
                if matches(where, point.payload)
            ]
            return self._models.Filter(must=[self._models.HasIdCondition(has_id=meant)])
        return translated

    def _translated(self, condition: Condition) -> Any:
        models = self._models
        match condition:
            case Compare("time", op, value):
                bound = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}.get(op)
                limits = {bound: value} if bound else {"gte": value, "lte": value}
                within = models.FieldCondition(key="time", range=models.Range(**limits))
                return models.Filter(**{"must_not" if op == "!=" else "must": [within]})
            case Compare(field, "=" | "!=" as op, value):
                equal = models.FieldCondition(key=field, match=models.MatchValue(value=value))
                return models.Filter(**{"must" if op == "=" else "must_not": [equal]})
            case OneOf(field, values) if field != "time":
                among = models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))
                return models.Filter(must=[among])
            case And(parts) | Or(parts):
                filters = [self._translated(part) for part in parts]
                if any(each is None for each in filters):
                    return None
                return models.Filter(**{"must" if isinstance(condition, And) else "should": filters})
            case Not(part):
                inner = self._translated(part)
                return None if inner is None else models.Filter(must_not=[inner])
            case Compare() | OneOf() | Like():
                return None

    def _cases(self, points: Sequence[Any]) -> Cases:
        if not points:
            return Cases.none(self.encoder.dimension)
        payloads = [point.payload for point in points]
        columns: dict[str, Any] = {name: [payload[name] for payload in payloads] for name in TEXTS}
        columns["thumbnail"] = [base64.b64decode(payload["thumbnail"]) for payload in payloads]
        vectors = np.array([point.vector for point in points], np.float32)
        return Cases.columns(vectors, [payload["time"] for payload in payloads], **columns)

    def _asked(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, method)(collection_name=self._collection, **arguments)
        except InputError:
            raise
        except Exception as error:  # of the network, of the server, of either's libraries
            raise InputError(f"{self.place}: {_said(error)}") from None


def _point(id_: str) -> str:
    """Qdrant's own id of a case: it takes none but numbers and UUIDs."""
    return str(uuid.uuid5(_SPACE, id_))


def _payloads(cases: Cases) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {name: cases.texts(name) for name in TEXTS}
    columns["time"] = cases.times.tolist()
    columns["thumbnail"] = [
        base64.b64encode(small).decode() for small in cases.table["thumbnail"].to_pylist()
    ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _said(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        return f"the server refuses the API key; set {KEY}"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the server does not answer as it should ({first}); see that it runs, and try again"
