"""The projector: from the vectors of a part to soft tokens, which take places of words in a language model's prompt.

A language model reads rows of `[L, hidden]`, one a token, from its embedding table. A soft token is such a row that
comes from no table. Soft tokens are scaled to the mean length of the table's rows, because a model has never seen
others.

References:
    Liu, Li, Wu and Lee, *Visual Instruction Tuning*, 2023, arXiv 2304.08485; its projector is a two-layer perceptron
    in later versions, as here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.errors import InputError

TOKENS = 4
"""Soft tokens for the whole vector, and as many for all patches together."""
INNER = 256
PATCH = 32
"""Width that each patch is reduced to before all patches are combined."""


@dataclass(frozen=True, eq=False)
class PartVectors:
    """Vectors of N parts.

    The vector that tells defect types apart may have lost where a defect is; the patches keep it.

    Attributes:
        whole: float32 `[N, d]`.
        places: float32 `[N, h, w, c]`, vectors on a coarse grid; `None` where there are none.

    Raises:
        InputError: the two shapes do not fit together.

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

    def tensors(self) -> tuple[Tensor, Tensor | None]:
        """The two arrays as tensors."""
        places = None if self.places is None else torch.from_numpy(np.ascontiguousarray(self.places))
        return torch.from_numpy(np.ascontiguousarray(self.whole)), places


class Projector(nn.Module):
    """Vectors of parts → soft tokens: `[B, d]` and, if there are any, `[B, h, w, c]` → `[B, length, hidden]`.

    All patches together become a few tokens, not one each: a place can then be read from any of these tokens, while
    attention would first have to learn which token stands for which place. One token a patch needs several times as
    many texts, and each text costs twice the time.

    Args:
        parts: the training parts: their shapes, and the mean and standard deviation of each component.
        hidden: width of the language model's rows.
        norm: mean length of these rows.
        tokens: soft tokens for the whole vector.

    Example:
        >>> parts = PartVectors(np.eye(3, 5, dtype=np.float32), np.ones((3, 2, 2, 4), np.float32))
        >>> soft = Projector(parts, hidden=8, norm=2.0)(*parts.tensors())
        >>> soft.shape, bool(torch.allclose(soft.norm(dim=2), torch.tensor(2.0)))
        (torch.Size([3, 8, 8]), True)
    """

    mean: Tensor
    spread: Tensor
    place_mean: Tensor
    place_spread: Tensor

    def __init__(self, parts: PartVectors, hidden: int, norm: float, tokens: int = TOKENS) -> None:
        super().__init__()
        self.hidden, self.norm, self.tokens = hidden, norm, tokens
        mean, spread = _moments(parts.whole)
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.whole = nn.Sequential(nn.Linear(len(mean), INNER), nn.GELU(), nn.Linear(INNER, tokens * hidden))
        self.grid: tuple[int, int] | None = None
        if parts.places is not None:
            _, height, width, channels = parts.places.shape
            self.grid = (height, width)
            mean, spread = _moments(parts.places.reshape(-1, channels))
            self.register_buffer("place_mean", mean)
            self.register_buffer("place_spread", spread)
            self.register_buffer("grid_shape", torch.tensor([height, width]))
            self.patch = nn.Sequential(
                nn.Linear(channels, INNER), nn.GELU(), nn.Linear(INNER, PATCH), nn.GELU()
            )
            self.patches = nn.Sequential(
                nn.Linear(height * width * PATCH, INNER), nn.GELU(), nn.Linear(INNER, tokens * hidden)
            )

    @property
    def length(self) -> int:
        """Number of soft tokens a part."""
        return self.tokens * (2 if self.grid else 1)

    def forward(self, whole: Tensor, places: Tensor | None = None) -> Tensor:
        """Soft tokens of a batch, each of length `norm`."""
        x = self.whole(self._standardise(whole, self.mean, self.spread)).view(
            len(whole), self.tokens, self.hidden
        )
        if self.grid is not None:
            assert places is not None
            each = self.patch(self._standardise(places, self.place_mean, self.place_spread))
            x = torch.cat([x, self.patches(each.flatten(1)).view(len(x), self.tokens, self.hidden)], dim=1)
        soft: Tensor = x / x.norm(dim=2, keepdim=True).clamp_min(1e-6) * self.norm
        return soft

    def mean_parts(self, count: int) -> tuple[Tensor, Tensor | None]:
        """The mean vectors, `count` times: zeros after standardisation, so they hold nothing about a part."""
        whole = self.mean.expand(count, -1)
        if self.grid is None:
            return whole, None
        return whole, self.place_mean.expand(count, *self.grid, -1)

    @staticmethod
    def _standardise(x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        # Far outside the training range, only the fact that it is far can mean anything.
        return ((x - mean) / spread).clamp(-8, 8)


def _moments(rows: Any) -> tuple[Tensor, Tensor]:
    mean = rows.mean(axis=0, dtype=np.float64)
    spread = rows.std(axis=0, dtype=np.float64)
    # A component that is constant over all parts must not be divided by its rounding errors.
    spread = np.where(spread > 1e-6 * (np.abs(mean) + 1e-30), spread, 1.0)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(spread.astype(np.float32))
