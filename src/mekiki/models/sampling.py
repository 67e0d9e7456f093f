"""Sampling of Siamese pairs, triplets and class-balanced batches, as index tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mekiki.errors import InputError, name_some


class SingletonClassError(InputError):
    """A class has one image only, so no second image can be its positive partner."""


class Pairs(NamedTuple):
    """Pairs of images: `same` says whether both are of one class (in the post: label 1 and 0; no distance).

    Attributes:
        anchor: int64 `[P]`, index of the first image.
        partner: int64 `[P]`, index of the second image, never the anchor itself.
        same: bool `[P]`, true where anchor and partner have one label.
    """

    anchor: Tensor
    partner: Tensor
    same: Tensor


class Triplets(NamedTuple):
    """Triplets of images: the positive has the anchor's label, the negative another one.

    Attributes:
        anchor: int64 `[T]`.
        positive: int64 `[T]`, never the anchor itself.
        negative: int64 `[T]`.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def siamese_pairs(labels: Tensor, generator: torch.Generator) -> Pairs:
    """One random pair an image: an epoch of Siamese training.

    Every image is the anchor once, in random order. Exactly `N // 2` of the pairs, at random, are positive.
    The positive partner is uniform over the *other* images of the anchor's class; for the negative partner
    first the class is drawn, uniform over the other classes, and then the image, uniform in that class, so
    that a rare class is drawn as often as a common one. This is `SiameseMNIST` of QEUR23_SMNRT19 with two
    corrections: the halves are exact, and a partner is drawn once, not until it fits.

    Args:
        labels: int64 `[N]` on the CPU; any integers.
        generator: a CPU generator; the same state gives the same pairs.

    Returns:
        `N` pairs.

    Raises:
        SingletonClassError: a class has one image.
        InputError: `labels` are not int64 `[N]` on the CPU, or fewer than two classes.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
        >>> pairs = siamese_pairs(labels, torch.Generator().manual_seed(0))
        >>> sorted(pairs.anchor.tolist()), int(pairs.same.sum())
        ([0, 1, 2, 3, 4, 5, 6], 3)
        >>> torch.equal(labels[pairs.anchor] == labels[pairs.partner], pairs.same)
        True
    """
    classes = _ClassIndex.of_pairable(labels)
    anchor = torch.randperm(len(labels), generator=generator)
    same = torch.randperm(len(labels), generator=generator) < len(labels) // 2
    return _pairs(classes, anchor, same, generator)


def fixed_pairs(labels: Tensor, seed: int = 29) -> Pairs:
    """The validation pairs: images in order, even positions positive, odd ones negative, fixed by the seed.

    Partners are drawn as in `siamese_pairs`. The layout and the seed 29 are those of `SiameseMNIST` in
    QEUR23_SMNRT19; there the class of a negative came from the global random state, so the pairs were not
    fixed, and a positive could be an image with itself. Here neither happens, and no global random state is
    read or moved.

    Args:
        labels: int64 `[N]` on the CPU; any integers.
        seed: fixes the pairs.

    Returns:
        `N` pairs; pair `i` has anchor `i`.

    Raises:
        SingletonClassError: a class has one image.
        InputError: `labels` are not int64 `[N]` on the CPU, or fewer than two classes.

    Example:
        >>> pairs = fixed_pairs(torch.tensor([0, 0, 1, 1]))
        >>> pairs.anchor.tolist(), pairs.same.tolist()
        ([0, 1, 2, 3], [True, False, True, False])
    """
    classes = _ClassIndex.of_pairable(labels)
    anchor = torch.arange(len(labels))
    return _pairs(classes, anchor, anchor % 2 == 0, torch.Generator().manual_seed(seed))


def random_triplets(labels: Tensor, generator: torch.Generator) -> Triplets:
    """One random triplet an image: an epoch of triplet training.

    Every image is the anchor once, in random order; positive and negative are drawn as the partners of
    `siamese_pairs` are. Triplets as in Schroff et al. 2015 (FaceNet, arXiv 1503.03832), without mining.

    Args:
        labels: int64 `[N]` on the CPU; any integers.
        generator: a CPU generator; the same state gives the same triplets.

    Returns:
        `N` triplets.

    Raises:
        SingletonClassError: a class has one image.
        InputError: `labels` are not int64 `[N]` on the CPU, or fewer than two classes.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1, 1])
        >>> anchor, positive, negative = random_triplets(labels, torch.Generator().manual_seed(0))
        >>> bool((labels[anchor] == labels[positive]).all()), bool((labels[anchor] == labels[negative]).any())
        (True, False)
    """
    classes = _ClassIndex.of_pairable(labels)
    return _triplets(classes, torch.randperm(len(labels), generator=generator), generator)


