"""Objectives: which examples are compared in a step, their losses, and whether the network was right.

The plain classifier, Siamese pairs, triplets, and losses that select their pairs or triplets inside a class-balanced
batch share one training loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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

LOSSES = tuple(OPTIONS)
"""The losses by name; `pml:NAME` is one of pytorch-metric-learning."""


class Batch(NamedTuple):
    """Rows of the examples on each side (one, two or three sides, each int64 `[B]`), and the target `[B]`."""

    sides: tuple[Tensor, ...]
    target: Tensor


class Outcome(NamedTuple):
    """The loss of each item of a batch `[n]`, and whether it was right, bool `[n]`, where that has a meaning."""

    losses: Tensor
    correct: Tensor | None


class Objective(ABC):
    """A loss with its batches.

    Attributes:
        model: what is trained: the embedding network, or one around it.
        validation_model: takes the fixed batches; shares its weights with `model`.
        loss: holds the settings, and sometimes weights of its own.
        batch_size: examples, pairs or triplets a step.
        margin: the length that distances are compared with, where the loss has one.
        constant_loss: the validation loss when all vectors are equal, where it has a fixed value.
        whole_batches: whether the loss needs the vectors of a whole batch at once.
        accuracy_name: the name of `Outcome.correct` in the history.
    """

    model: nn.Module
    validation_model: nn.Module
    loss: nn.Module
    batch_size: int
    margin: float | None = None
    constant_loss: float | None = None
    whole_batches = False
    accuracy_name = "accuracy"

    @abstractmethod
    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """The batches of one epoch."""

    @abstractmethod
    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """The batches of validation, the same at each call."""

    @abstractmethod
    def training_outcome(self, outputs: Any, target: Tensor) -> Outcome:
        """The losses whose gradient is taken."""

    def validation_outcome(self, outputs: Any, target: Tensor) -> Outcome:
        """The losses on the fixed batches."""
        return self.training_outcome(outputs, target)

    def _split(self, sides: Sequence[Tensor], target: Tensor) -> list[Batch]:
        parts = zip(*(torch.split(side, self.batch_size) for side in (*sides, target)), strict=True)
        return [Batch(tuple(part[:-1]), part[-1]) for part in parts]


class Classification(Objective):
    """Softmax cross-entropy of single examples."""

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
        return self._split([torch.arange(len(labels))], labels)

    def training_outcome(self, outputs: Tensor, target: Tensor) -> Outcome:
        """Cross-entropy, and whether the largest logit is that of the class."""
        return Outcome(self.loss(outputs, target), outputs.detach().argmax(1) == target)


class SiamesePairs(Objective):
    """The protocol of the post: one partner an image and epoch, half of the pairs positive; contrastive loss."""

    accuracy_name = "pair_accuracy"
    loss: ContrastiveLoss

    def __init__(self, encoder: nn.Module, margin: float, batch_size: int) -> None:
        self.model = self.validation_model = SiameseNet(encoder)
        self.loss = ContrastiveLoss(margin)
        self.margin = margin
        self.constant_loss = margin**2 / 4  # half of the pairs are negative and have the loss ½m²
        self.loss_at_half_margin = margin**2 / 8  # of a pair of either kind
        self.batch_size = batch_size

    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """Every example once as the anchor, in random order."""
        pairs = sampling.siamese_pairs(labels, generator)
        return self._split([pairs.anchor, pairs.partner], pairs.same)

    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """The same pairs every time."""
        pairs = sampling.fixed_pairs(labels)
        return self._split([pairs.anchor, pairs.partner], pairs.same)

    def training_outcome(self, outputs: tuple[Tensor, Tensor], target: Tensor) -> Outcome:
        """Contrastive losses; a pair is right if its distance is on its side of half the margin."""
        losses = self.loss.each(*outputs, target)
        return Outcome(losses, losses.detach() < self.loss_at_half_margin)


class RandomTriplets(Objective):
    """One random positive and one random negative an image and epoch; triplet loss."""

    accuracy_name = "triplet_accuracy"
    loss: TripletLoss

    def __init__(self, encoder: nn.Module, margin: float, batch_size: int, *, squared: bool = False) -> None:
        self.model = self.validation_model = TripletNet(encoder)
        self.loss = TripletLoss(margin, squared=squared)
        self.margin = self.constant_loss = margin
        self.batch_size = batch_size

    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """Every example once as the anchor, in random order."""
        triplets = sampling.random_triplets(labels, generator)
        return self._split(triplets, labels[triplets.anchor])

    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """The same triplets every time."""
        triplets = sampling.fixed_triplets(labels)
        return self._split(triplets, labels[triplets.anchor])

    def training_outcome(self, outputs: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Outcome:
        """Triplet losses; a triplet is right if the positive is closer to the anchor than the negative."""
        anchor, positive, negative = outputs
        with torch.no_grad():
            right = distance(anchor, positive) < distance(anchor, negative)
        return Outcome(self.loss.each(anchor, positive, negative), right)


class InBatch(Objective):
    """A loss of vectors and labels that selects its pairs or triplets inside a class-balanced batch.

    Where the encoder gives a hidden vector beside its embedding, training takes the loss of both.
    Validation is that of `validated_by`, so that `online-contrastive` is on the scale of `contrastive` and
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
        self.validation_model = encoder
        self.loss = loss
        self.classes, self.samples = classes, samples
        self.margin = margin
        self.validated_by = validated_by
        if validated_by is not None:
            self.validation_model = validated_by.model
            self.margin = validated_by.margin
            self.constant_loss = validated_by.constant_loss
            self.accuracy_name = validated_by.accuracy_name

    def train_batches(self, labels: Tensor, generator: torch.Generator) -> list[Batch]:
        """Class-balanced batches; the loss draws from the same generator."""
        if isinstance(self.loss, OnlineTripletLoss):
            self.loss.generator = generator
        return self._balanced_batches(labels, self.classes, generator)

    def fixed_batches(self, labels: Tensor) -> list[Batch]:
        """The fixed pairs or triplets of `validated_by`, else class-balanced batches of a fixed seed."""
        if self.validated_by is not None:
            return self.validated_by.fixed_batches(labels)
        classes = min(self.classes, len(torch.unique(labels)))
        return self._balanced_batches(labels, classes, torch.Generator().manual_seed(FIXED_SEED))

    def _balanced_batches(self, labels: Tensor, classes: int, generator: torch.Generator) -> list[Batch]:
        batches = sampling.balanced_batches(labels, classes, self.samples, generator)
        return [Batch((indices,), labels[indices]) for indices in batches]

    def training_outcome(self, outputs: Tensor | tuple[Tensor, ...], target: Tensor) -> Outcome:
        """Losses of the pairs or triplets selected, of which the share that is right has no meaning."""
        several = (outputs,) if isinstance(outputs, Tensor) else outputs
        return Outcome(torch.cat([self._losses(vectors, target) for vectors in several]), None)

    def _losses(self, vectors: Tensor, target: Tensor) -> Tensor:
        each = getattr(self.loss, "each", None)
        if each is None:  # pytorch-metric-learning's: one number for the batch, which stands for each example
            return library_value(self.loss, vectors, target).expand(len(target))
        losses: Tensor = each(vectors, target)
        return losses if len(losses) else (vectors.sum() * 0.0).view(1)

    def validation_outcome(self, outputs: Any, target: Tensor) -> Outcome:
        """Losses on the fixed batches."""
        return (self.validated_by or self).training_outcome(outputs, target)


