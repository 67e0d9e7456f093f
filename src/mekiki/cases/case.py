"""Cases: one record, and many of them as the columns of an Arrow table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.data.image_set import Pixels
from mekiki.data.photo import pixel_hash
from mekiki.errors import InputError
from mekiki.extras import require

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = ("id", "label", "note", "image", "who", "run", "encoder")
"""Fields of a case that are text."""
ENCODER_KEY = b"mekiki.encoder"
"""Key of the encoder in the metadata of an Arrow schema."""


@dataclass(frozen=True)
class EncoderInfo:
    """Identity of what makes vectors; vectors of two encoders cannot be compared.

    Attributes:
        name: for people.
        fingerprint: equal for two encoders if, and only if, they make the same vectors.
        dimension: length of a vector.
    """

    name: str
    fingerprint: str
    dimension: int

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:12]}, {self.dimension} dimensions)"

    def same_vectors(self, other: EncoderInfo) -> bool:
        """Whether both make the same vectors, whatever they are called."""
        return (self.fingerprint, self.dimension) == (other.fingerprint, other.dimension)

    def to_metadata(self) -> dict[bytes, bytes]:
        """Metadata for an Arrow schema."""
        return {ENCODER_KEY: json.dumps(vars(self), ensure_ascii=False).encode()}

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes]) -> EncoderInfo:
        """Read what `to_metadata` wrote; raises what JSON and dictionaries raise if it is damaged."""
        values = json.loads(metadata[ENCODER_KEY])
        return cls(str(values["name"]), str(values["fingerprint"]), int(values["dimension"]))


@dataclass(frozen=True, eq=False)
class Case:
    """One judged part or one note.

    Attributes:
        id: equal for the same photograph or note.
        vector: float32 `[d]`.
        label: what it was judged to be.
        note: what people wrote about it.
        image: path of the photograph.
        thumbnail: a small PNG of it; empty for none.
        time: when it happened or was remembered, UTC.
        who: the user who added it.
        run: the run that made the vector.
        encoder: fingerprint of the encoder.

    Example:
        >>> Case("part 7", np.zeros(2, np.float32), label="crack").to_dict()["label"]
        'crack'
    """

    id: str
    vector: NDArray[np.float32]
    label: str = ""
    note: str = ""
    image: str = ""
    thumbnail: bytes = b""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    who: str = ""
    run: str = ""
    encoder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All but vector and thumbnail, for JSON."""
        return {name: getattr(self, name) for name in TEXTS} | {"time": self.time.isoformat()}


