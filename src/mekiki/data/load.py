"""`load_images`: images from published sets, generated surfaces, folders and arrays, as an `ImageSplit`."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.arrays import Loaded, from_arrays, load_digits, load_npz
from mekiki.data.catalogue import NAMES
from mekiki.data.decoding import choose_size, decode, has_colour, resize_images
from mekiki.data.folders import load_folder
from mekiki.data.idx import SOURCES, load_idx
from mekiki.data.image_set import ImageSet, Pixels
from mekiki.data.splits import ImageSplit, SplitPolicy, split_pool
from mekiki.data.surfaces import generate_surfaces
from mekiki.errors import DataWarning, InputError, count_noun, nearest

_REFERENCE = re.compile(rf"({'|'.join(NAMES)}):(train|test):(\d+)")


def load_images(
    spec: Any,
    *,
    root: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    per_class: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    resplit: bool = False,
    least_classes: int = 2,
    progress: Progress = silent,
) -> ImageSplit:
    """Load images with labels, split so that no image is on both sides.

    Args:
        spec: a name in `NAMES`; a folder with a sub-folder per class, with `train/` and `test/`, or in the MVTec
            layout; a `.npz` file; `(images, labels)` or `((images, labels), (test_images, test_labels))`.
        root: where the files of a published set are, if not in `$MEKIKI_DATA` or the cache.
        size: one side or `(height, width)` in pixels; `None` keeps a common size up to 128 px, and squeezes anything
            else to 64×64.
        channels: 1 for grey, 3 for RGB; `None` gives RGB if any image has colour.
        per_class: at most that many images a class and side; for `surfaces`, how many to make of each class.
        test_fraction: share of each class to test on, where the source brings no sides; 1 tests on every image.
        seed: of the split, of the choice of `per_class`, and of generated surfaces.
        resplit: pool the sides a source brings and split again.
        least_classes: how many classes the training side must have; 1 takes the MVTec layout as it is, with good
            images only to learn from.
        progress: called for downloading and decoding.

    Returns:
        Train and test set; unpacks as `train, test`. Its notes are also given as `DataWarning`.

    Raises:
        InputError: one line that says what cannot be used, where, and what to do.

    Example:
        >>> train, test = load_images("digits")
        >>> len(train), len(test), train.shape
        (1438, 359, (1, 8, 8))
    """
    policy = SplitPolicy(test_fraction, seed, resplit, per_class, least_classes)
    asked = _size(size)
    if channels not in (None, 1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (RGB), not {channels}")
    folder = None if root is None else Path(root).expanduser()
    if isinstance(spec, str | os.PathLike) and _is_folder(spec):
        split = load_folder(Path(spec).expanduser(), policy, size=asked, channels=channels, progress=progress)
    else:
        pool, is_test, notes = _load_pool(spec, folder, asked, policy, progress)
        if spec == "surfaces":
            policy = replace(policy, per_class=None)
        split = _split_arrays(pool, is_test, notes, policy, asked, channels)
    for note in split.notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    return split


def load_one(
    path_or_reference: str | Path,
    *,
    size: int | tuple[int, int],
    channels: int,
    root: str | Path | None = None,
) -> Pixels:
    """One image as a trained model wants it.

    Args:
        path_or_reference: an image file, or `SET:SIDE:INDEX` such as `mnist:test:12`, counted from 0 in the published
            order, or for `digits` and `surfaces` in the order of `load_images` with its defaults.
        size: one side or `(height, width)`.
        channels: 1 or 3.
        root: where the files of a published set are, if not in `$MEKIKI_DATA` or the cache.

    Returns:
        uint8 `[H, W]` or `[H, W, 3]`.

    Raises:
        InputError: there is no such image, or it cannot be read.

    Example:
        >>> load_one("digits:train:3", size=(8, 8), channels=1).shape
        (8, 8)
    """
    height_width = _size(size) or (0, 0)
    text = os.fspath(path_or_reference)
    match = _REFERENCE.fullmatch(text)
    path = Path(text).expanduser()
    if match is None or path.exists():
        if not path.is_file():
            raise InputError(
                f"{text}: no such image file; give a file, or a reference such as mnist:test:12 or digits:train:3"
            )
        return decode(path, height_width, channels).pixels
    name, side, index = match[1], match[2], int(match[3])
    if name in SOURCES:
        pool, in_test = load_idx(name, None if root is None else Path(root).expanduser())
        images = pool.subset(np.flatnonzero(in_test == (side == "test"))[index : index + 1])
    else:
        split = load_images(name, size=None if name == "digits" else height_width)
        chosen = split.train if side == "train" else split.test
        images = chosen.subset(np.arange(len(chosen))[index : index + 1])
    if not len(images):
        raise InputError(f"{text}: the {side} side of {name} has no image {index}; count from 0")
    pixels: Pixels = resize_images(images.pixels, height_width, channels)[0]
    return pixels


def _load_pool(
    spec: Any, root: Path | None, size: tuple[int, int] | None, policy: SplitPolicy, progress: Progress
) -> Loaded:
    if isinstance(spec, tuple | list):
        return _load_arrays(spec)
    if not isinstance(spec, str | os.PathLike):
        raise InputError(
            f"images cannot be loaded from a {type(spec).__name__}; give a name ({', '.join(NAMES)}), a folder, a .npz "
            "file or (images, labels)"
        )
    name = os.fspath(spec)
    if name in SOURCES:
        return *load_idx(name, root, progress=progress), []
    if name == "digits":
        return load_digits()
    if name == "surfaces":
        return generate_surfaces(size, per_class=policy.per_class, seed=policy.seed), None, []
    path = Path(name).expanduser()
    if not path.exists():
        raise InputError(
            f"{name!r} is no known data set and no such path exists; give {', '.join(NAMES)}, a folder or a .npz file"
            f"{nearest(name, NAMES)}"
        )
    if path.suffix.lower() != ".npz":
        raise InputError(f"{name}: is a file; give a folder with a sub-folder per class, or a .npz file")
    return load_npz(path)


def _load_arrays(spec: Sequence[Any]) -> Loaded:
    if len(spec) != 2:
        raise InputError(
            f"arrays: got {count_noun(len(spec), 'part')}; give (images, labels), or that for train and test"
        )
    nested = all(isinstance(side, tuple | list) and len(side) == 2 and np.ndim(side[0]) >= 3 for side in spec)
    sides = [(side[0], side[1]) for side in spec] if nested else [(spec[0], spec[1])]
    return from_arrays(sides, "arrays", "arrays")


def _split_arrays(
    pool: ImageSet,
    is_test: NDArray[np.bool_] | None,
    notes: list[str],
    policy: SplitPolicy,
    size: tuple[int, int] | None,
    channels: int | None,
) -> ImageSplit:
    """Split what is in memory first, for `per_class` to save resizing, then bring it to size and channels."""
    height, width = pool.shape[1:]
    target, size_notes = choose_size({(height, width)}, size)
    notes = [*notes, *size_notes]
    if target[0] > height or target[1] > width:
        notes.append(
            f"images of {height}×{width} px are enlarged to {target[0]}×{target[1]} px, which adds no detail"
        )
    coloured = pool.pixels.ndim == 4 and (channels == 3 or (channels is None and has_colour(pool.pixels)))
    wanted = channels or (3 if coloured else 1)
    train, test = (split := split_pool(pool, is_test, policy, notes))
    return ImageSplit(_brought_to(train, target, wanted), _brought_to(test, target, wanted), split.notes)


def _brought_to(images: ImageSet, size: tuple[int, int], channels: int) -> ImageSet:
    pixels = resize_images(images.pixels, size, channels)
    return images if pixels is images.pixels else replace(images, pixels=pixels)


def _is_folder(spec: str | os.PathLike[str]) -> bool:
    return os.fspath(spec) not in NAMES and Path(spec).expanduser().is_dir()


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int | np.integer) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int | np.integer) and 1 <= side <= 4096 for side in pair):
        raise InputError(f"size must be one side or (height, width), each 1 to 4096 pixels, not {size}")
    return int(pair[0]), int(pair[1])
