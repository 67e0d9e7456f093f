"""The feature extractors: a pretrained backbone, scattering filters, and a trained embedder; chosen by name."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mekiki.data.decoding import resize_images
from mekiki.data.image_set import Pixels
from mekiki.data.photo import pixel_hash
from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.judging.anomaly_map import detector_maps, pool_quadrants, pooled_anomaly_maps
from mekiki.judging.feature_judge import Judge
from mekiki.judging.features import FeatureExtractor, Features, Floats
from mekiki.judging.fine_scale import FineScale, TileNetwork, choose_pixels, smallest_visible
from mekiki.judging.judge_model import FINE, PATCHES
from mekiki.judging.patch_grid import join_layers
from mekiki.judging.tile_networks import BackboneTiles, FilterTiles
from mekiki.models.backbone import Backbone, Size
from mekiki.models.networks import has_place_maps, place_maps
from mekiki.models.scattering import FINGERPRINT, SIDE, scattering_maps
from mekiki.storage.training_run import Run
from mekiki.threads import run_parallel

DEPTHS = (0.64, 0.72)
"""How deep the two layers of a backbone lie that are pooled, as a share of its depth: past textures, before names of
things."""
PATCH_DEPTHS = (0.24, 0.48, 0.72)
"""The same of the layers that patches are made of: edges, textures and parts."""
OCCLUSIONS = 7
"""Rows and columns of places that are covered one by one, for an extractor without patches."""
PIXEL_FACTOR = 2.0
"""Pixels a photograph may keep, over those a backbone takes: for the second pass, and for showing it."""
MAX_ASPECT_RATIO = 4.0
"""Height over width, or width over height, beyond which a photograph is squeezed to this."""
DISTORTION_TOLERANCE = 1.1
"""A photograph whose proportions differ by more than this factor from a backbone's own gets a second pass."""


