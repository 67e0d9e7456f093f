"""A store of cases on a Qdrant server, for more than one machine."""

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

from mekiki.cases.case import ENCODER_KEY, TEXTS, Cases, EncoderInfo
from mekiki.cases.store import BATCH, SearchResult, check_cases, check_encoder, check_query, rank_exactly
from mekiki.cases.where import Compare, Condition, Joined, Not, matches
from mekiki.errors import InputError, first_line
from mekiki.extras import require

API_KEY = "MEKIKI_QDRANT_KEY"
"""Environment variable with the API key."""
_METADATA = ENCODER_KEY.decode()
_NAMESPACE = uuid.UUID("8d1a4c1e-6e0f-5c5e-9a53-3f1c2f6f3a10")
_UPLOAD = 512
"""Cases in one request."""
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def connect(url: str) -> tuple[Any, str]:
    """A client and the prefix of collections for `qdrant+http://HOST:PORT/PREFIX`; the usual prefix is `mekiki`.

    Raises:
        InputError: this is no such address.
    """
    client = require("qdrant_client", extra="cases", purpose="a Qdrant store")
    parts = urlsplit(url.removeprefix("qdrant+"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"store {url}: give qdrant+http://HOST:PORT/NAME, or a folder")
    if parts.username or parts.password:
        raise InputError(f"store: an address must hold no password; put the API key into {API_KEY}")
    port = parts.port or (443 if parts.scheme == "https" else 6333)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # about a key sent unencrypted, which may be intended inside a factory
        connection = client.QdrantClient(
            url=f"{parts.scheme}://{parts.hostname}:{port}",
            api_key=os.environ.get(API_KEY),
            check_compatibility=False,
        )
    return connection, parts.path.strip("/").replace("/", "-") or "mekiki"


class QdrantStore:
    """A collection of cases.

    Args:
        client: a `qdrant_client.QdrantClient`.
        collection: its name; made if an encoder is given.
        encoder: see `mekiki.cases.open_store`.
        place: where it is, for people.
    """

    def __init__(
        self, client: Any, collection: str, encoder: EncoderInfo | None = None, *, place: str = "qdrant"
    ) -> None:
        self.place = place
        self._client, self._collection = client, collection
        self._models = require("qdrant_client.models", extra="cases", purpose="a Qdrant store")
        if not self._call("collection_exists"):
            if encoder is None:
                raise InputError(
                    f"{place}: holds no cases in {collection}; `mekiki remember` makes the store"
                )
            self._create(encoder)
        metadata = self._call("get_collection").config.metadata or {}
        if _METADATA not in metadata:
            raise InputError(f"{place}: {collection} is not a store that mekiki made; give another name")
        self.encoder = EncoderInfo(**metadata[_METADATA])
        check_encoder(self.encoder, encoder, place)

    def _create(self, encoder: EncoderInfo) -> None:
        models = self._models
        try:
            self._client.create_collection(
                self._collection,
                vectors_config=models.VectorParams(size=encoder.dimension, distance=models.Distance.EUCLID),
                metadata={_METADATA: vars(encoder)},
            )
        except Exception as error:
            if not self._call("collection_exists"):  # else another process was faster
                raise InputError(f"{self.place}: {_explain(error)}") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # local mode has no indexes, and warns of it
            for field in ("label", "who", "run", "id", "time"):
                kind = "integer" if field == "time" else "keyword"
                self._call("create_payload_index", field_name=field, field_schema=kind)

    def add(self, cases: Cases) -> int:
        """See `Store.add`; it returns when the server has written them to disk."""
        check_cases(self.encoder, cases, self.place)
        cases = cases.last_of_each()
        known = 0
        for start in range(0, len(cases), _UPLOAD):
            part = cases[start : start + _UPLOAD]
            points = [
                self._models.PointStruct(id=_point_id(payload["id"]), vector=vector.tolist(), payload=payload)
                for vector, payload in zip(part.vectors, _payloads(part), strict=True)
            ]
            known += len(self._retrieve(part.ids, content=False))
            self._call("upsert", points=points, wait=True)
        return len(cases) - known

    def get(self, ids: Sequence[str]) -> Cases:
        """See `Store.get`."""
        wanted = list(dict.fromkeys(ids))
        points: list[Any] = []
        for start in range(0, len(wanted), BATCH):
            points += self._retrieve(wanted[start : start + BATCH], content=True)
        by_id = {point.payload["id"]: point for point in points}
        return self._cases([by_id[id_] for id_ in wanted if id_ in by_id])

    def _retrieve(self, ids: Sequence[str], *, content: bool) -> list[Any]:
        points: list[Any] = self._call(
            "retrieve", ids=list(map(_point_id, ids)), with_payload=content, with_vectors=content
        )
        return points

    def search(self, vector: NDArray[np.float32], k: int, where: Condition | None = None) -> SearchResult:
        """See `Store.search`."""
        query = check_query(self.encoder, vector, k, self.place)
        condition = self._filter(where)

        def fetch(wanted: int) -> Cases:
            answer = self._call(
                "query_points",
                query=query.tolist(),
                limit=wanted,
                query_filter=condition,
                search_params=self._models.SearchParams(exact=True),
                with_payload=True,
                with_vectors=True,
            )
            return self._cases(answer.points)

        return rank_exactly(fetch, query, k)

    def forget(self, ids: Sequence[str]) -> int:
        """See `Store.forget`."""
        known = self.get(ids).ids if ids else []
        if known:
            points = self._models.PointIdsList(points=list(map(_point_id, known)))
            self._call("delete", points_selector=points, wait=True)
        return len(known)

    def count(self, where: Condition | None = None) -> int:
        """See `Store.count`."""
        return int(self._call("count", count_filter=self._filter(where), exact=True).count)

    def read(self, where: Condition | None = None, *, thumbnails: bool = True) -> Iterator[Cases]:
        """See `Store.read`."""
        for points in self._pages(self._filter(where), vectors=True):
            if not thumbnails:
                for point in points:
                    point.payload["thumbnail"] = ""
            yield self._cases(points)

    def version(self) -> object:
        """See `Store.version`: changes by other machines cannot be seen."""
        return None

    def _pages(self, condition: Any, *, vectors: bool) -> Iterator[list[Any]]:
        offset = None
        while True:
            points, offset = self._call(
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
        """A condition as a filter; what Qdrant cannot express is looked up in all cases first."""
        if where is None:
            return None
        try:
            return self._translate(where)
        except NotImplementedError:
            pages = self._pages(None, vectors=False)
            ids = [point.id for points in pages for point in points if matches(where, point.payload)]
            return self._models.Filter(must=[self._models.HasIdCondition(has_id=ids)])

    def _translate(self, condition: Condition) -> Any:
        models = self._models
        match condition:
            case Compare("time", "=" | "!=" | "<" | "<=" | ">" | ">=" as op, value):
                limits = {_BOUNDS[op]: value} if op in _BOUNDS else {"gte": value, "lte": value}
                test = models.FieldCondition(key="time", range=models.Range(**limits))
            case Compare(field, "=" | "!=" as op, value):
                test = models.FieldCondition(key=field, match=models.MatchValue(value=value))
            case Compare(field, "in" as op, tuple(values)) if field != "time":
                test = models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))
            case Joined(word, parts):
                translated = [self._translate(part) for part in parts]
                return models.Filter(**{"must" if word == "and" else "should": translated})
            case Not(part):
                return models.Filter(must_not=[self._translate(part)])
            case _:
                raise NotImplementedError
        return models.Filter(**{"must_not" if op == "!=" else "must": [test]})

    def _cases(self, points: Sequence[Any]) -> Cases:
        if not points:
            return Cases.empty(self.encoder.dimension)
        payloads = [point.payload for point in points]
        columns: dict[str, Any] = {name: [payload[name] for payload in payloads] for name in TEXTS}
        columns["thumbnail"] = [base64.b64decode(payload["thumbnail"]) for payload in payloads]
        vectors = np.array([point.vector for point in points], np.float32)
        return Cases.from_columns(vectors, [payload["time"] for payload in payloads], **columns)

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, method)(collection_name=self._collection, **arguments)
        except Exception as error:  # of the network, of the server, of either's libraries
            raise InputError(f"{self.place}: {_explain(error)}") from None


def _point_id(id_: str) -> str:
    """Qdrant's own id of a case: only numbers and UUIDs are allowed."""
    return str(uuid.uuid5(_NAMESPACE, id_))


def _payloads(cases: Cases) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {name: cases.texts(name) for name in TEXTS}
    columns["time"] = cases.times.tolist()
    columns["thumbnail"] = [
        base64.b64encode(thumbnail).decode() for thumbnail in cases.table["thumbnail"].to_pylist()
    ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _explain(error: Exception) -> str:
    if getattr(error, "status_code", None) in (401, 403):
        return f"the server refuses the API key; set {API_KEY}"
    return f"the server does not answer as it should ({first_line(error)}); see that it runs, and try again"
