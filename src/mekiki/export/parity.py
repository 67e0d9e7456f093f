"""Whether a graph says what the program says: on the run's own photographs, next to the threshold, on odd images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.decoding import resize_images
from mekiki.data.image_set import Pixels
from mekiki.data.photo import Photo
from mekiki.export.graph import Outputs
from mekiki.judging.conformal import TOLERANCE as TIE
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.inspector import Inspector
from mekiki.judging.verdict import Verdict

TOLERANCE = 1e-4
"""By how much of itself a score, and by how much of its length a vector, may differ."""
NEIGHBOURS = 12
"""Pairs of photographs between which the threshold is looked for."""
HALVINGS = 12
"""Of the way from one to the other: then they differ by single grey levels."""
LAST = 4
"""Halvings whose blends are kept."""
BATCH = 8

Graph = Callable[[NDArray[np.uint8]], Outputs]


@dataclass(frozen=True, eq=False)
class Said:
    """What is said of one photograph.

    Attributes:
        vector: float32 `[d]`.
        score: NaN where nothing is judged.
        p: the same.
        ng: the verdict.
        kind: of defect, empty for none.
        taught: whether it is a lesson itself, which the program knows again.
    """

    vector: NDArray[np.float32]
    score: float = float("nan")
    p: float = float("nan")
    ng: bool = False
    kind: str = ""
    taught: bool = False


class Program:
    """What the program itself says of photographs of any size.

    Args:
        extractor: what the run looks with.
        views: the order of its views in a vector.
        inspector: the calibrated judge, or `None`.
    """

    def __init__(
        self, extractor: FeatureExtractor, views: Sequence[str], inspector: Inspector | None
    ) -> None:
        self.extractor, self.views, self.inspector = extractor, list(views), inspector

    def __call__(self, images: Sequence[Pixels]) -> list[Said]:
        """What is said of each."""
        read = [
            resize_images(image[None], self.extractor.frame(*image.shape[:2]), self.extractor.channels)[0]
            for image in images
        ]
        if self.inspector is None:
            views = self.extractor.extract(read).groups
            whole = np.concatenate([views[name] for name in self.views], axis=1)
            return [Said(vector) for vector in whole]
        block = [
            Photo(Path(str(number)), pixels, size=image.shape[:2])
            for number, (pixels, image) in enumerate(zip(read, images, strict=True))
        ]
        return [self._said(verdict) for verdict in self.inspector.judge_photos(block)]

    def _said(self, verdict: Verdict) -> Said:
        vector = np.concatenate([verdict.features[name] for name in self.views])
        ng, taught = verdict.verdict == "NG", verdict.because == "taught"
        return Said(vector, verdict.score, verdict.p, ng, verdict.defect_type, taught)

    def score_of(self, vector: NDArray[np.float32], widths: Mapping[str, int]) -> float:
        """The score of a part that was seen so."""
        assert self.inspector is not None
        places = np.cumsum([0, *widths.values()])
        views = {
            name: vector[None, start:end]
            for name, start, end in zip(widths, places[:-1], places[1:], strict=True)
        }
        return float(self.inspector.judge.score(views)[0])

    @property
    def threshold(self) -> float:
        """Of the score; NaN where there is none."""
        judge = None if self.inspector is None else self.inspector.judge
        value = None if judge is None or judge.threshold is None else judge.threshold.value
        return float("nan") if value is None else value


@dataclass(frozen=True)
class Row:
    """How a graph did on one group of images; one row of the table.

    Attributes:
        group: which images.
        images: how many.
        verdicts: how many verdicts, or kinds of defects, differ.
        score: the largest difference of scores, as a share of the program's.
        p: the largest difference of p-values.
        vector: the largest difference of vectors, as a share of their length.
        steps: images whose distance lies, but for rounding, on a step of the surprise (see `docs/exporting.md`), so
            that scores differ by that step; they are left out of `score` and `p`.
        nearest: how near the nearest score comes to the threshold, as a share of it; `None` without a threshold.
        on_threshold: images on it but for rounding (`TIE`), such as the photograph that set it, that are judged
            otherwise, for the graph rounds otherwise; they are not among `verdicts`.
        taught: photographs that were taught, which only the program knows again; left out.
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
        """Whether that will do."""
        return not self.verdicts and self.score <= TOLERANCE and self.vector <= TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compared(
    group: str,
    graph: Graph,
    program: Program,
    widths: Mapping[str, int],
    kinds: Sequence[str],
    images: Sequence[Pixels],
    progress: Progress = silent,
    *,
    steps: bool = True,
) -> Row:
    """Set a graph beside the program on images.

    Args:
        group: what to call them.
        graph: the graph, as `mekiki.export.graph.Runtime` runs it.
        program: the program.
        widths: the views in a vector and their lengths.
        kinds: names of the kinds that the graph counts.
        images: of the graph's size.
        progress: told after each block.
        steps: look into differences that come from a step.
    """
    row = Row(group)
    for start in range(0, len(images), BATCH):
        block = list(images[start : start + BATCH])
        ours, theirs = graph(np.stack(block)), program(block)
        for place, said in enumerate(theirs):
            row = _with(
                row,
                {name: output[place] for name, output in ours.items()},
                said,
                program,
                widths,
                kinds,
                steps,
            )
        progress("comparing the graph with the program", start + len(block), len(images))
    return row


