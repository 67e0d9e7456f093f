"""Eyes: what a judge looks through. Photographs in, views of them out, and where they depart.

A trained run looks through its `Embedder`; `hf:NAME_OR_FOLDER` through layers of a pretrained backbone; `filters`
through filters fixed by formula, where there are neither weights nor labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mekiki.data.image_set import Pixels
from mekiki.data.photo import pixel_hash
from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.judging.judge import Judge, Slopes
from mekiki.models.backbone import Backbone, Size
from mekiki.models.networks import has_place_maps, place_maps
from mekiki.models.scattering import FINGERPRINT, SIDE, scattering_maps
from mekiki.threads import run_parallel

Floats = NDArray[np.float32]

DEPTHS = (0.64, 0.72)
"""How deep the two layers of a backbone lie, as a share of its depth: past textures, before names of things."""
QUADRANTS = 2
"""A photograph is looked at in so many rows and columns, for a defect to weigh against a part of it, not the whole."""
OCCLUSIONS = 7
"""Rows and columns of the places that are covered one by one, where an eye has no patches."""
ROOM = 2.0
"""Pixels a photograph may keep, over those a backbone takes: what is left for the second look and for showing it."""
NARROWEST = 4.0
"""Height over width, or width over height, beyond which a photograph is squeezed to this."""
SQUEEZED = 1.1
"""A photograph whose proportions are farther than this from a backbone's own is distorted, and looked at twice."""


@dataclass(frozen=True, eq=False)
class Features:
    """What an eye sees of N photographs.

    Attributes:
        views: float32 `[N, d]` each, for a `mekiki.judging.Judge`.
        patches: by view and photograph, float32 `[h, w, d]`, what its items were made of; empty where an eye has none.
    """

    views: dict[str, Floats]
    patches: dict[str, list[Floats]] = field(default_factory=dict)

    def only(self, row: int) -> Features:
        """What was seen of one photograph."""
        return Features(
            {name: view[row : row + 1] for name, view in self.views.items()},
            {name: [grids[row]] for name, grids in self.patches.items()},
        )


class FeatureExtractor(Protocol):
    """What the rest of the room asks of an eye."""

    name: str
    channels: int
    fingerprint: str

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a photograph of this size is read at."""

    def learn(self, blocks: Iterable[Sequence[Pixels]]) -> None:
        """Learn from OK parts what there is to know beforehand."""

    def extract(self, images: Sequence[Pixels]) -> Features:
        """Look at photographs `[H, W]` or `[H, W, 3]`."""

    def where(self, images: Sequence[Pixels], features: Features, judge: Judge) -> Floats:
        """How much each place brings to the score: float32 `[N, h, w]`."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""


