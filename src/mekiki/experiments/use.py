"""What a finished run is used for: measuring again, vectors of images, distances, the doctor's view."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mekiki.console import Progress, silent
from mekiki.data.catalogue import NAMES
from mekiki.data.image_set import content_hashes
from mekiki.data.load import load_one
from mekiki.data.remote import RemoteStream, is_url
from mekiki.data.streaming import iter_images
from mekiki.embedder import Distance, Embedder
from mekiki.errors import DataWarning, InputError
from mekiki.evaluation.summary import evaluate
from mekiki.experiments.draw import Vectors
from mekiki.experiments.request import DataRequest
from mekiki.models.networks import block_length
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.run import Run, folder_name
from mekiki.storage.vector_table import VectorTable, check_suffix, write_vectors
from mekiki.training.checkpoints import read_checkpoint
from mekiki.training.collapse import diagnose, is_collapsed


def evaluate_run(
    folder: Path, request: DataRequest | None = None, *, progress: Progress = silent
) -> dict[str, Any]:
    """Measure a run on its own test images, or on others, and keep the numbers in the run folder.

    Other images are matched to the run's classes by name; those of a class that the run does not know are measured
    too, and a `DataWarning` names them. Images that the run learnt from are left out, which a `DataWarning` counts.

    Returns:
        The numbers, also written to `evaluation.json` (own images) or `evaluation-<name>.json`.
    """
    run = Run(folder).open()
    config, embedder = run.config(), Embedder.load(run.folder)
    about = config["about"]
    own = request is None
    if request is None:
        request = DataRequest.of_run(about["data"])
    channels, height, width = _image_shape(folder, embedder)
    test = replace(request, size=(height, width), channels=channels).load(progress).test
    if own:
        if test.fingerprint() != about["data"]["fingerprint"]["test"]:
            _note("the images are not those the run was made from: their content has changed since")
    else:
        learnt = np.isin(content_hashes(test.pixels), embedder.reference_contents_)
        if learnt.all():
            raise InputError(f"{request.spec}: the run learnt from every one of these images; give others")
        if learnt.any():
            _note(f"{learnt.sum():,} of {len(test):,} images left out, since the run learnt from them")
            test = test.subset(np.flatnonzero(~learnt))
    names = np.array(about["class_names"], dtype=object)
    vectors = embedder.transform(test.pixels, progress)
    labels = np.array(test.class_names, dtype=object)[test.labels].astype(str)
    reference = names[embedder.classes_[embedder.reference_labels_]].astype(str)
    evaluation = evaluate(vectors, labels, (embedder.reference_vectors_, reference))
    for note in evaluation.notes:
        _note(note)
    metrics: dict[str, Any] = finite(
        evaluation.to_dict()
        | {"data": request.spec, "data_fingerprint": {"test": test.fingerprint()}, "n_test": len(test)}
    )
    name = "evaluation" if own else f"evaluation-{folder_name(request.spec)}"
    write_json(run.folder / f"{name}.json", metrics)
    return metrics | {"file": str(run.folder / f"{name}.json")}


def embed_images(
    folder: Path, data: str, output: Path, *, root: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Write the vectors of images to a file.

    Args:
        folder: the run.
        data: an image file, a folder of images at any depth (labels are not looked for), a URL of either that fsspec
            knows, or a data set by name or `.npz`, whose train and test sides both are embedded with their labels.
        output: a `.npz`, `.parquet` or `.csv` file.
        root: where a named data set lies.
        progress: called during long steps.

    Returns:
        `n`, `dim`, `output` and `notes`.
    """
    check_suffix(output)
    embedder = Embedder.load(Run(folder).open().folder)
    channels, height, width = _image_shape(folder, embedder)
    names: list[str] = []
    labels: list[str] = []
    parts: list[Vectors] = []
    notes: list[str] = []
    path = Path(data)
    if is_url(data) or (data not in NAMES and path.suffix.lower() != ".npz"):
        block = block_length(embedder.encoder_)  # a whole number of the network's, so that none is padded
        seen_as: dict[str, Any] = {
            "size": (height, width),
            "channels": channels,
            "batch": block,
            "progress": progress,
        }
        stream = RemoteStream(data, **seen_as) if is_url(data) else iter_images(path, **seen_as)
        for pixels, block_names in stream:
            parts.append(embedder.transform(pixels))
            names += block_names
        notes += stream.notes
        labels = [""] * len(names)
    else:
        # Every image, on whichever side: nothing is learnt here, so nothing needs to be kept apart.
        everything = DataRequest(
            data, str(root) if root else None, (height, width), channels, test_fraction=1, resplit=True
        )
        split = everything.load(progress)
        notes += split.notes
        images = split.test
        parts.append(embedder.transform(images.pixels, progress))
        names += images.names
        labels += [images.class_names[label] for label in images.labels]
    if not names:
        raise InputError(f"{data}: no image could be read")
    vectors = np.concatenate(parts)
    write_vectors(output, VectorTable(vectors, names, labels))
    return {"n": len(vectors), "dim": vectors.shape[1], "output": str(output), "notes": notes}


def distance_of(folder: Path, a: str, b: str, *, root: Path | None = None) -> Distance:
    """How far two images lie apart in the embedding of a run.

    Args:
        folder: the run.
        a: an image file, or one of a data set: `mnist:test:12`.
        b: the other.
        root: where a named data set lies.
    """
    embedder = Embedder.load(Run(folder).open().folder)
    channels, height, width = _image_shape(folder, embedder)
    one, two = (load_one(image, size=(height, width), channels=channels, root=root) for image in (a, b))
    return embedder.distance(one, two)


def examine(folder: Path) -> dict[str, Any]:
    """What the collapse doctor sees in a run, finished or not: `findings`, `collapsed`, `epochs` and `history`."""
    run = Run(folder)
    if run.checkpoint.is_file() and not run.complete:
        checkpoint = read_checkpoint(run.checkpoint, tensors=False)
        history, findings = checkpoint.history, diagnose(checkpoint.history, **checkpoint.settings["doctor"])
    else:
        embedder = Embedder.load(run.open().folder)
        history, findings = embedder.history_, embedder.findings_
    content: dict[str, Any] = finite(
        {
            "run": str(folder),
            "complete": run.complete,
            "epochs": len(history["epoch"]),
            "collapsed": is_collapsed(findings),
            "findings": [vars(finding) for finding in findings],
            "history": history,
        }
    )
    return content


def _image_shape(folder: Path, embedder: Embedder) -> tuple[int, int, int]:
    if len(embedder.input_shape_) != 3:
        raise InputError(f"{folder}: was trained on {embedder.input_shape_[0]} features, not on images")
    channels, height, width = embedder.input_shape_
    return channels, height, width


def _note(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)
