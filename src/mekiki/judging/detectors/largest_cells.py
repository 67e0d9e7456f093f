"""`LargestCells`: how far the cells of the fine scale lie above what is usual at their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.judging.tensor_blocks import to_tensor

OWN_SHARE = 0.5
"""Share of a cell's own variance in the one it is divided by; the rest is the mean over all cells."""


class LargestCells(nn.Module):
    """Values above the usual, in deviations of the cell: `[N, h, w, c]` → float32 `[N, h, w]`, 0 or more.

    Args:
        mean: `[h, w, c]`.
        inverse: `[h, w, c]`, one over the deviation.

    Example:
        >>> import torch
        >>> good = torch.randn(99, 4, 4, 1, generator=torch.Generator().manual_seed(0))
        >>> detector, part = LargestCells.fit(good), good[:1].clone()
        >>> part[0, 1, 2] = 20
        >>> divmod(int(detector(part).argmax()), 4)
        (1, 2)
    """

    worst_places: ClassVar[int] = 2

    mean: Tensor
    inverse: Tensor

    def __init__(self, mean: Tensor, inverse: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("inverse", inverse.float())

    @classmethod
    def fit(cls, patches: Tensor) -> Self:
        """Learn from the cells of OK photographs, `[n, h, w, c]`."""
        own = patches.var(0, correction=0)
        variance = OWN_SHARE * own + (1 - OWN_SHARE) * own.mean((0, 1))
        return cls(patches.mean(0), 1 / variance.sqrt().clamp(min=1e-6))

    def forward(self, patches: Tensor) -> Tensor:
        """The mean over the channels."""
        return ((patches - self.mean) * self.inverse).clamp(min=0).mean(3)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt, from which `from_arrays` makes it again."""
        return {"mean": self.mean.numpy(), "inverse": self.inverse.numpy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The detector that `to_arrays` described."""
        return cls(to_tensor(arrays["mean"]), to_tensor(arrays["inverse"]))
