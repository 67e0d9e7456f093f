"""Checks of the settings and the input of an embedder; each error says which values can be used."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from mekiki.errors import InputError, name_some, not_known
from mekiki.models.networks import ENCODERS
from mekiki.models.pretrained_folder import PREFIX, split_name
from mekiki.models.sampling import SingletonClassError
from mekiki.training.augment import augmentation
from mekiki.training.objectives import check_loss
from mekiki.training.schedules import schedule

if TYPE_CHECKING:
    from mekiki.embedder.estimator import Embedder

MOST_DIM = 16_384
DEVICES = ("auto", "cpu", "cuda", "mps")
NEED_PAIRS = ("contrastive", "triplet")
"""Losses that pair each example with another of its class."""


def check_settings(embedder: Embedder) -> None:
    """Check the settings without any data.

    Raises:
        InputError: one of them cannot be used.
    """
    for name, least in (("dim", 1), ("epochs", 1), ("batch_size", 2)):
        value = getattr(embedder, name)
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    if embedder.dim > MOST_DIM:
        raise InputError(f"dim must be at most {MOST_DIM:,}, not {embedder.dim}")
    seed = embedder.random_state
    if isinstance(seed, int | np.integer) and not 0 <= seed < 2**32:
        raise InputError(f"the seed must lie between 0 and {2**32 - 1}, not be {seed}")
    for name in ("margin", "lr"):
        value = getattr(embedder, name)
        if not isinstance(value, int | float | np.floating) or not 0 < value < math.inf:
            raise InputError(f"{name} must be a number above 0, not {value!r}")
    _check_encoder(embedder)
    check_loss(embedder.loss, embedder.loss_options)
    try:
        json.dumps(embedder.identity())
    except TypeError:
        raise InputError(
            f"loss_options must be plain numbers, words and truth values, not {embedder.loss_options!r}: "
            "they are saved as JSON"
        ) from None
    schedule(embedder.schedule)
    if embedder.device not in DEVICES:
        raise InputError(f"device must be auto, cpu, cuda or mps, not {embedder.device!r}")


def _check_encoder(embedder: Embedder) -> None:
    encoder, fine_tune = embedder.encoder, embedder.fine_tune
    pretrained = isinstance(encoder, str) and encoder.startswith(PREFIX)
    if pretrained:
        split_name(encoder)
    elif encoder not in ENCODERS:
        raise not_known("encoder", encoder, ENCODERS, also=f", {PREFIX}NAME or {PREFIX}FOLDER")
    if not isinstance(fine_tune, bool | np.bool_):
        raise InputError(f"fine_tune must be true or false, not {fine_tune!r}")
    if fine_tune and not pretrained:
        raise InputError(
            f"fine_tune goes with an encoder that is pretrained ({PREFIX}NAME_OR_FOLDER); {encoder!r} is always "
            "trained from the beginning, so leave it out"
        )
    if augmentation(embedder.augment) is not None and pretrained and not fine_tune:
        raise InputError(
            f"augment={embedder.augment!r} changes images each time they are used, and the frozen network of encoder "
            f"{encoder!r} reads them once; leave the augmentation out (--augment none), or fine-tune the network "
            "(--fine-tune)"
        )


def check_training(embedder: Embedder, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Check training examples and labels; sets `input_shape_`, `stored_dtype_` and `n_features_in_`.

    Returns:
        The examples as they are stored, and the labels `[N]`.

    Raises:
        InputError: they cannot be used.
    """
    if y is None:
        raise InputError("Embedder requires y to be passed, but the target y is None: it learns from labels")
    if (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) <= 2:
        stored, labels = validate_data(embedder, X, y, dtype=[np.float32, np.uint8], ensure_min_samples=2)
        embedder.input_shape_ = (stored.shape[1],)
    else:
        stored = check_images(X)
        labels = column_or_1d(np.asarray(y), warn=True)
        check_consistent_length(stored, labels)
        embedder.input_shape_ = image_shape(stored)
        embedder.n_features_in_ = math.prod(embedder.input_shape_)
    if embedder.encoder.startswith(PREFIX) and (stored.ndim == 2 or stored.dtype != np.uint8):
        raise InputError(
            f"encoder {embedder.encoder!r} takes photographs, uint8 [N, H, W] or [N, H, W, 3], and {stored.dtype} "
            f"{list(stored.shape)} was given; use encoder 'mlp' for rows of features, and values 0…255 for images"
        )
    if augmentation(embedder.augment) is not None and stored.ndim == 2:
        raise InputError(
            f"augment={embedder.augment!r} needs images [N, H, W] or [N, H, W, 3], and rows of features were given; "
            "leave it out"
        )
    check_classification_targets(labels)
    embedder.stored_dtype_ = stored.dtype.name
    return stored, labels


def check_classes(loss: str, classes: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """Check that a loss can learn from classes with so many examples each.

    Raises:
        InputError: there is one class only.
        SingletonClassError: a class has one example and the loss needs pairs of it.
    """
    if len(classes) < 2:
        raise InputError(
            f"only one class ({classes[0]!r}) in y; an embedding is learnt from at least two classes"
        )
    if loss in NEED_PAIRS and counts.min() < 2:
        single = [str(label) for label in classes[counts < 2]]
        raise SingletonClassError(
            f"{len(single)} of {len(counts)} classes have only one example, so no pair can be made of them "
            f"({name_some(single)}): add examples, or leave these classes out"
        )


def check_input(embedder: Embedder, X: ArrayLike) -> NDArray[Any]:
    """Check examples for a fitted embedder.

    Raises:
        InputError: they are of another shape or kind than the training examples.
    """
    shape, dtype = embedder.input_shape_, embedder.stored_dtype_
    if len(shape) == 1:
        rows: NDArray[Any] = validate_data(embedder, X, dtype=[np.float32, np.uint8], reset=False)
        return rows.astype(dtype, copy=False) if dtype != "uint8" else rows
    stored = check_images(X)
    if stored.dtype.name != dtype:
        raise InputError(
            f"images of {stored.dtype} were given; this embedder learnt from {dtype} "
            f"({'0…255' if dtype == 'uint8' else 'numbers of your own scale'}): give the same kind"
        )
    channels, height, width = image_shape(stored)
    if (channels, height, width) != shape:
        raise InputError(
            f"images of {height}×{width} pixels and {channels} channel(s) were given; this embedder takes "
            f"{shape[1]}×{shape[2]} and {shape[0]}: resize them first"
        )
    return stored


def check_images(X: ArrayLike) -> NDArray[Any]:
    """Images `[N, H, W]` or `[N, H, W, 3]`: uint8 as they are, other numbers as float32.

    Raises:
        InputError: they are none.
    """
    images = X if isinstance(X, np.ndarray) else np.asarray(X)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise InputError(f"images must be [N, H, W] or [N, H, W, 3], not {list(images.shape)}")
    if len(images) == 0:
        raise InputError("no images: 0 were given")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.number) or np.iscomplexobj(images):
        raise InputError(f"images must be numbers, not {images.dtype}")
    images = images.astype(np.float32)
    bad = int((~np.isfinite(images)).sum())
    if bad:
        raise InputError(f"images hold {bad} values that are NaN or infinite")
    return images


def image_shape(images: NDArray[Any]) -> tuple[int, int, int]:
    """Channels, height and width of `[N, H, W]` or `[N, H, W, 3]`."""
    channels = images.shape[3] if images.ndim == 4 else 1
    return channels, images.shape[1], images.shape[2]
