"""`JudgeModel`: all that is learnt from OK parts: detectors on patches, and the scoring model behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from mekiki.errors import InputError
from mekiki.judging.detectors.patch_detectors import DETECTORS, FINE_DETECTORS, PatchDetectors
from mekiki.judging.detectors.photo_context import PhotoMoments
from mekiki.judging.scoring import ScoringModel, cross_score
from mekiki.judging.suspicious_parts import usual_parts
from mekiki.judging.tensor_blocks import PATCH_BLOCK, run_in_blocks, to_tensor

Arrays = Mapping[str, NDArray[Any]]

MT_DISTANCE = "mt"
"""Name of the detector of vectors: their distance from the unit space."""
DISCRIMINANT = "discriminant"
"""Name of what tells known NG parts from OK parts, where some are known; see `CorrectionRule`."""
DETECTOR_NAMES = (MT_DISTANCE, *DETECTORS, DISCRIMINANT)
"""All detectors that can be asked for."""
PATCHES = "patches"
"""Name of the group of patches."""
FINE = "fine"
"""Name of the group of the fine scale's cells, which have a detector of their own."""


class JudgeModel(nn.Module):
    """Detectors that make ready scores of the patch groups, and the scoring model of vectors and ready scores.

    Args:
        groups: names of all feature groups as they are given, in order.
        detectors: those of each patch group, by name.
        scoring: fitted to the groups that `detect` returns.

    Attributes:
        usual: which of the parts given to `fit` taught, bool `[n]`; empty in a model read from a file.
    """

    def __init__(
        self, groups: Sequence[str], detectors: Mapping[str, PatchDetectors], scoring: ScoringModel
    ) -> None:
        super().__init__()
        self.groups, self.patch_groups = tuple(groups), tuple(detectors)
        self.detectors = nn.ModuleList(detectors.values())
        self.scoring = scoring
        self.usual = np.zeros(0, np.bool_)

    @classmethod
    def fit(
        cls,
        parts: Arrays,
        how: str,
        covariance: str,
        detectors: Sequence[str],
        doubtful: NDArray[np.bool_] | None = None,
        factors: Mapping[str, float] | None = None,
    ) -> Self:
        """Learn what OK parts look like.

        Args:
            parts: feature groups of OK parts: vectors `[n, d]`, ready scores `[n]` or patches `[n, h, w, c]`.
            how: see `ScoringModel`.
            covariance: of the unit spaces; see `MT`.
            detectors: some of `DETECTOR_NAMES`. Without patches there is only the MT distance.
            doubtful: bool `[n]`, parts that do not teach if they look suspicious among the others; see `usual_parts`.
            factors: by which columns count in a sum, by name; see `weigh_detectors`.

        Raises:
            InputError: no group has patches, and all detectors take them; or there is the discriminant alone.
        """
        number = len(next(iter(parts.values())))
        vectors = sum(group.ndim == 2 for group in parts.values())
        on_patches = [name for name in detectors if name in DETECTORS]
        with_patches = any(group.ndim == 4 for group in parts.values())
        if not on_patches and MT_DISTANCE not in detectors:
            raise InputError(
                f"detectors: {', '.join(detectors)} adds to others; choose {MT_DISTANCE} as well"
            )
        if not with_patches and MT_DISTANCE not in detectors:
            raise InputError(
                f"detector {', '.join(on_patches)}: takes patches [N, h, w, c], and feature groups "
                f"{', '.join(parts)} have none; choose {MT_DISTANCE}"
            )
        moments = {name: PhotoMoments.of(group) for name, group in parts.items() if group.ndim == 4}
        weights: list[float] = []
        factors = factors or {}
        on_group = {name: list(FINE_DETECTORS) if name == FINE else on_patches for name in moments}
        for name, group in parts.items():
            if name in moments:  # all distances of vectors together count as much as one detector
                weights += [
                    float(max(vectors, 1)) * factors.get(column_name(name, detector), 1.0)
                    for detector in on_group[name]
                ]
            else:
                counts = group.ndim == 1 or MT_DISTANCE in detectors
                weights.append(counts * factors.get(name, 1.0))

        departures: dict[str, NDArray[np.float32]] = {}

        def reduce_rows(rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
            """These parts with out-of-fold scores in place of patches."""
            reduced: dict[str, NDArray[Any]] = {}
            for name, group in parts.items():
                if name not in moments:
                    reduced[name] = group[rows]
                    continue
                scores, departed = PatchDetectors.cross_score(group, on_group[name], rows, moments[name])
                reduced |= {
                    column_name(name, detector): column
                    for detector, column in zip(on_group[name], scores.T, strict=True)
                }
                departures[departure_name(name)] = departed
            return reduced

        rows = np.arange(number)
        reduced = reduce_rows(rows)
        reference = cross_score(reduced, covariance)
        usual = np.ones(number, np.bool_)
        if doubtful is not None and doubtful.any():
            usual = usual_parts(reference, weights) | ~doubtful
        if not usual.all():
            # Again, because reference scores by models that learnt from the others are too low.
            rows = np.flatnonzero(usual)
            reduced = reduce_rows(rows)
            reference = cross_score(reduced, covariance)
        fitted = {
            name: PatchDetectors.fit(parts[name], on_group[name], rows, own) for name, own in moments.items()
        }
        model = cls(
            tuple(parts), fitted, ScoringModel.fit(reduced, how, covariance, weights, reference, departures)
        )
        model.usual = usual
        return model

    def detect(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Parts with the scores `[N]` of each detector in place of patches; at the end the departures of each group."""
        reduced: list[Tensor] = []
        departures: list[Tensor] = []
        for name, part in zip(self.groups, parts, strict=True):
            if name in self.patch_groups:
                scores, departed = self.detectors_of(name)(part)
                reduced += [scores[:, column] for column in range(scores.shape[1])]
                departures.append(departed)
            else:
                reduced.append(part)
        return reduced + departures[: len(self.scoring.departures)]

    def reduce(self, parts: Arrays) -> dict[str, NDArray[Any]]:
        """The same as `detect` for arrays, a block at a time, by the names that the scoring model has for them."""
        tensors = [to_tensor(parts[name]) for name in self.groups]
        result: dict[str, Tensor] = run_in_blocks(
            lambda *block: dict(zip(self.scoring.inputs, self.detect(block), strict=True)),
            *tensors,
            block=PATCH_BLOCK,
        )
        return {name: tensor.numpy() for name, tensor in result.items()}

    def detect_one(self, features: Arrays) -> dict[str, NDArray[Any]]:
        """The features of one part with the score of each detector in place of patches."""
        reduced: dict[str, NDArray[Any]] = {}
        for name, each in features.items():
            if name in self.patch_groups:
                detectors = self.detectors_of(name)
                scores, departed = detectors.score_and_depart(np.asarray(each)[None])
                reduced |= {
                    column_name(name, own): np.array(score)
                    for own, score in zip(detectors.names, scores[0], strict=True)
                }
                reduced[departure_name(name)] = departed[0]
            else:
                reduced[name] = each
        return reduced

    def forward(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """What `ScoringModel` gives of a batch, from all feature groups in order."""
        result: dict[str, Tensor] = self.scoring(self.detect(parts))
        return result

    def patch_maps(self, parts: Arrays) -> dict[str, NDArray[np.float32]]:
        """Distances place by place in each patch group: float32 `[N, h, w]`.

        The mean over the detectors, each divided by its usual score; 1 is usual for the worst places of OK parts.
        """
        usual = dict(zip(self.scoring.groups, np.median(self.scoring.reference, axis=0), strict=True))
        result = {}
        for name in self.patch_groups:
            detectors = self.detectors_of(name)
            scale = torch.tensor([usual[column_name(name, each)] for each in detectors.names])

            def mean_map(
                patches: Tensor, detectors: PatchDetectors = detectors, scale: Tensor = scale
            ) -> Tensor:
                return (detectors.maps(patches) / scale.clamp(min=1e-12)[:, None, None, None]).mean(0).float()

            result[name] = run_in_blocks(mean_map, to_tensor(parts[name]), block=PATCH_BLOCK).numpy()
        return result

    def detectors_of(self, name: str) -> PatchDetectors:
        """The detectors of one patch group."""
        detectors = self.detectors[self.patch_groups.index(name)]
        assert isinstance(detectors, PatchDetectors)
        return detectors

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learnt, by name; corrections are not part of it."""
        arrays = self.scoring.to_arrays()
        for name in self.patch_groups:
            own = self.detectors_of(name).to_arrays()
            arrays |= {f"detectors/{name}/{key}": array for key, array in own.items()}
        return arrays

    @classmethod
    def from_arrays(cls, groups: Sequence[str], arrays: Arrays, how: str) -> Self:
        """The model that `to_arrays` described."""
        detectors: dict[str, PatchDetectors] = {}
        columns: list[str] = []
        for name in groups:
            prefix = f"detectors/{name}/"
            own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            if own:
                detectors[name] = PatchDetectors.from_arrays(own)
                columns += [column_name(name, detector) for detector in detectors[name].names]
            else:
                columns.append(name)
        rest = {name: array for name, array in arrays.items() if not name.startswith("detectors/")}
        return cls(groups, detectors, ScoringModel.from_arrays(columns, rest, how))


def column_name(group: str, detector: str) -> str:
    """The name, in results, of a detector's score."""
    return f"{group}: {detector}"


def departure_name(group: str) -> str:
    """The name of how photographs depart in a patch group."""
    return f"{group}, departure"


def check_groups(
    groups: Mapping[str, ArrayLike], model: JudgeModel | None, *, some: bool = False
) -> dict[str, NDArray[Any]]:
    """Feature groups as arrays in the model's order: of one length, finite, of the shape of those fitted to.

    Args:
        groups: by name.
        model: the fitted model; `None` before there is one.
        some: groups may be missing.

    Raises:
        InputError: they are not.
    """
    if not groups:
        raise InputError("feature groups: there are none; give at least one, by name")
    names = tuple(groups) if model is None else model.groups
    missing = [name for name in names if name not in groups]
    if any(name not in names for name in groups) or (missing and not some):
        raise InputError(
            f"feature groups {', '.join(groups)}: the judge was fitted to {', '.join(names)}; give these"
        )
    parts = {name: _check_group(name, groups[name], model) for name in names if name in groups}
    lengths = {name: len(group) for name, group in parts.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"feature groups of unequal length: {lengths}; give the same parts in each")
    return parts


def _check_group(name: str, values: ArrayLike, model: JudgeModel | None) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim not in (1, 2, 4) or array.dtype.kind not in "fiub":
        raise InputError(
            f"feature group {name}: must be numbers [N, d], [N] or patches [N, h, w, c], not {array.dtype} "
            f"{list(array.shape)}"
        )
    narrow = (np.float32, np.float16) if array.ndim == 4 else (np.float32,)
    array = array if array.dtype in narrow else array.astype(np.float64 if array.ndim < 4 else np.float32)
    # A sum is finite where all numbers are, and takes no memory beside them.
    if not np.isfinite(array.sum(dtype=np.float64)):
        bad = ~np.isfinite(array)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise InputError(
                f"feature group {name}: part {row} has numbers that are NaN or infinite; leave it out"
            )
    if model is not None:
        fitted, given = _fitted_shape(name, model), array.shape[1:]
        if given != fitted:
            texts = [_name_shape(shape) for shape in (given, fitted)]
            raise InputError(
                f"feature group {name}: {texts[0]} given, and the judge was fitted to {texts[1]}"
            )
    return array


def _fitted_shape(name: str, model: JudgeModel) -> tuple[int, ...]:
    if name in model.patch_groups:
        return model.detectors_of(name).shape
    scoring = model.scoring
    return (len(scoring.space(name).scale),) if name in scoring.places else ()


def _name_shape(shape: tuple[int, ...]) -> str:
    if not shape:
        return "ready scores"
    return f"vectors of {shape[0]}" if len(shape) == 1 else f"patches {list(shape)}"
