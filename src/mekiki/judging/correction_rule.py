"""What corrections do to scores: the taught verdict for near copies, and a discriminant where it is shown to help.

A correction always decides on *near copies* of its photograph. Beyond them NG corrections act together, through one
regularised linear discriminant, and only as far as photographs that had no part in it say that this helps: each OK part
and each NG correction is scored by the discriminant that was fitted without it, and so are NG parts that were given to
calibrate. Without such evidence corrections act on near copies alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.judging.neg_log_p import TAIL_SHARE, NegLogP
from mekiki.judging.tensor_blocks import to_tensor

Floats = NDArray[np.float64]

NEAR_NG = -math.log(math.ulp(0.0))
"""What a near copy of an NG part has added to its score: −log of the smallest p that a float64 can hold, 744.4."""
# Of OK parts that were learnt from: fewer cannot tell whether a discriminant helps; see `CorrectionRule.fit`.
_LEAST_OK = 40
_MOST_OK = 2000  # OK parts used: the time of a fit grows with their third power, 1 s here
_ROUNDING = 1e-8  # of a squared distance between float32 vectors, as a share of their squares
_HALVINGS = 12
_MARGIN = 1e-9  # of an AUROC: rounding
_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class CorrectedParts:
    """Parts that a person corrected, and other parts known to be NG.

    Attributes:
        vectors: float32 `[m, K]`, deviations from the centre of the OK parts.
        ng: bool `[m]`, the right verdicts.
        scores: float64 `[m]`, scores without corrections.
        other_ng: float32 `[q, K]`, NG parts that were given to calibrate.
        other_scores: float64 `[q]`, their scores without corrections.
        learn_others: whether the discriminant learns from these too; near copies of them are not looked for.
    """

    vectors: NDArray[np.float32]
    ng: NDArray[np.bool_]
    scores: Floats
    other_ng: NDArray[np.float32]
    other_scores: Floats
    learn_others: bool = False


class Pull(nn.Module):
    """What NG corrections together add to the score of a part: float64 `[N, K]` → `[N]`, 0 or more.

    f is a linear function of the part, t = −log p of f among OK parts that had no part in it, and
    e(t) = (eᵗ − 1 − t)/t² the evidence that f is too large for an OK part (Vovk and Wang 2021, doi 10.1214/20-AOS2020).
    If a share s of the NG parts is like those corrected, the log likelihood ratio of NG to OK is log(1 − s + s·e(t)).
    That is next to nothing for most parts, and rises like t once e(t) exceeds 1/s.

    Args:
        weights: float64 `[K]` of f.
        reference: float64 `[n]`, f of OK parts, each without it.
        share: s, above 0 and below 1.
    """

    def __init__(self, weights: Floats, reference: Floats, share: float) -> None:
        super().__init__()
        self.share = share
        self.neg_log_p = NegLogP(reference)
        self.register_buffer("weights", to_tensor(weights))

    def forward(self, parts: Tensor) -> Tensor:
        """What is added."""
        return self.gain(parts @ self.get_buffer("weights"))

    def gain(self, values: Tensor) -> Tensor:
        """What is added to the scores of parts with these values of f."""
        return log_likelihood_ratio(log_evidence(self.neg_log_p(values)), self.share)


class CorrectionRule(nn.Module):
    """Scores with corrections, from parts and their scores without them.

    Args:
        centre: float64 `[K]`, the mean of the OK parts.
        inverse: float64 `[K]`, 1/(standard deviation·√items of the group); 0 for items that do not vary.
        vectors: float64 `[m, k]`, the corrected parts, centred and scaled: the first k of K items.
        reach: float64 `[m]`, squared distance below which a part is a near copy.
        ng: bool `[m]`.
        joined: −log p of scores among those of the OK parts.
        pull: what NG corrections add beyond near copies; `None` for nothing.

    Attributes:
        share: the share of NG parts that are taken to be like those corrected; 0 if only near copies are acted on.
        unseen: float64 `[m]`, score of each NG correction by the others alone; NaN for OK corrections and for near
            copies of other corrections.
        other_unseen: bool `[q]`, which of the NG parts given to calibrate are near copies of no correction.
        unseen_others: float64 `[q]`, score of each of these without its own part in the discriminant.
    """

    def __init__(
        self,
        centre: Floats,
        inverse: Floats,
        vectors: Floats,
        reach: Floats,
        ng: NDArray[np.bool_],
        joined: NegLogP,
        pull: Pull | None,
    ) -> None:
        super().__init__()
        self.share = 0.0 if pull is None else pull.share
        self.unseen: Floats = np.full(len(ng), np.nan)
        self.other_unseen: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.unseen_others: Floats = np.zeros(0)
        self.joined, self.pull = joined, pull
        self.register_buffer("centre", to_tensor(centre))
        self.register_buffer("inverse", to_tensor(inverse))
        self.register_buffer("vectors", to_tensor(np.ascontiguousarray(vectors.T)))
        self.register_buffer("squares", to_tensor((vectors**2).sum(axis=1)))
        self.register_buffer("reach", to_tensor(reach))
        self.register_buffer("ng", to_tensor(ng))

    @classmethod
    def fit(
        cls,
        centre: Floats,
        widths: Sequence[int],
        ok: NDArray[np.float32],
        scores: Floats,
        taught: CorrectedParts,
        departing: int = 0,
    ) -> CorrectionRule:
        """Weigh corrections by what they do to parts that had no part in them.

        Items are scaled by their deviation among OK parts, and every feature group to the same mean square. In that
        space a part is a *near copy* of a corrected one if their squared distance is below half of that to the nearest
        OK part, or part of the other verdict: of the squared distance between two unlike parts each contributes half,
        so what is nearer differs by less than one part does. OK corrections reach no farther than OK parts usually do.

        The discriminant is ridge regression of 1 for NG corrections and 0 for OK parts, both weighed alike. The ridge
        is the mean eigenvalue of the inner products of the OK parts, so that it follows what OK parts vary in most and
        not the thousands of directions that a few hundred of them hardly determine. Values of parts left out come from
        the same inverse (Cawley and Talbot 2004, doi 10.1016/j.neunet.2004.07.002).

        The share s of NG parts that are like those corrected is the maximum-likelihood estimate on NG corrections left
        out and other NG parts, with one OK part's worth of doubt. It is halved as long as that does not lower the
        partial AUROC (McClish 1989, doi 10.1177/0272989X8900900307) of these parts against the tenth of OK parts with
        the largest scores. The discriminant is dropped if that is no better than without it, or if not one of these NG
        parts is expected to be like the others. With fewer than 40 OK parts there is none: of 16 to 32 magnetic tiles a
        tenth is no measure, and three to ten known NG parts made the missed ones more.

        Args:
            centre: `[K]`, the mean of the OK parts.
            widths: number of items in each feature group, K in all.
            ok: `[n, K]`, OK parts that were learnt from, as deviations from the centre.
            scores: `[n]`, their scores, each by a model made without it.
            taught: the corrections.
            departing: number of items at the end that tell how a part departs from good ones, wherever it does. Two
                discriminants are tried, with and without them, and the better one is taken. With ten corrections they
                are what unlike parts have in common; with a hundred known NG parts the others say more.
        """
        joined = NegLogP(scores)
        if len(ok) > _MOST_OK:
            kept = np.linspace(0, len(ok) - 1, _MOST_OK).round().astype(np.int64)
            ok, scores = ok[kept], scores[kept]
        inverse = _inverse_scale(ok, widths)
        scaled, parts, others = (each * inverse for each in (ok, taught.vectors, taught.other_ng))
        # A copy saved with loss departs at other places, so copies are compared by the other items alone.
        items = len(centre) - departing
        copied, pooled_ok, pooled_others = (each[:, :items] for each in (parts, scaled, others))
        reach = _reach(copied, taught.ng, pooled_ok, pooled_others)
        alone = cls(centre, inverse, copied, reach, taught.ng, joined, None)
        near = _near(copied, copied, reach)
        np.fill_diagonal(near, False)
        other_unseen: NDArray[np.bool_] = np.asarray(~_near(pooled_others, copied, reach).any(axis=1))
        corrected, count = np.flatnonzero(taught.ng), int(taught.ng.sum())
        learns = other_unseen & taught.learn_others
        learning = others[learns]
        # A near copy of another correction says nothing of unlike parts.
        unseen = corrected[~(near | near.T)[corrected].any(axis=1)]
        pull, left_out = None, np.zeros(0)
        of_others = np.zeros(0)
        enough = len(ok) >= _LEAST_OK
        if enough and count + len(learning) and (len(unseen) > 1 or other_unseen.any()):
            judged = unseen if count + len(learning) > 1 else unseen[:0]
            known = _run(joined, np.concatenate([taught.scores[judged], taught.other_scores[other_unseen]]))
            every = np.concatenate([parts, learning])
            ng = np.concatenate([taught.ng, np.ones(len(learning), np.bool_)])
            best = 0.0
            for taken in dict.fromkeys((items, len(centre))):
                weights, of_ok, of_ng = _discriminant(scaled, every, ng, taken)
                own = others @ weights
                own[learns] = of_ng[count:]
                own_left_out = of_ng[np.searchsorted(corrected, judged)]
                values = np.concatenate([own_left_out, own[other_unseen]])
                evidence, of_evidence = _to_evidence(of_ok, values), _to_evidence(of_ok, of_ok)
                share, quality = _choose_share(evidence, of_evidence, known, _run(joined, scores))
                if share and quality > best:
                    best, pull = quality, Pull(weights, of_ok, share)
                    left_out, of_others = own_left_out, own
        rule = alone if pull is None else cls(centre, inverse, copied, reach, taught.ng, joined, pull)
        rule.other_unseen = other_unseen
        rule.unseen[unseen] = taught.scores[unseen]
        rule.unseen_others = taught.other_scores
        if pull is not None:
            rule.unseen_others = _run(joined, taught.other_scores) + _run(pull.gain, of_others)
        if len(left_out) and pull is not None:
            rule.unseen[unseen] = _run(joined, taught.scores[unseen]) + _run(pull.gain, left_out)
        return rule

    def forward(self, parts: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Scores with corrections.

        Args:
            parts: `[N, K]`, vectors of all groups side by side.
            scores: float64 `[N]`, 0 or more, without corrections.

        Returns:
            `score` `[N]`: below 0 for near copies of OK parts. `gain` `[N]`, what NG corrections added. `copy_of`
            int64 `[N]`, the number of the correction that a part is a near copy of, −1 for other parts.
        """
        x = (parts.double() - self.get_buffer("centre")) * self.get_buffer("inverse")
        gain = torch.zeros_like(scores)
        if self.pull is not None:
            gain = self.pull(x)
            scores = self.joined(scores) + gain
        corrected = self.get_buffer("vectors")
        x = x[:, : len(corrected)]
        squared = (x**2).sum(1, keepdim=True) - 2 * x @ corrected + self.get_buffer("squares")
        reach = self.get_buffer("reach")
        if not squared.shape[1]:
            return {"score": scores, "gain": gain, "copy_of": torch.full_like(scores, -1).long()}
        # A correction without reach has an OK part, or one of the other verdict, at its very place.
        ratio, closest = torch.where(reach > 0, squared / reach.clamp(min=1e-300), torch.inf).min(1)
        near, ng = ratio < 1, self.get_buffer("ng")[closest]
        gain = torch.where(near, torch.where(ng, gain + NEAR_NG, torch.zeros_like(gain)), gain)
        scores = torch.where(near, torch.where(ng, scores + NEAR_NG, -1 / (1 + scores)), scores)
        return {"score": scores, "gain": gain, "copy_of": torch.where(near, closest, -1)}


