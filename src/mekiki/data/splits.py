"""`ImageSplit` and `SplitPolicy`: which images train and which test, for every source alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mekiki.data.image_set import (
    ImageSet,
    Indices,
    Labels,
    at_most_per_class,
    content_hashes,
    stratified_split,
)
from mekiki.errors import InputError, count_noun, name_some


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """A train and a test set that share no image, and what was noticed on the way.

    Attributes:
        train: images to learn from.
        test: images never learnt from.
        notes: one line each: what was skipped, moved, resized or assumed, counted and named.

    Example:
        >>> pixels = np.arange(40, dtype=np.uint8).reshape(10, 2, 2)
        >>> pool = ImageSet(pixels, np.arange(10) % 2, ("a", "b"), [str(i) for i in range(10)], "doc")
        >>> train, test = split_pool(pool, None, SplitPolicy(), [])
        >>> len(train), len(test)
        (8, 2)
    """

    train: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ImageSet]:
        return iter((self.train, self.test))


@dataclass(frozen=True)
class SplitPolicy:
    """Settings of a split.

    Attributes:
        test_fraction: share of the test side where the source does not bring one; 1 puts every image there.
        seed: for the split and for the choice of `per_class`.
        resplit: pool the sides a source brings and split again.
        per_class: at most that many images a class and side; `None` takes all.
        least_classes: how many classes the training side must have.

    Raises:
        InputError: a value is out of range.
    """

    test_fraction: float = 0.2
    seed: int = 0
    resplit: bool = False
    per_class: int | None = None
    least_classes: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction <= 1:
            raise InputError(f"test_fraction must lie above 0 and not above 1, not be {self.test_fraction}")
        if self.seed < 0:
            raise InputError(f"seed must be 0 or a positive whole number, not {self.seed}")
        if self.per_class is not None and self.per_class < 2:
            raise InputError(f"per_class must be at least 2, for a pair to exist, not {self.per_class}")

    def select(self, labels: Labels, is_test: NDArray[np.bool_] | None) -> Indices:
        """Positions worth reading at all, so that `per_class` also saves the decoding; ascending."""
        if self.per_class is None:
            return np.arange(len(labels))
        if is_test is None or self.resplit:
            larger_side = max(self.test_fraction, 1 - self.test_fraction)
            return at_most_per_class(labels, max(3, math.ceil(self.per_class / larger_side)), seed=self.seed)
        sides = []
        for side in (~is_test, is_test):
            rows = np.flatnonzero(side)
            sides.append(rows[at_most_per_class(labels[rows], self.per_class, seed=self.seed)])
        return np.sort(np.concatenate(sides))


def split_pool(
    pool: ImageSet, is_test: NDArray[np.bool_] | None, policy: SplitPolicy, notes: Sequence[str]
) -> ImageSplit:
    """Split a set that is in memory; see `divide` for the rules.

    Args:
        pool: all images, of both sides.
        is_test: bool `[N]`, the side each image was published on; `None` where there is none.
        policy: fraction, seed, per_class.
        notes: what the source has noticed so far.

    Raises:
        InputError: fewer than two classes can learn, or nothing is left to test on.
    """
    rows = policy.select(pool.labels, is_test)
    if len(rows) < len(pool):
        pool = pool.subset(rows)
        is_test = None if is_test is None else is_test[rows]
    division = divide(
        pool.labels, content_hashes(pool.pixels), pool.names, pool.class_names, pool.source, is_test, policy
    )
    labels, class_names = division.labels, division.class_names
    pool = replace(pool, labels=np.maximum(labels, 0), class_names=class_names)
    return ImageSplit(pool.subset(division.train), pool.subset(division.test), (*notes, *division.notes))


@dataclass(frozen=True, eq=False)
class Division:
    """Where each image goes: rows of the two sides, and the classes that are left (a dropped image has label -1)."""

    train: Indices
    test: Indices
    labels: Labels
    class_names: tuple[str, ...]
    notes: list[str]


def divide(
    labels: Labels,
    contents: NDArray[np.uint64],
    names: Sequence[str],
    class_names: tuple[str, ...],
    source: str,
    is_test: NDArray[np.bool_] | None,
    policy: SplitPolicy,
) -> Division:
    """Decide the side of each image from labels and content hashes alone, without touching a pixel.

    Where the source brings sides they are kept, and a train image that is also in the test set is dropped. Otherwise
    the split is stratified by class, copies staying together. A class with one image to learn from is left out,
    because no pair can be made of it.

    Args:
        labels: int64 `[N]`, positions in `class_names`.
        contents: uint64 `[N]` from `content_hashes`.
        names: one name an image, for the notes.
        class_names: every class the source knows.
        source: for the messages.
        is_test: bool `[N]` or `None`.
        policy: fraction, seed, resplit, per_class.

    Raises:
        InputError: fewer than two classes can learn, or nothing is left to test on.
    """
    notes: list[str] = _conflicts(labels, contents, names)
    if is_test is None or policy.resplit:
        if policy.test_fraction == 1:
            train, test = np.arange(0), np.arange(len(labels))
        else:
            train, test = _own_split(labels, contents, names, class_names, policy, notes)
    else:
        train, test = _given_split(contents, names, is_test, notes)
    counts = np.bincount(labels[train], minlength=len(class_names))
    lonely = np.flatnonzero(counts == 1)
    if len(lonely):
        notes.append(
            f"{count_noun(len(lonely), 'class', 'classes')} with one image to learn from left out of training, since "
            f"no pair can be made of it: {name_some([class_names[c] for c in lonely])}"
        )
        train = train[~np.isin(labels[train], lonely)]
    if policy.per_class is not None:
        train = train[at_most_per_class(labels[train], policy.per_class, seed=policy.seed)]
        test = test[at_most_per_class(labels[test], policy.per_class, seed=policy.seed)]
    _check_sides(labels[train], test, class_names, source, policy)
    unseen = np.setdiff1d(labels[test], labels[train])
    if len(unseen) and len(train):
        notes.append(
            f"{count_noun(len(unseen), 'test class is', 'test classes are')} absent from training: "
            f"{name_some([class_names[c] for c in unseen])}"
        )
    left = np.unique(np.concatenate([labels[train], labels[test]]))
    renumbered = np.full(len(class_names), -1, np.int64)
    renumbered[left] = np.arange(len(left))
    return Division(train, test, renumbered[labels], tuple(class_names[c] for c in left), notes)


def _own_split(
    labels: Labels,
    contents: NDArray[np.uint64],
    names: Sequence[str],
    class_names: tuple[str, ...],
    policy: SplitPolicy,
    notes: list[str],
) -> tuple[Indices, Indices]:
    train, test = stratified_split(
        labels, test_fraction=policy.test_fraction, seed=policy.seed, contents=contents
    )
    _, first = np.unique(contents, return_index=True)
    if len(first) < len(contents):
        copies = np.setdiff1d(np.arange(len(contents)), first)
        notes.append(
            f"{count_noun(len(copies), 'image is a copy', 'images are copies')} of another, kept on the same side: "
            f"{name_some([names[i] for i in copies])}"
        )
    counts = np.bincount(labels, minlength=len(class_names))
    tested = np.bincount(labels[test], minlength=len(class_names))
    pairs = np.flatnonzero(counts == 2)
    if len(pairs):
        notes.append(
            f"{count_noun(len(pairs), 'class', 'classes')} with two images stay in training, nothing to test: "
            f"{name_some([class_names[c] for c in pairs])}"
        )
    alike = np.flatnonzero((counts > 2) & (tested == 0))
    if len(alike):
        notes.append(
            f"{count_noun(len(alike), 'class has', 'classes have')} no test image, because the images are copies of "
            f"each other: {name_some([class_names[c] for c in alike])}"
        )
    return train, test


def _given_split(
    contents: NDArray[np.uint64], names: Sequence[str], is_test: NDArray[np.bool_], notes: list[str]
) -> tuple[Indices, Indices]:
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    shared = np.isin(contents[train], contents[test])
    if shared.any():
        notes.append(
            f"{count_noun(int(shared.sum()), 'train image is', 'train images are')} also in the test set and left out "
            f"of training: {name_some([names[i] for i in train[shared]])}"
        )
    return train[~shared], test


def _conflicts(labels: Labels, contents: NDArray[np.uint64], names: Sequence[str]) -> list[str]:
    _, first, inverse = np.unique(contents, return_index=True, return_inverse=True)
    odd = np.flatnonzero(labels != labels[first[inverse]])
    if not len(odd):
        return []
    pairs = [f"{names[int(first[inverse[i]])]} = {names[int(i)]}" for i in odd]
    return [
        f"{count_noun(len(odd), 'image has', 'images have')} the same content as one of another class: "
        f"{name_some(pairs)}"
    ]


def _check_sides(
    train_labels: Labels, test: Indices, class_names: tuple[str, ...], source: str, policy: SplitPolicy
) -> None:
    classes = np.unique(train_labels)
    if len(classes) < policy.least_classes and policy.test_fraction < 1:
        found = f"only {class_names[classes[0]]!r}" if len(classes) else "none"
        needed = (
            "two classes with at least two images each are" if policy.least_classes == 2 else "images are"
        )
        raise InputError(f"{source}: {needed} needed to learn from, and there is {found}")
    if not len(test):
        raise InputError(f"{source}: no image is left to test on; give at least one class three images")
