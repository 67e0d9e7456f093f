"""`PatchMemory`: the distance of a patch to the nearest of those kept of OK parts, wherever they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.judging.tensor_blocks import to_tensor

DIMENSIONS = 128
"""Random directions that patches are compared in; distances of points keep to within some percent (Johnson and
Lindenstrauss 1984)."""
CANDIDATES = 12000
"""Patches that the coreset is chosen from, at most."""
COVERED = 32
"""Of them those in which the coreset is chosen, as in PatchCore."""
KEPT = 2000
"""Patches in the memory, at most."""


class PatchMemory(nn.Module):
    """A coreset of OK patches: `[N, h, w, c]` → distances to the nearest, float32 `[N, h, w]`.

    PatchCore (Roth et al. 2022, arXiv 2106.08265): of a random choice of patches those are kept that lie farthest from
    all kept before (greedy k-centre), so that rare good patches are there too.

    Args:
        projection: `[c, d]`.
        memory: `[m, d]`, projected patches.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> good = torch.from_numpy(rng.normal(size=(99, 4, 4, 3)).astype(np.float32))
        >>> detector, part = PatchMemory.fit(good), good[:1].clone()
        >>> part[0, 1, 2] = 20
        >>> divmod(int(detector(part).argmax()), 4)
        (1, 2)
    """

    worst_places: ClassVar[int] = 10

    projection: Tensor
    memory: Tensor

    def __init__(self, projection: Tensor, memory: Tensor) -> None:
        super().__init__()
        self.register_buffer("projection", projection.float())
        self.register_buffer("memory", memory.float())

    @classmethod
    def fit(cls, patches: Tensor, seed: int = 0, kept: int | None = None) -> Self:
        """Learn from the patches of OK photographs, `[n, h, w, c]`; the memory keeps at most `kept`, or `KEPT`."""
        count = patches.shape[-1]
        generator = torch.Generator().manual_seed(seed)
        projection = torch.eye(count)
        if count > DIMENSIONS:
            projection = torch.randn(count, DIMENSIONS, generator=generator) / DIMENSIONS**0.5
        flat = patches.reshape(-1, count)
        rows = torch.randperm(len(flat), generator=generator)[:CANDIDATES]
        candidates = flat[rows] @ projection
        return cls(projection, candidates[choose_coreset(candidates[:, :COVERED].contiguous(), kept or KEPT)])

    def forward(self, patches: Tensor) -> Tensor:
        """The distance of each patch."""
        projected = patches @ self.projection
        flat = projected.flatten(0, 2)
        # ‖x − m‖² = ‖x‖² + (‖m‖² − 2 x·m), and only the bracket differs between kept patches.
        nearest = torch.addmm((self.memory**2).sum(1), flat, self.memory.T, alpha=-2).amin(1)
        return ((flat**2).sum(1) + nearest).clamp(min=0).sqrt().reshape(projected.shape[:3])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt, from which `from_arrays` makes it again."""
        return {"projection": self.projection.numpy(), "memory": self.memory.numpy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The detector that `to_arrays` described."""
        return cls(to_tensor(arrays["projection"]), to_tensor(arrays["memory"]))


def choose_coreset(points: Tensor, number: int) -> Tensor:
    """Rows of points `[n, d]`, each the farthest from those before it; row 0 is the first: int64 `[≤ number]`.

    Example:
        >>> choose_coreset(torch.tensor([[0.0], [0.1], [9.0], [4.0]]), 3).tolist()
        [0, 2, 3]
    """
    chosen = [0]
    columns = points.T.contiguous()  # sums over few long rows are quick
    difference = torch.empty_like(columns)

    def squared_distances(row: int) -> Tensor:
        torch.sub(columns, columns[:, row : row + 1], out=difference)
        return difference.square_().sum(0)

    distances = squared_distances(0)
    for _ in range(min(number, len(points)) - 1):
        farthest = int(distances.argmax())
        if float(distances[farthest]) == 0:  # the others are copies
            break
        chosen.append(farthest)
        distances = distances.minimum(squared_distances(farthest))
    return torch.tensor(chosen)
