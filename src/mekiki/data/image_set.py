"""`ImageSet`: images with labels, names and provenance; splits in which no image is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with one label each.

    Attributes:
        pixels: uint8 `[N, H, W]` (grey) or `[N, H, W, 3]` (RGB); may be a memory map, so index it in batches.
        labels: int64 `[N]`, positions in `class_names`.
        class_names: one name a class; a class may be absent from one side of a split.
        names: one name an image (a path, or `mnist/train/17`).
        source: where the images come from, for a person to read.
        masks: bool `[N, H, W]`, true where the image is defective, if known.

    Example:
        >>> grey = np.zeros((2, 4, 4), np.uint8)
        >>> images = ImageSet(grey, np.array([0, 1]), ("ok", "ng"), ("a.png", "b.png"), "two by hand")
        >>> len(images), images.shape, images.counts()
        (2, (1, 4, 4), {'ok': 1, 'ng': 1})
    """

    pixels: Pixels
    labels: Labels
    class_names: tuple[str, ...]
    names: Sequence[str]
    source: str
    masks: NDArray[np.bool_] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim not in (3, 4):
            raise InputError(
                f"{self.source}: pixels must be uint8 [N, H, W] or [N, H, W, 3], "
                f"not {self.pixels.dtype} {list(self.pixels.shape)}"
            )
        if self.pixels.ndim == 4 and self.pixels.shape[3] != 3:
            raise InputError(f"{self.source}: colour images need 3 channels, not {self.pixels.shape[3]}")
        if not len(self.pixels) == len(self.labels) == len(self.names):
            raise InputError(
                f"{self.source}: {len(self.pixels)} images, {len(self.labels)} labels and {len(self.names)} names; "
                "there must be one label and one name an image"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise InputError(
                f"{self.source}: labels run from {self.labels.min()} to {self.labels.max()}, but there are "
                f"{len(self.class_names)} class names; labels are positions among them"
            )
        if self.masks is not None and self.masks.shape != self.pixels.shape[:3]:
            raise InputError(
                f"{self.source}: masks are {list(self.masks.shape)}, images {list(self.pixels.shape[:3])}; "
                "there must be one mask an image, of its size"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        height, width = self.pixels.shape[1:3]
        return (3 if self.pixels.ndim == 4 else 1), int(height), int(width)

    def counts(self) -> dict[str, int]:
        """Number of images in each class, in the order of `class_names`."""
        numbers = np.bincount(self.labels, minlength=len(self.class_names))
        return {name: int(number) for name, number in zip(self.class_names, numbers, strict=True)}

    def subset(self, indices: Indices) -> ImageSet:
        """The images at `indices`, in that order, with the same class names; their pixels come into memory."""
        return replace(
            self,
            pixels=self.pixels[indices],
            labels=self.labels[indices],
            names=tuple(self.names[i] for i in indices),
            masks=None if self.masks is None else self.masks[indices],
        )

    def fingerprint(self) -> str:
        """A hash of pixels and labels, 16 hex digits: two runs with the same one saw the same data."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(repr((self.shape, self.class_names)).encode())
        for start in range(0, len(self), 4096):  # in blocks, for a memory map never to be read whole
            digest.update(np.ascontiguousarray(self.pixels[start : start + 4096]).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def content_hashes(pixels: NDArray[Any]) -> NDArray[np.uint64]:
    """One number an image, the same for images of equal pixels and (but for 1 chance in 10^8) only for those.

    Args:
        pixels: `[N, ...]`; a memory map is read image by image.

    Returns:
        uint64 `[N]`, from BLAKE2b; about 0.2 s for 70,000 images of 28×28.

    Example:
        >>> first, second, copy = content_hashes(np.array([[[1, 2]], [[3, 4]], [[1, 2]]], np.uint8))
        >>> bool(first == copy), bool(first == second)
        (True, False)
    """
    digests = bytearray(8 * len(pixels))
    for i, image in enumerate(pixels):
        digests[8 * i : 8 * i + 8] = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest()
    return np.frombuffer(digests, np.uint64)


def stratified_split(
    labels: Labels, *, test_fraction: float = 0.2, seed: int = 0, contents: NDArray[np.uint64] | None = None
) -> tuple[Indices, Indices]:
    """Divide images into train and test, class by class, so that no content stands on both sides.

    A class of n images gives `round(test_fraction * n)` of them to the test side, but at least 1 and at most n - 2;
    a class with fewer than three images stays in train. Images of equal content go to one side together, and to
    train where they carry different labels, for the test side to be free of doubtful labels; a class that consists
    of copies can therefore miss its share.

    Args:
        labels: int64 `[N]`.
        test_fraction: the share of the test side, between 0 and 1.
        seed: same labels, contents and seed, same split. Classes are drawn independently of each other.
        contents: uint64 `[N]` from `content_hashes`; without it every image counts as different.

    Returns:
        The positions of the train and of the test images, each ascending; together every image once.

    Raises:
        InputError: `test_fraction` or `seed` is out of range.

    Example:
        >>> train, test = stratified_split(np.array([0] * 5 + [1] * 10))
        >>> len(train), len(test)
        (12, 3)
    """
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction must lie between 0 and 1, not be {test_fraction}")
    _check_seed(seed)
    # A group is named by its first image, so that another image size (other hashes) gives the same split.
    groups = np.arange(len(labels))
    if contents is not None:
        _, first, inverse = np.unique(contents, return_index=True, return_inverse=True)
        groups = first[inverse]
    doubtful = np.zeros(len(labels), bool)
    doubtful[groups[labels != labels[groups]]] = True
    in_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        wanted = min(max(1, round(test_fraction * len(rows))), len(rows) - 2)
        kinds, sizes = np.unique(groups[rows[~doubtful[groups[rows]]]], return_counts=True)
        if wanted < 1 or not len(kinds):
            continue
        order = np.random.default_rng((seed, int(label))).permutation(len(kinds))
        chosen = _filling(sizes[order], wanted)
        if not chosen.any():  # every group is larger than the share: the smallest one that leaves two behind
            smallest = int(np.argmin(sizes[order]))
            chosen[smallest] = len(rows) - sizes[order][smallest] >= 2
        in_test[rows] = np.isin(groups[rows], kinds[order][chosen])
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def at_most_per_class(labels: Labels, most: int, *, seed: int = 0) -> Indices:
    """Positions of at most `most` images a class, drawn with `seed`, ascending.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1])
        >>> labels[at_most_per_class(labels, 2)].tolist()
        [0, 0, 1]
    """
    _check_seed(seed)
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) > most:
            rows = np.random.default_rng((seed, int(label))).permutation(rows)[:most]
        kept.append(rows)
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed must be 0 or a positive whole number, not {seed}")


def _filling(sizes: Indices, wanted: int) -> NDArray[np.bool_]:
    """Which groups to take, in their order, for the sizes to add up to `wanted` or as near below as comes."""
    chosen = np.zeros(len(sizes), bool)
    for i, size in enumerate(sizes):
        if size <= wanted:
            chosen[i] = True
            wanted -= int(size)
            if wanted == 0:
                break
    return chosen
