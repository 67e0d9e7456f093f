"""Where the points of maps come from: a trained run, a judge's examples, cases, or a file of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import Cases
from mekiki.cases.store import Store
from mekiki.data.image_set import Pixels
from mekiki.data.splits import ImageSplit
from mekiki.embedder import Embedder
from mekiki.errors import InputError, MekikiError
from mekiki.experiments.request import DataRequest
from mekiki.judging.inspector import Inspector
from mekiki.report.thumbnails import shrink
from mekiki.storage.run import Run
from mekiki.storage.vector_table import read_vectors
from mekiki.web.state import as_png

Vectors = NDArray[np.float32]
SHOWN = 256
"""Pixels on the longer side of a picture."""
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Table:
    """Vectors and what there is to say of each.

    Attributes:
        title: for people.
        vectors: float32 `[N, d]`.
        ids: by which each is known.
        names: what each is called.
        labels: of each, empty for unknown.
        verdict: uint8 `[N]`, positions in `verdicts`.
        verdicts: names of verdicts.
        distance: float32 `[N]`, NaN where unknown.
        distance_name: what it is.
        facts: more about a row.
        picture: PNG of a row.
        picked: what to send to the cases: pixels, or `None` for the file of that name.
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
    facts: Callable[[int], dict[str, str]]
    picture: Callable[[int], bytes | None] | None = None
    picked: Callable[[int], Pixels | None] | None = None


def run_table(folder: Path) -> Table:
    """The training images of a trained run."""
    run = Run(folder).open()
    embedder, about = Embedder.load(run.folder), run.config()["about"]
    names = about["class_names"]
    codes = embedder.classes_[embedder.reference_labels_]
    labels = [str(names[int(code)]) for code in codes]
    images = _Images(about)
    vectors = embedder.reference_vectors_
    right, distance = _to_centres(vectors, embedder.reference_labels_)
    rows = [str(row) for row in range(len(vectors))]
    return Table(
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


class _Images:
    """The training images of a run, read when the first is asked for."""

    def __init__(self, about: dict[str, object]) -> None:
        self._kept = about["data"]

    @cached_property
    def _split(self) -> ImageSplit:
        kept = self._kept
        if not isinstance(kept, dict):
            raise InputError("the run does not say where its images are")
        request = DataRequest.of_run(kept)
        split = request.load()
        if split.train.fingerprint() != kept["fingerprint"]["train"]:
            raise InputError(
                f"{request.spec}: is not what the run was made from; its content has changed since"
            )
        return split

    def pixels(self, row: int) -> Pixels:
        return np.array(self._split.train.pixels[row])

    def png(self, row: int) -> bytes:
        return as_png(shrink(self.pixels(row), SHOWN))

    def name(self, row: int) -> str:
        try:
            return self._split.train.names[row]
        except MekikiError as error:
            return f"not to be had: {error}"


def judge_table(inspector: Inspector) -> Table:
    """The examples of a calibrated judge, in the directions in which they differ most."""
    examples = inspector.examples
    return Table(
        "Examples of the judge",
        examples.vectors,
        examples.names,
        examples.names,
        examples.kinds,
        np.where(examples.ng, 2, 1).astype(np.uint8),
        ("", "OK", "NG"),
        _from_middle(examples.vectors, ~examples.ng),
        "distance from the middle of the OK parts",
        lambda row: {},
        lambda row: as_png(examples.thumbnail(row)),
        lambda row: None,
    )


def case_table(store: Store, *, calibrated: bool) -> Table:
    """The cases that are remembered."""
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
        one = cases[row].to_dict()
        return {name: str(one[name]) for name in ("image", "who", "time", "run")} | {"note": notes[row]}

    def picture(row: int) -> bytes | None:
        return next((case.thumbnail or None for case in store.get([ids[row]])), None)

    return Table(
        "Cases",
        vectors,
        ids,
        [Path(image).name or id_ for image, id_ in zip(images, ids, strict=True)],
        labels,
        verdict.astype(np.uint8),
        ("", "OK", "NG"),
        _from_middle(vectors, ok) if calibrated else np.full(len(ids), np.nan, np.float32),
        "distance from the middle of the OK parts",
        facts,
        picture,
    )


def vector_table(path: Path) -> Table:
    """Somebody's own vectors."""
    table = read_vectors(path)
    codes = np.unique(np.array(table.labels, dtype=object).astype(str), return_inverse=True)[1]
    labelled = any(table.labels)
    right, distance = _to_centres(table.vectors, codes)
    if not labelled:
        distance = np.full(len(table.vectors), np.nan, np.float32)
    return Table(
        path.name,
        np.asarray(table.vectors, np.float32),
        table.names,
        table.names,
        table.labels,
        np.where(right, 1, 2).astype(np.uint8) if labelled else np.zeros(len(table.vectors), np.uint8),
        ("", "right", "wrong"),
        distance,
        "distance from the centre of its class",
        lambda row: {},
    )


def _to_centres(
    vectors: Vectors, codes: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Whether the nearest class centre is one's own, and how far that is."""
    if not len(vectors):
        return np.zeros(0, bool), np.zeros(0, np.float32)
    counts = np.maximum(np.bincount(codes), 1)
    centres = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(centres, codes, vectors.astype(np.float64))
    centres /= counts[:, None]
    own = np.linalg.norm(vectors - centres[codes], axis=1)
    right = np.zeros(len(vectors), bool)
    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK].astype(np.float64)
        square = (part**2).sum(axis=1)[:, None] - 2 * part @ centres.T + (centres**2).sum(axis=1)
        right[start : start + BLOCK] = square.argmin(axis=1) == codes[start : start + BLOCK]
    return right, own.astype(np.float32)


def _from_middle(vectors: Vectors, ok: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of each from the mean of the OK ones; NaN if there is none."""
    if not ok.any():
        return np.full(len(vectors), np.nan, np.float32)
    apart: NDArray[np.float32] = np.linalg.norm(vectors - vectors[ok].mean(axis=0), axis=1).astype(np.float32)
    return apart