class Cases(Sequence[Case]):
    """Many cases, column by column, in an Arrow table.

    Args:
        table: with the columns of `schema`.

    Example:
        >>> cases = Cases.of([Case("a", np.zeros(2, np.float32)), Case("b", np.ones(2, np.float32), note="割れ")])
        >>> cases.vectors
        array([[0., 0.],
               [1., 1.]], dtype=float32)
        >>> cases[1].note
        '割れ'
    """

    def __init__(self, table: Any) -> None:
        self.table = table

    @classmethod
    def of(cls, cases: Iterable[Case]) -> Cases:
        """From single cases.

        Raises:
            InputError: there is none, vectors differ in length or hold NaN, or a time has no time zone.
        """
        rows = list(cases)
        if not rows:
            raise InputError("no cases given; give at least one")
        lengths = sorted({len(case.vector) for case in rows})
        if len(lengths) > 1:
            raise InputError(
                f"cases of {' and '.join(map(str, lengths))} dimensions; give vectors of one length"
            )
        columns = {name: [getattr(case, name) for case in rows] for name in (*TEXTS, "thumbnail")}
        vectors = np.stack([np.asarray(case.vector, np.float32) for case in rows])
        return cls.from_columns(vectors, [microseconds(case.time) for case in rows], **columns)

    @classmethod
    def from_columns(
        cls, vectors: NDArray[np.float32], times: Sequence[int] | NDArray[np.int64], **columns: Sequence[Any]
    ) -> Cases:
        """From columns; those left out are empty.

        Args:
            vectors: float32 `[N, d]`.
            times: microseconds since 1970, UTC, `[N]`.
            columns: those of `TEXTS`, and `thumbnail`.

        Raises:
            InputError: a vector holds NaN or infinity, an id is empty, or a text cannot be written as UTF-8.
        """
        pa = arrow()
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise InputError(f"vectors must be [N, d], not {list(vectors.shape)}")
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise InputError(
                f"case {bad[0]} of {len(vectors)}: its vector holds NaN or infinity; leave it out"
            )
        form = schema(vectors.shape[1])
        arrays = {
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
            "time": pa.array(np.asarray(times, np.int64)).cast(form.field("time").type),
        }
        for name in (*TEXTS, "thumbnail"):
            values = columns.get(name) or [b"" if name == "thumbnail" else ""] * len(vectors)
            try:
                arrays[name] = pa.array(values, form.field(name).type)
            except (UnicodeEncodeError, pa.ArrowException, TypeError) as error:
                raise InputError(f"{name} of a case cannot be stored ({error}); give text") from None
        cases = cls(pa.table([arrays[name] for name in form.names], schema=form))
        if "" in cases.ids:
            raise InputError("a case has no id; give each one of its own")
        return cases

    @classmethod
    def empty(cls, dimension: int) -> Cases:
        """No case at all."""
        return cls(schema(dimension).empty_table())

    @classmethod
    def concat(cls, parts: Sequence[Cases]) -> Cases:
        """Several, one after the other."""
        return cls(arrow().concat_tables([part.table for part in parts]))

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return self.texts("id")

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Float32 `[N, d]`, without a copy where Arrow allows it."""
        column = self.table["vector"]
        width = column.type.list_size
        if not len(self):
            return np.zeros((0, width), np.float32)
        flat: NDArray[np.float32] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(self), width)

    @property
    def times(self) -> NDArray[np.int64]:
        """Microseconds since 1970, `[N]`."""
        times: NDArray[np.int64] = self.table["time"].cast("int64").to_numpy()
        return times

    def texts(self, name: str) -> list[str]:
        """One column of text."""
        column: list[str] = self.table[name].to_pylist()
        return column

    def rows(self, which: Sequence[int] | NDArray[np.integer[Any]]) -> Cases:
        """Some of them, in this order."""
        return Cases(self.table.take(arrow().array(np.asarray(which, np.int64))))

    def last_of_each(self) -> Cases:
        """Each id once: where one occurs again, the last counts."""
        if len(self.table["id"].unique()) == len(self):
            return self
        return self.rows(sorted({id_: row for row, id_ in enumerate(self.ids)}.values()))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return self.rows(range(*row.indices(len(self))))
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return next(iter(Cases(self.table.slice(row % len(self), 1))))

    def __iter__(self) -> Iterator[Case]:
        names = (*TEXTS, "thumbnail")
        columns = zip(*(self.table[name].to_pylist() for name in names), strict=True)
        for vector, time, values in zip(self.vectors, self.times, columns, strict=True):
            yield Case(vector=vector, time=utc_time(int(time)), **dict(zip(names, values, strict=True)))


def case_id(pixels: Pixels) -> str:
    """The id of a photograph, by its pixels: the same photograph is the same case."""
    return pixel_hash(pixels)[:16]


def schema(dimension: int) -> Any:
    """Arrow schema of cases."""
    pa = arrow()
    texts = [pa.field(name, pa.string(), nullable=False) for name in TEXTS]
    vector = pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False)
    thumbnail = pa.field("thumbnail", pa.binary(), nullable=False)
    time = pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False)
    return pa.schema([texts[0], vector, *texts[1:], thumbnail, time])


def arrow() -> Any:
    """The module pyarrow."""
    return require("pyarrow", extra="cases", purpose="a store of cases")


def microseconds(time: datetime) -> int:
    """Microseconds since 1970.

    Raises:
        InputError: the time has no time zone.

    Example:
        >>> microseconds(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
        1000000
    """
    if time.tzinfo is None:
        raise InputError(f"time {time}: has no time zone; give it in UTC")
    return (time - EPOCH) // timedelta(microseconds=1)


def utc_time(since: int) -> datetime:
    """Time in UTC from microseconds since 1970."""
    return EPOCH + timedelta(microseconds=since)
