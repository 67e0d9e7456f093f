"""Vectors to project: from a trained run, the examples of a judge, the cases, or a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin

from mekiki.cases.case import Cases
from mekiki.cases.store import Store
from mekiki.data.image_set import ImageSet, Pixels
from mekiki.embedder import Embedder
from mekiki.errors import InputError, MekikiError
from mekiki.experiments.request import DataRequest
from mekiki.judging.judge_photos import Inspector
from mekiki.report.thumbnails import shrink
from mekiki.storage.training_run import Run
from mekiki.storage.vector_table import read_vectors
from mekiki.web.wire import encode_png

Vectors = NDArray[np.float32]
PICTURE_SIZE = 256
"""Pixels of the longer side of a picture."""


@dataclass(frozen=True, eq=False)
class MapTable:
    """Vectors and what is known of each.

    Attributes:
        title: for people.
        vectors: float32 `[N, d]`.
        ids: of the points.
        names: for people.
        labels: empty for unknown.
        verdict: uint8 `[N]`, index into `verdicts`.
        verdicts: names of verdicts.
        distance: float32 `[N]`, NaN where unknown.
        distance_name: what the distance is.
        facts: returns further text of a row.
        picture: returns the PNG of a row.
        pixels: returns what a row adds to the cases: pixels, or `None` for the file of its name.
    """

    title: str
    vectors: Vectors
    ids: Sequence[str]
    names: Sequence[str]
    labels: Sequence[str]
    verdict: NDArray[np.uint8]
    verdicts: Sequence[str]
    distance: NDArray[np.float32]
    distance_name: str
    facts: Callable[[int], dict[str, str]] = lambda row: {}
    picture: Callable[[int], bytes | None] | None = None
    pixels: Callable[[int], Pixels | None] | None = None


def run_table(folder: Path) -> MapTable:
    """Return the training images of a trained run."""
    run = Run(folder).open()
    embedder, about = Embedder.load(run.folder), run.config()["about"]
    codes = embedder.classes_[embedder.reference_labels_]
    labels = [str(about["class_names"][int(code)]) for code in codes]
    images = _TrainingImages(about["data"])
    vectors = embedder.reference_vectors_
    right, distance = compare_with_centres(vectors, embedder.reference_labels_)
    rows = [str(row) for row in range(len(vectors))]
    return MapTable(
        f"{folder.name}: training images",
        vectors,
        rows,
        rows,
        labels,
        np.where(right, 1, 2).astype(np.uint8),
        ("", "right", "wrong"),
        distance,
        "distance from the centre of its class",
        lambda row: {"image": images.name(row)},
        images.png,
        images.pixels,
    )


class _TrainingImages:
    """The training images of a run, loaded when the first one is needed."""

    def __init__(self, data: object) -> None:
        self._data = data

    @cached_property
    def _images(self) -> ImageSet:
        if not isinstance(self._data, dict):
            raise InputError("the run does not record where its images are")
        request = DataRequest.of_run(self._data)
        images = request.load().train
        if images.fingerprint() != self._data["fingerprint"]["train"]:
            raise InputError(f"{request.spec}: its content has changed since the training")
        return images

    def pixels(self, row: int) -> Pixels:
        return np.array(self._images.pixels[row])

    def png(self, row: int) -> bytes:
        return encode_png(shrink(self.pixels(row), PICTURE_SIZE))

    def name(self, row: int) -> str:
        try:
            return self._images.names[row]
        except MekikiError as error:
            return f"not available: {error}"


def judge_table(inspector: Inspector) -> MapTable:
    """Return the examples of a calibrated judge, in the directions of largest variance."""
    examples = inspector.references
    return MapTable(
        "Examples of the judge",
        examples.vectors,
        examples.names,
        examples.names,
        examples.labels,
        np.where(examples.ng, 2, 1).astype(np.uint8),
        ("", "OK", "NG"),
        distance_from_mean(examples.vectors, ~examples.ng),
        "distance from the mean of the OK parts",
        picture=lambda row: encode_png(examples.thumbnail(row)),
        pixels=lambda row: None,
    )


def case_table(store: Store, *, calibrated: bool) -> MapTable:
    """Return the stored cases."""
    parts = list(store.read(thumbnails=False))
    if not parts:
        raise InputError(f"{store.place}: holds no cases yet")
    cases = Cases.concat(parts)
    ids = cases.ids
    cases = cases.rows(sorted(range(len(ids)), key=ids.__getitem__))
    ids, labels, vectors = cases.ids, cases.texts("label"), cases.vectors
    images, notes = cases.texts("image"), cases.texts("note")
    ok = np.array([label == "OK" for label in labels])
    known = np.array([bool(label) for label in labels])
    verdict = np.where(ok, 1, np.where(known, 2, 0)) if calibrated else np.zeros(len(ids))

    def facts(row: int) -> dict[str, str]:
        case = cases[row].to_dict()
        return {name: str(case[name]) for name in ("image", "who", "time", "run")} | {"note": notes[row]}

    def picture(row: int) -> bytes | None:
        return next((case.thumbnail or None for case in store.get([ids[row]])), None)

    return MapTable(
        "Cases",
        vectors,
        ids,
        [Path(image).name or id_ for image, id_ in zip(images, ids, strict=True)],
        labels,
        verdict.astype(np.uint8),
        ("", "OK", "NG"),
        distance_from_mean(vectors, ok) if calibrated else np.full(len(ids), np.nan, np.float32),
        "distance from the mean of the OK parts",
        facts,
        picture,
    )


def vector_table(path: Path) -> MapTable:
    """Return the vectors of a file."""
    table = read_vectors(path)
    codes = np.unique(np.array(table.labels, dtype=object).astype(str), return_inverse=True)[1]
    labelled = any(table.labels)
    right, distance = compare_with_centres(table.vectors, codes)
    if not labelled:
        distance = np.full(len(table.vectors), np.nan, np.float32)
    return MapTable(
        path.name,
        np.asarray(table.vectors, np.float32),
        table.names,
        table.names,
        table.labels,
        np.where(right, 1, 2).astype(np.uint8) if labelled else np.zeros(len(table.vectors), np.uint8),
        ("", "right", "wrong"),
        distance,
        "distance from the centre of its class",
    )


def compare_with_centres(
    vectors: Vectors, codes: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return whether the nearest class centre is the own one, bool `[N]`, and the distance to the own, `[N]`."""
    if not len(vectors):
        return np.zeros(0, bool), np.zeros(0, np.float32)
    counts = np.maximum(np.bincount(codes), 1)
    centres = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(centres, codes, vectors.astype(np.float64))
    centres /= counts[:, None]
    distance = np.linalg.norm(vectors - centres[codes], axis=1).astype(np.float32)
    return pairwise_distances_argmin(vectors, centres) == codes, distance


def distance_from_mean(vectors: Vectors, ok: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distances `[N]` from the mean of the OK vectors; NaN without any."""
    if not ok.any():
        return np.full(len(vectors), np.nan, np.float32)
    distance: NDArray[np.float32] = np.linalg.norm(vectors - vectors[ok].mean(axis=0), axis=1)
    return distance.astype(np.float32)
