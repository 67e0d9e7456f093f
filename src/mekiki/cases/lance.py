"""Cases in a folder, through LanceDB."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import Cases, Encoder, arrow, schema
from mekiki.cases.store import BATCH, Found, check_encoder, check_fit, check_query, ranked
from mekiki.cases.where import And, Compare, Condition, Like, Not, OneOf, Or
from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.storage.database_checksums import SETTLED, Sums
from mekiki.storage.lock import hold_lock

TIDY_AFTER = 64
"""Additions after which what they left in pieces is put together."""
_ENCODER = b"mekiki.encoder"
_READ = ("data/*", "_deletions/*", "_versions/*.manifest")
"""Files of a table that Lance writes once and reads again."""


class LanceStore:
    """A table of cases in a folder; several may lie in one.

    Each change is one version of the table, put in place in one step: after a crash it is there whole or not at all.
    Writers take turns by a lock on the folder, which the system frees when a process dies. Lance has no checksums;
    they are kept beside the table, and looked at when it is opened.

    Args:
        folder: may be new.
        name: of the table.
        encoder: see `mekiki.cases.open_store`.

    Example:
        >>> import tempfile
        >>> from mekiki.cases.case import Case, Encoder
        >>> store = LanceStore(Path(tempfile.mkdtemp()), "images", Encoder("by hand", "f1", 2))
        >>> store.add(Cases.of([Case(c, np.array([x, 0]), encoder="f1") for c, x in [("a", 0), ("b", 3)]]))
        2
        >>> found = store.search(np.array([1, 0], np.float32), k=1)
        >>> found.cases.ids, found.distances
        (['a'], array([1.]))
    """

    def __init__(self, folder: Path, name: str, encoder: Encoder | None = None) -> None:
        os.environ.setdefault("LANCE_LOG", "error")  # its warnings are for who wrote this
        lancedb = require("lancedb", extra="cases", purpose="a store of cases")
        self.place = str(folder)
        self._folder, self._name = folder, name
        if encoder is None and not self._manifests():
            raise InputError(f"{folder}: holds no cases of {name}; `mekiki remember` makes the store")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); give another store") from None
        self._sums = Sums(folder / f"{name}.sums.jsonl", [f"{name}.lance/{pattern}" for pattern in _READ])
        self._database: Any = lancedb.connect(str(folder))
        if not self._manifests():
            with hold_lock(self._folder, "writing cases"):
                self._begin(encoder)
        self._sums.check()
        self._table = self._opened()
        self._settled: tuple[int, object] = (0, None)
        self.encoder = self._kept_encoder()
        check_encoder(self.encoder, encoder, self.place)

    def _begin(self, encoder: Encoder | None) -> None:
        """Make the table, which another process may have done meanwhile."""
        if self._manifests() or encoder is None:
            return
        shutil.rmtree(
            self._folder / f"{self._name}.lance", ignore_errors=True
        )  # left by a crash, never whole
        self._sums.log.unlink(missing_ok=True)
        columns = _inside(schema(encoder.dimension))
        facts = json.dumps(vars(encoder), ensure_ascii=False).encode()
        self._database.create_table(self._name, schema=columns.with_metadata({_ENCODER: facts}))
        self._sums.note()

    def _manifests(self) -> bool:
        """Whether the table has a version that is whole."""
        return any((self._folder / f"{self._name}.lance" / "_versions").glob("*.manifest"))

    def _opened(self) -> Any:
        try:
            return self._database.open_table(self._name)
        except Exception as error:  # damaged files raise nearly anything
            said = str(error).splitlines()[0]
            raise InputError(
                f"{self._folder}: cannot be opened ({said}); restore it from an export"
            ) from None

    def _kept_encoder(self) -> Encoder:
        try:
            facts = (self._table.schema.metadata or {}).get(_ENCODER)
            told = None if facts is None else json.loads(facts)
            if told is not None:
                return Encoder(str(told["name"]), str(told["fingerprint"]), int(told["dimension"]))
        except Exception as error:  # damaged files raise nearly anything
            raise InputError(
                f"{self._folder}: cannot be opened ({first_line(error)}); restore it from an export"
            ) from None
        raise InputError(f"{self._folder}: is not a store that mekiki made; give another folder")

    def add(self, cases: Cases) -> int:
        """See `Store.add`."""
        check_fit(self.encoder, cases, self.place)
        table = cases.last_of_each().table.cast(_inside(cases.table.schema))
        with hold_lock(self._folder, "writing cases"):
            self._table.checkout_latest()
            known = self._known(table["id"])
            if known == 0:  # which is faster than to look for each where it belongs
                self._table.add(table)
            else:
                merge = self._table.merge_insert("id")
                merge.when_matched_update_all().when_not_matched_insert_all().execute(table)
            if tidy := self._table.version % TIDY_AFTER == 0:
                self._table.optimize()
            self._sums.note(anew=tidy)
        return int(table.num_rows - known)

    def _known(self, ids: Any) -> int:
        """How many of these ids, each given once, are there."""
        if len(ids) <= BATCH:
            return int(self._table.count_rows(to_sql(OneOf("id", tuple(ids.to_pylist())))))
        compute = require("pyarrow.compute", extra="cases", purpose="a store of cases")
        there = self._table.search().select(["id"]).to_arrow()["id"]
        return int(compute.sum(compute.is_in(ids, value_set=there)).as_py() or 0)

    def get(self, ids: Sequence[str]) -> Cases:
        """See `Store.get`."""
        wanted = list(dict.fromkeys(ids))
        parts = [
            Cases(
                self._query(OneOf("id", tuple(wanted[start : start + BATCH]))).to_arrow().cast(self._outside)
            )
            for start in range(0, len(wanted), BATCH)
        ]
        if not parts:
            return Cases.none(self.encoder.dimension)
        found = Cases.joined(parts)
        place = {id_: row for row, id_ in enumerate(found.ids)}
        return found.rows([place[id_] for id_ in wanted if id_ in place])

    def search(self, vector: NDArray[np.float32], k: int, where: Condition | None = None) -> Found:
        """See `Store.search`."""
        query = check_query(self.encoder, vector, k, self.place)
        self._table.checkout_latest()
        names = self._outside.names

        def fetch(wanted: int) -> Cases:
            search = self._table.search(query, vector_column_name="vector").distance_type("l2")
            if where is not None:
                search = search.where(to_sql(where), prefilter=True)
            near = search.select([*names, "_distance"]).limit(wanted).to_arrow()
            return Cases(near.select(names).cast(self._outside))

        return ranked(fetch, query, k)

    def forget(self, ids: Sequence[str]) -> int:
        """See `Store.forget`."""
        if not ids:
            return 0
        with hold_lock(self._folder, "writing cases"):
            self._table.checkout_latest()
            before = self._table.count_rows()
            for start in range(0, len(ids), BATCH):
                self._table.delete(to_sql(OneOf("id", tuple(ids[start : start + BATCH]))))
            self._sums.note()
            return int(before - self._table.count_rows())

    def count(self, where: Condition | None = None) -> int:
        """See `Store.count`."""
        self._table.checkout_latest()
        return int(self._table.count_rows(None if where is None else to_sql(where)))

    def read(self, where: Condition | None = None, *, whole: bool = True) -> Iterator[Cases]:
        """See `Store.read`."""
        names = [name for name in self._outside.names if whole or name != "thumbnail"]
        pa = arrow()
        for batch in self._query(where).select(names).to_batches(BATCH):
            if not batch.num_rows:
                continue
            table = pa.Table.from_batches([batch])
            if not whole:
                table = table.append_column("thumbnail", pa.array([b""] * batch.num_rows, pa.binary()))
            yield Cases(table.select(self._outside.names).cast(self._outside))

    def version(self) -> object:
        """See `Store.version`; while the folder of versions stands untouched, it is the one of last time."""
        changed = (self._folder / f"{self._name}.lance" / "_versions").stat().st_mtime_ns
        if changed == self._settled[0]:
            return self._settled[1]
        self._table.checkout_latest()
        version = self._table.version
        if time.time_ns() - changed > SETTLED:
            self._settled = (changed, version)
        return version

    @property
    def _outside(self) -> Any:
        return schema(self.encoder.dimension)

    def _query(self, where: Condition | None) -> Any:
        self._table.checkout_latest()
        query = self._table.search()
        return query if where is None else query.where(to_sql(where))


def _inside(columns: Any) -> Any:
    """The columns as the table has them: time as a number, which compares in the same way everywhere."""
    place = columns.get_field_index("time")
    return columns.set(place, arrow().field("time", "int64", nullable=False))


def to_sql(condition: Condition) -> str:
    """A condition in Lance's language; values stand in quotes, and quotes in them are doubled.

    Example:
        >>> to_sql(Or((Compare("label", "=", "it's"), Not(Compare("time", "<", 5)))))
        "((`label` = 'it''s') or (not (`time` < 5)))"
    """
    match condition:
        case Compare(field, op, value):
            return f"(`{field}` {op} {_literal(value)})"
        case OneOf(field, values):
            return f"(`{field}` in ({', '.join(map(_literal, values))}))"
        case Like(field, pattern):
            return f"(`{field}` like {_literal(pattern)})"
        case And(parts):
            return f"({' and '.join(map(to_sql, parts))})"
        case Or(parts):
            return f"({' or '.join(map(to_sql, parts))})"
        case Not(part):
            return f"(not {to_sql(part)})"


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
