"""Scoring core of the judge: torch modules that the judge fits and runs, and that the export writes as a graph.

One implementation serves both, so an exported graph differs from the program by rounding alone. Distances and scores
are float64. Parts come as a sequence of tensors, one per feature group in the order of the judge's groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.judging.conformal import Threshold, upper_end
from mekiki.judging.tensor_blocks import run_in_blocks, to_tensor
from mekiki.judging.whitening import Whitening

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]

COMBINATIONS = ("sum", "max")
"""Ways to join the feature groups: `sum` for defects that several groups see a little of, `max` for those that one
group sees alone."""
_REFERENCE_FOLDS = 5
_TAIL_SHARE = 0.1  # of the reference scores, from which the slope beyond them is read
_TAIL_LEAST = 10


def count_at_least(known: Tensor, scores: Tensor) -> Tensor:
    """For each score, the number of known scores at least as large: `[n]`, `[N]` → int64 `[N]`."""
    return (known[None] >= scores[:, None]).sum(1)


class NegLogP(nn.Module):
    """−log p of scores among reference scores of OK parts: float64 `[N]` → `[N]`, 0 or more.

    It brings scores of other units and tails to one scale. Beyond the largest tenth of the reference scores (at least
    10) it goes on as a straight line, as in an exponential tail, so that parts far out do not tie. The line need not be
    true, because the joined score is calibrated afterwards on other OK parts.

    Args:
        reference: scores `[n]` of OK parts, finite.

    Example:
        >>> neg_log_p = NegLogP(np.arange(100.0))
        >>> neg_log_p(torch.tensor([50.0, 200.0, 2000.0], dtype=torch.float64)).round(decimals=1).tolist()
        [0.7, 22.4, 349.7]
    """

    def __init__(self, reference: NDArray[Any]) -> None:
        super().__init__()
        known = np.sort(np.asarray(reference, np.float64))
        beyond = min(max(round(_TAIL_SHARE * len(known)), _TAIL_LEAST), len(known) - 1)
        # In halves, and as shares of the largest, so that scores that span all numbers do not overflow.
        self.start = float(known[-1 - beyond])
        excess = known / 2 - self.start / 2
        unit = float(np.abs(excess).max()) or 1.0
        mean = float((excess[len(known) - beyond :] / unit).mean()) if beyond else 0.0
        # Scores that hardly vary say nothing of their tail.
        self.scale = (mean or float((excess / unit).std()) or 0.5 / unit) * unit
        self.height = float(-np.log((beyond + 1) / (len(known) + 1)))
        self.register_buffer("known", to_tensor(known))

    def forward(self, scores: Tensor) -> Tensor:
        """−log p of each score."""
        known = self.get_buffer("known")
        near = -torch.log((1 + count_at_least(known, scores)).double() / (len(known) + 1))
        line = self.height + (scores / 2 - self.start / 2) / self.scale
        return torch.where(scores > self.start, line, near)


def join(neg_log_p: Tensor, how: str) -> Tensor:
    """−log p of all groups joined to one score: `[N, groups]` → `[N]`; `how` is one of `COMBINATIONS`."""
    return neg_log_p.sum(1) if how == "sum" else neg_log_p.amax(1)


class ScoringModel(nn.Module):
    """One unit space per feature group of vectors and the reference scores of every group; not calibrated.

    Args:
        groups: names of all feature groups, in order.
        spaces: the unit spaces of the groups of vectors, by name.
        learnt: float32 `[n, Σr]`, the whitened parts it was fitted on, by which the effect of a correction is weighed.
        reference: float64 `[n, groups]`, scores of the same parts, each by a unit space made without it.
        how: one of `COMBINATIONS`.
    """

    def __init__(
        self,
        groups: Sequence[str],
        spaces: Mapping[str, Whitening],
        learnt: NDArray[np.float32],
        reference: Floats,
        how: str,
    ) -> None:
        super().__init__()
        self.groups, self.how = tuple(groups), how
        self.learnt, self.reference = learnt, reference
        self.places = {name: place for place, name in enumerate(groups) if name in spaces}
        self.spaces = nn.ModuleList(spaces[name] for name in self.places)
        self.widths = {name: spaces[name].width for name in self.places}
        self.lowest: list[float] = reference.min(axis=0).tolist()
        self.neg_log_p = nn.ModuleList(NegLogP(column) for column in reference.T)
        self.teach([])

    @classmethod
    def fit(cls, parts: Arrays, how: str, covariance: str) -> Self:
        """Learn what OK parts look like.

        Args:
            parts: feature groups of OK parts, each `[n, d]` or ready scores `[n]`.
            how: one of `COMBINATIONS`.
            covariance: of the unit spaces; see `MT`.
        """
        number = len(next(iter(parts.values())))
        spaces = {name: Whitening.fit(each, covariance) for name, each in parts.items() if each.ndim == 2}
        reference = np.empty((number, len(parts)))
        folds = np.arange(number) % min(_REFERENCE_FOLDS, number)
        for column, group in enumerate(parts.values()):
            if group.ndim == 1:
                reference[:, column] = group
                continue
            for fold in range(int(folds.max()) + 1):
                out = folds == fold
                space = Whitening.fit(group[~out], covariance)
                squared = run_in_blocks(lambda x, space=space: (space(x) ** 2).sum(1), to_tensor(group[out]))
                reference[out, column] = squared.numpy()
        model = cls(tuple(parts), spaces, np.zeros((0, 0), np.float32), reference, how)
        model.learnt = model.whiten(parts).astype(np.float32)
        return model

    def teach(self, corrections: Sequence[tuple[bool, Arrays]]) -> None:
        """Put corrections into effect in place of those before.

        In whitened space an NG part u is a direction; how far another part goes in it, z·u/‖u‖, is the best linear
        test for *this* defect (the matched filter, Fisher's discriminant with one example), and becomes one more column
        of −log p. An OK part is a direction in which parts may go as far as u does: that much is taken off before
        distances are measured, and a ready score goes back towards the reference as far as the part is like it.

        Args:
            corrections: for each part whether it is NG, and its vectors `[d]` by feature group.
        """
        self.allowed: list[int] = []
        self.taught: list[int] = []
        for place, (ng, vectors) in enumerate(corrections):
            u = torch.from_numpy(
                self.whiten({name: np.asarray(each)[None] for name, each in vectors.items()})[0]
            )
            length = u.norm()
            if length > 0:
                self.register_buffer(f"direction{place}", u / length)
                self.register_buffer(f"length{place}", length)
                (self.taught if ng else self.allowed).append(place)
        if not self.taught:
            return
        filters = torch.stack([self.get_buffer(f"direction{place}") for place in self.taught], dim=1)
        self.register_buffer("filters", filters)
        self.register_buffer("numbers", torch.tensor(self.taught))
        pulls = run_in_blocks(lambda learnt: (learnt.double() @ filters).amax(1), to_tensor(self.learnt))
        self.pull = NegLogP(pulls.numpy())
        self.joined = NegLogP(run_in_blocks(self._join_reference, to_tensor(self.reference)).numpy())

    def forward(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """Scores of a batch.

        Returns:
            `score` `[N]`, the joined score; `squared` `[N, groups]`, D² or the ready score; `neg_log_p` `[N, groups]`,
            with one more column where NG parts were taught; `whitened` float32 `[N, Σr]`, without corrections; and
            `nearest` int64 `[N]`, the number of the NG correction that each part resembles most, −1 without any.
        """
        whitened = z = torch.cat(
            [space(parts[place]) for space, place in zip(self.spaces, self.places.values(), strict=True)],
            dim=1,
        )
        likeness, reach = torch.zeros_like(z[:, 0]), whitened.norm(dim=1).clamp(min=1e-300)
        for number in self.allowed:
            u = self.get_buffer(f"direction{number}")
            along = (z @ u).clamp(min=0)
            likeness = likeness.maximum((along / reach).clamp(max=1) ** 2)
            z = z - along.minimum(self.get_buffer(f"length{number}"))[:, None] * u
        distances = [(own**2).sum(1) for own in torch.split(z, list(self.widths.values()), dim=1)]
        squared = dict(zip(self.places.values(), distances, strict=True))
        for place, lowest in enumerate(self.lowest):
            if place not in squared:
                ready = parts[place].double()
                squared[place] = ready - likeness * (ready - lowest).clamp(min=0)
        columns = [neg_log_p(squared[place]) for place, neg_log_p in enumerate(self.neg_log_p)]
        score = join(torch.stack(columns, dim=1), self.how)
        nearest = torch.full_like(score, -1).long()
        if self.taught:
            pulls = z @ self.get_buffer("filters")
            columns.append(self.pull(pulls.amax(1)))
            score = torch.maximum(self.joined(score), columns[-1])
            nearest = self.get_buffer("numbers")[pulls.argmax(1)]
        return {
            "score": score,
            "squared": torch.stack([squared[place] for place in range(len(self.groups))], dim=1),
            "neg_log_p": torch.stack(columns, dim=1),
            "whitened": whitened.float(),
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

    def _join_reference(self, reference: Tensor) -> Tensor:
        columns = [neg_log_p(reference[:, place]) for place, neg_log_p in enumerate(self.neg_log_p)]
        return join(torch.stack(columns, dim=1), self.how)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learnt, by name; corrections are not part of it."""
        arrays: dict[str, NDArray[Any]] = {"learnt": self.learnt, "ordinary": self.reference}
        for name in self.places:
            arrays |= {f"{key}/{name}": array for key, array in self.space(name).to_arrays().items()}
        return arrays

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
        return cls(groups, spaces, arrays["learnt"], arrays["ordinary"], how)


class Scoring(nn.Module):
    """All models of a judge and its threshold: parts → scores, p-values and verdicts.

    Args:
        models: one, or those of the folds of a `CrossThreshold`.
        threshold: the calibrated rule; `None` gives scores alone.
    """

    def __init__(self, models: Sequence[ScoringModel], threshold: Threshold | None = None) -> None:
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


def _median(values: Tensor) -> Tensor:
    """The median over the last dimension; of an even number of them the mean of the middle two."""
    number = values.shape[-1]
    if number == 1:
        return values[..., 0]
    ordered = values.sort(dim=-1).values
    return (ordered[..., (number - 1) // 2] + ordered[..., number // 2]) / 2
