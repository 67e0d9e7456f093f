"""`PatchDetectors`: all detectors on one grid of patches, fitted and cross-fitted together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.errors import not_known
from mekiki.judging.detectors.gaussian_places import GaussianPlaces
from mekiki.judging.detectors.largest_cells import LargestCells
from mekiki.judging.detectors.patch_memory import PatchMemory
from mekiki.judging.detectors.patch_subspace import PatchSubspace
from mekiki.judging.detectors.photo_context import Patches, PhotoContext, PhotoMoments
from mekiki.judging.tensor_blocks import PATCH_BLOCK, run_in_blocks, to_tensor

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

FOLDS = 4
"""Parts that reference scores are made in: each by detectors fitted without it."""


class Detector(Protocol):
    """From patches `[N, h, w, c]` to a distance for each place, larger = farther from good.

    Implementations are torch modules, so that the export writes what the program runs.

    Attributes:
        worst_places: places whose mean distance is the score of a photograph: steadier than the largest one.
    """

    worst_places: ClassVar[int]

    @classmethod
    def fit(cls, patches: Tensor) -> Self:
        """Learn from the patches of OK photographs, float32 `[n, h, w, c]`."""

    def __call__(self, patches: Tensor) -> Tensor:
        """Distances, float32 `[N, h, w]`."""

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The detector that `to_arrays` described."""


DETECTORS: dict[str, type[Detector]] = {
    "memory": PatchMemory,
    "places": GaussianPlaces,
    "subspace": PatchSubspace,
}
"""The detectors on patches, by name."""
FINE_DETECTORS: dict[str, type[Detector]] = {"cells": LargestCells}
"""Those on the cells of the fine scale; see `mekiki.judging.fine_scale`."""
_ALL = DETECTORS | FINE_DETECTORS


class PatchDetectors(nn.Module):
    """Detectors behind one `PhotoContext`: patches `[N, h, w, c]` → scores float64 `[N, k]`.

    Args:
        context: what the photograph as a whole explains.
        detectors: by name, of `DETECTORS` or `FINE_DETECTORS`.
        shape: `(h, w, c)` of the patches.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> good = rng.normal(size=(60, 4, 4, 3)).astype(np.float32)
        >>> detectors = PatchDetectors.fit(good, ["memory", "places"])
        >>> part = good[:1].copy()
        >>> part[0, 1, 2] = 20
        >>> before, after = (detectors(torch.from_numpy(each))[0] for each in (good[:1], part))
        >>> bool((after > 2 * before).all())
        True
    """

    def __init__(
        self, context: PhotoContext, detectors: Mapping[str, Detector], shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.context, self.names, self.shape = context, tuple(detectors), shape
        self.detectors = nn.ModuleList(
            detector for detector in detectors.values() if isinstance(detector, nn.Module)
        )

    @classmethod
    def fit(
        cls,
        patches: Patches,
        names: Sequence[str],
        rows: Rows | None = None,
        moments: PhotoMoments | None = None,
    ) -> Self:
        """Learn from the patches of OK photographs.

        Args:
            patches: `[n, h, w, c]`.
            names: of the detectors.
            rows: int64, of the photographs to learn from; by default all.
            moments: of the patches, where they are known.

        Raises:
            InputError: there is no such detector.
        """
        for name in names:
            if name not in _ALL:
                raise not_known("detector", name, _ALL)
        rows = np.arange(len(patches)) if rows is None else rows
        context, rest = PhotoContext.fit_and_apply(patches, moments or PhotoMoments.of(patches), rows)
        return cls(context, {name: _ALL[name].fit(rest) for name in names}, patches.shape[1:])

    @classmethod
    def cross_score(
        cls,
        patches: Patches,
        names: Sequence[str],
        rows: Rows | None = None,
        moments: PhotoMoments | None = None,
    ) -> Floats:
        """Scores float64 `[len(rows), k]` of OK photographs, each by detectors that were fitted without it.

        The arguments are those of `fit`.
        """
        moments = moments or PhotoMoments.of(patches)
        rows = np.arange(len(patches)) if rows is None else rows
        folds = np.arange(len(rows)) % min(FOLDS, len(rows))
        scores = np.empty((len(rows), len(names)))
        for fold in range(int(folds.max()) + 1):
            out = np.flatnonzero(folds == fold)
            detectors = cls.fit(patches, names, rows[folds != fold], moments)
            for start in range(0, len(out), PATCH_BLOCK):
                block = out[start : start + PATCH_BLOCK]
                scores[block] = detectors.score(patches[rows[block]])
        return scores

    def forward(self, patches: Tensor) -> Tensor:
        """Scores of photographs: the mean of the largest distances by each detector."""
        scores = []
        for detector, distances in zip(self.detectors, self.maps(patches).flatten(2), strict=True):
            worst = min(cast(Detector, detector).worst_places, distances.shape[1])
            scores.append(distances.topk(worst, dim=1).values.double().mean(1))
        return torch.stack(scores, dim=1)

    def maps(self, patches: Tensor) -> Tensor:
        """Distances place by place: float32 `[k, N, h, w]`."""
        rest = self.context(patches)
        return torch.stack([detector(rest) for detector in self.detectors])

    def score(self, patches: Patches) -> Floats:
        """The same as `forward` for an array, a block of photographs at a time."""
        return np.asarray(run_in_blocks(self, to_tensor(patches), block=PATCH_BLOCK).numpy())

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt, from which `from_arrays` makes it again."""
        arrays = {"shape/all": np.array(self.shape)}
        arrays |= {f"context/{name}": array for name, array in self.context.to_arrays().items()}
        for name, detector in zip(self.names, self.detectors, strict=True):
            own = cast(Detector, detector).to_arrays()
            arrays |= {f"{name}/{key}": array for key, array in own.items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The detectors that `to_arrays` described."""
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for key, array in arrays.items():
            name, _, rest = key.partition("/")
            parts.setdefault(name, {})[rest] = array
        context = PhotoContext.from_arrays(parts.pop("context"))
        # In the order of the registry: that of the columns.
        shape = tuple(parts.pop("shape")["all"].tolist())
        return cls(
            context,
            {name: _ALL[name].from_arrays(parts[name]) for name in _ALL if name in parts},
            shape,
        )
