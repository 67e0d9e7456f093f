"""A table of vectors with their names and labels, to and from a file: what other programs take over."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError, MissingExtraError, first_line
from mekiki.extras import require
from mekiki.storage.atomic import replace_file
from mekiki.storage.npz import read_npz

SUFFIXES = (".npz", ".parquet", ".csv")


@dataclass(frozen=True, eq=False)
class VectorTable:
    """Vectors and where they come from.

    Attributes:
        vectors: float32 `[N, d]`.
        names: one name an image.
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
    """Refuse a file whose ending names no format, before any work is done.

    Raises:
        InputError: the ending is not .npz, .parquet or .csv, or pyarrow is not there for .parquet.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: vectors are written as {', '.join(SUFFIXES)}; give the file such an ending"
        )
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file")
    if path.suffix.lower() == ".parquet":
        require("pyarrow.parquet", extra="parquet", purpose="a Parquet file")


def write_vectors(path: Path, table: VectorTable) -> None:
    """Write a table in one step, in the format its ending names; every float32 is read back as it was.

    Raises:
        InputError: see `check_suffix`.
        MissingExtraError: Parquet without pyarrow.
    """
    check_suffix(path)
    with replace_file(path) as temporary:
        if path.suffix.lower() == ".npz":
            np.savez(
                temporary,
                vectors=table.vectors,
                names=np.array(table.names, dtype=np.str_),
                labels=np.array(table.labels, dtype=np.str_),
            )
        elif path.suffix.lower() == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["name", "label", *(f"v{i + 1}" for i in range(table.vectors.shape[1]))])
                for name, label, vector in zip(table.names, table.labels, table.vectors, strict=True):
                    writer.writerow([name, label, *(str(number) for number in vector)])
        else:
            arrow = require("pyarrow", extra="parquet", purpose="a Parquet file")
            parquet = require("pyarrow.parquet", extra="parquet", purpose="a Parquet file")
            flat = arrow.array(np.ascontiguousarray(table.vectors).reshape(-1))
            column = arrow.FixedSizeListArray.from_arrays(flat, table.vectors.shape[1])
            content = {"name": list(table.names), "label": list(table.labels), "vector": column}
            parquet.write_table(arrow.table(content), temporary)


def read_vectors(path: Path) -> VectorTable:
    """Read what `write_vectors` wrote, or another program: rows without names are numbered, labels may lack.

    Raises:
        InputError: no such file, or it holds no vectors.
    """
    check_suffix(path)
    try:
        if path.suffix.lower() == ".npz":
            chosen = ["vectors"]

            def choose(names: Sequence[str]) -> list[str]:
                chosen.extend(name for name in ("names", "labels") if name in names)
                return chosen

            vectors, *more = read_npz(path, choose)
            own = {name: column.tolist() for name, column in zip(chosen[1:], more, strict=True)}
            return _table(vectors, own.get("names"), own.get("labels"))
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8", newline="") as lines:
                _, *rows = csv.reader(lines)
            vectors = np.array([row[2:] for row in rows], dtype=np.float32)
            return VectorTable(vectors, [row[0] for row in rows], [row[1] for row in rows])
        parquet = require("pyarrow.parquet", extra="parquet", purpose="a Parquet file")
        content = parquet.read_table(path)
        flat = content["vector"].combine_chunks().flatten().to_numpy()
        vectors = flat.reshape(content.num_rows, -1).astype(np.float32)
        known = {
            name: content[name].to_pylist() for name in ("name", "label") if name in content.column_names
        }
        return _table(vectors, known.get("name"), known.get("label"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except MissingExtraError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        said = str(error).removeprefix(f"{path}: ") if isinstance(error, InputError) else first_line(error)
        raise InputError(f"{path}: holds no vectors that can be read ({said})") from None


def _table(
    vectors: NDArray[np.generic], names: list[object] | None, labels: list[object] | None
) -> VectorTable:
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2:
        raise ValueError(f"vectors must be [N, d], not {list(rows.shape)}")
    told = [str(row) for row in range(len(rows))] if names is None else [str(name) for name in names]
    called = [""] * len(rows) if labels is None else ["" if label is None else str(label) for label in labels]
    if not len(told) == len(called) == len(rows):
        raise ValueError(f"{len(rows)} vectors, {len(told)} names and {len(called)} labels")
    return VectorTable(rows, told, called)
