"""Triplets of an anchor, a wanted and an unwanted case, from feedback or from a file."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.feedback import Judgement
from mekiki.data.text_files import read_csv_rows
from mekiki.errors import InputError, MissingExtraError, first_line
from mekiki.extras import require
from mekiki.storage.npz import read_npz

Floats = NDArray[np.float32]
SIDES = ("anchor", "positive", "negative")
Query = TypeVar("Query", bound=Hashable)
Judged = TypeVar("Judged")


@dataclass(frozen=True, eq=False)
class CaseTriplets:
    """Vectors of queries, each with a case that is wanted and one that is not.

    Attributes:
        anchors: float32 `[T, d]`, the queries.
        positives: float32 `[T, d]`, cases judged good.
        negatives: float32 `[T, d]`, cases judged bad.

    Example:
        >>> side = np.zeros((3, 2), np.float32)
        >>> len(CaseTriplets(side, side, side))
        3
    """

    anchors: Floats
    positives: Floats
    negatives: Floats

    def __post_init__(self) -> None:
        sides = (self.anchors, self.positives, self.negatives)
        shapes = [list(side.shape) for side in sides]
        if self.anchors.ndim != 2 or any(shape != shapes[0] for shape in shapes):
            raise InputError(
                "anchors, positives and negatives must be [T, d], one row each a triplet, not "
                f"{', '.join(map(str, shapes))}"
            )
        if not all(np.isfinite(side).all() for side in sides):
            raise InputError("triplets hold NaN or infinity; leave those out")

    def __len__(self) -> int:
        return len(self.anchors)

    def rows(self, which: NDArray[Any]) -> CaseTriplets:
        """Some of them."""
        return CaseTriplets(self.anchors[which], self.positives[which], self.negatives[which])


def pair_judgements(
    judgements: Sequence[Judgement], query: Callable[[Judgement], Query], case: Callable[[Judgement], Judged]
) -> list[tuple[Query, Judged, Judged]]:
    """For each query, every case judged good with every case judged bad.

    Args:
        judgements: the active ones.
        query: what stands for the query of a judgement; equal for the same query.
        case: what stands for its case.

    Raises:
        InputError: no query has both.
    """
    judged: dict[Query, tuple[list[Judged], list[Judged]]] = {}
    for each in judgements:
        judged.setdefault(query(each), ([], []))[0 if each.good else 1].append(case(each))
    triplets = [
        (anchor, positive, negative)
        for anchor, (good, bad) in judged.items()
        for positive in good
        for negative in bad
    ]
    if not triplets:
        raise InputError(
            "no query has both a good and a bad case, so there is nothing to learn; judge some of each"
        )
    return triplets


def judged_triplets(judgements: Sequence[Judgement]) -> CaseTriplets:
    """The vectors of `pair_judgements`."""
    triplets = pair_judgements(judgements, lambda each: each.query.tobytes(), lambda each: each.vector)
    queries, good, bad = zip(*triplets, strict=True)
    return CaseTriplets(
        np.stack([np.frombuffer(query, np.float32) for query in queries]), np.stack(good), np.stack(bad)
    )


def read_triplets(path: Path) -> CaseTriplets:
    """Triplets of vectors from a file: `.npz` or `.parquet` with `anchor`, `positive` and `negative`, a row each.

    Raises:
        InputError: it cannot be read or lacks one of them.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "triplets.npz"
        >>> np.savez(path, **{side: np.zeros((5, 2), np.float32) for side in SIDES})
        >>> len(read_triplets(path))
        5
    """
    try:
        if path.suffix.lower() == ".npz":
            arrays = read_npz(path, lambda _: SIDES)
            return CaseTriplets(*(np.asarray(array, np.float32) for array in arrays))
        if path.suffix.lower() == ".parquet":
            table: Any = require("pyarrow.parquet", extra="cases", purpose="a Parquet file").read_table(path)
            return CaseTriplets(*(np.array(table[side].to_pylist(), np.float32) for side in SIDES))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except MissingExtraError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(f"{path}: holds no triplets that can be read ({first_line(error)})") from None
    raise InputError(f"{path}: triplets are read from .npz or .parquet, with anchor, positive and negative")


def read_triplet_rows(path: Path) -> list[tuple[str, str, str]]:
    """Triplets of case ids or texts from a .csv file with the columns of `SIDES`.

    Raises:
        InputError: it cannot be read, lacks a column, or a row lacks a side.
    """
    _, rows = read_csv_rows(path, f"a .csv file with the columns {', '.join(SIDES)}")
    triplets = [(row.get("anchor", ""), row.get("positive", ""), row.get("negative", "")) for row in rows]
    if not triplets or not all(map(all, triplets)):
        raise InputError(f"{path}: must have the columns anchor, positive and negative, and no row without")
    return triplets