def _with(
    row: Row,
    ours: Mapping[str, Any],
    said: Said,
    program: Program,
    widths: Mapping[str, int],
    kinds: Sequence[str],
    steps: bool,
) -> Row:
    """A row, one image later."""
    length = max(float(np.linalg.norm(said.vector.astype(np.float64))), 1e-12)
    apart = float(np.linalg.norm(ours["vector"].astype(np.float64) - said.vector)) / length
    row = replace(row, images=row.images + 1, vector=max(row.vector, apart))
    if program.inspector is None:
        return row
    if said.taught:
        return replace(row, taught=row.taught + 1)
    score = float(ours["score"])
    differs, p = _relative(score, said.score), abs(float(ours["p"]) - said.p)
    threshold = program.threshold
    near = _relative(said.score, threshold) if np.isfinite(threshold) else None
    if near is not None and (row.nearest is None or near < row.nearest):
        row = replace(row, nearest=near)
    step = (
        steps
        and differs > TOLERANCE >= apart
        and _relative(score, program.score_of(ours["vector"], widths)) <= TOLERANCE
    )
    more = {"steps": row.steps + 1} if step else {"score": max(row.score, differs), "p": max(row.p, p)}
    row = replace(row, **more)
    place = int(ours["kind"])
    kind = kinds[place] if place >= 0 else ""
    if bool(ours["ng"]) == said.ng and kind == said.kind:
        return row
    # Across models there is no threshold; a tie with one part moves p by that part.
    parts = len(program.inspector.judge.calibration_scores)
    tie = near <= TIE if near is not None else differs <= TIE and 0 < p <= 1.5 / (parts + 1)
    tie = tie and differs <= TIE
    return replace(row, verdicts=row.verdicts + (not tie), on_threshold=row.on_threshold + tie)


def _relative(value: float, other: float) -> float:
    return abs(value - other) / max(abs(other), 1e-12)


def neighbours(program: Program, images: Sequence[Pixels], progress: Progress = silent) -> list[Pixels]:
    """Images on both sides of the threshold, as near to it as whole grey levels allow.

    Between a photograph that is judged OK and one that is judged NG lies a row of blends. Halving finds where the
    verdict changes; where all are judged alike, the other side is made of them: their negatives, noise, and even grey.

    Args:
        program: the program, with its judge.
        images: photographs of one size, whatever is said of them.
        progress: told after each halving.

    Returns:
        The images of the last halvings, the nearest first.
    """
    said = program(images)
    groups: dict[bool, list[Pixels]] = {False: [], True: []}
    for image, one in zip(images, said, strict=True):
        groups[one.ng].append(image)
    if not all(groups.values()):
        made = list(_other_side(images))
        for image, one in zip(made, program(made), strict=True):
            groups[one.ng].append(image)
    if not all(groups.values()):
        return []
    pairs = min(NEIGHBOURS, len(groups[False]) * len(groups[True]))
    low, high = ([groups[ng][number % len(groups[ng])] for number in range(pairs)] for ng in (False, True))
    near, far = np.zeros(pairs), np.ones(pairs)
    found: list[Pixels] = []
    for halving in range(HALVINGS):
        middle = (near + far) / 2
        blends = [_blend(*each) for each in zip(low, high, middle, strict=True)]
        ng = np.array([one.ng for one in program(blends)])
        near, far = np.where(ng, near, middle), np.where(ng, middle, far)
        if halving >= HALVINGS - LAST:
            found = blends + found
        progress("looking for the threshold's neighbours", halving + 1, HALVINGS)
    return found


def _blend(one: Pixels, other: Pixels, share: float) -> Pixels:
    return np.rint((1 - share) * one + share * other.astype(np.float64)).astype(np.uint8)


def _other_side(images: Sequence[Pixels]) -> Iterator[Pixels]:
    rng = np.random.default_rng(0)
    for image in images[:NEIGHBOURS]:
        yield (255 - image).astype(np.uint8)
        noise = rng.normal(0, 40, image.shape)
        yield np.clip(image + noise, 0, 255).astype(np.uint8)
        yield np.full_like(image, int(image.mean()))


def odd(shape: tuple[int, ...]) -> list[Pixels]:
    """Images that no camera gives: black, white, a ramp, chequers, noise, and single pixels in an empty field.

    Example:
        >>> [int(image.mean()) for image in odd((8, 8))][:2]
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
    made = [np.asarray(image, np.uint8) for image in [*flat, dots, 255 - dots]]
    if len(shape) == 3:
        made = [np.repeat(image[..., None], 3, axis=2) for image in made]
    made += [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(4)]
    return made + [(rng.integers(0, 2, shape) * 255).astype(np.uint8) for _ in range(4)]
