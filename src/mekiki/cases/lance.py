"""A store of cases in a folder, by LanceDB."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import ENCODER_KEY, Cases, EncoderInfo, arrow, schema
from mekiki.cases.store import BATCH, SearchResult, check_cases, check_encoder, check_query, rank_exactly
from mekiki.cases.where import Compare, Condition, Joined, Not
from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.storage.database_checksums import SETTLED_NS, DatabaseChecksums
from mekiki.storage.lock import hold_lock

TIDY_AFTER = 64
"""Additions after which the many small files they left are merged."""
_WRITTEN_ONCE = ("data/*", "_deletions/*", "_versions/*.manifest")
"""Files of a table that Lance writes once and never changes."""


class LanceStore:
    """A table of cases in a folder; several may lie in one.

    Each change is one version of the table, put in place in one step: after a crash it is there whole or not at all.
    Writers take turns by a lock on the folder. Lance has no checksums; they are kept beside the table and checked when
    it is opened.

    Args:
        folder: may be new.
        name: of the table.
        encoder: see `mekiki.cases.open_store`.

    Example:
        >>> import tempfile
        >>> from mekiki.cases.case import Case, EncoderInfo
        >>> store = LanceStore(Path(tempfile.mkdtemp()) / "cases", "images", EncoderInfo("by hand", "f1", 2))
        >>> store.add(Cases.of([Case(c, np.array([x, 0]), encoder="f1") for c, x in [("a", 0), ("b", 3)]]))
        2
        >>> result = store.search(np.array([1, 0], np.float32), k=1)
        >>> result.cases.ids, result.distances
        (['a'], array([1.]))
    """

    def __init__(self, folder: Path, name: str, encoder: EncoderInfo | None = None) -> None:
        os.environ.setdefault("LANCE_LOG", "error")  # its warnings are for its developers
        lancedb = require("lancedb", extra="cases", purpose="a store of cases")
        self.place = str(folder)
        self._folder, self._name = folder, name
        self._versions = folder / f"{name}.lance" / "_versions"
        if encoder is None and not self._exists():
            raise InputError(f"{folder}: holds no cases of {name}; `mekiki remember` makes the store")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); give another store") from None
        patterns = [f"{name}.lance/{each}" for each in _WRITTEN_ONCE]
        self._checksums = DatabaseChecksums(folder / f"{name}.sums.jsonl", patterns)
        self._database: Any = lancedb.connect(str(folder))
        if encoder is not None and not self._exists():
            with self._lock():
                self._create(encoder)
        self._checksums.verify()
        self._seen_version: tuple[int, object] = (0, None)
        try:
            self._table = self._database.open_table(name)
            metadata = self._table.schema.metadata or {}
            known = EncoderInfo.from_metadata(metadata) if ENCODER_KEY in metadata else None
        except Exception as error:  # damaged files raise nearly anything
            raise InputError(
                f"{folder}: cannot be opened ({first_line(error)}); restore it from an export"
            ) from None
        if known is None:
            raise InputError(f"{folder}: is not a store that mekiki made; give another folder")
        self.encoder = known
        self._schema = schema(known.dimension)
        check_encoder(known, encoder, self.place)

    def _create(self, encoder: EncoderInfo) -> None:
        """Make the table, unless another process has done it meanwhile."""
        if self._exists():
            return
        shutil.rmtree(self._versions.parent, ignore_errors=True)  # an incomplete one, left by a crash
        self._checksums.log.unlink(missing_ok=True)
        columns = _with_time_as_number(schema(encoder.dimension))
        self._database.create_table(self._name, schema=columns.with_metadata(encoder.to_metadata()))
        self._checksums.update()

    def _exists(self) -> bool:
        """Whether the table has a complete version."""
        return any(self._versions.glob("*.manifest"))

    def _lock(self) -> AbstractContextManager[None]:
        return hold_lock(self._folder, "writing cases")

    def add(self, cases: Cases) -> int:
        """See `Store.add`."""
        check_cases(self.encoder, cases, self.place)
        table = cases.last_of_each().table.cast(_with_time_as_number(cases.table.schema))
        with self._lock():
            self._table.checkout_latest()
            known = self._count_known(table["id"])
            if known == 0:  # faster than to look for each where it belongs
                self._table.add(table)
            else:
                merge = self._table.merge_insert("id")
                merge.when_matched_update_all().when_not_matched_insert_all().execute(table)
            if tidy := self._table.version % TIDY_AFTER == 0:
                self._table.optimize()
            self._checksums.update(rewrite=tidy)
        return int(table.num_rows - known)

    def _count_known(self, ids: Any) -> int:
        """How many of these different ids are in the table."""
        if len(ids) <= BATCH:
            return int(self._table.count_rows(_ids_to_sql(ids.to_pylist())))
        compute = require("pyarrow.compute", extra="cases", purpose="a store of cases")
        known = self._table.search().select(["id"]).to_arrow()["id"]
        return int(compute.sum(compute.is_in(ids, value_set=known)).as_py() or 0)

    def get(self, ids: Sequence[str]) -> Cases:
        """See `Store.get`."""
        wanted = list(dict.fromkeys(ids))
        self._table.checkout_latest()
        parts = [Cases.empty(self.encoder.dimension)]
        for start in range(0, len(wanted), BATCH):
            query = self._table.search().where(_ids_to_sql(wanted[start : start + BATCH]))
            parts.append(Cases(query.to_arrow().cast(self._schema)))
        cases = Cases.concat(parts)
        place = {id_: row for row, id_ in enumerate(cases.ids)}
        return cases.rows([place[id_] for id_ in wanted if id_ in place])

    def search(self, vector: NDArray[np.float32], k: int, where: Condition | None = None) -> SearchResult:
        """See `Store.search`."""
        query = check_query(self.encoder, vector, k, self.place)
        self._table.checkout_latest()
        names = self._schema.names

        def fetch(wanted: int) -> Cases:
            search = self._table.search(query, vector_column_name="vector").distance_type("l2")
            if where is not None:
                search = search.where(to_sql(where), prefilter=True)
            near = search.select([*names, "_distance"]).limit(wanted).to_arrow()
            return Cases(near.select(names).cast(self._schema))

        return rank_exactly(fetch, query, k)

    def forget(self, ids: Sequence[str]) -> int:
        """See `Store.forget`."""
        if not ids:
            return 0
        with self._lock():
            self._table.checkout_latest()
            before = self._table.count_rows()
            for start in range(0, len(ids), BATCH):
                self._table.delete(_ids_to_sql(ids[start : start + BATCH]))
            self._checksums.update()
            return int(before - self._table.count_rows())

    def count(self, where: Condition | None = None) -> int:
        """See `Store.count`."""
        self._table.checkout_latest()
        return int(self._table.count_rows(None if where is None else to_sql(where)))

    def read(self, where: Condition | None = None, *, thumbnails: bool = True) -> Iterator[Cases]:
        """See `Store.read`."""
        pa = arrow()
        self._table.checkout_latest()
        query = self._table.search()
        if where is not None:
            query = query.where(to_sql(where))
        names = [name for name in self._schema.names if thumbnails or name != "thumbnail"]
        for batch in query.select(names).to_batches(BATCH):
            if not batch.num_rows:
                continue
            table = pa.Table.from_batches([batch])
            if not thumbnails:
                table = table.append_column("thumbnail", pa.array([b""] * batch.num_rows, pa.binary()))
            yield Cases(table.select(self._schema.names).cast(self._schema))

    def version(self) -> object:
        """See `Store.version`; Lance is asked only if the folder of versions has changed."""
        changed = self._versions.stat().st_mtime_ns
        if changed == self._seen_version[0]:
            return self._seen_version[1]
        self._table.checkout_latest()
        version = self._table.version
        if time.time_ns() - changed > SETTLED_NS:
            self._seen_version = (changed, version)
        return version


def _with_time_as_number(columns: Any) -> Any:
    """The columns as the table has them: an integer compares alike in all versions of Lance."""
    place = columns.get_field_index("time")
    return columns.set(place, arrow().field("time", "int64", nullable=False))


def to_sql(condition: Condition) -> str:
    """A condition in Lance's language; quotes in values are doubled.

    Example:
        >>> to_sql(Joined("or", (Compare("label", "=", "it's"), Not(Compare("time", "<", 5)))))
        "((`label` = 'it''s') or (not (`time` < 5)))"
    """
    match condition:
        case Compare(field, op, value):
            return f"(`{field}` {op} {_literal(value)})"
        case Joined(word, parts):
            return f"({f' {word} '.join(map(to_sql, parts))})"
        case Not(part):
            return f"(not {to_sql(part)})"


def _ids_to_sql(ids: Sequence[str]) -> str:
    return to_sql(Compare("id", "in", tuple(ids)))


def _literal(value: str | int | tuple[str | int, ...]) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))})"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