def check_loss(name: str, options: Mapping[str, Any] | None = None) -> None:
    """Check the name of a loss and the names of its options, before any data is read.

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
    if not isinstance(name, str) or not name.startswith("pml:"):
        raise not_known("loss", name, LOSSES, also=", or pml:NAME")
    library_loss_class(name.removeprefix("pml:"))


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
    if name == "softmax":
        return Classification(encoder, classes, batch_size)
    if name == "contrastive":
        return SiamesePairs(encoder, margin, batch_size)
    if name == "triplet":
        return RandomTriplets(encoder, margin, batch_size, **given)
    per_batch = min(10, classes)
    sizes: dict[str, Any] = {"classes": per_batch, "samples": max(2, batch_size // per_batch)}
    if name == "online-contrastive":
        pairs = SiamesePairs(encoder, margin, batch_size)
        return InBatch(encoder, OnlineContrastiveLoss(margin, **given), validated_by=pairs, **sizes)
    if name == "online-triplet":
        triplets = RandomTriplets(encoder, margin, batch_size, squared=given.get("squared", False))
        return InBatch(encoder, OnlineTripletLoss(margin, seed=seed, **given), validated_by=triplets, **sizes)
    if name == "soft-neighbours":
        return InBatch(encoder, SoftNeighbourLoss(margin, **given), margin=margin, **sizes)
    library = library_loss(name.removeprefix("pml:"), dim=dim, classes=classes, options=given)
    return InBatch(encoder, library, **sizes)
