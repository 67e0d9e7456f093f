"""A calibrated judge as a module that can be written down: views in, distances, score, p-value and verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.errors import InputError
from mekiki.judging.conformal import Threshold, combine_scores, joined_surprise, tail
from mekiki.judging.defect_types import DefectTypeClassifier
from mekiki.judging.judge import Judge, Lesson

LEAVE = 1e-5
"""A score counts as equal to another up to this share of it, for parts *on* the threshold to be OK there as here."""

Arrays = Mapping[str, NDArray[Any]]


class JudgeModule(nn.Module):
    """What a `mekiki.judging.Judge` does with views, its lessons in force.

    Distances, surprises and scores are float64, as there.

    Args:
        judge: calibrated; every view has vectors.

    Raises:
        InputError: it is not calibrated, or has a view of ready scores, which no eye gives.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> judge = Judge().fit({"view": rng.normal(size=(60, 3))})
        >>> _ = judge.calibrate({"view": rng.normal(size=(40, 3))}, 0.1)
        >>> new = {"view": rng.normal(size=(5, 3))}
        >>> said = JudgeModule(judge)({name: torch.from_numpy(view) for name, view in new.items()})
        >>> bool(np.allclose(said["score"], judge.score(new)))
        True
    """

    known: Tensor
    folds: Tensor

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        if judge.threshold is None or judge.rate is None:
            raise InputError("the judge is not calibrated; calibrate it first")
        arrays, facts = judge.state()
        self.names = judge.names
        self.models = nn.ModuleList(
            _Model(judge.names, _under(arrays, f"model{number}/"), judge.lessons, judge.how)
            for number in range(facts["models"])
        )
        self.rate = judge.rate
        self.threshold = judge.threshold.value if isinstance(judge.threshold, Threshold) else None
        known = torch.from_numpy(np.array(judge.calibration_scores, np.float64))
        # Ties count for OK, and rounding must not undo one.
        self.register_buffer("known", known + LEAVE * known.abs())
        self.folds_of = [np.flatnonzero(arrays["folds"] == fold) for fold in range(facts["models"])]

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is said of a batch.

        Returns:
            `distance` `[N, views]` (D of each), `score` `[N]`, `p` `[N]`, `ng` bool `[N]`, `surprise` `[N, views]`,
            with one more column where NG was taught, `whitened` float32 `[N, d]`, and `lesson` `[N]` where NG was
            taught.
        """
        seen = [model([views[name] for name in self.names]) for model in self.models]
        columns = torch.stack([each["joined"] for each in seen], dim=1)
        score = _median(columns)
        at_least = torch.stack(
            [
                (self.known[torch.from_numpy(own)][None] >= columns[:, fold : fold + 1]).sum(1)
                for fold, own in enumerate(self.folds_of)
            ]
        ).sum(0)
        p = (1 + at_least).double() / (len(self.known) + 1)
        value = self.threshold
        ng = p <= self.rate if value is None else score > value + LEAVE * abs(value)
        said = {
            "distance": _median(torch.stack([each["squared"] for each in seen], dim=2)).sqrt(),
            "score": score,
            "p": p,
            "ng": ng,
            "surprise": _median(torch.stack([each["surprise"] for each in seen], dim=2)),
            "whitened": seen[0]["whitened"],
        }
        return said | ({"lesson": seen[0]["lesson"]} if "lesson" in seen[0] else {})


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
        self.views = len(judge.names)

    def forward(self, said: Mapping[str, Tensor]) -> Tensor:
        """Places among `kinds`, int64 `[N]`."""
        none = torch.full_like(said["score"], -1).long()
        kind = none if self.rule is None else self.rule(said["whitened"])
        if "lesson" in said:
            by_lesson = said["surprise"].argmax(1) == self.views
            kind = torch.where(by_lesson, self.get_buffer("of_lesson")[said["lesson"]], kind)
        return torch.where(said["ng"], kind, none)


