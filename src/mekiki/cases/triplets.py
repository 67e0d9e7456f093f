"""Triplets: an anchor, what it wants, and what it does not; from the log of feedback or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.feedback import Judgement
from mekiki.errors import InputError, MissingExtraError, first_line
from mekiki.extras import require
from mekiki.storage.npz import read_npz

Floats = NDArray[np.float32]
SIDES = ("anchor", "positive", "negative")


@dataclass(frozen=True, eq=False)
class Triplets:
    """What people judged: for each anchor, one case that is wanted and one that is not.

    Attributes:
        anchors: float32 `[T, d]`, the queries.
        positives: float32 `[T, d]`, what they wanted.
        negatives: float32 `[T, d]`, what they did not want.

    Example:
        >>> one = np.zeros((3, 2), np.float32)
        >>> len(Triplets(one, one, one))
        3
    """

    anchors: Floats
    positives: Floats
    negatives: Floats

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.anchors, self.positives, self.negatives)}
        if len(shapes) != 1 or self.anchors.ndim != 2:
            raise InputError(
                "anchors, positives and negatives must be [T, d], one row each a triplet, not "
                f"{', '.join(str(list(array.shape)) for array in (self.anchors, self.positives, self.negatives))}"
            )
        if not all(np.isfinite(array).all() for array in (self.anchors, self.positives, self.negatives)):
            raise InputError("triplets hold NaN or infinity; leave those out")

    def __len__(self) -> int:
        return len(self.anchors)

    def rows(self, which: NDArray[Any]) -> Triplets:
        """Some of them."""
        return Triplets(self.anchors[which], self.positives[which], self.negatives[which])


def triplets_of(judgements: Sequence[Judgement]) -> Triplets:
    """Of each query, every case judged good with every case judged bad.

    Args:
        judgements: those in force.

    Raises:
        InputError: no query has both.
    """
    asked: dict[bytes, tuple[list[Judgement], list[Judgement]]] = {}
    for each in judgements:
        asked.setdefault(each.query.tobytes(), ([], []))[0 if each.good else 1].append(each)
    found = [
        (one.query, one.vector, other.vector) for good, bad in asked.values() for one in good for other in bad
    ]
    if not found:
        raise InputError(
            "no query has both a good and a bad case, so there is nothing to learn; judge some of each"
        )
    return Triplets(*(np.stack(side) for side in zip(*found, strict=True)))


def read_triplets(path: Path) -> Triplets:
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
            return Triplets(*(np.asarray(array, np.float32) for array in arrays))
        if path.suffix.lower() == ".parquet":
            table: Any = require("pyarrow.parquet", extra="cases", purpose="a Parquet file").read_table(path)
            return Triplets(*(np.array(table[side].to_pylist(), np.float32) for side in SIDES))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except MissingExtraError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(f"{path}: holds no triplets that can be read ({first_line(error)})") from None
    raise InputError(f"{path}: triplets are read from .npz or .parquet, with anchor, positive and negative")