class _PooledExtractor(FeatureExtractor):
    """What extractors that pool patches by quadrant have in common."""

    channels = 3
    embedder: Embedder | None = None
    training_contents: frozenset[int] = frozenset()
    has_place_features = True

    fine: FineScale | None = None

    def __init__(self, name: str, fingerprint: str, coarse_pixels: int) -> None:
        self.name = self.description = name
        self.fingerprint, self.coarse_pixels = fingerprint, coarse_pixels

    @abstractmethod
    def _tile_network(self) -> TileNetwork:
        """What the fine scale runs over the tiles of a photograph."""

    @abstractmethod
    def _extract_coarse(self, images: Sequence[Pixels]) -> Features:
        """Features of photographs of the size that `coarse_frame` gives."""

    def choose_scale(self, sizes: Sequence[tuple[int, int]], smallest_defect: float | None) -> int:
        """Add a fine scale if photographs of these sizes need one; see `mekiki.judging.fine_scale`."""
        pixels = choose_pixels(sizes, self.coarse_pixels, smallest_defect)
        self.fine = None if pixels is None else FineScale(self._tile_network(), pixels)
        return smallest_visible(sizes, pixels or self.coarse_pixels)

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """The photograph's own proportions: as many pixels as the fine scale takes, else as the coarse one does."""
        coarse = PIXEL_FACTOR * self.coarse_pixels
        return limit_size(height, width, coarse if self.fine is None else max(coarse, self.fine.pixels))

    def coarse_frame(self, height: int, width: int) -> tuple[int, int]:
        """What the coarse scale reads: at most `PIXEL_FACTOR` times the pixels that the network takes."""
        return limit_size(height, width, PIXEL_FACTOR * self.coarse_pixels)

    def fit(self, blocks: Iterable[Sequence[Pixels]]) -> None:
        """Learn what the fine scale needs, if there is one."""
        if self.fine is not None:
            self.fine.fit(blocks)

    def extract(self, images: Sequence[Pixels]) -> Features:
        """Features of photographs, and the patches that the vectors were pooled from."""
        if self.fine is None:
            return self._extract_coarse(images)
        small = [resize_images(each[None], self.coarse_frame(*each.shape[:2]), 3)[0] for each in images]
        features = self._extract_coarse(small)
        # One photograph after the other, its tiles in parallel: so memory does not grow with their number.
        features.groups[FINE] = np.stack([self.fine.extract(image) for image in images])
        return features

    def anomaly_maps(self, images: Sequence[Pixels], features: Features, judge: Judge) -> Floats:
        """The distances of the judge's detectors place by place, or, without any, what each place contributes to D².

        With a fine scale, a place has the larger of both scales' distances.
        """
        maps = detector_maps(judge, features.groups)
        if maps is not None:
            return maps
        return pooled_anomaly_maps(features.groups, features.patches, judge)

    def place_features(self, images: Sequence[Pixels], features: Features) -> list[Floats]:
        """The patches of the first feature group."""
        return next(iter(features.patches.values()))

    def state(self) -> dict[str, NDArray[Any]]:
        """The fine scale."""
        arrays = {} if self.fine is None else self.fine.to_arrays()
        return {f"{FINE}/{name}": array for name, array in arrays.items()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `state` returned."""
        prefix = f"{FINE}/"
        own = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
        self.fine = FineScale.from_arrays(self._tile_network(), own) if own else None


class BackboneExtractor(_PooledExtractor):
    """Layers of a frozen backbone: patches, and mean and standard deviation of each channel in each quadrant.

    Two layers take the photograph squeezed to the backbone's own size, which keeps things where they are. If the OK
    photographs have other proportions than that, the first of the two takes it a second time, at as many pixels and
    with the proportions kept, because squeezing changes a texture. Patches are made of three layers; see
    `join_layers`.

    Args:
        backbone: the pretrained encoder.

    Attributes:
        layers: the two layers.
        patch_layers: those that patches are made of.
        second_pass: whether the first layer takes a photograph a second time.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(f"hf:{backbone.place}", backbone.fingerprint, math.prod(backbone.input_size))
        self.backbone = backbone
        self.layers, self.patch_layers = (
            sorted({max(1, round(depth * (backbone.layers - 1))) for depth in depths})
            for depths in (DEPTHS, PATCH_DEPTHS)
        )
        self.second_pass = False

    def _tile_network(self) -> TileNetwork:
        """The first layer that patches are made of."""
        return BackboneTiles(self.backbone, self.patch_layers[0])

    def fit(self, blocks: Iterable[Sequence[Pixels]]) -> None:
        """Learn whether OK photographs have other proportions than the backbone, and what the fine scale needs."""
        self.second_pass = False
        rest = self._compare_proportions(blocks)
        super().fit(rest)
        for _ in rest:  # those that the fine scale had no use for
            if self.second_pass:
                break

    def _compare_proportions(self, blocks: Iterable[Sequence[Pixels]]) -> Iterator[Sequence[Pixels]]:
        """Pass blocks on, and note whether a photograph has other proportions."""
        own = self.backbone.input_size[0] / self.backbone.input_size[1]
        for images in blocks:
            for image in images:
                stretch = image.shape[0] / image.shape[1] / own
                if not 1 / DISTORTION_TOLERANCE <= stretch <= DISTORTION_TOLERANCE:
                    self.second_pass = True
            yield images

    def passes(self) -> list[tuple[list[int], Size, str]]:
        """The passes through the backbone that are pooled: layers, size of the photograph, and the end of their names.

        The first pass gives the patches too.
        """
        passes: list[tuple[list[int], Size, str]] = [(self.layers, None, "")]
        if self.second_pass:
            passes.append((self.layers[:1], "proportions", ", proportions kept"))
        return passes

    def _extract_coarse(self, images: Sequence[Pixels]) -> Features:
        passes = self.passes()
        read = [
            (passes[0][0] + self.patch_layers, passes[0][1]),
            *((each[0], each[1]) for each in passes[1:]),
        ]
        # One photograph and pass at a time, as many at once as there are processors: faster than one with all threads.
        results = run_parallel(
            [
                partial(self._extract_one, image, sorted(set(layers)), size)
                for image in images
                for layers, size in read
            ]
        )
        patches: dict[str, list[Floats]] = {}
        for number, grids in enumerate(results):
            layers, _, suffix = passes[number % len(passes)]
            for layer in layers:
                patches.setdefault(f"layer {layer}{suffix}", []).append(grids[layer])
        groups = {
            name: np.concatenate([pool_quadrants(grid[None]) for grid in grids])
            for name, grids in patches.items()
        }
        joined = [
            join_layers([torch.from_numpy(grids[layer])[None] for layer in self.patch_layers])
            for grids in results[:: len(passes)]
        ]
        groups[PATCHES] = torch.cat(joined).numpy()
        return Features(groups, patches)

    def _extract_one(self, image: Pixels, layers: list[int], size: Size) -> dict[int, Floats]:
        (result,) = self.backbone.extract([image], layers, size=size)
        return {layer: grids[0] for layer, grids in result.patches.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """Whether there is a second pass, and the fine scale."""
        return super().state() | {"twice": np.array([self.second_pass])}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        self.second_pass = bool(state["twice"][0])


class ScatteringExtractor(_PooledExtractor):
    """The maps of `mekiki.models.scattering`: mean and standard deviation of each channel in each quadrant.

    Both layers of filters are one feature group, because the Mahalanobis distance then knows how they vary together: on
    the magnetic tiles that separates OK from NG better than a sum of two distances (AUROC .979 against .965).
    """

    def __init__(self) -> None:
        super().__init__("filters", FINGERPRINT, SIDE**2)

    def _tile_network(self) -> TileNetwork:
        """The first layer of the filters."""
        return FilterTiles()

    def _extract_coarse(self, images: Sequence[Pixels]) -> Features:
        patches = run_parallel([partial(self._extract_one, image) for image in images])
        group = np.concatenate([pool_quadrants(grid[None]) for grid in patches])
        joined = torch.cat([join_layers([torch.from_numpy(grid)[None]]) for grid in patches])
        return Features({self.name: group, PATCHES: joined.numpy()}, {self.name: patches})

    def _extract_one(self, image: Pixels) -> Floats:
        squeezed = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        (grid,) = scattering_maps([np.asarray(squeezed)])
        return grid


class EmbedderExtractor(FeatureExtractor):
    """The vectors of a trained embedder, one feature group.

    Its anomaly map is by occlusion: each place in turn is covered by the mean of the OK parts there, and what the score
    loses is what the place contributes (Zeiler and Fergus 2014, doi 10.1007/978-3-319-10590-1_53).

    Args:
        embedder: trained on images.

    Raises:
        InputError: it was trained on rows of features.
    """

    embedder: Embedder  # of the protocol's two, always the first
    fine: FineScale | None = None

    def __init__(self, embedder: Embedder) -> None:
        if len(embedder.input_shape_) != 3:
            raise InputError(
                f"the run learnt from {embedder.input_shape_[0]} features; give a run that learnt from images"
            )
        self.embedder = embedder
        self.name = "embedder"
        self.description = f"embedder {embedder.encoder}"
        self.channels, height, width = embedder.input_shape_
        self.size = (height, width)
        self.fingerprint = pixel_hash(np.ascontiguousarray(embedder.reference_vectors_).view(np.uint8))
        self.training_contents = frozenset(embedder.reference_contents_.tolist())
        self.has_place_features = has_place_maps(embedder.encoder_)
        self._mean: NDArray[np.uint8] | None = None

    def choose_scale(self, sizes: Sequence[tuple[int, int]], smallest_defect: float | None) -> int:
        """There is only the scale that the network was trained at."""
        return smallest_visible(sizes, math.prod(self.size))

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """What the network was trained on, whatever the size of the photograph."""
        return self.size

    def fit(self, blocks: Iterable[Sequence[Pixels]]) -> None:
        """Learn the mean photograph of OK parts."""
        total: Any = 0.0
        number = 0
        for images in blocks:
            total = total + np.sum(images, axis=0, dtype=np.float64)
            number += len(images)
        if number:
            self._mean = np.rint(total / number).astype(np.uint8)

    def extract(self, images: Sequence[Pixels]) -> Features:
        """Vectors of photographs."""
        stacked = np.stack(images)
        groups = {"embedding": self.embedder.transform(stacked, one_by_one=True)}
        if self.has_place_features:
            maps = torch.from_numpy(place_maps(self.embedder.encoder_, stacked))
            groups[PATCHES] = join_layers([maps]).numpy()
        return Features(groups)

    def place_features(self, images: Sequence[Pixels], features: Features) -> list[Floats]:
        """The deepest maps of its convolutions; see `place_maps`."""
        return list(place_maps(self.embedder.encoder_, np.stack(images)))

    def anomaly_maps(self, images: Sequence[Pixels], features: Features, judge: Judge) -> Floats:
        """What the score loses when a place is covered, at the cost of embedding a photograph 49 times more."""
        maps = detector_maps(judge, features.groups)
        if maps is not None:
            return maps
        scores = judge.score(judge.select(features.groups))
        return np.stack([self._occlude(*pair, judge) for pair in zip(images, scores, strict=True)])

    def _occlude(self, image: NDArray[np.uint8], score: float, judge: Judge) -> Floats:
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
        loss = score - judge.score({"embedding": self.embedder.transform(covered, one_by_one=True)})
        return loss.reshape(rows, columns).astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """The mean photograph."""
        return {} if self._mean is None else {"mean": self._mean}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `state` returned."""
        self._mean = state.get("mean")


def limit_size(height: int, width: int, most: float) -> tuple[int, int]:
    """The same proportions in at most so many pixels; a size within the limits stays as it is.

    Example:
        >>> limit_size(3000, 4000, 50176), limit_size(100, 80, 50176), limit_size(1, 900, 50176)
        ((193, 258), (100, 80), (1, 4))
    """
    shrink = min(1.0, math.sqrt(most / (height * width)))
    height, width = max(1, int(height * shrink)), max(1, int(width * shrink))
    return min(height, int(MAX_ASPECT_RATIO * width)), min(width, int(MAX_ASPECT_RATIO * height))


_REGISTRY: dict[str, Callable[[Path, str], FeatureExtractor]] = {
    "hf:": lambda folder, name: BackboneExtractor(Backbone.load(name)),
    "filters": lambda folder, name: ScatteringExtractor(),
    "embedder": lambda folder, name: EmbedderExtractor(Embedder.load(Run(folder).open().folder)),
}


def make_extractor(folder: Path, name: str | None) -> FeatureExtractor:
    """The feature extractor of a name; without one, the trained network of the run, or filters where there is none.

    Args:
        folder: the run folder.
        name: `hf:NAME_OR_FOLDER`, `filters`, `embedder` (the network of the run), or `None`.

    Raises:
        InputError: there is no such extractor, or no trained run in the folder.
    """
    if name is None:
        run = Run(folder)
        name = "embedder" if run.complete or run.checkpoint.exists() else "filters"
    prefix, colon, _ = name.partition(":")
    make = _REGISTRY.get(prefix + colon)
    if make is None:
        raise InputError(f"encoder {name}: give hf:NAME_OR_FOLDER, filters, or embedder, the network of RUN")
    return make(folder, name)
