"""What a report shows, as plain data: arrays, numbers and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

History = Mapping[str, Sequence[float | None]]


class Headline(NamedTuple):
    """One of the main numbers: a label, the value (a number, or text with its unit), and its meaning in words."""

    label: str
    value: float | str | None
    explanation: str


@dataclass(frozen=True, eq=False)
class ScatterContent:
    """Points with the images behind them.

    Attributes:
        points: `[N, 2]`, finite.
        labels: `[N]`, positions in the report's class names.
        names: one name an image.
        thumbnails: uint8 `[N, H, W]` or `[N, H, W, 3]`, of any size (they are reduced to 32 px); may be a memory map.
        axis_names: of the horizontal and the vertical axis.
        note: how the points were projected, in a sentence.
        indices: `[N]`, position of each image in its data set; without it, 0 … N − 1.
    """

    points: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    names: Sequence[str]
    thumbnails: NDArray[np.uint8]
    axis_names: tuple[str, str] = ("dimension 1", "dimension 2")
    note: str = ""
    indices: NDArray[np.integer[Any]] | None = None


@dataclass(frozen=True, eq=False)
class PairDistances:
    """Histograms of pair distances.

    Attributes:
        edges: `[B + 1]`, rising, in the unit of the distance.
        same: `[B]`, pairs of one class in each bin.
        different: `[B]`, pairs of two classes in each bin.
        threshold: distance at which both errors are equal.
        eer: equal error rate, a share from 0 to 1.
        axis_name: the distance with its unit.
    """

    edges: NDArray[np.floating[Any]]
    same: NDArray[Any]
    different: NDArray[Any]
    threshold: float = math.nan
    eer: float = math.nan
    axis_name: str = "Euclidean distance (embedding units)"


@dataclass(frozen=True, eq=False)
class ConfusedPairs:
    """Image pairs shown side by side.

    Attributes:
        title: what these pairs are.
        pixels_a: uint8 `[N, H, W]` or `[N, H, W, 3]`, the left images.
        pixels_b: the right images, of the same shape.
        captions: one a pair.
        explanation: a sentence on why they are worth looking at.
    """

    title: str
    pixels_a: NDArray[np.uint8]
    pixels_b: NDArray[np.uint8]
    captions: Sequence[str]
    explanation: str = ""


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything the report of one run shows; a part that is `None` or empty is left out.

    Attributes:
        title: heading of the page.
        class_names: one name a class.
        subtitle: one line under the heading.
        facts: how it was made: command line, data, seed, versions.
        headline: the main numbers, with their meaning in words.
        findings: (severity, message, advice) of the collapse check; the severity is `ok`, `notice` or `problem`.
        notes: remarks about the data.
        history: columns of the training history (see `mekiki.report.figures.loss_curve`).
        test: points of the test images.
        train: points of the training images.
        distances: histograms of pair distances.
        overlap: `[C, C]`, the probability that two of the row class lie farther apart than one of the row and one
            of the column class; NaN where it is not known.
        confused: lists of image pairs.
        metrics: every number, nested as in `metrics.json`.
        files: (name, what it holds) of the files beside the report.
    """

    title: str
    class_names: Sequence[str]
    subtitle: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    headline: Sequence[Headline] = ()
    findings: Sequence[tuple[str, str, str]] = ()
    notes: Sequence[str] = ()
    history: History = field(default_factory=dict)
    test: ScatterContent | None = None
    train: ScatterContent | None = None
    distances: PairDistances | None = None
    overlap: NDArray[np.floating[Any]] | None = None
    confused: Sequence[ConfusedPairs] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[tuple[str, str]] = ()


class Column(NamedTuple):
    """One number in the table of a comparison.

    `key` is its name in `ComparisonEntry.metrics`, `label` the heading with the unit, `better` says which values are
    better (`"high"`, `"low"`, or `""` where neither is), `factor` multiplies the value before it is shown.
    """

    key: str
    label: str
    better: Literal["high", "low", ""]
    factor: float = 1.0
    explanation: str = ""


_NEAREST = "share of test images whose nearest neighbours name the class"
_EER = "error on pairs where both kinds of error are equal"
_AUC = "chance that a pair of one class lies closer than a pair of two"
_OVERLAP = "of the two classes that overlap most; 50 is one cloud"
_SILHOUETTE = "how compact the classes are against their distances"
_SECONDS = "for all epochs, on the machine named below"
COMPARISON_COLUMNS = (
    Column("knn", "kNN accuracy (%)", "high", 100.0, _NEAREST),
    Column("eer", "equal error rate (%)", "low", 100.0, _EER),
    Column("auc", "AUC (%)", "high", 100.0, _AUC),
    Column("pair_accuracy", "pairs judged rightly (%)", "high", 100.0, "at the best threshold"),
    Column("overlap_max", "largest overlap (%)", "low", 100.0, _OVERLAP),
    Column("silhouette", "silhouette (−1 to 1)", "high", 1.0, _SILHOUETTE),
    Column("seconds", "training time (s)", "low", 1.0, _SECONDS),
)


@dataclass(frozen=True, eq=False)
class ComparisonEntry:
    """One loss, or one setting, of a comparison.

    Attributes:
        name: its name.
        metrics: key of a column to (mean, standard deviation over seeds), as shares where the column says %.
        history: columns of the training history of the seed that is drawn.
        test: test points of the seed that is drawn.
        overlap: `[C, C]`, overlap between classes.
        note: a sentence set under the name.
    """

    name: str
    metrics: Mapping[str, tuple[float | None, float | None]]
    history: History = field(default_factory=dict)
    test: ScatterContent | None = None
    overlap: NDArray[np.floating[Any]] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class ComparisonContent:
    """Everything a side-by-side report shows.

    Attributes:
        title: heading of the page.
        class_names: one name a class, the same in every entry.
        entries: the losses, in the order shown.
        subtitle: one line under the heading.
        claim: paragraphs on what the comparison shows and what it does not.
        facts: how it was made: command line, data, seeds, versions.
        columns: the numbers of the table.
        files: (name, what it holds) of the files beside the report.
    """

    title: str
    class_names: Sequence[str]
    entries: Sequence[ComparisonEntry]
    subtitle: str = ""
    claim: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[Column] = COMPARISON_COLUMNS
    files: Sequence[tuple[str, str]] = ()
