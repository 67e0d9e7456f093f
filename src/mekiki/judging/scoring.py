"""Scoring core of the judge: torch modules that the judge fits and runs, and that the export writes as a graph.

One implementation serves both, so an exported graph differs from the program by rounding alone. Distances and scores
are float64. Parts come as a sequence of tensors, one per feature group in the order of the judge's groups, and the
departures behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.judging.conformal import Threshold, upper_end
from mekiki.judging.correction_rule import CorrectedParts, CorrectionRule
from mekiki.judging.neg_log_p import NegLogP, count_at_least
from mekiki.judging.tensor_blocks import BLOCK, PATCH_BLOCK, run_in_blocks, to_tensor
from mekiki.judging.whitening import Whitening

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]

COMBINATIONS = ("sum", "max")
"""Ways to join the feature groups: `sum` for defects that several groups see a little of, `max` for those that one
group sees alone."""
_REFERENCE_FOLDS = 5
_DEPARTURE = "departure/"
_MOST_KNOWN = 256  # NG parts that a part is compared with beside corrections


def join(neg_log_p: Tensor, how: str, weights: Tensor) -> Tensor:
    """−log p of all groups joined to one score: `[N, groups]` → `[N]`; `how` is one of `COMBINATIONS`.

    The weights `[groups]` are those of the sum; the maximum leaves out what has weight 0.
    """
    if how == "sum":
        return (neg_log_p * weights).sum(1)
    return torch.where(weights > 0, neg_log_p, torch.zeros_like(neg_log_p)).amax(1)


def cross_score(parts: Arrays, covariance: str) -> Floats:
    """D² or ready scores of OK parts, float64 `[n, groups]`; D² by unit spaces made without a fifth of the parts.

    Args:
        parts: feature groups, each `[n, d]` or ready scores `[n]`.
        covariance: of the unit spaces; see `MT`.
    """
    number = len(next(iter(parts.values())))
    scores = np.empty((number, len(parts)))
    folds = np.arange(number) % min(_REFERENCE_FOLDS, number)
    for column, group in enumerate(parts.values()):
        if group.ndim == 1:
            scores[:, column] = group
            continue
        for fold in range(int(folds.max()) + 1):
            out = folds == fold
            space = Whitening.fit(group[~out], covariance)
            scores[out, column] = space.squared_distances(group[out])
    return scores


class ScoringModel(nn.Module):
    """One unit space per feature group of vectors and the reference scores of every group; not calibrated.

    Args:
        groups: names of all feature groups, in order.
        spaces: the unit spaces of the groups of vectors, by name.
        learnt: float32 `[n, Σr]`, the whitened parts it was fitted on, by which the effect of corrections is weighed.
        reference: float64 `[n, groups]`, scores of the same parts, each by a unit space made without it.
        how: one of `COMBINATIONS`.
        weights: of the groups in a sum, 0 or more; `None` weighs all alike.
        departures: how the same parts depart from good ones, float32 `[n, d]` by name: vectors without a score of their
            own, from which corrections learn.

    Attributes:
        inputs: names of all that it takes, in order: `groups`, then `departures`.
    """

    def __init__(
        self,
        groups: Sequence[str],
        spaces: Mapping[str, Whitening],
        learnt: NDArray[np.float32],
        reference: Floats,
        how: str,
        weights: Sequence[float] | None = None,
        departures: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__()
        self.groups, self.how = tuple(groups), how
        self.departures = dict(departures or {})
        self.inputs = (*self.groups, *self.departures)
        self.weights = [1.0] * len(self.groups) if weights is None else [float(each) for each in weights]
        self.register_buffer("shares", torch.tensor(self.weights, dtype=torch.float64))
        self.learnt, self.reference = learnt, reference
        self.places = {name: place for place, name in enumerate(groups) if name in spaces}
        self.spaces = nn.ModuleList(spaces[name] for name in self.places)
        self.widths = {name: spaces[name].width for name in self.places}
        self.neg_log_p = nn.ModuleList(NegLogP(column) for column in reference.T)
        self.rule: CorrectionRule | None = None
        self.ng_taught: list[int] = []
        self.learns_known = False

    @classmethod
    def fit(
        cls,
        parts: Arrays,
        how: str,
        covariance: str,
        weights: Sequence[float] | None = None,
        reference: Floats | None = None,
        departures: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> Self:
        """Learn what OK parts look like.

        Args:
            parts: feature groups of OK parts, each `[n, d]` or ready scores `[n]`.
            how: one of `COMBINATIONS`.
            covariance: of the unit spaces; see `MT`.
            weights: of the groups.
            reference: scores of these parts, each by unit spaces made without it; by default `cross_score`.
            departures: of these parts, each by detectors made without it.
        """
        spaces = {name: Whitening.fit(each, covariance) for name, each in parts.items() if each.ndim == 2}
        reference = cross_score(parts, covariance) if reference is None else reference
        model = cls(tuple(parts), spaces, np.zeros((0, 0), np.float32), reference, how, weights, departures)
        model.learnt = model.whiten(parts).astype(np.float32)
        return model

    def teach(
        self,
        corrections: Sequence[tuple[bool, Arrays]],
        known_ng: Arrays | None = None,
        *,
        learn_known: bool = False,
    ) -> None:
        """Activate corrections in place of those before; see `CorrectionRule.fit`.

        Args:
            corrections: for each part whether it is NG, and its vectors `[d]` by feature group; ready scores of a
                group may be among them.
            known_ng: other parts known to be NG, each group `[q, d]` or `[q]`, by which the effect is weighed.
            learn_known: whether the discriminant learns from these too.
        """
        self.rule, self.ng_taught = None, []
        self.learns_known = learn_known and known_ng is not None
        if not corrections and not self.learns_known:
            return
        taught = {}
        for name in self.places:
            centre = self.space(name).centre
            rows = [np.asarray(each.get(name, centre), np.float64) for _, each in corrections]
            taught[name] = np.array(rows).reshape(len(rows), len(centre))
        ready = [name for name in self.groups if name not in self.places]
        for name in ready:  # a correction without a ready score has the usual one
            usual = float(np.median(self.reference[:, self.groups.index(name)]))
            taught[name] = np.array([float(each.get(name, usual)) for _, each in corrections])
        for name, departed in self.departures.items():  # and one without a departure the mean one
            usual = departed.mean(axis=0)
            rows = [np.asarray(each.get(name, usual), np.float64) for _, each in corrections]
            taught[name] = np.array(rows).reshape(len(rows), len(usual))
        other = known_ng or {name: group[:0] for name, group in taught.items()}
        self.ng_taught = [place for place, (ng, _) in enumerate(corrections) if ng]
        directions = self.whiten({name: taught[name] for name in self.places})[self.ng_taught]
        numbers = list(self.ng_taught)
        if self.ng_taught and self.learns_known:  # a part may depart like a known one, which has no number
            number = len(next(iter(other.values())))
            kept = np.unique(np.linspace(0, number - 1, _MOST_KNOWN).round().astype(np.int64))
            known = self.whiten({name: other[name][kept] for name in self.places})
            directions = np.concatenate([directions, known])
            numbers += [-1] * len(known)
        lengths = np.linalg.norm(directions, axis=1, keepdims=True)
        self.register_buffer("directions", to_tensor((directions / np.where(lengths > 0, lengths, 1)).T))
        self.register_buffer("numbers", torch.tensor(numbers))
        whitened = np.split(self.learnt, np.cumsum(list(self.widths.values()))[:-1], axis=1)
        ok = [self.space(name).restore(each) for name, each in zip(self.places, whitened, strict=True)]
        ok += [departed - departed.mean(axis=0) for departed in self.departures.values()]
        self.rule = CorrectionRule.fit(
            self._centre(),
            [each.shape[1] for each in ok],
            np.concatenate(ok, axis=1),
            self.join_reference(),
            CorrectedParts(
                self._deviations(taught),
                np.array([ng for ng, _ in corrections], np.bool_),
                self._score(taught),
                self._deviations(other),
                self._score(other),
                self.learns_known,
            ),
            sum(departed.shape[1] for departed in self.departures.values()),
        )

    def forward(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """Scores of a batch.

        Returns:
            `score` `[N]`, the joined score; `squared` `[N, groups]`, D² or the ready score; `neg_log_p` `[N, groups]`,
            0 for groups of weight 0, with one more column where NG parts were taught or learnt: what these added to the
            score; `whitened` float32 `[N, Σr]`, without corrections; and `nearest` int64 `[N]`, the number of the
            correction that a part is a near copy of, or of the NG correction that it departs like most; −1 where there
            is none, or it departs more like another NG part that the discriminant learnt from.
        """
        vectors = [parts[place] for place in self.places.values()]
        whitened = [space(each) for space, each in zip(self.spaces, vectors, strict=True)]
        squared = dict(zip(self.places.values(), ((own**2).sum(1) for own in whitened), strict=True))
        squared |= {place: parts[place].double() for place in range(len(self.groups)) if place not in squared}
        shares = self.get_buffer("shares")
        alone = torch.stack([scale(squared[place]) for place, scale in enumerate(self.neg_log_p)], dim=1)
        columns = [torch.where(shares > 0, alone, torch.zeros_like(alone))]
        score = join(columns[0], self.how, shares)
        nearest = torch.full_like(score, -1).long()
        if self.rule is not None:
            departures = [each.double() for each in parts[len(self.groups) :]]
            corrected = self.rule(torch.cat([*vectors, *departures], dim=1), score)
            score = corrected["score"]
            # Whether it acts or not, so that all models of a judge have the same columns.
            if self.ng_taught or self.learns_known:
                columns.append(corrected["gain"][:, None])
            nearest = corrected["copy_of"]
            if self.ng_taught:
                # How far a part goes in the direction of each correction, not how far it goes.
                pulls = torch.cat(whitened, dim=1) @ self.get_buffer("directions")
                alike = self.get_buffer("numbers")[pulls.argmax(1)]
                nearest = torch.where(nearest < 0, alike, nearest)
        return {
            "score": score,
            "squared": torch.stack([squared[place] for place in range(len(self.groups))], dim=1),
            "neg_log_p": torch.cat(columns, dim=1),
            "whitened": torch.cat(whitened, dim=1).float(),
            "nearest": nearest,
        }

    def whiten(self, parts: Arrays) -> Floats:
        """Parts `[N, Σr]` in the common space of all groups of vectors; groups not given stand at their mean."""
        number = len(next(iter(parts.values())))
        whitened = [
            run_in_blocks(self.space(name), to_tensor(parts[name])).numpy()
            if name in parts
            else np.zeros((number, width))
            for name, width in self.widths.items()
        ]
        return np.concatenate(whitened, axis=1)

    def space(self, name: str) -> Whitening:
        """The unit space of one feature group."""
        space = self.spaces[list(self.places).index(name)]
        assert isinstance(space, Whitening)
        return space

    def _deviations(self, parts: Arrays) -> NDArray[np.float32]:
        """Parts `[N, K]` as deviations from the means of the groups of vectors and departures, side by side."""
        joined = np.concatenate([parts[name] for name in (*self.places, *self.departures)], axis=1)
        return (joined - self._centre()).astype(np.float32)

    def _centre(self) -> Floats:
        """Means of the groups of vectors and of the departures, side by side."""
        means = [departed.mean(axis=0) for departed in self.departures.values()]
        return np.concatenate([*(self.space(name).centre for name in self.places), *means])

    def _score(self, parts: Arrays) -> Floats:
        """Scores without corrections; called while there is no rule."""
        groups = [to_tensor(parts[name]) for name in self.inputs]
        return np.asarray(run_in_blocks(lambda *each: self(each)["score"], *groups).numpy(), np.float64)

    def join_reference(self) -> Floats:
        """The joined scores `[n]` of the parts it was fitted to, each by models made without it; no corrections."""
        return np.asarray(run_in_blocks(self._join_reference, to_tensor(self.reference)).numpy(), np.float64)

    def _join_reference(self, reference: Tensor) -> Tensor:
        columns = [neg_log_p(reference[:, place]) for place, neg_log_p in enumerate(self.neg_log_p)]
        return join(torch.stack(columns, dim=1), self.how, self.get_buffer("shares"))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learnt, by name; corrections are not part of it."""
        arrays: dict[str, NDArray[Any]] = {"learnt": self.learnt, "ordinary": self.reference}
        if any(weight != 1 for weight in self.weights):
            arrays["weights"] = np.array(self.weights)
        for name in self.places:
            arrays |= {f"{key}/{name}": array for key, array in self.space(name).to_arrays().items()}
        return arrays | {f"{_DEPARTURE}{name}": departed for name, departed in self.departures.items()}

    @classmethod
    def from_arrays(cls, groups: Sequence[str], arrays: Arrays, how: str) -> Self:
        """The model that `to_arrays` described."""
        spaces = {}
        for name in groups:
            own = {
                key.removesuffix(f"/{name}"): array
                for key, array in arrays.items()
                if key.endswith(f"/{name}")
            }
            if own:
                spaces[name] = Whitening.from_arrays(own)
        weights = arrays["weights"].tolist() if "weights" in arrays else None
        departures = {  # none in files of earlier versions
            name.removeprefix(_DEPARTURE): array
            for name, array in arrays.items()
            if name.startswith(_DEPARTURE)
        }
        return cls(groups, spaces, arrays["learnt"], arrays["ordinary"], how, weights, departures)