class _Model(nn.Module):
    """One model of a judge; the numbers are those of its `state`."""

    def __init__(self, names: Sequence[str], arrays: Arrays, lessons: Sequence[Lesson], how: str) -> None:
        super().__init__()
        missing = [name for name in names if f"mean/{name}" not in arrays]
        if missing:
            raise InputError(
                f"view {missing[0]} has ready scores in place of vectors, and cannot be exported"
            )
        self.how, self.names = how, list(names)
        spaces = [_Space(name, arrays) for name in names]
        self.spaces, self.widths = nn.ModuleList(spaces), [space.width for space in spaces]
        self.usual = nn.ModuleList(_Surprise(column) for column in arrays["ordinary"].T)
        self.forgiven: list[int] = []
        self.taught: list[int] = []
        learnt = arrays["learnt"].astype(np.float64)
        for place, lesson in enumerate(lessons):
            u = self._whole({name: torch.from_numpy(np.asarray(v)) for name, v in lesson.vectors.items()})
            length = u.norm()
            if not length > 0:
                continue
            self.register_buffer(f"direction{place}", u / length)
            self.register_buffer(f"length{place}", length)
            (self.taught if lesson.ng else self.forgiven).append(place)
        if self.taught:
            filters = torch.stack([self.get_buffer(f"direction{place}") for place in self.taught], dim=1)
            self.register_buffer("filters", filters)
            self.register_buffer("places", torch.tensor(self.taught))
            self.pull = _Surprise((learnt @ filters.numpy()).max(axis=1))
            ordinary = arrays["ordinary"]
            each = [combine_scores(column[:, None], column[:, None]) for column in ordinary.T]
            self.alone = _Surprise(joined_surprise(np.stack(each, axis=1), how))

    def _whole(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """One part in the common space; views that are not given stand at their mean."""
        parts = [
            space(vectors[name][None])[0] if name in vectors else torch.zeros(width).double()
            for name, space, width in zip(self.names, self.spaces, self.widths, strict=True)
        ]
        return torch.cat(parts)

    def forward(self, views: Sequence[Tensor]) -> dict[str, Tensor]:
        """Surprises, their join, squared distances and whitened vectors of a batch."""
        whitened = z = torch.cat([space(view) for space, view in zip(self.spaces, views, strict=True)], dim=1)
        for place in self.forgiven:
            u = self.get_buffer(f"direction{place}")
            along = (z @ u).clamp(min=0).minimum(self.get_buffer(f"length{place}"))
            z = z - along[:, None] * u
        parts = torch.split(z, self.widths, dim=1)
        squared = torch.stack([(part**2).sum(1) for part in parts], dim=1)
        surprise = torch.stack([usual(squared[:, column]) for column, usual in enumerate(self.usual)], dim=1)
        joined = surprise.sum(1) if self.how == "sum" else surprise.amax(1)
        said = {"squared": squared, "whitened": whitened.float()}
        if self.taught:
            pulls = z @ self.get_buffer("filters")
            pull = self.pull(pulls.amax(1))
            surprise = torch.cat([surprise, pull[:, None]], dim=1)
            joined = torch.maximum(self.alone(joined), pull)
            said["lesson"] = self.get_buffer("places")[pulls.argmax(1)]
        return said | {"surprise": surprise, "joined": joined}


class _Space(nn.Module):
    """A unit space: float32 or float64 `[N, k]` → whitened float64 `[N, r]`."""

    def __init__(self, name: str, arrays: Arrays) -> None:
        super().__init__()
        facts = {
            fact: arrays[f"{fact}/{name}"] for fact in ("mean", "whitening", "scale", "directions", "gains")
        }
        self.register_buffer("mean", torch.from_numpy(facts["mean"]).double())
        self.few = bool(len(facts["directions"]))
        self.gain = float(arrays[f"gain/{name}"].item())
        self.width = int(facts["whitening"].shape[1] or facts["directions"].shape[1])
        if self.few:
            scale = facts["scale"]
            inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
            self.register_buffer("inverse", torch.from_numpy(inverse))
            self.register_buffer("directions", torch.from_numpy(facts["directions"]).float())
            self.register_buffer("gains", torch.from_numpy(facts["gains"]).float())
        else:
            self.register_buffer("whitening", torch.from_numpy(facts["whitening"]).double())

    def forward(self, vectors: Tensor) -> Tensor:
        centred = vectors.double() - self.get_buffer("mean")
        if not self.few:
            return centred @ self.get_buffer("whitening")
        z = (centred * self.get_buffer("inverse")).float()
        directions = self.get_buffer("directions")
        # The batch is turned, not the directions: a graph would hold them twice.
        along = (directions @ z.T).T * self.get_buffer("gains")
        return (self.gain * z + along @ directions).double()


class _Surprise(nn.Module):
    """−log p among known scores, and on in a straight line beyond most of them: float64 `[N]` → `[N]`."""

    known: Tensor

    def __init__(self, known: NDArray[np.float64]) -> None:
        super().__init__()
        self.start, self.height, self.scale = tail(known)
        self.register_buffer("known", torch.from_numpy(np.sort(known)))

    def forward(self, scores: Tensor) -> Tensor:
        at_least = (self.known[None] >= scores[:, None]).sum(1)
        near = -torch.log((1 + at_least).double() / (len(self.known) + 1))
        return torch.where(scores > self.start, self.height + (scores - self.start) / self.scale, near)


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


def _median(values: Tensor) -> Tensor:
    """The median over the last dimension; of an even number of them the mean of the middle two."""
    number = values.shape[-1]
    if number == 1:
        return values[..., 0]
    ordered = values.sort(dim=-1).values
    return (ordered[..., (number - 1) // 2] + ordered[..., number // 2]) / 2


def _under(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