class BackboneExtractor:
    """Layers of a frozen backbone: mean and spread of each channel in each quarter of the photograph.

    Two layers see the photograph squeezed to the backbone's own size, which keeps things where they are. If the OK
    photographs have other proportions than that, the first of the two looks once more, at as many pixels and with the
    proportions kept, because squeezing changes what a texture is like.

    Where a photograph departs: see `attributed`.

    Args:
        backbone: the pretrained encoder.

    Attributes:
        layers: the two layers.
        twice: whether the first looks once more.
    """

    channels = 3

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.name = f"hf:{backbone.place}"
        self.fingerprint = backbone.fingerprint
        self.layers = sorted({max(1, round(depth * (backbone.layers - 1))) for depth in DEPTHS})
        self.twice = False

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """The photograph's own proportions, at most `ROOM` times the pixels of the backbone's size."""
        return proportioned(height, width, ROOM * math.prod(self.backbone.input_size))

    def learn(self, blocks: Iterable[Sequence[Pixels]]) -> None:
        """See whether OK photographs have other proportions than the backbone."""
        own = self.backbone.input_size[0] / self.backbone.input_size[1]
        self.twice = any(
            not 1 / SQUEEZED <= image.shape[0] / image.shape[1] / own <= SQUEEZED
            for images in blocks
            for image in images
        )

    def extract(self, images: Sequence[Pixels]) -> Features:
        """Views of photographs, and the patches they were made of."""
        first = self.layers[0]
        looks: list[tuple[list[int], Size, str]] = [(self.layers, None, "")]
        if self.twice:
            looks.append(([first], "proportions", ", proportions kept"))
        # One photograph and look at a time, as many at once as there are processors: sooner than one with all threads.
        found = run_parallel(
            [partial(self._look, image, layers, size) for image in images for layers, size, _ in looks]
        )
        patches: dict[str, list[Floats]] = {}
        for number, grids in enumerate(found):
            for layer, grid in grids.items():
                patches.setdefault(f"layer {layer}{looks[number % len(looks)][2]}", []).append(grid)
        views = {
            name: np.concatenate([pool_quadrants(grid[None]) for grid in grids])
            for name, grids in patches.items()
        }
        return Features(views, patches)

    def _look(self, image: Pixels, layers: list[int], size: Size) -> dict[int, Floats]:
        (seen,) = self.backbone.extract([image], layers, size=size)
        return {layer: grids[0] for layer, grids in seen.patches.items()}

    def where(self, images: Sequence[Pixels], features: Features, judge: Judge) -> Floats:
        """What each place brings to D², all views together, on the grid of the first layer."""
        return taken_apart(features, judge)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""
        return {"twice": np.array([self.twice])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.twice = bool(arrays["twice"][0])


class ScatteringExtractor:
    """The maps of `mekiki.models.scattering`: mean and spread of each channel in each quadrant, as one group.

    Both layers of filters stand in one view, because the Mahalanobis distance then knows how they go together: on the
    magnetic tiles that tells OK from NG better than a sum of two distances (AUROC .979 against .965).

    Where a photograph departs: see `attributed`.
    """

    name = "filters"
    fingerprint = FINGERPRINT
    channels = 3

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """The photograph's own proportions, at most `ROOM` times the pixels that the filters see."""
        return proportioned(height, width, ROOM * SIDE**2)

    def learn(self, blocks: Iterable[Sequence[Pixels]]) -> None:
        """There is nothing to learn."""

    def extract(self, images: Sequence[Pixels]) -> Features:
        """The view of photographs squeezed to a square, and the patches it was made of."""
        patches = run_parallel([partial(self._look, image) for image in images])
        view = np.concatenate([pool_quadrants(grid[None]) for grid in patches])
        return Features({self.name: view}, {self.name: patches})

    def _look(self, image: Pixels) -> Floats:
        squeezed = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        (seen,) = scattering_maps([np.asarray(squeezed)])
        return seen

    def where(self, images: Sequence[Pixels], features: Features, judge: Judge) -> Floats:
        """What each place brings to D²."""
        return taken_apart(features, judge)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing was learnt."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """There is nothing to take back."""


class EmbedderExtractor:
    """The vectors of a trained embedder.

    Where it departs: each place in turn is covered by the mean of OK parts there, and what the score loses by it is
    what the place brings (occlusion; Zeiler and Fergus 2014, doi 10.1007/978-3-319-10590-1_53).

    Args:
        embedder: trained on images.

    Raises:
        InputError: it was trained on rows of features.
    """

    def __init__(self, embedder: Embedder) -> None:
        if len(embedder.input_shape_) != 3:
            raise InputError(
                f"the run learnt from {embedder.input_shape_[0]} features; give a run that learnt from images"
            )
        self.embedder = embedder
        self.name = "embedder"
        self.channels, *size = embedder.input_shape_
        self.size = (size[0], size[1])
        self.fingerprint = pixel_hash(np.ascontiguousarray(embedder.reference_vectors_).view(np.uint8))
        self._mean: NDArray[np.uint8] | None = None

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """What the network learnt from, whatever the size of the photograph."""
        return self.size

    def learn(self, blocks: Iterable[Sequence[Pixels]]) -> None:
        """Learn the mean photograph of OK parts."""
        total: Any = 0.0
        number = 0
        for images in blocks:
            total = total + np.sum(images, axis=0, dtype=np.float64)
            number += len(images)
        if number:
            self._mean = np.rint(total / number).astype(np.uint8)

    def extract(self, images: Sequence[Pixels]) -> Features:
        """Views of photographs."""
        return Features({"embedding": self.embedder.transform(np.stack(images), one_by_one=True)})

    @property
    def has_places(self) -> bool:
        """Whether its network sees place by place: if it is convolutional."""
        return has_place_maps(self.embedder.encoder_)

    def places(self, images: Sequence[Pixels]) -> list[Floats]:
        """What its network sees place by place, `[h, w, c]` each."""
        return list(place_maps(self.embedder.encoder_, np.stack(images)))

    def where(self, images: Sequence[Pixels], features: Features, judge: Judge) -> Floats:
        """What the score loses when a place is covered, at the cost of 49 more looks a photograph."""
        scores = judge.score(features.views)
        return np.stack([self._occluded(*each, judge) for each in zip(images, scores, strict=True)])

    def _occluded(
        self,
        image: NDArray[np.uint8],
        before: float,
        judge: Judge,
    ) -> Floats:
        height, width = image.shape[:2]
        rows, columns = min(OCCLUSIONS, height), min(OCCLUSIONS, width)
        covered = np.repeat(image[None], rows * columns, axis=0)
        for place in range(rows * columns):
            row, column = divmod(place, columns)
            at = (
                slice(row * height // rows, (row + 1) * height // rows),
                slice(column * width // columns, (column + 1) * width // columns),
            )
            if self._mean is not None:
                covered[place][at] = self._mean[at]
        lost = before - judge.score({"embedding": self.embedder.transform(covered, one_by_one=True)})
        return lost.reshape(rows, columns).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""
        return {} if self._mean is None else {"mean": self._mean}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self._mean = arrays.get("mean")


def pool_quadrants(patches: Floats) -> Floats:
    """Mean and spread of each channel in each quarter: `[N, h, w, d]` → `[N, 8d]`; on grids of one row, of the whole.

    Example:
        >>> pool_quadrants(np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1))
        array([[0., 1., 2., 3., 0., 0., 0., 0.]], dtype=float32)
    """
    height, width = patches.shape[1:3]
    means, spreads = [], []
    for rows in cuts(height):
        for columns in cuts(width):
            part = patches[:, rows, columns].reshape(len(patches), -1, patches.shape[3])
            means.append(part.mean(axis=1))
            spreads.append(part.std(axis=1))
    return np.concatenate(means + spreads, axis=1).astype(np.float32)


def cuts(length: int) -> list[slice]:
    """Where a side of the grid is cut into `QUADRANTS` parts; one of a single place is not."""
    number = min(QUADRANTS, length)
    return [slice(i * length // number, (i + 1) * length // number) for i in range(number)]


def attributed(patches: Floats, slopes: Slopes) -> Floats:
    """What each place brings to D² of the view that `pool_quadrants` made: `[N, h, w, d]` → `[N, h, w]`.

    D² = Σ slope·(item − centre), and each item is a mean over the places of a quarter: of a channel p, or, for its
    spread, of (p − mean)²/spread. So D² is a sum over places, as it is a sum over items (`Judge.contributions`). Places
    that bring less than nothing are more like good parts than these are among themselves.

    Example:
        >>> good = np.random.default_rng(0).normal(size=(99, 4, 4, 1)).astype(np.float32)
        >>> part = good[:1].copy()
        >>> part[0, 1, 2] = 9  # in row 1 and column 2
        >>> slopes = Judge().fit({"view": pool_quadrants(good)}).slopes({"view": pool_quadrants(part)})["view"]
        >>> divmod(int(attributed(part, slopes).argmax()), 4)
        (1, 2)
    """
    number, height, width, channels = patches.shape
    parts = [(rows, columns) for rows in cuts(height) for columns in cuts(width)]
    shape = (2, len(parts), channels)
    centres = slopes.centre.reshape(shape)
    pulls = slopes.values.reshape(number, *shape)
    places = np.zeros((number, height, width), np.float32)
    for part, (rows, columns) in enumerate(parts):
        inside = patches[:, rows, columns].reshape(number, -1, channels)
        mean, spread = inside.mean(axis=1), inside.std(axis=1)
        pull, stretch = pulls[:, 0, part], pulls[:, 1, part] / np.maximum(spread, 1e-6)
        level = np.einsum("npd,nd->np", inside - centres[0, part], pull)
        level += np.einsum("npd,nd->np", (inside - mean[:, None]) ** 2, stretch)
        level -= (pulls[:, 1, part] * centres[1, part]).sum(axis=1)[:, None]
        target = places[:, rows, columns]
        target[...] = (level / inside.shape[1]).reshape(target.shape)
    return places


def taken_apart(features: Features, judge: Judge) -> Floats:
    """What each place brings to D², all views together, on the grid of the first: float32 `[N, h, w]`, from 0."""
    slopes = judge.slopes(features.views)
    first = next(iter(features.patches.values()))
    height, width = first[0].shape[:2]
    places = np.zeros((len(first), height, width), np.float32)
    for name, patches in features.patches.items():
        for row, patch in enumerate(patches):
            own = Slopes(slopes[name].centre, slopes[name].values[row : row + 1])
            places[row] += _at(attributed(patch[None], own)[0], (height, width))
    return smoothed(np.maximum(places, 0))


def smoothed(places: Floats) -> Floats:
    """Each place and its neighbours, weighed 1 : 2 : 1 along both axes: `[N, h, w]` → `[N, h, w]`."""
    for axis in (1, 2):
        ends = [(0, 0)] * 3
        ends[axis] = (1, 1)
        padded = np.moveaxis(np.pad(places, ends, mode="edge"), axis, 0)
        blurred = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        places = np.ascontiguousarray(np.moveaxis(blurred, 0, axis), np.float32)
    return places


def proportioned(height: int, width: int, most: float) -> tuple[int, int]:
    """The same proportions in at most so many pixels; once there, nothing changes any more.

    Example:
        >>> proportioned(3000, 4000, 50176), proportioned(100, 80, 50176), proportioned(1, 900, 50176)
        ((193, 258), (100, 80), (1, 4))
    """
    shrink = min(1.0, math.sqrt(most / (height * width)))
    height, width = max(1, int(height * shrink)), max(1, int(width * shrink))
    return min(height, int(NARROWEST * width)), min(width, int(NARROWEST * height))


def _at(places: Floats, shape: tuple[int, int]) -> Floats:
    """A map on another grid, `[h, w]` → `[*shape]`, with the same sum."""
    if places.shape == shape:
        return places
    drawn = Image.fromarray(places).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(drawn, np.float32) * (places.size / math.prod(shape))
