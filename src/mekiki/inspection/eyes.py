"""Eyes: what a judge looks through. Photographs of one size in, views of them out, and where they depart.

A trained run looks through its `Embedder`; `hf:NAME_OR_FOLDER` through two layers of a pretrained backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mekiki.backbones import Backbone
from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.images import Pixels

Floats = NDArray[np.float32]
Score = Callable[[Mapping[str, Floats]], NDArray[np.float64]]
"""From views of photographs to how far they are from good."""

DEPTHS = (0.64, 0.72)
"""How deep the two layers of a backbone lie, as a share of its depth: past textures, before names of things."""
QUARTERS = 2
"""A photograph is looked at in so many rows and columns, for a defect to weigh against a part of it, not the whole."""
OCCLUSIONS = 7
"""Rows and columns of the places that are covered one by one, where an eye has no patches."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What an eye sees of N photographs.

    Attributes:
        views: float32 `[N, d]` each, for a `mekiki.judging.Judge`.
        places: float32 `[N, h, w]`, how far each place departs from the same place of OK parts; 1 is usual.
    """

    views: dict[str, Floats]
    places: Floats | None


class Eye(Protocol):
    """What the rest of the room asks of an eye."""

    name: str
    size: tuple[int, int]
    channels: int

    def learn(self, blocks: Iterable[Pixels]) -> None:
        """Learn from OK parts what each place looks like."""

    def see(self, pixels: Pixels, score: Score | None = None) -> Sight:
        """Look; with `score` given, say where as well."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""


