"""`PatchSubspace`: what principal components of OK patches leave over of a patch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.judging.tensor_blocks import to_tensor

VARIANCE = 0.99
"""Share of the variance of OK patches that the components explain."""


class PatchSubspace(nn.Module):
    """Principal components of OK patches: `[N, h, w, c]` → length of the residual, float32 `[N, h, w]`.

    As in SubspaceAD (CVPR 2026): no memory of patches, and no place has to be the same in all photographs.

    Args:
        mean: `[c]`.
        left_over: `[c, r]`, orthonormal, the directions that are no components.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> line = rng.normal(size=(99, 4, 4, 1)) * [1.0, 2.0, -1.0]
        >>> good = torch.from_numpy((line + 0.01 * rng.normal(size=line.shape)).astype(np.float32))
        >>> detector, part = PatchSubspace.fit(good), good[:1].clone()
        >>> part[0, 1, 2, 0] += 1
        >>> divmod(int(detector(part).argmax()), 4)
        (1, 2)
    """

    worst_places: ClassVar[int] = 10

    mean: Tensor
    left_over: Tensor

    def __init__(self, mean: Tensor, left_over: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("left_over", left_over.float())

    @classmethod
    def fit(cls, patches: Tensor) -> Self:
        """Learn from the patches of OK photographs, `[n, h, w, c]`."""
        flat = patches.reshape(-1, patches.shape[-1])
        mean = flat.mean(0)
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for start in range(0, len(flat), 4096):
            block = flat[start : start + 4096] - mean
            covariance += (block.T @ block).double()
        values, vectors = torch.linalg.eigh(covariance / len(flat))
        values = values.flip(0).clamp(min=0)
        # At least one direction is left over, or nothing would ever be unusual.
        kept = int((values.cumsum(0) < VARIANCE * values.sum()).sum()) + 1
        return cls(mean, vectors.flip(1)[:, min(kept, len(mean) - 1) :].contiguous())

    def forward(self, patches: Tensor) -> Tensor:
        """The length of what is left over of each patch."""
        return (((patches - self.mean) @ self.left_over) ** 2).sum(3).sqrt()

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt, from which `from_arrays` makes it again."""
        return {"mean": self.mean.numpy(), "left_over": self.left_over.numpy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The detector that `to_arrays` described."""
        return cls(to_tensor(arrays["mean"]), to_tensor(arrays["left_over"]))