def log_evidence(neg_log_p: Tensor) -> Tensor:
    """The logarithm of e(t) = (eᵗ − 1 − t)/t² for t = −log p, the mean of all κ·p^(κ − 1) with κ from 0 to 1.

    Its mean over OK parts is 1 (an e-value), it is ½ at p = 1 and grows like 1/p for small p.

    Example:
        >>> log_evidence(torch.tensor([0.0, 3.0, 10.0], dtype=torch.float64)).exp().round(decimals=2).tolist()
        [0.5, 1.79, 220.15]
    """
    t = neg_log_p.clamp(min=0.1)
    far = t + torch.log1p(-(1 + t) * torch.exp(-t)) - 2 * torch.log(t)
    near = torch.log(0.5 + neg_log_p / 6 + neg_log_p**2 / 24 + neg_log_p**3 / 120)
    return torch.where(neg_log_p < 0.1, near, far)


def log_likelihood_ratio(log_e: Tensor, share: float) -> Tensor:
    """log(1 − s + s·e), less its value for e = ½, where it is lowest."""
    one, other = math.log1p(-share), math.log(share) + log_e
    largest = torch.clamp(other, min=one)
    return largest + torch.log1p(torch.exp(-(other - one).abs())) - math.log1p(-share / 2)


def _run(function: Any, values: Floats) -> Floats:
    with torch.inference_mode():
        return np.asarray(function(to_tensor(values)).numpy(), np.float64)


