"""What a training asks of its network: which examples meet, what the loss of each meeting is, and was it right.

Four objectives share one loop: the plain classifier, Siamese pairs, triplets, and losses that choose their pairs or
triplets inside a class-balanced batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mekiki.errors import InputError, not_known
from mekiki.models import sampling
from mekiki.models.losses import (
    ContrastiveLoss,
    OnlineContrastiveLoss,
    OnlineTripletLoss,
    SoftNeighbourLoss,
    TripletLoss,
    distance,
    library_loss,
    library_loss_class,
    library_value,
)
from mekiki.models.networks import ClassificationNet, SiameseNet, TripletNet, deeply_supervised

FIXED_SEED = 29

OPTIONS = {
    "softmax": (),
    "contrastive": (),
    "triplet": ("squared",),
    "online-contrastive": ("selection",),
    "online-triplet": ("selection", "squared"),
    "soft-neighbours": ("pull",),
}
"""Further settings of each loss."""

LOSSES = ("softmax", "contrastive", "triplet", "online-contrastive", "online-triplet", "soft-neighbours")
"""The losses by name; `pml:NAME` is one of pytorch-metric-learning."""


class Batch(NamedTuple):
    """Indices of the examples on each side (one, two or three, each int64 `[B]`) and what is asked of them `[B]`."""

    sides: tuple[Tensor, ...]
    target: Tensor


class Outcome(NamedTuple):
    """Per item of a batch: its loss `[n]` and, where that has a meaning, whether it came out right, bool `[n]`."""

    losses: Tensor
    correct: Tensor | None


class Objective(Protocol):
    """What the loop needs to know of a loss."""

    @property
    def model(self) -> nn.Module:
        """What is trained: the embedding network, or one that stands around it."""
        ...

    @property
    def validation_model(self) -> nn.Module:
        """What the fixed batches go through; shares its weights with `model`."""
        ...

    @property
    def loss(self) -> nn.Module:
        """Holds the settings, and sometimes weights of its own."""
        ...

    @property
    def margin(self) -> float | None:
        """The length that distances are held against, where the loss has one."""
        ...

    @property
    def constant_loss(self) -> float | None:
        """The validation loss when all vectors are equal, where it has a fixed value."""
        ...

    @property
    def whole_batches(self) -> bool:
        """Whether the loss needs the vectors of a whole batch at once, and not of one item after another."""
        ...

    @property
    def accuracy_name(self) -> str:
        """How `Outcome.correct` is called in the history."""
        ...

    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """The batches of one epoch."""
        ...

    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """Batches that are the same whenever asked, for validation."""
        ...

    def training_outcome(self, outputs: Any, target: Tensor) -> Outcome:
        """Losses that the gradient is taken of."""
        ...

    def validation_outcome(self, outputs: Any, target: Tensor) -> Outcome:
        """Losses on the fixed batches."""
        ...


class Classification:
    """Softmax cross-entropy on one example at a time."""

    accuracy_name = "accuracy"
    whole_batches = False
    margin = None
    constant_loss = None

    def __init__(self, encoder: nn.Module, classes: int, batch_size: int) -> None:
        self.model = self.validation_model = ClassificationNet(encoder, classes)
        self.loss = nn.CrossEntropyLoss(reduction="none")
        self.batch_size = batch_size

    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """Every example once, in random order."""
        order = sampling.shuffled_batches(len(labels), self.batch_size, generator)
        return [Batch((indices,), labels[indices]) for indices in order]

    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """Every example once, in order."""
        return _batches((torch.arange(len(labels)),), labels, self.batch_size)

    def training_outcome(self, outputs: Tensor, target: Tensor) -> Outcome:
        """Cross-entropy, and whether the largest logit is the right one."""
        return Outcome(self.loss(outputs, target), outputs.detach().argmax(1) == target)

    validation_outcome = training_outcome


class SiamesePairs:
    """The post's protocol: one partner an image and epoch, half of them positive; contrastive loss."""

    accuracy_name = "pair_accuracy"
    whole_batches = False

    def __init__(self, encoder: nn.Module, margin: float, batch_size: int) -> None:
        self.model = self.validation_model = SiameseNet(encoder)
        self.loss = ContrastiveLoss(margin)
        self.margin = margin
        self.constant_loss = margin**2 / 4  # half of the pairs are negative and lose ½m²
        self.loss_at_half_margin = margin**2 / 8  # of a pair of either kind
        self.batch_size = batch_size

    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """Every example once as the anchor, in random order."""
        pairs = sampling.siamese_pairs(labels, generator)
        return _batches((pairs.anchor, pairs.partner), pairs.same, self.batch_size)

    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """The same pairs every time."""
        pairs = sampling.fixed_pairs(labels)
        return _batches((pairs.anchor, pairs.partner), pairs.same, self.batch_size)

    def training_outcome(self, outputs: tuple[Tensor, Tensor], target: Tensor) -> Outcome:
        """Contrastive losses; a pair is right if its distance is on its side of half the margin."""
        losses = self.loss.each(*outputs, target)
        return Outcome(losses, losses.detach() < self.loss_at_half_margin)

    validation_outcome = training_outcome


