"""`CalibrationParts`: the OK parts that set a judge's threshold, as its models score them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mekiki.judging.judge_model import JudgeModel
from mekiki.judging.scoring import Scoring

Floats = NDArray[np.float64]
_PREFIX = "calibration/"


@dataclass(frozen=True, eq=False)
class CalibrationParts:
    """OK parts with scores of detectors in place of patches, each part by the model that did not see it.

    Attributes:
        columns: vectors and departures `[n, d]` and ready scores `[n]`, by name.
        folds: int64 `[n]`, the number of that model.
    """

    columns: Mapping[str, NDArray[Any]]
    folds: NDArray[np.int64]

    @classmethod
    def join(cls, reduced: Sequence[Mapping[str, NDArray[Any]]], folds: NDArray[np.int64]) -> Self:
        """Parts of each fold apart, put in the order of all parts."""
        order = np.argsort(np.concatenate([np.flatnonzero(folds == fold) for fold in range(len(reduced))]))
        columns = {name: np.concatenate([part[name] for part in reduced])[order] for name in reduced[0]}
        return cls(columns, folds)

    def scores(self, models: Sequence[JudgeModel]) -> Floats:
        """The score of each part, float64 `[n]`, with the active corrections."""
        scores = np.empty(len(self.folds))
        for fold, model in enumerate(models):
            own = self.folds == fold
            part = {name: self.columns[name][own] for name in model.scoring.inputs}
            scores[own] = Scoring([model.scoring]).run(part)["score"]
        return scores

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, by name."""
        return {"folds": self.folds} | {f"{_PREFIX}{name}": group for name, group in self.columns.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self | None:
        """What `to_arrays` gave, or `None` if there were no such parts."""
        columns = {
            name.removeprefix(_PREFIX): group for name, group in arrays.items() if name.startswith(_PREFIX)
        }
        return cls(columns, np.asarray(arrays["folds"], np.int64)) if columns else None
