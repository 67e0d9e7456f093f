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
from mekiki.judging.detectors.photo_context import DIMENSIONS, Patches, PhotoContext, PhotoMoments
from mekiki.judging.tensor_blocks import PATCH_BLOCK, run_in_blocks, to_tensor

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

DEPARTING = 10
"""Places whose mean patch tells how a photograph departs from good ones."""
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
    """Detectors behind one `PhotoContext`: patches `[N, h, w, c]` → scores float64 `[N, k]` and departures.

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
        >>> before, after = (detectors(torch.from_numpy(each))[0][0] for each in (good[:1], part))
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
    ) -> tuple[Floats, NDArray[np.float32]]:
        """Scores float64 `[n, k]` and departures float32 `[n, 2d]` of OK photographs, each by a fit without it.

        The arguments are those of `fit`.
        """
        moments = moments or PhotoMoments.of(patches)
        rows = np.arange(len(patches)) if rows is None else rows
        folds = np.arange(len(rows)) % min(FOLDS, len(rows))
        scores = np.empty((len(rows), len(names)))
        departures = np.empty((len(rows), 2 * min(patches.shape[-1], DIMENSIONS)), np.float32)
        for fold in range(int(folds.max()) + 1):
            out = np.flatnonzero(folds == fold)
            detectors = cls.fit(patches, names, rows[folds != fold], moments)
            for start in range(0, len(out), PATCH_BLOCK):
                block = out[start : start + PATCH_BLOCK]
                scores[block], departures[block] = detectors.score_and_depart(patches[rows[block]])
        return scores, departures

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and departures of photographs.

        Returns:
            Scores float64 `[N, k]`: the mean of the largest distances by each detector. And float32 `[N, 2d]`, how the
            photograph departs from good ones, wherever it does: of what remains of patches behind the context, the root
            mean square over the places, and the mean at the `DEPARTING` worst places of all detectors together. From
            these a discriminant learns what corrected parts have in common.
        """
        rest = self.context(patches)
        maps = self._distances(rest).flatten(2)
        scores = []
        for detector, distances in zip(self.detectors, maps, strict=True):
            worst = min(cast(Detector, detector).worst_places, distances.shape[1])
            scores.append(distances.topk(worst, dim=1).values.double().mean(1))
        relative = (maps / maps.mean(2, keepdim=True).clamp(min=1e-12)).mean(0)
        flat = rest.flatten(1, 2)
        places = relative.topk(min(DEPARTING, flat.shape[1]), dim=1).indices
        at_worst = flat.gather(1, places[:, :, None].expand(-1, -1, flat.shape[2])).mean(1)
        return torch.stack(scores, dim=1), torch.cat([(flat**2).mean(1).sqrt(), at_worst], dim=1)

    def maps(self, patches: Tensor) -> Tensor:
        """Distances place by place: float32 `[k, N, h, w]`."""
        return self._distances(self.context(patches))

    def _distances(self, rest: Tensor) -> Tensor:
        """The same from what the context leaves over."""
        return torch.stack([detector(rest) for detector in self.detectors])

    def score_and_depart(self, patches: Patches) -> tuple[Floats, NDArray[np.float32]]:
        """The same as `forward` for an array, a block of photographs at a time."""
        result: dict[str, Tensor] = run_in_blocks(
            lambda block: dict(zip(("scores", "departures"), self(block), strict=True)),
            to_tensor(patches),
            block=PATCH_BLOCK,
        )
        return result["scores"].numpy(), result["departures"].numpy()

    def score(self, patches: Patches) -> Floats:
        """Scores float64 `[N, k]` alone."""
        return self.score_and_depart(patches)[0]

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
