"""Images that come as arrays: `.npz` files, arrays in memory, and scikit-learn's digits."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.data.decoding import TWELVE_BITS
from mekiki.data.image_set import ImageSet, Labels, Pixels
from mekiki.errors import InputError
from mekiki.storage.npz import read_npz

Loaded = tuple[ImageSet, NDArray[np.bool_] | None, list[str]]
"""All images, which of them are test images (`None`: not said), and notes."""

_SHAPES = "[N, H, W], [N, H, W, 1], [N, H, W, 3], [N, 1, H, W] or [N, 3, H, W]"


def load_digits() -> Loaded:
    """scikit-learn's 1,797 digits of 8×8 pixels (UCI Optical Recognition of Handwritten Digits), 0..16 made 0..255.

    Example:
        >>> digits, _, _ = load_digits()
        >>> len(digits), digits.shape, digits.class_names[:2]
        (1797, (1, 8, 8), ('0', '1'))
    """
    from sklearn.datasets import load_digits as published

    bunch = published()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    names = [f"digits/{i}" for i in range(len(pixels))]
    pool = ImageSet(
        pixels, bunch.target.astype(np.int64), tuple("0123456789"), names, "digits (scikit-learn)"
    )
    return pool, None, []


def load_npz(path: Path) -> Loaded:
    """Read `images` or `x` with `labels` or `y`, or `x_train`, `y_train`, `x_test`, `y_test`, from a `.npz` file.

    Raises:
        InputError: the file is damaged, holds Python objects, or lacks these arrays.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mine.npz"
        >>> np.savez(path, images=np.zeros((4, 8, 8), np.uint8), labels=["ok", "ok", "ng", "ng"])
        >>> pool, is_test, notes = load_npz(path)
        >>> pool.counts(), is_test
        ({'ng': 2, 'ok': 2}, None)
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: is no npz file or damaged; save it with numpy.savez")
    arrays = read_npz(path, lambda names: _choose_arrays(path, names))
    sides = list(zip(arrays[::2], arrays[1::2], strict=True))
    return from_arrays(sides, str(path), path.stem)


def _choose_arrays(path: Path, names: Sequence[str]) -> list[str]:
    """Images and labels in turn, of one side or of two."""
    keys = {name.lower(): name for name in names}
    sides = [f"{what}_{side}" for side in ("train", "test") for what in ("x", "y")]
    if set(sides) <= keys.keys():
        return [keys[name] for name in sides]
    images = next((keys[key] for key in ("images", "x") if key in keys), None)
    labels = next((keys[key] for key in ("labels", "y") if key in keys), None)
    if images is None or labels is None:
        raise InputError(
            f"{path}: holds {', '.join(names) or 'nothing'}; save images and labels, or x_train, y_train, x_test and "
            "y_test"
        )
    return [images, labels]


def from_arrays(sides: Sequence[tuple[Any, Any]], source: str, stem: str) -> Loaded:
    """Make one set of `(images, labels)`, or of that for train and for test.

    Args:
        sides: one or two pairs. Images are uint8, uint16, floats or whole numbers, `[N, H, W]` or with channels last
            or first; labels are whole numbers or strings, `[N]`.
        source: for the messages.
        stem: how the names of the images begin.

    Raises:
        InputError: shapes, types or values do not fit.

    Example:
        >>> pool, _, notes = from_arrays([(np.full((2, 4, 4), 0.5), [3, 7])], "two greys", "grey")
        >>> pool.pixels[0, 0, 0], pool.class_names, notes
        (np.uint8(128), ('3', '7'), ['two greys: floats taken to run over 0..1'])
    """
    prefixes = [f"{stem}/"] if len(sides) == 1 else [f"{stem}/train/", f"{stem}/test/"]
    images = [_channels_last(np.asarray(x), source) for x, _ in sides]
    labels = [_plain_labels(y, source) for _, y in sides]
    for x, y in zip(images, labels, strict=True):
        if len(x) != len(y):
            raise InputError(
                f"{source}: {len(x):,} images and {len(y):,} labels; there must be one label an image"
            )
    if len({x.shape[1:] for x in images}) > 1:
        raise InputError(
            f"{source}: train and test images differ in shape: {[list(x.shape[1:]) for x in images]}"
        )
    if len({y.dtype.kind for y in labels}) > 1:
        raise InputError(f"{source}: train and test labels differ in type: {[str(y.dtype) for y in labels]}")
    pixels, notes = _eight_bit(np.concatenate(images), source)
    classes, positions = np.unique(np.concatenate(labels), return_inverse=True)
    names = [f"{prefix}{i}" for prefix, x in zip(prefixes, images, strict=True) for i in range(len(x))]
    pool = ImageSet(
        pixels, positions.astype(np.int64), tuple(str(c) for c in classes.tolist()), names, source
    )
    return pool, np.arange(len(names)) >= len(images[0]) if len(sides) == 2 else None, notes


