"""The vectors of parts, as a describer takes them: the whole, and place by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError


@dataclass(frozen=True, eq=False)
class PartVectors:
    """Vectors of N parts.

    The vector that holds what a part *is* may not hold *where* something is; the patches do.

    Attributes:
        whole: float32 `[N, d]`.
        places: float32 `[N, h, w, c]`, vectors on a coarse grid; `None` where there are none.

    Raises:
        InputError: the two do not fit together.

    Example:
        >>> parts = PartVectors(np.zeros((3, 8), np.float32), np.zeros((3, 6, 6, 4), np.float32))
        >>> len(parts.rows(slice(0, 2)).whole)
        2
    """

    whole: NDArray[np.float32]
    places: NDArray[np.float32] | None

    def __post_init__(self) -> None:
        if self.whole.ndim != 2 or (
            self.places is not None and (self.places.ndim != 4 or len(self.places) != len(self.whole))
        ):
            places = None if self.places is None else list(self.places.shape)
            raise InputError(
                f"vectors of parts must be [N, d] and [N, h, w, c], not {list(self.whole.shape)} and {places}"
            )

    def rows(self, rows: Any) -> PartVectors:
        """Some of the parts, by a slice or an array of row numbers."""
        return PartVectors(self.whole[rows], None if self.places is None else self.places[rows])
