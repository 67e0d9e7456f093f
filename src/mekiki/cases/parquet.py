"""A store to and from one Parquet file, with nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mekiki.cases.case import Cases, Encoder, schema
from mekiki.cases.store import BATCH, Store
from mekiki.cases.where import Condition
from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.storage.atomic import replace_file

_ENCODER = b"mekiki.encoder"


def export_cases(store: Store, path: Path, where: Condition | None = None) -> int:
    """Write cases and whose vectors they are, in one step, and return how many.

    Raises:
        InputError: the file cannot be written or its ending is not .parquet.
    """
    parquet = _parquet()
    if path.suffix.lower() != ".parquet":
        raise InputError(f"{path}: cases are written as Parquet; give a file that ends in .parquet")
    facts = {_ENCODER: json.dumps(vars(store.encoder), ensure_ascii=False).encode()}
    columns = schema(store.encoder.dimension).with_metadata(facts)
    count = 0
    with replace_file(path) as temporary, parquet.ParquetWriter(temporary, columns) as writer:
        for cases in store.read(where):
            writer.write_table(cases.table.replace_schema_metadata(facts))
            count += len(cases)
    return count


def encoder_of(path: Path) -> Encoder:
    """Whose vectors an exported file holds.

    Raises:
        InputError: there is no such file, or none that `export_cases` wrote.
    """
    return _encoder(path, _opened(path))


def import_cases(store: Store, path: Path) -> tuple[int, int]:
    """Add exported cases to a store of the same encoder: how many there are, and how many of them are new.

    Raises:
        InputError: see `encoder_of`; or they are of another encoder.
    """
    count = new = 0
    for cases in read_cases(path):
        count += len(cases)
        new += store.add(cases)
    return count, new


def read_cases(path: Path) -> Iterator[Cases]:
    """The cases of an exported file, piece by piece.

    Raises:
        InputError: see `encoder_of`.
    """
    file = _opened(path)
    encoder = _encoder(path, file)
    arrow = require("pyarrow", extra="cases", purpose="a file of cases")
    batches = file.iter_batches(BATCH)
    while True:
        try:
            columns = schema(encoder.dimension)
            batch = next(batches, None)
            if batch is None:
                return
            cases = Cases(arrow.Table.from_batches([batch]).select(columns.names).cast(columns))
        except Exception as error:  # damaged files raise nearly anything
            raise InputError(
                f"{path}: cannot be read ({first_line(error)}); export the cases again"
            ) from None
        yield cases


def _encoder(path: Path, file: Any) -> Encoder:
    try:
        facts = json.loads(file.schema_arrow.metadata[_ENCODER])
        return Encoder(str(facts["name"]), str(facts["fingerprint"]), int(facts["dimension"]))
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"{path}: does not say whose vectors it holds ({first_line(error)}); export the cases again"
        ) from None


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give one that `mekiki cases export` wrote")
    try:
        file = _parquet().ParquetFile(path)
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(f"{path}: cannot be read ({first_line(error)}); export the cases again") from None
    if _ENCODER not in (file.schema_arrow.metadata or {}):
        raise InputError(f"{path}: holds no cases; give a file that `mekiki cases export` wrote")
    return file


def _parquet() -> Any:
    return require("pyarrow.parquet", extra="cases", purpose="a file of cases")