def _to_evidence(reference: Floats, values: Floats) -> Floats:
    neg_log_p = NegLogP(reference)
    return _run(lambda each: log_evidence(neg_log_p(each)), values)


def _inverse_scale(ok: NDArray[np.float32], widths: Sequence[int]) -> Floats:
    deviation = ok.std(axis=0, dtype=np.float64)
    inverse: Floats = np.zeros_like(deviation)
    start = 0
    for width in widths:
        own = deviation[start : start + width]
        varying = own > 1e-6 * own.max(initial=0.0)  # the rest is rounding of float32
        inverse[start : start + width][varying] = 1 / (own[varying] * math.sqrt(max(1, varying.sum())))
        start += width
    return inverse


def _squared_distances(parts: Floats, others: Floats) -> Floats:
    squared: Floats = (parts**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * parts @ others.T
    return squared.clip(min=0.0)


def _near(parts: Floats, corrected: Floats, reach: Floats) -> NDArray[np.bool_]:
    """Which parts are near copies of which corrected parts: bool `[N, m]`."""
    return np.asarray(_squared_distances(parts, corrected) < reach)


def _reach(parts: Floats, ng: NDArray[np.bool_], ok: Floats, other_ng: Floats) -> Floats:
    """Half the squared distance of each corrected part to the nearest OK part, or part of the other verdict.

    An OK correction reaches no farther than the median OK part would: a part that was rejected may lie far from all OK
    parts, and near NG parts that nobody has shown yet.
    """
    nearest = _squared_distances(parts, ok).min(axis=1)
    among = _squared_distances(ok, ok)
    np.fill_diagonal(among, np.inf)
    usual = np.median(among.min(axis=1))
    nearest = np.where(ng, nearest, np.minimum(nearest, usual))
    between = np.where(ng[:, None] != ng, _squared_distances(parts, parts), np.inf)
    nearest = np.minimum(nearest, between.min(axis=1, initial=np.inf))
    if len(other_ng):
        to_ng = _squared_distances(parts, other_ng)
        # Where a part given as NG is corrected to OK, the correction is the later word.
        itself = to_ng < _ROUNDING * (parts**2).sum(axis=1)[:, None]
        to_ng = np.where(itself, np.inf, to_ng).min(axis=1)
        nearest = np.where(ng, nearest, np.minimum(nearest, to_ng))
    return np.asarray(nearest / 2)


def _discriminant(
    ok: Floats, parts: Floats, ng: NDArray[np.bool_], items: int
) -> tuple[Floats, Floats, Floats]:
    """Ridge regression of 1 for NG corrections and 0 for OK parts, by so many of the items; the others weigh 0.

    Returns:
        Weights `[K]`; the value of each OK part `[n]` and of each NG correction, by the regression without it.
    """
    rows = np.concatenate([ok, parts])
    rows[:, items:] = 0
    target = np.concatenate([np.zeros(len(ok)), ng.astype(np.float64)])
    inner = rows @ rows.T
    ridge = float(np.trace(inner[: len(ok), : len(ok)])) / len(ok)
    weight = np.where(target > 0, len(ok) / max(1, ng.sum()), 1.0)
    inverse: Floats = np.linalg.inv(inner + np.diag(ridge / weight))
    dual = inverse @ target
    left_out: Floats = target - dual / np.diag(inverse)
    weights: Floats = rows.T @ dual
    return weights, left_out[: len(ok)], left_out[len(ok) :][ng]


def _choose_share(log_e: Floats, log_e_ok: Floats, scores: Floats, scores_ok: Floats) -> tuple[float, float]:
    """The share of NG parts that are taken to be like the corrections, 0 if none is shown to be, and the partial AUROC.

    Args:
        log_e: `[q]`, evidence on NG parts that had no part in the discriminant.
        log_e_ok: `[n]`, on OK parts.
        scores: `[q]`, −log p without corrections of these NG parts.
        scores_ok: `[n]`, of the OK parts.
    """
    doubt = 1 / (len(scores_ok) + 1)
    share, alike = 0.5, 0.0
    for _ in range(_ROUNDS):  # expectation-maximisation; `doubt` is what one OK part would say
        logit = np.clip(log_e + math.log(share) - math.log1p(-share), -700, 700)
        alike = float((1 / (1 + np.exp(-logit))).sum())
        share = (doubt + alike) / (1 + len(log_e))
    best, chosen = _partial_auroc(scores, scores_ok), 0.0
    if alike < 1:
        return chosen, best
    for each in share * 0.5 ** np.arange(_HALVINGS):
        ratio, ratio_ok = (
            _run(lambda log_e, each=each: log_likelihood_ratio(log_e, each), values)
            for values in (log_e, log_e_ok)
        )
        if _auroc(scores + ratio, scores_ok + ratio_ok) < _auroc(scores, scores_ok):
            continue
        quality = _partial_auroc(scores + ratio, scores_ok + ratio_ok)
        # As good at half the share is as good with less effect.
        if quality > best + _MARGIN or (chosen and quality >= best - _MARGIN):
            best, chosen = max(best, quality), float(each)
    return chosen, best


def _auroc(ng: Floats, ok: Floats) -> float:
    """The share of pairs of an NG part and an OK part in order."""
    return float(((ng[:, None] > ok) + 0.5 * (ng[:, None] == ok)).mean())


def _partial_auroc(ng: Floats, ok: Floats) -> float:
    """The same for the tenth of OK parts with the largest scores."""
    return _auroc(ng, np.sort(ok)[-max(1, math.ceil(TAIL_SHARE * len(ok))) :])
