"""The judge and the defect types of a run as modules that torch can trace, around the scoring core of the program."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mekiki.errors import InputError
from mekiki.judging.feature_judge import Judge
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.tensor_blocks import to_tensor


class JudgeModule(nn.Module):
    """A calibrated judge with its corrections, with the outputs of a graph.

    Args:
        judge: calibrated; every feature group has vectors or patches.

    Raises:
        InputError: it is not calibrated, or has a group of ready scores, which no feature extractor gives.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> judge = Judge().fit({"colour": rng.normal(size=(60, 3))})
        >>> _ = judge.calibrate({"colour": rng.normal(size=(40, 3))}, 0.1)
        >>> new = {"colour": rng.normal(size=(5, 3))}
        >>> result = JudgeModule(judge)({name: torch.from_numpy(group) for name, group in new.items()})
        >>> bool(np.allclose(result["score"], judge.score(new)))
        True
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        if judge.threshold is None:
            raise InputError("the judge is not calibrated; calibrate it first")
        ready = [name for name in judge.groups if name not in judge.spaces and name not in judge.patch_groups]
        if ready:
            raise InputError(
                f"feature group {ready[0]} has ready scores in place of vectors, and cannot be exported"
            )
        self.groups, self.scoring = judge.groups, judge.scoring

    def forward(self, groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Results of a batch: those of `Scoring`, and `distance` `[N, columns]`, roots of the joined scores."""
        result: dict[str, Tensor] = self.scoring(*(groups[name] for name in self.groups))
        return result | {"distance": result["squared"].sqrt(), "surprise": result["neg_log_p"]}


class DefectTypeModule(nn.Module):
    """The defect type of NG parts, as `Inspector` names it: that of the correction that decided, or the nearest class.

    Args:
        inspector: the calibrated judge with its examples.

    Attributes:
        types: names of the defect types; the module gives places among them, −1 for none.
    """

    def __init__(self, inspector: Inspector) -> None:
        super().__init__()
        classifier, taught = inspector.classifier, inspector.judge.taught
        self.nearest = None if classifier is None else classifier.nearest_class_
        named = [] if classifier is None else [*map(str, classifier.classes_), str(classifier.none_label_)]
        of_taught = [part.defect_type for part in taught]
        self.types = list(dict.fromkeys([*named, *filter(None, of_taught)]))
        self.groups, self.corrected = len(inspector.judge.columns), any(part.ng for part in taught)
        places = [self.types.index(name) if name else -1 for name in of_taught]
        self.register_buffer("of_taught", torch.tensor(places or [-1]))
        self.register_buffer("directions", to_tensor(inspector.references.directions))

    def forward(self, result: Mapping[str, Tensor]) -> Tensor:
        """Places among `types`, int64 `[N]`, from what `JudgeModule` gives."""
        none = torch.full_like(result["nearest"], -1)
        place = none
        if self.nearest is not None:
            place = self.nearest(result["whitened"] @ self.get_buffer("directions"))
        if self.corrected:
            by_correction = (result["neg_log_p"].argmax(1) == self.groups) & (result["nearest"] >= 0)
            place = torch.where(by_correction, self.get_buffer("of_taught")[result["nearest"]], place)
        return torch.where(result["ng"], place, none)
