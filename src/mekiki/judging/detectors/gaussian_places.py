"""`GaussianPlaces`: the Mahalanobis distance of a patch at its own place, for parts that all lie alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.judging.tensor_blocks import to_tensor

CHANNELS = 160
"""Random channels that are compared, at most."""
SHRINKAGE = 0.05
"""Share of the mean variance that is put on the diagonal of each covariance matrix in place of its own."""


class GaussianPlaces(nn.Module):
    """A Gaussian of OK patches at each place: `[N, h, w, c]` → distances float32 `[N, h, w]`.

    PaDiM (Defard et al. 2021, doi 10.1007/978-3-030-68799-1_35): mean and covariance of a random choice of channels
    at each place of a grid that is the same for all photographs.

    Args:
        channels: int64 `[k]`, those compared.
        mean: `[h·w, k]`.
        whitening: `[h·w, k, k]`; times a centred patch it has the squared length D².
        shape: height and width of the grid.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> good = torch.from_numpy(rng.normal(size=(99, 4, 4, 3)).astype(np.float32))
        >>> good[:, 1, 2] += 50
        >>> detector, part = GaussianPlaces.fit(good), good[:1].clone()
        >>> part[0, 1, 2] = 0  # usual elsewhere
        >>> divmod(int(detector(part).argmax()), 4)
        (1, 2)
    """

    worst_places: ClassVar[int] = 10

    channels: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(self, channels: Tensor, mean: Tensor, whitening: Tensor, shape: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("channels", channels)
        self.register_buffer("mean", mean.float())
        self.register_buffer("whitening", whitening.float())
        self.shape = shape

    @classmethod
    def fit(cls, patches: Tensor, seed: int = 0) -> Self:
        """Learn from the patches of OK photographs, `[n, h, w, c]`."""
        _, height, width, count = patches.shape
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        channels = order[:CHANNELS].sort().values
        mean = torch.empty(height * width, len(channels))
        whitening = torch.empty(height * width, len(channels), len(channels))
        for row in range(height):  # a row at a time bounds the memory
            at_places = patches[:, row].index_select(2, channels).transpose(0, 1)
            places = slice(row * width, (row + 1) * width)
            mean[places] = at_places.mean(1)
            whitening[places] = _whiten(at_places - mean[places, None])
        return cls(channels, mean, whitening, (height, width))

    def forward(self, patches: Tensor) -> Tensor:
        """D of each patch."""
        centred = patches.index_select(3, self.channels).flatten(1, 2) - self.mean
        # The matrices stand on the left: with one photograph that takes half the time.
        turned = self.whitening @ centred.permute(1, 2, 0).contiguous()
        return (turned**2).sum(1).sqrt().T.reshape(-1, *self.shape)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt, from which `from_arrays` makes it again."""
        return {
            "channels": self.channels.numpy(),
            "mean": self.mean.numpy(),
            "whitening": self.whitening.numpy(),
            "shape": np.array(self.shape),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The detector that `to_arrays` described."""
        height, width = (int(side) for side in arrays["shape"])
        channels, mean, whitening = (to_tensor(arrays[name]) for name in ("channels", "mean", "whitening"))
        return cls(channels, mean, whitening, (height, width))


def _whiten(centred: Tensor) -> Tensor:
    """Matrices `[places, k, k]` by which the squared length of centred patches `[places, n, k]` is D²."""
    number, count = centred.shape[1:]
    covariance = centred.transpose(1, 2) @ centred / max(number - 1, 1)
    variance = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-6)
    identity = torch.eye(count)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * variance[:, None, None] * identity
    # D² = ‖L⁻¹x‖² with the covariance LLᵀ.
    factor = torch.linalg.cholesky(shrunk.double())
    whitening: Tensor = torch.linalg.solve_triangular(
        factor, identity.double().expand_as(factor), upper=False
    )
    return whitening.float()
