"""A unit space as a torch module: the map into vectors whose squared length is the Mahalanobis distance D².

The judge fits and runs it, and the export writes it as a part of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.errors import InputError
from mekiki.judging.covariance import common_scale, ledoit_wolf_shrinkage, shrunk_whitening
from mekiki.judging.mahalanobis_taguchi import MT
from mekiki.judging.tensor_blocks import run_in_blocks, to_tensor

Floats = NDArray[np.float64]


class Whitening(nn.Module):
    """A unit space as a map into whitened vectors, whose squared length is D²: `[N, k]` → float64 `[N, r]`.

    With more parts than items it is the matrix of `MT`; with fewer, the directions of `shrunk_whitening`.

    Args:
        mean: `[k]`.
        scale: `[k]`, by which items are divided; 0 or infinite for items that do not vary. Unused with a matrix.
        matrix: `[k, r]`, or `[k, 0]` where directions take its place.
        directions: `[r, k]`; their type is the one that is computed with.
        gains: `[r]`.
        gain: a number.
    """

    def __init__(
        self,
        mean: NDArray[Any],
        scale: NDArray[Any],
        matrix: NDArray[Any],
        directions: NDArray[Any],
        gains: NDArray[Any],
        gain: float,
    ) -> None:
        super().__init__()
        self.scale, self.gain = scale, gain
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale, np.float64), where=scale > 0)
        self.register_buffer("mean", to_tensor(mean).double())
        self.register_buffer("inverse", to_tensor(inverse))
        self.register_buffer("matrix", to_tensor(matrix))
        self.register_buffer("directions", to_tensor(directions))
        self.register_buffer("gains", to_tensor(gains))
        self.width = matrix.shape[1] or len(mean)

    @classmethod
    def fit(cls, vectors: NDArray[Any], covariance: str) -> Self:
        """The unit space of OK parts `[n, k]`; `covariance` as for `MT`.

        Raises:
            InputError: all parts are equal, or as `MT.fit`.
        """
        number, items = vectors.shape
        empty = np.zeros((0, items), np.float32)
        if number > items or covariance not in ("auto", "ledoit-wolf"):
            form = MT(covariance).fit(vectors).form_
            return cls(form.mean, np.zeros(items), form.whitening, empty, np.zeros(0, np.float32), 0.0)
        x = vectors.astype(np.float64)
        mean, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
        scale[scale <= 1e-12 * np.maximum(np.abs(mean), 1e-300)] = 0.0
        varying = int((scale > 0).sum())
        scale = common_scale(scale)
        if not varying:
            raise InputError(
                f"all {number} OK parts are equal in a feature group, so there is no scale to measure a distance by; "
                "give good parts that differ as good parts do"
            )
        z = np.divide(x - mean, scale, out=np.zeros_like(x), where=scale > 0)
        gram = z @ z.T
        shrinkage = ledoit_wolf_shrinkage(np.diag(gram), gram / number, varying, least=1 / number)
        directions, gains, gain = shrunk_whitening(z / np.sqrt(number - 1), shrinkage, varying)
        none = np.zeros((items, 0))
        return cls(mean, scale, none, directions.astype(np.float32), gains.astype(np.float32), gain)

    def forward(self, vectors: Tensor) -> Tensor:
        """Whiten parts."""
        centred = vectors.double() - self.get_buffer("mean")
        if self.get_buffer("matrix").shape[1]:
            return centred @ self.get_buffer("matrix")
        z = (centred * self.get_buffer("inverse")).to(self.get_buffer("directions").dtype)
        return self._stretch(z, self.get_buffer("gains"), self.gain).double()

    def squared_distances(self, vectors: NDArray[Any]) -> Floats:
        """D² of parts `[N, k]`, a block at a time: float64 `[N]`."""
        squared = run_in_blocks(lambda x: (self(x) ** 2).sum(1), to_tensor(vectors))
        return np.asarray(squared.numpy(), np.float64)

    def _stretch(self, z: Tensor, gains: Tensor, gain: float) -> Tensor:
        """Z stretched by gain + gains along the directions, and by gain elsewhere."""
        directions = self.get_buffer("directions")
        if not len(directions):
            return gain * z
        # The batch is transposed, not the directions: a graph would hold them twice.
        return gain * z + ((directions @ z.T).T * gains) @ directions

    def restore(self, whitened: NDArray[Any]) -> NDArray[np.float32]:
        """Deviations from the mean that whiten to these vectors: `[N, r]` → float32 `[N, k]`.

        Items that do not vary among the parts it was fitted on are 0.

        Example:
            >>> parts = np.random.default_rng(0).normal(size=(20, 50))
            >>> space = Whitening.fit(parts, "auto")
            >>> restored = space.restore(space(to_tensor(parts)).numpy())
            >>> bool(np.allclose(restored, parts - parts.mean(axis=0), atol=1e-5))
            True
        """
        matrix, directions = self.get_buffer("matrix").numpy(), self.get_buffer("directions").numpy()
        if matrix.shape[1]:
            return np.asarray(whitened @ np.linalg.pinv(matrix), np.float32)
        gains = self.get_buffer("gains").numpy()
        along = (whitened @ directions.T) * (gains / (self.gain + gains))
        return np.asarray((whitened - along @ directions) / self.gain * self.scale, np.float32)

    @property
    def centre(self) -> Floats:
        """The mean of the unit space, float64 `[k]`."""
        return np.asarray(self.get_buffer("mean").numpy(), np.float64)

    def gradient(self, vectors: NDArray[Any]) -> Floats:
        """Half the gradient of D²: `[N, k]` → float64 `[N, k]`; its product with x − mean is D²."""
        matrix, inverse = self.get_buffer("matrix"), self.get_buffer("inverse")
        centred = to_tensor(vectors).double() - self.get_buffer("mean")
        if matrix.shape[1]:
            return np.asarray((centred @ matrix @ matrix.T).numpy(), np.float64)
        z = (centred * inverse).to(self.get_buffer("directions").dtype)
        squares = (self.get_buffer("gains") + self.gain) ** 2 - self.gain**2
        return np.asarray((self._stretch(z, squares, self.gain**2).double() * inverse).numpy(), np.float64)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Mean, whitening, scale, directions, gains and gain, from which `from_arrays` makes it again."""
        names = {"mean": "mean", "whitening": "matrix", "directions": "directions", "gains": "gains"}
        arrays: dict[str, NDArray[Any]] = {key: self.get_buffer(name).numpy() for key, name in names.items()}
        return arrays | {"scale": self.scale, "gain": np.atleast_1d(self.gain)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The map that `to_arrays` described."""
        return cls(
            arrays["mean"],
            arrays["scale"],
            arrays["whitening"],
            arrays["directions"],
            arrays["gains"],
            float(arrays["gain"].item()),
        )
