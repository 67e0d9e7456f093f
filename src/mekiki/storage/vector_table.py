"""Vectors with their names and labels in .npz, .parquet or .csv files, for other programs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError, MissingExtraError, first_line
from mekiki.extras import require
from mekiki.storage.atomic import replace_file
from mekiki.storage.npz import read_npz

SUFFIXES = (".npz", ".parquet", ".csv")


@dataclass(frozen=True, eq=False)
class VectorTable:
    """Vectors with their names and labels.

    Attributes:
        vectors: float32 `[N, d]`.
        names: one for each vector.
        labels: the class of each, empty where it is not known.

    Example:
        >>> import tempfile
        >>> table = VectorTable(np.array([[0.5, -1.0]], np.float32), ["a.png"], ["ok"])
        >>> path = Path(tempfile.mkdtemp()) / "vectors.csv"
        >>> write_vectors(path, table)
        >>> print(path.read_text().strip())
        name,label,v1,v2
        a.png,ok,0.5,-1.0
        >>> read_vectors(path).vectors
        array([[ 0.5, -1. ]], dtype=float32)
    """

    vectors: NDArray[np.float32]
    names: Sequence[str]
    labels: Sequence[str]


def check_suffix(path: Path) -> None:
    """Refuse a file whose suffix names no format, before any work is done.

    Raises:
        InputError: the suffix is not .npz, .parquet or .csv, or the path is a folder.
        MissingExtraError: Parquet without pyarrow.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: vectors are written as {', '.join(SUFFIXES)}; give the file such an ending"
        )
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file")
    if path.suffix.lower() == ".parquet":
        _parquet()


def _parquet() -> Any:
    return require("pyarrow.parquet", extra="parquet", purpose="a Parquet file")


def write_vectors(path: Path, table: VectorTable) -> None:
    """Write a table in one step, in the format of the file's suffix; every float32 is read back exactly.

    Raises:
        InputError: see `check_suffix`.
        MissingExtraError: Parquet without pyarrow.
    """
    check_suffix(path)
    suffix = path.suffix.lower()
    with replace_file(path) as temporary:
        if suffix == ".npz":
            names, labels = (np.array(column, dtype=np.str_) for column in (table.names, table.labels))
            np.savez(temporary, vectors=table.vectors, names=names, labels=labels)
        elif suffix == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["name", "label", *(f"v{i + 1}" for i in range(table.vectors.shape[1]))])
                for name, label, vector in zip(table.names, table.labels, table.vectors, strict=True):
                    writer.writerow([name, label, *(str(number) for number in vector)])
        else:
            arrow = require("pyarrow", extra="parquet", purpose="a Parquet file")
            flat = arrow.array(np.ascontiguousarray(table.vectors).reshape(-1))
            column = arrow.FixedSizeListArray.from_arrays(flat, table.vectors.shape[1])
            content = {"name": list(table.names), "label": list(table.labels), "vector": column}
            _parquet().write_table(arrow.table(content), temporary)


def read_vectors(path: Path) -> VectorTable:
    """Read what `write_vectors` or another program wrote: without names, rows are numbered; labels may be missing.

    Raises:
        InputError: there is no such file, or it holds no vectors.
        MissingExtraError: Parquet without pyarrow.
    """
    check_suffix(path)
    read = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}[path.suffix.lower()]
    try:
        return read(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except MissingExtraError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        reason = str(error).removeprefix(f"{path}: ") if isinstance(error, InputError) else first_line(error)
        raise InputError(f"{path}: holds no vectors that can be read ({reason})") from None


def _read_npz(path: Path) -> VectorTable:
    chosen = ["vectors"]

    def choose(names: Sequence[str]) -> list[str]:
        chosen.extend(name for name in ("names", "labels") if name in names)
        return chosen

    vectors, *others = read_npz(path, choose)
    columns = {name: column.tolist() for name, column in zip(chosen[1:], others, strict=True)}
    return _checked_table(vectors, columns.get("names"), columns.get("labels"))


def _read_csv(path: Path) -> VectorTable:
    with path.open(encoding="utf-8", newline="") as lines:
        _, *rows = csv.reader(lines)
    vectors = np.array([row[2:] for row in rows], dtype=np.float32)
    return VectorTable(vectors, [row[0] for row in rows], [row[1] for row in rows])


def _read_parquet(path: Path) -> VectorTable:
    content = _parquet().read_table(path)
    flat = content["vector"].combine_chunks().flatten().to_numpy()
    columns = {name: content[name].to_pylist() for name in ("name", "label") if name in content.column_names}
    return _checked_table(flat.reshape(content.num_rows, -1), columns.get("name"), columns.get("label"))


def _checked_table(
    vectors: NDArray[np.generic], names: list[object] | None, labels: list[object] | None
) -> VectorTable:
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2:
        raise ValueError(f"vectors must be [N, d], not {list(rows.shape)}")
    own = range(len(rows)) if names is None else names
    name_column = [str(name) for name in own]
    known = [""] * len(rows) if labels is None else labels
    label_column = ["" if label is None else str(label) for label in known]
    if not len(name_column) == len(label_column) == len(rows):
        raise ValueError(f"{len(rows)} vectors, {len(name_column)} names and {len(label_column)} labels")
    return VectorTable(rows, name_column, label_column)
