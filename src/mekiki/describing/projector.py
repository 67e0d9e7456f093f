"""The projector: from the vectors of a part to soft tokens, which stand in a language model's prompt as words do.

A language model reads rows of `[L, hidden]`, one a token, that it looks up in a table of its own. A soft token is such
a row that comes from no table. After Liu, Li, Wu and Lee, *Visual Instruction Tuning* (2023), whose projector is a
perceptron of two layers too; soft tokens are scaled to the length that rows of the table have, because a model has
never seen others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mekiki.describing.part_vectors import PartVectors

TOKENS = 4
"""Soft tokens that the whole vector becomes, and, if there are any, all patches together."""
INNER = 256
PATCH = 32
"""Width that each patch is brought to before all are looked at together."""


class Projector(nn.Module):
    """Vectors of parts → soft tokens: `[B, d]` and, if there are any, `[B, h, w, c]` → `[B, length, hidden]`.

    All patches together become a few tokens, not one each: where something is can then be read from any of these,
    while attention would have to find out first which token stands for which place. That takes it several times as
    many texts, and each of them costs twice the time.

    Args:
        parts: those it will learn from: their shapes, and the mean and deviation of each item.
        hidden: width of the language model's rows.
        norm: mean length of these rows.
        tokens: soft tokens of the whole vector.

    Example:
        >>> parts = PartVectors(np.eye(3, 5, dtype=np.float32), np.ones((3, 2, 2, 4), np.float32))
        >>> soft = Projector(parts, hidden=8, norm=2.0)(*tensors(parts))
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
        """Soft tokens a part."""
        return self.tokens * (2 if self.grid else 1)

    def forward(self, whole: Tensor, places: Tensor | None = None) -> Tensor:
        """Soft tokens of a batch, each of length `norm`."""
        x = self.whole(self._standard(whole, self.mean, self.spread)).view(
            len(whole), self.tokens, self.hidden
        )
        if self.grid is not None:
            assert places is not None
            each = self.patch(self._standard(places, self.place_mean, self.place_spread))
            x = torch.cat([x, self.patches(each.flatten(1)).view(len(x), self.tokens, self.hidden)], dim=1)
        soft: Tensor = x / x.norm(dim=2, keepdim=True).clamp_min(1e-6) * self.norm
        return soft

    def nothing(self, count: int) -> tuple[Tensor, Tensor | None]:
        """What stands for "zeros": parts of which every item has its mean, so that nothing is said of them."""
        whole = self.mean.expand(count, -1)
        if self.grid is None:
            return whole, None
        return whole, self.place_mean.expand(count, *self.grid, -1)

    @staticmethod
    def _standard(x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        # What lies far outside of all that was learnt from says no more than "far".
        return ((x - mean) / spread).clamp(-8, 8)


def tensors(parts: PartVectors) -> tuple[Tensor, Tensor | None]:
    """The two arrays as torch has them."""
    places = None if parts.places is None else torch.from_numpy(np.ascontiguousarray(parts.places))
    return torch.from_numpy(np.ascontiguousarray(parts.whole)), places


def _moments(rows: Any) -> tuple[Tensor, Tensor]:
    mean = rows.mean(axis=0, dtype=np.float64)
    spread = rows.std(axis=0, dtype=np.float64)
    # An item that is the same in all parts says nothing, and must not be divided by its rounding errors.
    spread = np.where(spread > 1e-6 * (np.abs(mean) + 1e-30), spread, 1.0)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(spread.astype(np.float32))
