"""Export of a store to one Parquet file and back, with nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mekiki.cases.case import ENCODER_KEY, Cases, EncoderInfo, arrow, schema
from mekiki.cases.store import BATCH, Store
from mekiki.cases.where import Condition
from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.storage.atomic import replace_file


def export_cases(store: Store, path: Path, where: Condition | None = None) -> int:
    """Write cases and their encoder, in one step, and return how many.

    Raises:
        InputError: the file cannot be written or its ending is not .parquet.
    """
    if path.suffix.lower() != ".parquet":
        raise InputError(f"{path}: cases are written as Parquet; give a file that ends in .parquet")
    metadata = store.encoder.to_metadata()
    columns = schema(store.encoder.dimension).with_metadata(metadata)
    count = 0
    with replace_file(path) as temporary, _parquet().ParquetWriter(temporary, columns) as writer:
        for cases in store.read(where):
            writer.write_table(cases.table.replace_schema_metadata(metadata))
            count += len(cases)
    return count


def import_cases(store: Store, path: Path) -> tuple[int, int]:
    """Add exported cases to a store of the same encoder: how many there are, and how many of them are new.

    Raises:
        InputError: see `read_cases`; or they are of another encoder.
    """
    count = new = 0
    for cases in read_cases(path):
        count += len(cases)
        new += store.add(cases)
    return count, new


def encoder_of(path: Path) -> EncoderInfo:
    """The encoder of an exported file's vectors.

    Raises:
        InputError: there is no such file, or none that `export_cases` wrote.
    """
    return _open(path)[1]


def read_cases(path: Path) -> Iterator[Cases]:
    """The cases of an exported file, some at a time.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    file, encoder = _open(path)
    columns = schema(encoder.dimension)
    batches = file.iter_batches(BATCH)
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            cases = Cases(arrow().Table.from_batches([batch]).select(columns.names).cast(columns))
        except Exception as error:  # damaged files raise nearly anything
            raise _unreadable(path, error) from None
        yield cases


def _open(path: Path) -> tuple[Any, EncoderInfo]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give one that `mekiki cases export` wrote")
    try:
        file = _parquet().ParquetFile(path)
    except Exception as error:  # damaged files raise nearly anything
        raise _unreadable(path, error) from None
    metadata = file.schema_arrow.metadata or {}
    if ENCODER_KEY not in metadata:
        raise InputError(f"{path}: holds no cases; give a file that `mekiki cases export` wrote")
    try:
        return file, EncoderInfo.from_metadata(metadata)
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"{path}: does not name the encoder of its vectors ({first_line(error)}); export the cases again"
        ) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be read ({first_line(error)}); export the cases again")


def _parquet() -> Any:
    return require("pyarrow.parquet", extra="cases", purpose="a file of cases")
