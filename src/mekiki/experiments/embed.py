"""Vectors of images by a finished run, and the distance of two of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.catalogue import NAMES
from mekiki.data.load import load_one
from mekiki.data.remote import RemoteStream, is_url
from mekiki.data.streaming import iter_images
from mekiki.embedder import Distance, Embedder
from mekiki.errors import InputError
from mekiki.experiments.request import DataRequest
from mekiki.models.networks import block_length
from mekiki.storage.training_run import Run
from mekiki.storage.vector_table import VectorTable, check_suffix, write_vectors


def embed_images(
    folder: Path, data: str, output: Path, *, root: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Write the vectors of images to a file.

    Args:
        folder: the run.
        data: an image file, a folder of images at any depth (without labels), a URL of either that fsspec knows, or a
            data set by name or `.npz`, of which train and test sides are embedded with their labels.
        output: a `.npz`, `.parquet` or `.csv` file.
        root: folder of a named data set.
        progress: called during long steps.

    Returns:
        `n`, `dim`, `output` and `notes`.
    """
    check_suffix(output)
    embedder, (channels, height, width) = load_image_embedder(folder)
    names: list[str] = []
    labels: list[str] = []
    parts: list[NDArray[np.float32]] = []
    if is_url(data) or (data not in NAMES and Path(data).suffix.lower() != ".npz"):
        options: dict[str, Any] = {
            "size": (height, width),
            "channels": channels,
            "batch": block_length(embedder.encoder_),  # the network's own, so that no block is padded
            "progress": progress,
        }
        stream = RemoteStream(data, **options) if is_url(data) else iter_images(Path(data), **options)
        for pixels, block_names in stream:
            parts.append(embedder.transform(pixels))
            names += block_names
        notes = list(stream.notes)
        labels = [""] * len(names)
    else:
        # Both sides in one, for nothing is learnt here.
        request = DataRequest(
            data, str(root) if root else None, (height, width), channels, test_fraction=1, resplit=True
        )
        split = request.load(progress)
        notes, images = list(split.notes), split.test
        parts.append(embedder.transform(images.pixels, progress))
        names += images.names
        labels = [images.class_names[label] for label in images.labels]
    if not names:
        raise InputError(f"{data}: no image could be read")
    vectors = np.concatenate(parts)
    write_vectors(output, VectorTable(vectors, names, labels))
    return {"n": len(vectors), "dim": vectors.shape[1], "output": str(output), "notes": notes}


def measure_distance(folder: Path, a: str, b: str, *, root: Path | None = None) -> Distance:
    """The distance of two images in the embedding of a run.

    Args:
        folder: the run.
        a: an image file, or one of a data set: `mnist:test:12`.
        b: the other.
        root: folder of a named data set.
    """
    embedder, (channels, height, width) = load_image_embedder(folder)
    return embedder.distance(
        *(load_one(image, size=(height, width), channels=channels, root=root) for image in (a, b))
    )


def load_image_embedder(folder: Path) -> tuple[Embedder, tuple[int, int, int]]:
    """The embedder of a finished run, and channels, height and width of its images.

    Raises:
        InputError: there is no such run, or it was not trained on images.
    """
    embedder = Embedder.load(Run(folder).open().folder)
    if len(embedder.input_shape_) != 3:
        raise InputError(f"{folder}: was trained on {embedder.input_shape_[0]} features, not on images")
    channels, height, width = embedder.input_shape_
    return embedder, (channels, height, width)
