"""A calibrated judge as a module that can be written down: views in, distances, score, p-value and verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.errors import InputError
from mekiki.judging.defect_types import DefectTypeClassifier
from mekiki.judging.judge import Judge


class JudgeModule(nn.Module):
    """A calibrated judge with its corrections, as the graph gives its results.

    Args:
        judge: calibrated; every feature group has vectors.

    Raises:
        InputError: it is not calibrated, or has a group of ready scores, which no feature extractor gives.

    Example:
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
        ready = [name for name in judge.groups if name not in judge.spaces]
        if ready:
            raise InputError(
                f"feature group {ready[0]} has ready scores in place of vectors, and cannot be exported"
            )
        self.groups, self.scoring = judge.groups, judge.scoring

    def forward(self, groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Results of a batch: those of `Scoring`, and `distance` `[N, groups]`, D in each group."""
        result: dict[str, Tensor] = self.scoring(*(groups[name] for name in self.groups))
        return result | {"distance": result["squared"].sqrt(), "surprise": result["neg_log_p"]}


class KindsModule(nn.Module):
    """What kind of defect an NG part shows, as `mekiki.judging.Inspector` names it.

    Args:
        judge: with its lessons.
        namer: what names kinds, or `None`.
        directions: float32 `[d, r]`, in which examples are compared.
        lesson_kinds: for each lesson of the judge its kind, empty for OK.

    Attributes:
        kinds: their names; the module gives places among them, −1 for no kind.
    """

    def __init__(
        self,
        judge: Judge,
        namer: DefectTypeClassifier | None,
        directions: NDArray[np.float32],
        lesson_kinds: Sequence[str],
    ) -> None:
        super().__init__()
        named = [] if namer is None else [*map(str, namer.classes_), str(namer.none_label_)]
        self.kinds = list(dict.fromkeys([*named, *filter(None, lesson_kinds)]))
        self.rule = None if namer is None else _Named(namer, directions)
        places = [self.kinds.index(kind) if kind else -1 for kind in lesson_kinds]
        self.register_buffer("of_lesson", torch.tensor(places or [-1]))
        self.views, self.by_correction = len(judge.groups), any(part.ng for part in judge.taught)

    def forward(self, said: Mapping[str, Tensor]) -> Tensor:
        """Places among `kinds`, int64 `[N]`."""
        none = torch.full_like(said["score"], -1).long()
        kind = none if self.rule is None else self.rule(said["whitened"])
        if self.by_correction:
            by_lesson = said["surprise"].argmax(1) == self.views
            kind = torch.where(by_lesson, self.get_buffer("of_lesson")[said["nearest"]], kind)
        return torch.where(said["ng"], kind, none)


class _Named(nn.Module):
    """A `DefectTypeClassifier`: whitened float32 `[N, d]` → index of a class, the last one meaning none of them."""

    def __init__(self, namer: DefectTypeClassifier, directions: NDArray[np.float32]) -> None:
        super().__init__()
        rule = namer.rule()
        self.gain, self.rate, self.classes = rule.gain, rule.none_of_these, len(rule.scale)
        self.register_buffer("into", torch.from_numpy(np.array(directions)))
        for name in ("mean", "inverse", "directions", "gains", "scale", "offset"):
            self.register_buffer(name, torch.from_numpy(np.asarray(getattr(rule, name), np.float64)))
        for place in range(self.classes):
            self.register_buffer(f"anchors{place}", torch.from_numpy(rule.anchors[rule.members == place]))
            if rule.known:
                self.register_buffer(f"known{place}", torch.from_numpy(np.array(rule.known[place])))

    def forward(self, whitened: Tensor) -> Tensor:
        z = ((whitened @ self.get_buffer("into")).double() - self.get_buffer("mean")) * self.get_buffer(
            "inverse"
        )
        directions = self.get_buffer("directions")
        if len(directions):
            z = self.gain * z + ((z @ directions.T) * self.get_buffer("gains")) @ directions
        else:
            z = self.gain * z
        squared = torch.stack([self._nearest(z, place) for place in range(self.classes)], dim=1)
        named = (squared / self.get_buffer("scale") + self.get_buffer("offset")).argmin(1)
        if self.rate is None:
            return named
        unlike = torch.stack(
            [self._p(squared[:, place], place) <= self.rate for place in range(self.classes)], dim=1
        ).all(1)
        return torch.where(unlike, torch.full_like(named, self.classes), named)

    def _nearest(self, z: Tensor, place: int) -> Tensor:
        return ((z[:, None] - self.get_buffer(f"anchors{place}")[None]) ** 2).sum(2).amin(1)

    def _p(self, squared: Tensor, place: int) -> Tensor:
        known = self.get_buffer(f"known{place}")
        return (1 + (known[None] >= squared[:, None]).sum(1)).double() / (len(known) + 1)