class Scoring(nn.Module):
    """All models of a judge and its threshold: parts → scores, p-values and verdicts.

    Args:
        models: one, or those of the folds of a `CrossThreshold`; each a `JudgeModel`, or a `ScoringModel` where the
            scores of detectors are ready.
        threshold: the calibrated rule; `None` gives scores alone.
    """

    def __init__(self, models: Sequence[nn.Module], threshold: Threshold | None = None) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.calibrated = threshold is not None
        if threshold is not None:
            self.parts, self.largest_p = len(threshold.calibration), threshold.largest_p
            for fold in range(len(models)):
                own = threshold.calibration[threshold.folds == fold]
                self.register_buffer(f"calibration{fold}", to_tensor(upper_end(own)))

    def forward(self, *parts: Tensor) -> dict[str, Tensor]:
        """Verdicts on a batch.

        Returns:
            What `ScoringModel` gives, over several models the median; `columns` `[N, K]`, the scores by each model;
            and with a threshold `p` `[N]` and `ng` bool `[N]`.
        """
        results: list[dict[str, Tensor]] = [model(parts) for model in self.models]
        columns = torch.stack([each["score"] for each in results], dim=1)
        result = results[0] | {
            name: _median(torch.stack([each[name] for each in results], dim=-1))
            for name in ("score", "squared", "neg_log_p")
        }
        result["columns"] = columns
        if self.calibrated:
            counts = [
                count_at_least(self.get_buffer(f"calibration{fold}"), columns[:, fold])
                for fold in range(len(self.models))
            ]
            p = (1 + torch.stack(counts).sum(0)).double() / (self.parts + 1)
            result |= {"p": p, "ng": p <= self.largest_p}
        return result

    def run(self, parts: Arrays) -> dict[str, NDArray[Any]]:
        """The same as `forward` for arrays, a block at a time; the groups stand in the order of the models."""
        block = PATCH_BLOCK if any(part.ndim == 4 for part in parts.values()) else BLOCK
        tensors = (to_tensor(part) for part in parts.values())
        result: dict[str, Tensor] = run_in_blocks(self, *tensors, block=block)
        return {name: tensor.numpy() for name, tensor in result.items()}


def _median(values: Tensor) -> Tensor:
    """The median over the last dimension; of an even number of them the mean of the middle two."""
    number = values.shape[-1]
    if number == 1:
        return values[..., 0]
    ordered = values.sort(dim=-1).values
    return (ordered[..., (number - 1) // 2] + ordered[..., number // 2]) / 2
