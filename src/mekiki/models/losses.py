"""The losses: pure functions of vectors and labels, and thin modules that hold their settings.

Each module has `each(…)`, one loss a pair or triplet, and `forward(…)`, their mean. All distances are Euclidean,
√(‖a − b‖² + 1e-9): the small term, the post's, keeps the gradient finite where two vectors coincide.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from mekiki.errors import InputError, not_known
from mekiki.extras import require
from mekiki.models import miners

EPS = 1e-9

_Choice = TypeVar("_Choice", bound=str)

PairSelection = Literal["hard-negative", "all"]
TripletSelection = Literal["semi-hard", "random-hard", "hardest", "all"]


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of rows: `[N, d]`, `[N, d]` → `[N]`, with a finite gradient at zero.

    Example:
        >>> distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([5.])
    """
    return ((b - a).square().sum(1) + EPS).sqrt()


def contrastive_losses(a: Tensor, b: Tensor, same: Tensor, margin: float) -> Tensor:
    """One contrastive loss a pair, ½[t·d² + (1 − t)·max(0, m − √(d² + ε))²], t = 1 where the two are of one class.

    Hadsell, Chopra and LeCun, *Dimensionality Reduction by Learning an Invariant Mapping* (2006), as the post has it.

    Args:
        a: one side of the pairs, `[P, d]`.
        b: the other side, `[P, d]`.
        same: bool or 0/1, `[P]`.
        margin: how far apart two of different classes should be.

    Example:
        >>> a, b = torch.tensor([[0.0], [0.0]]), torch.tensor([[0.6], [0.6]])
        >>> contrastive_losses(a, b, torch.tensor([True, False]), margin=1.0)
        tensor([0.1800, 0.0800])
    """
    losses: Tensor = _Pairs.apply(a, b, same, margin)  # type: ignore[no-untyped-call]
    return losses


