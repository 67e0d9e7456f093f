"""Which pairs and triplets inside a batch are worth learning from.

Each function takes the labels `[B]` of a batch (and its vectors `[B, d]` where hardness matters) and returns index
tensors into the batch. No gradient flows through a selection. The selections are those of Hermans, Beyer and Leibe,
*In Defense of the Triplet Loss* (2017) and Schroff, Kalenichenko and Philbin, *FaceNet* (2015), in the forms that
Bielski's *siamese-triplet* made common.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PairIndices(NamedTuple):
    """Positions in a batch: `first` and `second` `[P]`, and whether they are of one class, bool `[P]`."""

    first: Tensor
    second: Tensor
    same: Tensor


class TripletIndices(NamedTuple):
    """Positions in a batch: `anchor`, `positive` and `negative`, each `[T]`."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def all_pairs(labels: Tensor) -> PairIndices:
    """Every pair of different members of the batch, once.

    Example:
        >>> pairs = all_pairs(torch.tensor([0, 0, 1]))
        >>> pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist()
        ([0, 0, 1], [1, 2, 2], [True, False, False])
    """
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    return PairIndices(first, second, labels[first] == labels[second])


def hard_negative_pairs(vectors: Tensor, labels: Tensor) -> PairIndices:
    """All positive pairs, and as many negative ones: those that lie closest together.

    Example:
        >>> vectors = torch.tensor([[0.0], [1.0], [1.5], [9.0]])
        >>> hard_negative_pairs(vectors, torch.tensor([0, 0, 1, 1])).same.tolist()
        [True, True, False, False]
    """
    first, second, same = all_pairs(labels)
    positive, negative = same.nonzero().squeeze(1), (~same).nonzero().squeeze(1)
    closeness = -_squared_distances(vectors)[first[negative], second[negative]]
    hardest = closeness.topk(min(len(positive), len(negative))).indices
    chosen = torch.cat((positive, negative[hardest]))
    return PairIndices(first[chosen], second[chosen], same[chosen])


def all_triplets(labels: Tensor) -> TripletIndices:
    """Every (anchor, positive, negative) of the batch; anchor and positive in both orders.

    Example:
        >>> triplets = all_triplets(torch.tensor([0, 0, 1]))
        >>> list(zip(*(side.tolist() for side in triplets)))
        [(0, 1, 2), (1, 0, 2)]
    """
    anchor, positive = _anchor_positive(labels)
    row, negative = (labels[anchor].unsqueeze(1) != labels).nonzero(as_tuple=True)
    return TripletIndices(anchor[row], positive[row], negative)


def hardest_triplets(
    vectors: Tensor, labels: Tensor, margin: float, *, squared: bool = False
) -> TripletIndices:
    """For each (anchor, positive) the negative closest to the anchor, where that violates the margin."""
    anchor, positive, violation = _violations(vectors, labels, margin, squared)
    return _select(anchor, positive, violation > 0, violation)


def random_hard_triplets(
    vectors: Tensor, labels: Tensor, margin: float, *, squared: bool = False, generator: torch.Generator
) -> TripletIndices:
    """For each (anchor, positive) one random negative out of those that violate the margin."""
    anchor, positive, violation = _violations(vectors, labels, margin, squared)
    return _select(anchor, positive, violation > 0, _noise(violation, generator))


def semi_hard_triplets(
    vectors: Tensor, labels: Tensor, margin: float, *, squared: bool = False, generator: torch.Generator
) -> TripletIndices:
    """For each (anchor, positive) one random negative that is farther than the positive, but within the margin.

    Example:
        >>> vectors = torch.tensor([[0.0], [1.0], [1.5], [0.5]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> generator = torch.Generator().manual_seed(0)
        >>> triplets = semi_hard_triplets(vectors, labels, margin=1.0, generator=generator)
        >>> [(a, p, n) for a, p, n in zip(*(side.tolist() for side in triplets)) if a == 0]
        [(0, 1, 2)]
    """
    anchor, positive, violation = _violations(vectors, labels, margin, squared)
    return _select(anchor, positive, (violation > 0) & (violation < margin), _noise(violation, generator))


def _anchor_positive(labels: Tensor) -> tuple[Tensor, Tensor]:
    same = labels.unsqueeze(1) == labels
    same.fill_diagonal_(False)
    anchor, positive = same.nonzero(as_tuple=True)
    return anchor, positive


@torch.no_grad()
def _violations(
    vectors: Tensor, labels: Tensor, margin: float, squared: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors `[P]`, positives `[P]` and d(a, p) − d(a, n) + margin `[P, B]`, −∞ where n is of the anchor's class."""
    distances = _squared_distances(vectors)
    if not squared:
        distances = distances.sqrt()
    anchor, positive = _anchor_positive(labels)
    violation = distances[anchor, positive].unsqueeze(1) - distances[anchor] + margin
    violation.masked_fill_(labels[anchor].unsqueeze(1) == labels, -torch.inf)
    return anchor, positive, violation


def _select(anchor: Tensor, positive: Tensor, allowed: Tensor, preference: Tensor) -> TripletIndices:
    """The allowed negative of highest preference in each row; rows without one drop out."""
    best, negative = (
        preference.masked_fill(~allowed, -torch.inf).max(dim=1) if len(anchor) else (anchor, anchor)
    )
    found = (best > -torch.inf).nonzero().squeeze(1)
    return TripletIndices(anchor[found], positive[found], negative[found])


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    # Drawn on the processor whatever the device, so that a seed means the same selection everywhere.
    return torch.rand(like.shape, generator=generator).to(like.device)


@torch.no_grad()
def _squared_distances(vectors: Tensor) -> Tensor:
    return (vectors.unsqueeze(1) - vectors).square().sum(2)
