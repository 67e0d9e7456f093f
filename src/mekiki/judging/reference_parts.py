"""Parts kept in a calibrated run: photographs to compare with, and NG examples that name defect types."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.data.decoding import has_colour
from mekiki.data.image_set import Pixels
from mekiki.data.photo import Photo
from mekiki.errors import DataWarning
from mekiki.judging.conformal import parts_needed
from mekiki.judging.defect_types import DefectTypeClassifier
from mekiki.judging.feature_judge import Judge
from mekiki.judging.tensor_blocks import to_tensor
from mekiki.report.thumbnails import shrink

Floats = NDArray[np.float32]

THUMBNAIL = 64
"""Pixels on the longer side of a kept photograph."""
DIRECTIONS = 128
"""Principal directions in which parts are compared: enough to find the most similar one, and little to keep."""
MOST_OK = 2000
"""OK parts that are kept; NG parts are all kept."""
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "mean": {"anchor": "mean"},
    "examples": {"anchor": "each", "metric": "euclidean"},
}
"""Settings of `DefectTypeClassifier` that calibration chooses from."""
NONE_OF_THESE = 0.05
"""Share of the NG parts of known defect types that may be said to be of none of them."""
_FIFTHS = 5


@dataclass(frozen=True, eq=False)
class ReferenceParts:
    """Parts to compare with.

    Attributes:
        names: the file each came from.
        labels: `"OK"`, or the defect type.
        vectors: float32 `[n, r]`, in the r principal directions.
        directions: float32 `[d, r]`, these directions in the judge's whitened space.
        thumbnails: uint8 `[n, h, w]` or `[n, h, w, 3]`, each in the upper left corner of its square.
        sizes: int64 `[n, 2]`, height and width of each there.
    """

    names: list[str]
    labels: list[str]
    vectors: Floats
    directions: Floats
    thumbnails: NDArray[np.uint8]
    sizes: NDArray[np.int64]

    @cached_property
    def ng(self) -> NDArray[np.bool_]:
        """Which of them are NG, bool `[n]`."""
        return np.array([label != "OK" for label in self.labels])

    def thumbnail(self, row: int) -> NDArray[np.uint8]:
        """The photograph of one part, uint8 `[h, w]` or `[h, w, 3]`."""
        height, width = self.sizes[row]
        return self.thumbnails[row, :height, :width]

    def project(self, whitened: Floats) -> Floats:
        """Whitened parts in the principal directions: float32 `[N, d]` → `[N, r]`."""
        # Torch's product: NumPy's threads would spin on the processor that the network is about to need.
        return np.asarray((to_tensor(whitened) @ to_tensor(self.directions)).numpy(), np.float32)

    def nearest(self, vector: Floats) -> tuple[str, str]:
        """Names of the nearest OK and NG part of a vector `[r]`; empty where there is none."""
        distances = np.square(self.vectors - vector).sum(axis=1)
        ok = self.names[int(np.argmin(np.where(self.ng, np.inf, distances)))]
        return ok, self.names[int(np.argmin(np.where(self.ng, distances, np.inf)))] if self.ng.any() else ""

    def fit_classifier(
        self, settings: str, more: Sequence[tuple[Floats, str]] = ()
    ) -> DefectTypeClassifier | None:
        """A classifier of the defect types of the NG parts; `None` without NG parts.

        Args:
            settings: one of `CLASSIFIERS`; see `choose_classifier`.
            more: vectors `[n, r]` of further parts, each with their defect type.
        """
        ng = np.flatnonzero(self.ng)
        if not len(ng):
            return None
        enough = len(ng) >= parts_needed(NONE_OF_THESE)
        classifier = DefectTypeClassifier(
            **CLASSIFIERS[settings], none_of_these=NONE_OF_THESE if enough else None
        )
        with warnings.catch_warnings():
            # Types of few examples are compared together; docs/inspection.md says so, once.
            warnings.simplefilter("ignore", DataWarning)
            classifier.fit(self.vectors[ng], [self.labels[row] for row in ng])
            for vectors, defect_type in more:
                classifier.add(vectors, defect_type)
        return classifier


def choose_classifier(references: ReferenceParts) -> str:
    """The name in `CLASSIFIERS` of the settings that classify more NG parts correctly, the first of equals.

    Each fifth of the NG parts is classified by the others in turn. Types that look alike wherever they lie are best
    known by their mean, types that look different from place to place by their single examples.
    """
    ng = np.flatnonzero(references.ng)
    vectors = references.vectors[ng]
    types = np.array([references.labels[row] for row in ng], dtype=object)
    # Counted within each type, so that every fifth has its share of all.
    fold = np.array([np.sum(types[:row] == type_) for row, type_ in enumerate(types)], np.int64) % _FIFTHS
    accuracy = {}
    for name, settings in CLASSIFIERS.items():
        predicted = np.full(len(types), "", dtype=object)
        for test in (fold == fifth for fifth in range(_FIFTHS)):
            if test.any() and not test.all():
                classifier = DefectTypeClassifier(**settings).fit(vectors[~test], types[~test])
                predicted[test] = classifier.predict(vectors[test])
        accuracy[name] = sum(float(np.mean(predicted[types == type_] == type_)) for type_ in set(types))
    return max(CLASSIFIERS, key=lambda name: accuracy[name])


def keep_references(
    judge: Judge,
    parts: Sequence[tuple[list[Photo], list[str], Mapping[str, Floats]]],
    pixels_of: Callable[[Photo], Pixels],
) -> ReferenceParts:
    """The first OK parts, and all NG parts.

    Args:
        judge: fitted; its whitened space is that of the directions.
        parts: OK parts, and NG parts if there are any: their photographs, labels and feature groups.
        pixels_of: gives the pixels of a photograph.
    """
    names: list[str] = []
    labels: list[str] = []
    thumbnails: list[NDArray[np.uint8]] = []
    vectors = []
    for photos, some_labels, groups in parts:
        most = MOST_OK if some_labels[0] == "OK" else len(photos)
        names += [str(photo.path) for photo in photos[:most]]
        labels += some_labels[:most]
        thumbnails += [shrink(pixels_of(photo), THUMBNAIL) for photo in photos[:most]]
        vectors.append(
            judge.whiten({name: group[:most] for name, group in groups.items() if group.ndim == 2})
        )
    whitened = np.concatenate(vectors)
    directions = principal_directions(whitened)
    squares = np.zeros((len(thumbnails), THUMBNAIL, THUMBNAIL, *thumbnails[0].shape[2:]), np.uint8)
    for square, thumbnail in zip(squares, thumbnails, strict=True):
        square[: thumbnail.shape[0], : thumbnail.shape[1]] = thumbnail
    if squares.ndim == 4 and not has_colour(squares):
        squares = np.ascontiguousarray(squares[..., 0])
    sizes = np.array([thumbnail.shape[:2] for thumbnail in thumbnails], np.int64)
    return ReferenceParts(names, labels, whitened @ directions, directions, squares, sizes)


def principal_directions(vectors: Floats) -> Floats:
    """The directions in which vectors `[n, d]` vary most (PCA), float32 `[d, r]`, r ≤ `DIRECTIONS`."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    if len(vectors) <= vectors.shape[1]:  # the smaller of the two matrices
        values, left = np.linalg.eigh(centred @ centred.T)
        rows = np.flatnonzero(values > 1e-9 * max(values[-1], 1e-300))[-DIRECTIONS:]
        return np.asarray(centred.T @ (left[:, rows] / np.sqrt(values[rows])), np.float32)
    return np.asarray(np.linalg.eigh(centred.T @ centred)[1][:, -DIRECTIONS:], np.float32)