def _contrast(squared: Tensor, same: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Losses of pairs from their squared distances, and what each pair pulls with per unit of its difference.

    The pull is the derivative by the difference of the two vectors, divided by that difference: 1 within a class;
    between classes the missing distance, and away from each other. Written out, because autograd needs thirty small
    operations for it, which in a training step of the post cost as much as a tenth of the matrix products.
    """
    distances = (squared + EPS).sqrt_()
    short = (margin - distances).clamp_(min=0)
    pull = (-short / distances).masked_fill_(same, 1.0)
    return torch.where(same, squared, short.square_()).mul_(0.5), pull


class _Pairs(torch.autograd.Function):
    """Contrastive losses `[P]` of pairs of rows."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, same: Tensor, margin: float) -> Tensor:
        difference = b - a
        losses, pull = _contrast(difference.square().sum(1), same.bool(), margin)
        ctx.save_for_backward(difference, pull)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        difference, pull = ctx.saved_tensors
        towards = (pull * gradients[0]).unsqueeze(1) * difference
        return -towards, towards, None, None


def all_pair_losses(vectors: Tensor, labels: Tensor, margin: float) -> Tensor:
    """The contrastive loss of every pair of a batch, in both orders: `[B, d]`, `[B]` → `[B(B − 1)]`.

    The numbers of `contrastive_losses` on `mekiki.models.miners.all_pairs`, each twice, from one matrix
    product of distances; the gradient is one too, Σⱼ wᵢⱼ(vᵢ − vⱼ).

    Example:
        >>> all_pair_losses(torch.tensor([[0.0], [0.6], [0.6]]), torch.tensor([0, 0, 1]), margin=1.0)
        tensor([0.1800, 0.0800, 0.1800, 0.5000, 0.0800, 0.5000])
    """
    losses: Tensor = _AllPairs.apply(vectors, labels, margin)  # type: ignore[no-untyped-call]
    # A row begins right after its diagonal element when the matrix is read on from there, one longer than its width.
    size = len(vectors)
    return losses.flatten()[1:].view(size - 1, size + 1)[:, :-1].reshape(-1)


class _AllPairs(torch.autograd.Function):
    """Contrastive losses `[B, B]` of all pairs, with the gradient as one matrix product."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, labels: Tensor, margin: float) -> Tensor:
        losses, pull = _contrast(_squared_distances(vectors), labels.unsqueeze(1) == labels, margin)
        ctx.save_for_backward(vectors, pull)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        vectors, pull = ctx.saved_tensors
        pull = pull * gradients[0]
        pull = pull + pull.T
        pull.fill_diagonal_(0.0)
        return pull.sum(1, keepdim=True) * vectors - pull @ vectors, None, None


def triplet_losses(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float, *, squared: bool = False
) -> Tensor:
    """One triplet loss a triplet, max(0, d(a, p) − d(a, n) + m).

    Args:
        anchor: `[T, d]`.
        positive: of the anchor's class, `[T, d]`.
        negative: of another class, `[T, d]`.
        margin: by how much the negative should be farther than the positive, in the unit of the distance.
        squared: use squared distances, as FaceNet does; the margin is then a squared length too, and does not compare
            with that of `contrastive_losses`.

    Example:
        >>> a, p, n = torch.tensor([[0.0]]), torch.tensor([[1.0]]), torch.tensor([[1.5]])
        >>> triplet_losses(a, p, n, margin=1.0), triplet_losses(a, p, n, margin=1.0, squared=True)
        (tensor([0.5000]), tensor([0.]))
    """
    if squared:
        near, far = (anchor - positive).square().sum(1), (anchor - negative).square().sum(1)
    else:
        near, far = distance(anchor, positive), distance(anchor, negative)
    return functional.relu(near - far + margin)


class ContrastiveLoss(nn.Module):
    """Contrastive loss of pairs; see `contrastive_losses`.

    Example:
        >>> loss = ContrastiveLoss(margin=1.0)
        >>> zeros = torch.zeros(4, 2)
        >>> round(loss(zeros, zeros, torch.tensor([1, 0, 1, 0])).item(), 3)  # collapsed: m²/4
        0.25
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def each(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """Loss of each pair `[P]`."""
        return contrastive_losses(a, b, same, self.margin)

    def forward(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """Mean loss of the pairs."""
        return self.each(a, b, same).mean()


class TripletLoss(nn.Module):
    """Triplet loss of triplets, on distance unless `squared`; see `triplet_losses`."""

    def __init__(self, margin: float = 1.0, *, squared: bool = False) -> None:
        super().__init__()
        self.margin, self.squared = margin, squared

    def each(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Loss of each triplet `[T]`."""
        return triplet_losses(anchor, positive, negative, self.margin, squared=self.squared)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Mean loss of the triplets."""
        return self.each(anchor, positive, negative).mean()


class OnlineContrastiveLoss(nn.Module):
    """Contrastive loss over pairs chosen inside a batch.

    Args:
        margin: as in `ContrastiveLoss`.
        selection: `"hard-negative"` (all positive pairs and as many of the closest negative ones) or `"all"`.

    Example:
        >>> loss = OnlineContrastiveLoss(margin=1.0)
        >>> vectors = torch.tensor([[0.0], [0.0], [0.5], [9.0], [9.5]])
        >>> loss.each(vectors, torch.tensor([0, 0, 1, 2, 2])).tolist()  # positives: 0–1, 3–4; negatives: 0–2, 1–2
        [0.0, 0.125, 0.125, 0.125]
    """

    def __init__(self, margin: float = 1.0, selection: PairSelection = "hard-negative") -> None:
        super().__init__()
        self.margin = margin
        self.selection = _check_selection(selection, PairSelection)

    def each(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Loss of each selected pair."""
        if self.selection == "all":
            return all_pair_losses(vectors, labels, self.margin)
        pairs = miners.hard_negative_pairs(vectors.detach(), labels)
        return contrastive_losses(vectors[pairs.first], vectors[pairs.second], pairs.same, self.margin)

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of the selected pairs; zero with a gradient of zero where there is none."""
        return mean_or_zero(self.each(vectors, labels), vectors)


class SoftNeighbourLoss(nn.Module):
    """How surely the neighbours in a batch are of one's own class, and a gentle pull between all of a class.

    Each other vector of the batch counts as a neighbour by exp(−d²/m²); the loss of a vector is −log of the share that
    its own class has in that. This part is Goldberger, Roweis, Hinton and Salakhutdinov, *Neighbourhood Components
    Analysis* (2004), for a network as Salakhutdinov and Hinton (2007) have it: it asks for just what a vote of
    neighbours needs, and does not mind a class in two places. The pull does, so that one threshold on distance serves
    all classes.

    Args:
        margin: the length m in which closeness is counted.
        pull: weight of the mean d²/m² to those of the same class; 0 leaves it out.

    Example:
        >>> loss = SoftNeighbourLoss(pull=0.0)
        >>> loss.each(torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([0, 0, 1]))  # −log(1 / (1 + e⁻¹)), twice
        tensor([0.3133, 0.3133])
    """

    def __init__(self, margin: float = 1.0, pull: float = 0.1) -> None:
        super().__init__()
        if isinstance(pull, bool) or not isinstance(pull, int | float) or not 0 <= pull < float("inf"):
            raise InputError(f"pull must be a number of at least 0, not {pull!r}")
        self.margin, self.pull = margin, pull

    def each(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Loss of each vector that has another of its class in the batch."""
        own = labels.unsqueeze(1) == labels
        own.fill_diagonal_(False)
        paired = own.any(1)
        losses: Tensor = _SoftNeighbours.apply(vectors, own, self.margin, self.pull)  # type: ignore[no-untyped-call]
        return losses if bool(paired.all()) else losses[paired]

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of the vectors; zero with a gradient of zero where none has another of its class."""
        return mean_or_zero(self.each(vectors, labels), vectors)


class _SoftNeighbours(torch.autograd.Function):
    """The losses of `SoftNeighbourLoss`, zero for a vector alone in its class, with the gradient written out."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, own: Tensor, margin: float, pull: float) -> Tensor:
        closeness = _squared_distances(vectors).mul_(-1 / margin**2)
        among_own = closeness.masked_fill(~own, -torch.inf)
        among_all = closeness.fill_diagonal_(-torch.inf)
        # Two sums with a maximum each: a class that is far from everything must not vanish beside the near ones.
        all_sum, own_sum = among_all.logsumexp(1, keepdim=True), among_own.logsumexp(1, keepdim=True)
        alone = ~own.any(1, keepdim=True)
        share = pull / own.sum(1, keepdim=True, dtype=vectors.dtype).clamp_(min=1)
        nearness = closeness.masked_fill(~own, 0.0).sum(1, keepdim=True)
        losses = (all_sum - own_sum - share * nearness).masked_fill_(alone, 0.0)
        slope = (among_all - all_sum).exp_().sub_((among_own - own_sum).exp_()).sub_(share * own)
        ctx.save_for_backward(vectors, slope.masked_fill_(alone, 0.0).mul_(-2 / margin**2))
        return losses.squeeze(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        vectors, slope = ctx.saved_tensors
        slope = slope * gradients[0].unsqueeze(1)
        slope = slope + slope.T
        return slope.sum(1, keepdim=True) * vectors - slope @ vectors, None, None, None


def _squared_distances(vectors: Tensor) -> Tensor:
    """Squared distances of all rows `[B, B]`, as one matrix product."""
    # Distances do not change when the mean goes, and fewer digits cancel in what follows.
    centred = vectors - vectors.detach().mean(0)
    lengths = centred.square().sum(1)
    return torch.addmm(lengths.unsqueeze(1) + lengths, centred, centred.T, alpha=-2).clamp(min=0)


class OnlineTripletLoss(nn.Module):
    """Triplet loss over triplets chosen inside a batch.

    Args:
        margin: as in `TripletLoss`.
        selection: `"semi-hard"`, `"random-hard"`, `"hardest"` or `"all"`; see `mekiki.models.miners`.
        squared: as in `TripletLoss`.
        seed: of the random choice among the negatives that qualify.

    Example:
        >>> loss = OnlineTripletLoss(margin=1.0, selection="all")
        >>> loss.each(torch.tensor([[0.0], [1.0], [1.5]]), torch.tensor([0, 0, 1])).tolist()
        [0.5, 1.5]
    """

    def __init__(
        self,
        margin: float = 1.0,
        selection: TripletSelection = "semi-hard",
        *,
        squared: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.margin, self.squared = margin, squared
        self.selection = _check_selection(selection, TripletSelection)
        self.generator = torch.Generator().manual_seed(seed)

    def each(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Loss of each selected triplet."""
        fixed = vectors.detach()
        if self.selection == "all":
            chosen = miners.all_triplets(labels)
        elif self.selection == "hardest":
            chosen = miners.hardest_triplets(fixed, labels, self.margin, squared=self.squared)
        else:
            mine = miners.semi_hard_triplets if self.selection == "semi-hard" else miners.random_hard_triplets
            chosen = mine(fixed, labels, self.margin, squared=self.squared, generator=self.generator)
        return triplet_losses(
            vectors[chosen.anchor],
            vectors[chosen.positive],
            vectors[chosen.negative],
            self.margin,
            squared=self.squared,
        )

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of the selected triplets; zero with a gradient of zero where there is none."""
        return mean_or_zero(self.each(vectors, labels), vectors)


def mean_or_zero(losses: Tensor, vectors: Tensor) -> Tensor:
    """Mean of the losses, or a zero that still hangs on the vectors where nothing was selected."""
    return losses.mean() if len(losses) else vectors.sum() * 0.0


UNUSABLE = {
    "DynamicSoftMarginLoss": "it keeps the graph of the batch before",
    "ManifoldLoss": "it takes no labels",
    "SelfSupervisedLoss": "it wraps another loss, and needs two views of each image",
    "VICRegLoss": "it needs two views of each image",
}
"""Losses of pytorch-metric-learning that vectors and labels of one batch are not enough for, and why."""


def library_loss_class(name: str) -> type[nn.Module]:
    """The class of pytorch-metric-learning that has this name.

    Raises:
        MissingExtraError: pytorch-metric-learning is not installed.
        InputError: the library has no such loss, or it cannot learn from vectors and labels of a batch alone.
    """
    library = require("pytorch_metric_learning.losses", extra="pml", purpose=f"loss 'pml:{name}'")
    there = (n for n in dir(library) if n.endswith("Loss") and not n.startswith(("Base", "Generic")))
    known = sorted(n for n in there if n not in UNUSABLE)
    if name in UNUSABLE:
        raise InputError(f"loss 'pml:{name}' cannot be used here: {UNUSABLE[name]}; choose another")
    if name not in known:
        raise InputError(f"loss 'pml:{name}': pytorch-metric-learning has {', '.join(known)}")
    found: type[nn.Module] = getattr(library, name)
    return found


def library_loss(name: str, *, dim: int, classes: int, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A loss of pytorch-metric-learning by its class name, such as `"MultiSimilarityLoss"`.

    A loss that learns (a proxy or a centre a class) gets the number of classes and the length of the embedding.

    Args:
        name: the class in `pytorch_metric_learning.losses`.
        dim: length of the embedding.
        classes: number of classes.
        options: further arguments of the class.

    Raises:
        MissingExtraError: pytorch-metric-learning is not installed.
        InputError: the library has no such loss, or it does not take these options.
    """
    build = library_loss_class(name)
    # Some hand what they need on to the class they come from.
    wanted = {
        key
        for parent in build.__mro__
        for key in inspect.signature(parent).parameters
        if parent is not object
    }
    sizes = {"num_classes": classes, "embedding_size": dim, "descriptors_dim": dim, "l": dim}
    arguments: dict[str, Any] = {key: value for key, value in sizes.items() if key in wanted} | dict(
        options or {}
    )
    try:
        return build(**arguments)
    except (TypeError, ValueError, KeyError) as error:
        given = ", ".join(f"{key}={value}" for key, value in arguments.items()) or "nothing"
        said = " ".join(str(error).split())
        raise InputError(f"loss 'pml:{name}' cannot be made from {given}: {said}") from None


def library_value(loss: nn.Module, vectors: Tensor, labels: Tensor) -> Tensor:
    """Loss of a batch by the library; its errors become `InputError`s of one line.

    Raises:
        InputError: the loss does not work on such a batch.
    """
    try:
        value: Tensor = loss(vectors, labels)
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"loss 'pml:{type(loss).__name__}' does not work on these batches: {said}") from None
    return value


def _check_selection(selection: _Choice, choices: Any) -> _Choice:
    if selection not in get_args(choices):
        raise not_known("selection", selection, get_args(choices))
    return selection
