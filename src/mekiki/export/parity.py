"""Parity of a graph with the program: on the run's own photographs, next to the threshold, and on odd images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.decoding import resize_images
from mekiki.data.image_set import Pixels
from mekiki.data.photo import Photo
from mekiki.export.onnx_graph import Outputs
from mekiki.judging import conformal
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.judge_model import JudgeModel
from mekiki.judging.judge_photos import Inspector

TOLERANCE = 1e-4
"""Share of itself by which a score may differ, and share of its length by which a vector may."""
NEIGHBOURS = 12
"""Pairs of photographs between which the threshold is searched for."""
HALVINGS = 12
"""Of the way from one to the other: then they differ by single grey levels."""
LAST = 4
"""Halvings whose blends are kept."""
BATCH = 8
"""Images that a graph gets at once, at most."""
BATCH_PIXELS = 3_000_000
"""Pixels of these together, unless one has more: a graph has the first layers of all of them in memory."""
MOST_PHOTOGRAPHS = 128
"""Photographs of the run on which a graph is compared, at most."""
COMPARED_PIXELS = 100_000_000
"""Pixels of these together: a photograph of 3 megapixels takes a second or more in each of hundreds of calls."""
LEAST_PHOTOGRAPHS, LEAST_NEIGHBOURS = 16, 3
"""Photographs, and pairs of them, that are compared however large they are."""

Graph = Callable[[NDArray[np.uint8]], Outputs]


@dataclass(frozen=True, eq=False)
class ProgramOutput:
    """The program's result for one photograph.

    Attributes:
        vector: float32 `[d]`.
        score: NaN without a judge.
        p: the same.
        ng: the verdict.
        kind: defect type, empty for none.
        taught: whether the photograph itself was corrected; the program recognises it, the graph does not.
        depart: finds how the photograph departs from good ones, by which corrections act; by patch group.
    """

    vector: NDArray[np.float32]
    score: float = float("nan")
    p: float = float("nan")
    ng: bool = False
    kind: str = ""
    taught: bool = False
    depart: Callable[[], Mapping[str, NDArray[Any]]] = dict


class Program:
    """The program itself, called with photographs of any size.

    Args:
        extractor: the feature extractor of the run.
        groups: the order of its feature groups in a vector.
        inspector: the calibrated judge, or `None`.
    """

    def __init__(
        self, extractor: FeatureExtractor, groups: Sequence[str], inspector: Inspector | None
    ) -> None:
        self.extractor, self.groups, self.inspector = extractor, list(groups), inspector

    def __call__(self, images: Sequence[Pixels]) -> list[ProgramOutput]:
        """The result for each."""
        frames = [
            resize_images(image[None], self.extractor.frame(*image.shape[:2]), self.extractor.channels)[0]
            for image in images
        ]
        if self.inspector is None:
            return [ProgramOutput(vector) for vector in self._join(self.extractor.extract(frames).groups)]
        photos = [
            Photo(Path(str(number)), pixels, size=image.shape[:2])
            for number, (pixels, image) in enumerate(zip(frames, images, strict=True))
        ]
        return [
            ProgramOutput(
                self._join(verdict.features),
                verdict.score,
                verdict.p,
                verdict.verdict == "NG",
                verdict.defect_type,
                verdict.because == "taught",
                partial(self._depart, frame),
            )
            for verdict, frame in zip(self.inspector.judge_photos(photos), frames, strict=True)
        ]

    def score(
        self,
        vector: NDArray[np.float32],
        widths: Mapping[str, int],
        distance: NDArray[np.float64],
        departures: Mapping[str, NDArray[Any]],
    ) -> float:
        """The score of a part with this vector, these departures, and these distances, of which those of detectors."""
        assert self.inspector is not None
        judge = self.inspector.judge
        columns = {name: np.square(each)[None] for name, each in zip(judge.columns, distance, strict=True)}
        columns |= {name: each[None] for name, each in departures.items()}
        parts = np.split(vector[None], np.cumsum(list(widths.values()))[:-1], axis=1)
        return float(judge.score_columns(columns | dict(zip(widths, parts, strict=True)))[0])

    def _depart(self, frame: Pixels) -> dict[str, NDArray[Any]]:
        """How a photograph departs from good ones; looked at again, because verdicts keep no patches."""
        assert self.inspector is not None
        model = self.inspector.judge.scoring.models[0]
        assert isinstance(model, JudgeModel)
        features = {name: group[0] for name, group in self.extractor.extract([frame]).groups.items()}
        own = model.detect_one(self.inspector.judge.select(features))
        return {name: own[name] for name in model.scoring.departures}

    @property
    def threshold(self) -> float | None:
        """Of the score; `None` where there is none."""
        threshold = None if self.inspector is None else self.inspector.judge.threshold
        return None if threshold is None else threshold.value

    def _join(self, groups: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate([groups[name] for name in self.groups], axis=-1)


@dataclass
class ParityRow:
    """Differences between a graph and the program over one group of images.

    Attributes:
        group: which images.
        images: number of images.
        verdicts: number of verdicts, or defect types, that differ.
        score: the largest difference of scores, as a share of the program's.
        p: the largest difference of p-values.
        vector: the largest difference of vectors, as a share of their length.
        steps: images whose distance lies, but for rounding, on a step of −log p (see `docs/exporting.md`), so
            that scores differ by that step; they are left out of `score` and `p`.
        nearest: how near the nearest score comes to the threshold, as a share of it; `None` without a threshold.
        on_threshold: images on the threshold but for rounding that are judged differently; they are not among
            `verdicts`.
        taught: photographs that were corrected themselves; left out.
    """

    group: str
    images: int = 0
    verdicts: int = 0
    score: float = 0.0
    p: float = 0.0
    vector: float = 0.0
    steps: int = 0
    nearest: float | None = None
    on_threshold: int = 0
    taught: int = 0

    @property
    def equal(self) -> bool:
        """Whether the graph may stand for the program."""
        return not self.verdicts and self.score <= TOLERANCE and self.vector <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def add(
        self,
        ours: Mapping[str, Any],
        theirs: ProgramOutput,
        program: Program,
        widths: Mapping[str, int],
        types: Sequence[str],
        *,
        steps: bool,
    ) -> None:
        """Count one image: the outputs of the graph against those of the program; see `compare`."""
        length = max(float(np.linalg.norm(theirs.vector.astype(np.float64))), 1e-12)
        apart = float(np.linalg.norm(ours["vector"].astype(np.float64) - theirs.vector)) / length
        self.images += 1
        self.vector = max(self.vector, apart)
        if program.inspector is None:
            return
        if theirs.taught:
            self.taught += 1
            return
        score, threshold = float(ours["score"]), program.threshold
        differs, p = _relative(score, theirs.score), abs(float(ours["p"]) - theirs.p)
        near = None if threshold is None else _relative(theirs.score, threshold)
        if near is not None:
            self.nearest = near if self.nearest is None else min(near, self.nearest)
        if (
            steps
            and differs > TOLERANCE >= apart
            and _relative(score, program.score(ours["vector"], widths, ours["distance"], theirs.depart()))
            <= TOLERANCE
        ):
            self.steps += 1
        else:
            self.score, self.p = max(self.score, differs), max(self.p, p)
        place = int(ours["kind"])
        if bool(ours["ng"]) == theirs.ng and (types[place] if place >= 0 else "") == theirs.kind:
            return
        # Across models there is no threshold; a tie with one part moves p by that part.
        one_part = 1.5 / (len(program.inspector.judge.calibration_scores) + 1)
        tie = differs <= conformal.TOLERANCE and (
            0 < p <= one_part if near is None else near <= conformal.TOLERANCE
        )
        self.verdicts += not tie
        self.on_threshold += tie


def compare(
    group: str,
    graph: Graph,
    program: Program,
    widths: Mapping[str, int],
    types: Sequence[str],
    images: Sequence[Pixels],
    progress: Progress = silent,
    *,
    steps: bool = True,
) -> ParityRow:
    """Compare a graph with the program on images.

    Args:
        group: name of the images.
        graph: the graph, as `mekiki.export.onnx_graph.Runtime` runs it.
        program: the program.
        widths: the feature groups in a vector and their lengths.
        types: names of the defect types that the graph counts.
        images: of the graph's size.
        progress: called after each batch.
        steps: find out whether a difference comes from a step of −log p.
    """
    row = ParityRow(group)
    size = max(1, min(BATCH, BATCH_PIXELS // math.prod(images[0].shape[:2]))) if images else BATCH
    for start in range(0, len(images), size):
        batch = list(images[start : start + size])
        ours = graph(np.stack(batch))
        for place, theirs in enumerate(program(batch)):
            own = {name: output[place] for name, output in ours.items()}
            row.add(own, theirs, program, widths, types, steps=steps)
        progress("comparing the graph with the program", start + len(batch), len(images))
    return row


def _relative(value: float, other: float) -> float:
    return abs(value - other) / max(abs(other), 1e-12)


def number_compared(size: tuple[int, ...]) -> int:
    """The number of photographs of this height and width on which a graph is compared, at most.

    Example:
        >>> number_compared((300, 400)), number_compared((1500, 2000)), number_compared((4000, 4000))
        (128, 33, 16)
    """
    return max(LEAST_PHOTOGRAPHS, min(MOST_PHOTOGRAPHS, COMPARED_PIXELS // math.prod(size)))


def threshold_neighbours(
    program: Program, images: Sequence[Pixels], progress: Progress = silent
) -> list[Pixels]:
    """Images on both sides of the threshold, as near to it as whole grey levels allow.

    Between a photograph that is judged OK and one that is judged NG lies a row of blends. Halving finds where the
    verdict changes; where all are judged alike, the other side is made of them: their negatives, noise, and even grey.

    Args:
        program: the program, with its judge.
        images: photographs of one size, whatever their verdicts.
        progress: called after each halving.

    Returns:
        The images of the last halvings, the nearest first.
    """
    sides: dict[bool, list[Pixels]] = {False: [], True: []}
    for image, output in zip(images, program(images), strict=True):
        sides[output.ng].append(image)
    if not all(sides.values()):
        made = list(_other_side(images))
        for image, output in zip(made, program(made), strict=True):
            sides[output.ng].append(image)
    if not all(sides.values()):
        return []
    most = NEIGHBOURS * number_compared(images[0].shape[:2]) // MOST_PHOTOGRAPHS
    pairs = min(max(LEAST_NEIGHBOURS, most), len(sides[False]) * len(sides[True]))
    low, high = ([sides[ng][number % len(sides[ng])] for number in range(pairs)] for ng in (False, True))
    near, far = np.zeros(pairs), np.ones(pairs)
    nearest: list[Pixels] = []
    for halving in range(HALVINGS):
        middle = (near + far) / 2
        blends = [_blend(*each) for each in zip(low, high, middle, strict=True)]
        ng = np.array([output.ng for output in program(blends)])
        near, far = np.where(ng, near, middle), np.where(ng, middle, far)
        if halving >= HALVINGS - LAST:
            nearest = blends + nearest
        progress("looking for the threshold's neighbours", halving + 1, HALVINGS)
    return nearest


def _blend(image: Pixels, other: Pixels, share: float) -> Pixels:
    return np.rint((1 - share) * image + share * other.astype(np.float64)).astype(np.uint8)


def _other_side(images: Sequence[Pixels]) -> Iterator[Pixels]:
    rng = np.random.default_rng(0)
    for image in images[:NEIGHBOURS]:
        yield (255 - image).astype(np.uint8)
        noise = rng.normal(0, 40, image.shape)
        yield np.clip(image + noise, 0, 255).astype(np.uint8)
        yield np.full_like(image, int(image.mean()))


def odd_images(shape: tuple[int, ...]) -> list[Pixels]:
    """Images that no camera gives: black, white, ramps, chequers, noise, and single pixels in an empty field.

    Example:
        >>> [int(image.mean()) for image in odd_images((8, 8))][:2]
        [0, 255]
    """
    rng = np.random.default_rng(0)
    height, width = shape[:2]
    rows, columns = np.mgrid[:height, :width]
    flat = [
        np.zeros((height, width)),
        np.full((height, width), 255),
        columns * 255 // max(1, width - 1),
        rows * 255 // max(1, height - 1),
        (rows + columns) % 2 * 255,
        (rows // 8 + columns // 8) % 2 * 255,
    ]
    dots = np.zeros((height, width))
    dots[::17, ::13] = 255
    images = [np.asarray(image, np.uint8) for image in [*flat, dots, 255 - dots]]
    if len(shape) == 3:
        images = [np.repeat(image[..., None], 3, axis=2) for image in images]
    images += [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(4)]
    return images + [(rng.integers(0, 2, shape) * 255).astype(np.uint8) for _ in range(4)]
