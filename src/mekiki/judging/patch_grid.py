"""Patches of several layers of a network on one grid, each averaged with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LONGEST_SIDE = 16
"""Rows and columns of the grid, at most."""


def join_layers(layers: Sequence[Tensor]) -> Tensor:
    """Layers `[N, hᵢ, wᵢ, cᵢ]` → patches float32 `[N, h, w, Σc]` on the grid of the middle one, or a coarser one.

    Each patch is the mean of its 3 × 3 neighbours, which makes it aware of what is around it, as in PatchCore (Roth et
    al. 2022). Finer layers are averaged, coarser ones interpolated. All of that is linear along each side, so it is one
    matrix a side and layer, and an exported graph does the same.

    Example:
        >>> join_layers([torch.ones(1, 28, 28, 2), torch.ones(1, 14, 14, 3), torch.ones(1, 7, 7, 4)]).shape
        torch.Size([1, 14, 14, 9])
    """
    height, width = (min(side, LONGEST_SIDE) for side in layers[len(layers) // 2].shape[1:3])
    joined = []
    for layer in layers:
        down, across = _resampling(layer.shape[1], height), _resampling(layer.shape[2], width)
        down, across = down.to(layer.device), across.to(layer.device)
        resampled = (down @ layer.float().permute(0, 3, 1, 2)) @ across.T.contiguous()
        joined.append(resampled.permute(0, 2, 3, 1))
    return torch.cat(joined, dim=3)


def _resampling(old: int, new: int) -> Tensor:
    """The matrix of averaging three neighbours and then resampling one side: `[new, old]`, rows of sum 1."""
    neighbours = torch.zeros(old, old)
    for place in range(old):
        first, last = max(0, place - 1), min(old, place + 2)
        neighbours[place, first:last] = 1 / (last - first)
    resampled = torch.zeros(new, old)
    for place in range(new):
        if new <= old:  # the mean of what it covers
            first, last = place * old // new, -(-(place + 1) * old // new)
            resampled[place, first:last] = 1 / (last - first)
        else:
            centre = min(max((place + 0.5) * old / new - 0.5, 0), old - 1)
            left = min(int(centre), max(old - 2, 0))
            resampled[place, left] += 1 - (centre - left)
            if old > 1:
                resampled[place, left + 1] += centre - left
    return resampled @ neighbours
