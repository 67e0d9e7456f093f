"""`ImageSet`: images with labels, names and provenance; splitting them so that no image stands on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
        masks: bool `[N, H, W]`, true where the image departs from its texture, where that is known.

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
        """The images at `indices`, in that order, with the same class names."""
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