class RandomTriplets:
    """One random positive and one random negative an image and epoch; triplet loss."""

    accuracy_name = "triplet_accuracy"
    whole_batches = False

    def __init__(self, encoder: nn.Module, margin: float, batch_size: int, *, squared: bool = False) -> None:
        self.model = self.validation_model = TripletNet(encoder)
        self.loss = TripletLoss(margin, squared=squared)
        self.margin = margin
        self.constant_loss = margin
        self.batch_size = batch_size

    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """Every example once as the anchor, in random order."""
        triplets = sampling.random_triplets(labels, generator)
        return _batches(triplets, labels[triplets.anchor], self.batch_size)

    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """The same triplets every time."""
        triplets = sampling.fixed_triplets(labels)
        return _batches(triplets, labels[triplets.anchor], self.batch_size)

    def training_outcome(self, outputs: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Outcome:
        """Triplet losses; a triplet is right if the positive is closer to the anchor than the negative."""
        anchor, positive, negative = outputs
        with torch.no_grad():
            right = distance(anchor, positive) < distance(anchor, negative)
        return Outcome(self.loss.each(anchor, positive, negative), right)

    validation_outcome = training_outcome


class InBatch:
    """A loss of vectors and labels that chooses its pairs or triplets inside a class-balanced batch.

    Where the encoder shows a hidden vector beside its embedding, the same is asked of both while it learns.
    Validation is done as `validated_by` does it, so that `online-contrastive` reads on the scale of `contrastive` and
    `online-triplet` on that of `triplet`. Other losses are validated by themselves, on fixed batches.
    """

    whole_batches = True

    def __init__(
        self,
        encoder: nn.Module,
        loss: nn.Module,
        *,
        classes: int,
        samples: int,
        validated_by: SiamesePairs | RandomTriplets | None = None,
        margin: float | None = None,
    ) -> None:
        self.model = deeply_supervised(encoder)
        self.loss = loss
        self.classes, self.samples = classes, samples
        self.validated_by = validated_by
        self.validation_model = encoder if validated_by is None else validated_by.model
        self.margin = margin if validated_by is None else validated_by.margin
        self.constant_loss = None if validated_by is None else validated_by.constant_loss
        self.accuracy_name = "accuracy" if validated_by is None else validated_by.accuracy_name

    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """Class-balanced batches; the loss draws from the same generator."""
        if isinstance(self.loss, OnlineTripletLoss):
            self.loss.generator = generator
        chosen = sampling.balanced_batches(labels, self.classes, self.samples, generator)
        return [Batch((indices,), labels[indices]) for indices in chosen]

    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """The fixed pairs or triplets of `validated_by`, else class-balanced batches of a fixed seed."""
        if self.validated_by is not None:
            return self.validated_by.fixed_batches(labels)
        classes = min(self.classes, len(torch.unique(labels)))
        generator = torch.Generator().manual_seed(FIXED_SEED)
        chosen = sampling.balanced_batches(labels, classes, self.samples, generator)
        return [Batch((indices,), labels[indices]) for indices in chosen]

    def training_outcome(self, outputs: Tensor | tuple[Tensor, ...], target: Tensor) -> Outcome:
        """Losses of what was selected; right or wrong has no meaning on a selection of the hardest."""
        asked = (outputs,) if isinstance(outputs, Tensor) else outputs
        return Outcome(torch.cat([self._losses(vectors, target) for vectors in asked]), None)

    def _losses(self, vectors: Tensor, target: Tensor) -> Tensor:
        each = getattr(self.loss, "each", None)
        if each is None:  # another library's: one number for the batch, standing for each of its examples
            return library_value(self.loss, vectors, target).expand(len(target))
        losses: Tensor = each(vectors, target)
        return losses if len(losses) else (vectors.sum() * 0.0).view(1)

    def validation_outcome(self, outputs: Any, target: Tensor) -> Outcome:
        """Losses on the fixed batches."""
        if self.validated_by is None:
            return self.training_outcome(outputs, target)
        return self.validated_by.validation_outcome(outputs, target)


def check_loss(name: str, options: Mapping[str, Any] | None = None) -> None:
    """Check a loss's name and the names of its options, before any data is read.

    Raises:
        InputError: there is no such loss, or it has no such option.
        MissingExtraError: it is one of pytorch-metric-learning, which is not installed.

    Example:
        >>> check_loss("tripplet")
        Traceback (most recent call last):
        mekiki.errors.InputError: loss 'tripplet' is not known; choose one of softmax, contrastive, triplet, \
online-contrastive, online-triplet, soft-neighbours, or pml:NAME; did you mean triplet?
    """
    if name in LOSSES:
        unknown = [option for option in options or {} if option not in OPTIONS[name]]
        if unknown:
            has = f"it has {', '.join(OPTIONS[name])}" if OPTIONS[name] else "it has none"
            raise InputError(f"loss {name!r} has no option {unknown[0]!r}; {has}")
        return
    if isinstance(name, str) and name.startswith("pml:"):
        library_loss_class(name.removeprefix("pml:"))
        return
    raise not_known("loss", name, LOSSES, also=", or pml:NAME")


def build_objective(
    name: str,
    encoder: nn.Module,
    *,
    dim: int,
    classes: int,
    margin: float,
    batch_size: int,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> Objective:
    """The objective of a loss by its name.

    Args:
        name: one of `LOSSES`, or `pml:NAME`.
        encoder: the embedding network, with its standardisation.
        dim: length of the embedding.
        classes: number of classes.
        margin: of this project's own losses; one of pytorch-metric-learning takes its margin through `options`.
        batch_size: examples, pairs or triplets a step; the in-batch losses take it as classes × samples.
        seed: of the random choices inside a batch.
        options: further settings of the loss (`selection`, `squared`, or those of pytorch-metric-learning).

    Raises:
        InputError: there is no such loss, or it does not take these options.
    """
    check_loss(name, options)
    given = dict(options or {})
    per_batch = min(10, classes)
    samples = max(2, batch_size // per_batch)
    if name == "softmax":
        return Classification(encoder, classes, batch_size)
    if name == "contrastive":
        return SiamesePairs(encoder, margin, batch_size)
    if name == "triplet":
        return RandomTriplets(encoder, margin, batch_size, **given)
    if name == "online-contrastive":
        pairs = SiamesePairs(encoder, margin, batch_size)
        mining = OnlineContrastiveLoss(margin, **given)
        return InBatch(encoder, mining, classes=per_batch, samples=samples, validated_by=pairs)
    if name == "soft-neighbours":
        soft = SoftNeighbourLoss(margin, **given)
        return InBatch(encoder, soft, classes=per_batch, samples=samples, margin=margin)
    if name == "online-triplet":
        triplets = RandomTriplets(encoder, margin, batch_size, squared=given.get("squared", False))
        loss = OnlineTripletLoss(margin, seed=seed, **given)
        return InBatch(encoder, loss, classes=per_batch, samples=samples, validated_by=triplets)
    library = library_loss(name.removeprefix("pml:"), dim=dim, classes=classes, options=given)
    return InBatch(encoder, library, classes=per_batch, samples=samples)


def _batches(sides: Sequence[Tensor], target: Tensor, batch_size: int) -> list[Batch]:
    parts = (slice(start, start + batch_size) for start in range(0, len(target), batch_size))
    return [Batch(tuple(side[part] for side in sides), target[part]) for part in parts]