class BackboneEye:
    """Two layers of a frozen backbone: mean and spread of each channel in each quarter of the photograph.

    Where it departs: at every place of the first layer's grid, the Mahalanobis distance from the mean of the same
    place in OK parts, with one covariance for all places (a light form of PaDiM, Defard et al. 2021,
    doi 10.1007/978-3-030-68799-1_35, which has one a place).

    Args:
        backbone: the pretrained encoder.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.name = f"hf:{backbone.place}"
        self.fingerprint = backbone.fingerprint
        self.size, self.channels = backbone.input_size, 3
        self.layers = sorted({max(1, round(depth * (backbone.layers - 1))) for depth in DEPTHS})
        self._local: _Local | None = None

    def learn(self, blocks: Iterable[Pixels]) -> None:
        """Learn what each place of OK parts looks like, in one pass with flat memory."""
        gathered = _Gathered()
        for pixels in blocks:
            for seen in self.backbone.look(pixels, [self.layers[0]]):
                gathered.add(seen.patches[self.layers[0]])
        self._local = gathered.local()

    def see(self, pixels: Pixels, score: Score | None = None) -> Sight:
        """Views of photographs `[N, H, W]` or `[N, H, W, 3]`; places too if `learn` was called."""
        views: dict[str, list[Floats]] = {f"layer {layer}": [] for layer in self.layers}
        places = []
        for seen in self.backbone.look(pixels, self.layers):
            for layer in self.layers:
                views[f"layer {layer}"].append(quartered(seen.patches[layer]))
            if self._local is not None:
                places.append(self._local.distances(seen.patches[self.layers[0]]))
        joined = {name: np.concatenate(parts) for name, parts in views.items()}
        return Sight(joined, np.concatenate(places) if places else None)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""
        return (
            {}
            if self._local is None
            else {f"local/{name}": value for name, value in vars(self._local).items()}
        )

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        if "local/means" in arrays:
            self._local = _Local(arrays["local/means"], arrays["local/whitening"], arrays["local/usual"])


class EmbedderEye:
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
        self.channels, height, width = embedder.input_shape_
        self.size = (height, width)
        self._mean: NDArray[np.uint8] | None = None

    def learn(self, blocks: Iterable[Pixels]) -> None:
        """Learn the mean photograph of OK parts."""
        total, number = 0.0, 0
        for pixels in blocks:
            total = total + pixels.sum(axis=0, dtype=np.float64)
            number += len(pixels)
        if number:
            self._mean = np.rint(total / number).astype(np.uint8)

    def see(self, pixels: Pixels, score: Score | None = None) -> Sight:
        """Views of photographs; places, at the cost of 49 more looks each, with `score`."""
        views = {"embedding": self.embedder.transform(pixels)}
        if score is None or self._mean is None:
            return Sight(views, None)
        scores = score(views)
        return Sight(
            views, np.stack([self._occluded(*each, score) for each in zip(pixels, scores, strict=True)])
        )

    def _occluded(
        self,
        image: NDArray[np.uint8],
        before: float,
        score: Score,
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
        lost = before - score({"embedding": self.embedder.transform(covered)})
        return lost.reshape(rows, columns).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""
        return {} if self._mean is None else {"mean": self._mean}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self._mean = arrays.get("mean")


def quartered(patches: Floats) -> Floats:
    """Mean and spread of each channel in each quarter: `[N, h, w, d]` → `[N, 8d]`; on grids of one row, of the whole.

    Example:
        >>> quartered(np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1))
        array([[0., 1., 2., 3., 0., 0., 0., 0.]], dtype=float32)
    """
    height, width = patches.shape[1:3]
    means, spreads = [], []
    for rows in _cuts(height):
        for columns in _cuts(width):
            part = patches[:, rows, columns].reshape(len(patches), -1, patches.shape[3])
            means.append(part.mean(axis=1))
            spreads.append(part.std(axis=1))
    return np.concatenate(means + spreads, axis=1).astype(np.float32)


def _cuts(length: int) -> list[slice]:
    number = min(QUARTERS, length)
    return [slice(i * length // number, (i + 1) * length // number) for i in range(number)]


@dataclass(frozen=True, eq=False)
class _Local:
    """What each place looks like.

    Attributes:
        means: float32 `[h, w, d]`.
        whitening: float32 `[d, d]`.
        usual: float32 `[1]`, root mean square distance of the OK places it was learnt from.
    """

    means: Floats
    whitening: Floats
    usual: Floats

    def distances(self, patches: Floats) -> Floats:
        """`[N, h, w, d]` → `[N, h, w]`, in units of what is usual."""
        if patches.shape[1:] != self.means.shape:
            raise InputError(
                f"places {patches.shape[1:]} where {self.means.shape} were learnt; calibrate again"
            )
        apart = ((patches - self.means) @ self.whitening).reshape(-1, patches.shape[3])
        length = np.sqrt(np.einsum("nd,nd->n", apart, apart)) / self.usual[0]
        return np.asarray(length.reshape(patches.shape[:3]), np.float32)


class _Gathered:
    """Moments of places, added up block by block."""

    def __init__(self) -> None:
        self.number = 0
        self.sums: NDArray[np.float64] | None = None
        self.products: NDArray[np.float64] | None = None

    def add(self, patches: Floats) -> None:
        flat = patches.reshape(-1, patches.shape[3])
        products = (flat.T @ flat).astype(np.float64)
        sums = patches.sum(axis=0, dtype=np.float64)
        if self.sums is None or self.products is None:
            self.sums, self.products = sums, products
        else:
            self.sums += sums
            self.products += products
        self.number += len(patches)

    def local(self) -> _Local | None:
        if self.sums is None or self.products is None or self.number < 2:
            return None
        means = self.sums / self.number
        flat = means.reshape(-1, means.shape[2])
        covariance = (self.products - self.number * flat.T @ flat) / (self.number * len(flat))
        items = len(covariance)
        covariance += np.eye(items) * max(1e-2 * np.trace(covariance) / items, 1e-12)
        values, directions = np.linalg.eigh(covariance)
        whitening = directions / np.sqrt(values)
        usual = np.sqrt(np.trace(whitening.T @ covariance @ whitening))
        return _Local(means.astype(np.float32), whitening.astype(np.float32), np.asarray([usual], np.float32))