def fixed_triplets(labels: Tensor, seed: int = 29) -> Triplets:
    """The validation triplets: images in order as anchors, the rest fixed by the seed alone.

    Args:
        labels: int64 `[N]` on the CPU; any integers.
        seed: fixes the triplets.

    Returns:
        `N` triplets; triplet `i` has anchor `i`.

    Raises:
        SingletonClassError: a class has one image.
        InputError: `labels` are not int64 `[N]` on the CPU, or fewer than two classes.

    Example:
        >>> triplets = fixed_triplets(torch.tensor([0, 0, 1, 1]))
        >>> triplets.anchor.tolist(), triplets.positive.tolist()
        ([0, 1, 2, 3], [1, 0, 3, 2])
    """
    classes = _ClassIndex.of_pairable(labels)
    return _triplets(classes, torch.arange(len(labels)), torch.Generator().manual_seed(seed))


def balanced_batches(
    labels: Tensor, classes: int, samples: int, generator: torch.Generator, batches: int | None = None
) -> list[Tensor]:
    """Batches of `classes` distinct classes with `samples` distinct images each, for losses that mine.

    At any moment no class has been drawn more than once oftener than another: each batch takes the classes
    drawn least so far, ties at random. Within a class, images come in rounds: a round is a random permutation
    of the class cut into `count // samples` groups, none of which share an image; the `count % samples`
    images left at its end wait for the next round. A class with fewer than `samples` images, even one with a
    single image, gives all it has, so that batch is smaller. The PK sampling of Hermans et al. 2017 (In
    Defense of the Triplet Loss, arXiv 1703.07737).

    Args:
        labels: int64 `[N]` on the CPU; any integers.
        classes: distinct classes in a batch, at least 2.
        samples: images of each class in a batch, at least 2.
        generator: a CPU generator; the same state gives the same batches.
        batches: how many; if None, as many as the images would fill, `max(1, N // (classes * samples))`.

    Returns:
        One int64 tensor a batch, of at most `classes * samples` indices, those of one class side by side.

    Raises:
        InputError: `labels` are not int64 `[N]` on the CPU, fewer than two classes, more classes asked for
            than there are, or a number that is too small.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
        >>> batches = balanced_batches(labels, 2, 2, torch.Generator().manual_seed(0))
        >>> [sorted(labels[batch].bincount(minlength=3).tolist()) for batch in batches]
        [[0, 2, 2], [0, 2, 2]]
    """
    index = _ClassIndex.of(labels)
    present = len(index.counts)
    if classes < 2 or samples < 2:
        raise InputError(
            f"balanced_batches: classes is {classes} and samples {samples}; both must be at least 2, "
            "or a batch has no negatives or no positives"
        )
    if classes > present:
        raise InputError(
            f"balanced_batches: {classes} classes a batch asked for, but the labels hold {present}; "
            f"ask for at most {present}"
        )
    number = max(1, len(labels) // (classes * samples)) if batches is None else batches
    if number < 1:
        raise InputError(f"balanced_batches: batches is {number}; ask for at least 1")

    chosen, turn, drawn = _rotate_classes(present, classes, number, generator)
    taken = index.counts.clamp(max=samples)
    groups = index.counts // taken
    rounds = (drawn + groups - 1) // groups

    # One block a class and round. Sorting by block number plus a random key permutes every block at once.
    block_class = torch.arange(present).repeat_interleave(rounds)
    block_size = index.counts[block_class]
    block_start = block_size.cumsum(0) - block_size
    block = torch.arange(len(block_class)).repeat_interleave(block_size)
    keys = torch.rand(len(block), generator=generator, dtype=torch.float64)
    permuted = (block + keys).argsort() - block_start[block] + index.starts[block_class[block]]

    first_block = rounds.cumsum(0) - rounds
    group_start = (
        block_start[first_block[chosen] + turn // groups[chosen]] + turn % groups[chosen] * taken[chosen]
    )
    group_size = taken[chosen]
    within = torch.arange(int(group_size.sum())) - (group_size.cumsum(0) - group_size).repeat_interleave(
        group_size
    )
    flat = index.order[permuted[group_start.repeat_interleave(group_size) + within]]
    return list(torch.split(flat, group_size.view(number, classes).sum(1).tolist()))


def shuffled_batches(n: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """The indices 0 … n − 1 in random order, cut into batches; the last one may be shorter.

    Args:
        n: how many indices, at least 1.
        batch_size: at least 1.
        generator: a CPU generator; the same state gives the same batches.

    Returns:
        `ceil(n / batch_size)` int64 tensors.

    Raises:
        InputError: `n` or `batch_size` is less than 1.

    Example:
        >>> [len(batch) for batch in shuffled_batches(7, 3, torch.Generator().manual_seed(0))]
        [3, 3, 1]
    """
    if n < 1 or batch_size < 1:
        raise InputError(f"shuffled_batches: n is {n} and batch_size {batch_size}; both must be at least 1")
    return list(torch.split(torch.randperm(n, generator=generator), batch_size))


class _ClassIndex(NamedTuple):
    """The images sorted by class: class `c` owns `order[starts[c] : starts[c] + counts[c]]`."""

    values: Tensor  # [C] the labels that occur, ascending
    of_image: Tensor  # [N] class of an image, 0 … C − 1
    rank: Tensor  # [N] place of an image within its class
    order: Tensor  # [N]
    starts: Tensor  # [C]
    counts: Tensor  # [C]

    @classmethod
    def of(cls, labels: Tensor) -> _ClassIndex:
        if labels.ndim != 1 or labels.dtype != torch.int64 or labels.device.type != "cpu":
            raise InputError(
                f"labels must be an int64 tensor [N] on the CPU, not {labels.dtype} {list(labels.shape)} "
                f"on {labels.device}; convert them with labels.cpu().long()"
            )
        in_order, order = labels.sort(stable=True)
        values, counts = torch.unique_consecutive(in_order, return_counts=True)
        if len(values) < 2:
            raise InputError(
                f"labels: {len(labels)} images of {len(values)} class(es); sampling needs at least two, "
                "so add images of another class"
            )
        starts = counts.cumsum(0) - counts
        of_image, rank = torch.empty_like(order), torch.empty_like(order)
        of_image[order] = torch.arange(len(counts)).repeat_interleave(counts)
        rank[order] = torch.arange(len(order)) - starts.repeat_interleave(counts)
        return cls(values, of_image, rank, order, starts, counts)

    @classmethod
    def of_pairable(cls, labels: Tensor) -> _ClassIndex:
        index = cls.of(labels)
        single = index.values[index.counts < 2].tolist()
        if single:
            raise SingletonClassError(
                f"labels: one image only in class {name_some([str(label) for label in single], 5)}; a positive pair "
                "needs two, so add images or leave the class out"
            )
        return index

    def draw_positive(self, anchor: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform over the other images of the class: one fewer to draw from, the anchor stepped over."""
        own = self.of_image[anchor]
        rank = _draw_below(self.counts[own] - 1, generator)
        return self.order[self.starts[own] + rank + (rank >= self.rank[anchor])]

    def draw_negative(self, anchor: Tensor, generator: torch.Generator) -> Tensor:
        """A class uniform over the others, then an image uniform in it."""
        other = _draw_below(torch.full_like(anchor, len(self.counts) - 1), generator)
        other += other >= self.of_image[anchor]
        return self.order[self.starts[other] + _draw_below(self.counts[other], generator)]


def _draw_below(limits: Tensor, generator: torch.Generator) -> Tensor:
    """An integer uniform in 0 … limit − 1 for each limit; 53 random bits, so a bias below limit / 2⁵³."""
    return (torch.rand(limits.shape, generator=generator, dtype=torch.float64) * limits).long()


def _pairs(classes: _ClassIndex, anchor: Tensor, same: Tensor, generator: torch.Generator) -> Pairs:
    partner = torch.empty_like(anchor)
    partner[same] = classes.draw_positive(anchor[same], generator)
    partner[~same] = classes.draw_negative(anchor[~same], generator)
    return Pairs(anchor, partner, same)


def _triplets(classes: _ClassIndex, anchor: Tensor, generator: torch.Generator) -> Triplets:
    positive = classes.draw_positive(anchor, generator)
    return Triplets(anchor, positive, classes.draw_negative(anchor, generator))


def _rotate_classes(
    present: int, classes: int, batches: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Classes of all batches `[batches * classes]`, how often each was drawn before, the totals `[C]`."""
    drawn = torch.zeros(present, dtype=torch.int64)
    chosen, turn = [], []
    for _ in range(batches):  # a batch depends on those before it
        keys = torch.rand(present, generator=generator, dtype=torch.float64)
        picked = (drawn + keys).topk(classes, largest=False, sorted=False).indices
        chosen.append(picked)
        turn.append(drawn[picked])
        drawn[picked] += 1
    return torch.cat(chosen), torch.cat(turn), drawn