def _channels_last(x: NDArray[Any], source: str) -> NDArray[Any]:
    if not x.size:
        raise InputError(f"{source}: there are no images")
    if x.ndim == 4 and x.shape[3] not in (1, 3) and x.shape[1] in (1, 3):
        x = np.moveaxis(x, 1, 3)
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] != 3):
        raise InputError(f"{source}: images have shape {list(x.shape)}; give {_SHAPES}")
    return x


def _eight_bit(x: NDArray[Any], source: str) -> tuple[Pixels, list[str]]:
    if x.dtype == np.uint8:
        return x, []
    if x.dtype == bool:
        return x.astype(np.uint8) * np.uint8(255), [f"{source}: true and false taken as white and black"]
    if x.dtype.kind not in "uif":
        raise InputError(
            f"{source}: images are of type {x.dtype}; give uint8, uint16, or floats in 0..1 or 0..255"
        )
    low, high = x.min(), x.max()
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError(f"{source}: some pixel values are not finite; repair or leave out those images")
    if x.dtype == np.uint16 and high > 255:
        notes = [f"{source}: 16-bit values divided by 256"]
        if high <= TWELVE_BITS:
            notes.append(
                f"{source}: no 16-bit value exceeds {high} of 65,535 (a 12-bit camera?), so images will be dark; "
                "scale them first"
            )
        return (x // 256).astype(np.uint8), notes
    if low < 0 or high > 255:
        raise InputError(
            f"{source}: pixel values run from {low:g} to {high:g}; scale them to 0..255 as uint8, or to 0..1 as floats"
        )
    if x.dtype.kind == "f":
        if high <= 1:
            return np.rint(x * 255).astype(np.uint8), [f"{source}: floats taken to run over 0..1"]
        return np.rint(x).astype(np.uint8), [f"{source}: floats taken to run over 0..255"]
    return x.astype(np.uint8), [f"{source}: {x.dtype} values taken to run over 0..255"]


def _plain_labels(y: Any, source: str) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(
            f"{source}: labels have shape {list(labels.shape)}; give one number or string an image, [N]"
        )
    if labels.dtype.kind == "O":
        if not all(isinstance(label, str) for label in labels):
            raise InputError(
                f"{source}: labels are mixed or missing; give all as whole numbers or all as strings"
            )
        labels = labels.astype(str)
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{source}: labels are bytes that are no UTF-8; save them as strings") from None
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            bad = int((~np.isfinite(labels)).sum())
            raise InputError(f"{source}: {bad:,} of {len(labels):,} labels are NaN; leave those images out")
        fractions = labels[labels != np.rint(labels)]
        if len(fractions):
            raise InputError(
                f"{source}: labels are fractions such as {fractions[0]:g}; give whole numbers or strings"
            )
    if labels.dtype.kind in "fuib":
        whole: Labels = labels.astype(np.int64)
        return whole
    if labels.dtype.kind != "U":
        raise InputError(f"{source}: labels are of type {labels.dtype}; give whole numbers or strings")
    return labels
