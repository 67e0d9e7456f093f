"""Quadrant pooling, and the anomaly map that takes it apart again: what each place contributes to D²."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mekiki.judging.feature_judge import Judge
from mekiki.judging.judge_model import FINE, PATCHES
from mekiki.judging.judge_result import Slopes

Floats = NDArray[np.float32]

QUADRANTS = 2
"""Rows and columns that a photograph is pooled in, so that a defect weighs against a part of it, not the whole."""


def pool_quadrants(patches: Floats) -> Floats:
    """Mean and standard deviation of each channel in each quadrant: `[N, h, w, d]` → `[N, 8d]`.

    A grid of one row or column is not divided along it, so that there are fewer values.

    Example:
        >>> pool_quadrants(np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1))
        array([[0., 1., 2., 3., 0., 0., 0., 0.]], dtype=float32)
    """
    height, width = patches.shape[1:3]
    means, deviations = [], []
    for rows in quadrant_slices(height):
        for columns in quadrant_slices(width):
            quadrant = patches[:, rows, columns].reshape(len(patches), -1, patches.shape[3])
            means.append(quadrant.mean(axis=1))
            deviations.append(quadrant.std(axis=1))
    return np.concatenate(means + deviations, axis=1).astype(np.float32)


def quadrant_slices(length: int) -> list[slice]:
    """The `QUADRANTS` parts of one side of a grid; a side of a single place is not divided."""
    number = min(QUADRANTS, length)
    return [slice(i * length // number, (i + 1) * length // number) for i in range(number)]


def attribute_to_places(patches: Floats, slopes: Slopes) -> Floats:
    """What each place contributes to D² of a feature group that `pool_quadrants` made: `[N, h, w, d]` → `[N, h, w]`.

    D² = Σ slope·(feature − centre), and each feature is a mean over the places of a quadrant: of a channel p, or, for
    its deviation, of (p − mean)²/deviation. So D² is a sum over places, as it is a sum over features
    (`Judge.contributions`). A place with a negative contribution is more like good parts than these are among
    themselves.

    Example:
        >>> good = np.random.default_rng(0).normal(size=(99, 4, 4, 1)).astype(np.float32)
        >>> part = good[:1].copy()
        >>> part[0, 1, 2] = 9  # in row 1 and column 2
        >>> slopes = Judge().fit({"view": pool_quadrants(good)}).slopes({"view": pool_quadrants(part)})["view"]
        >>> divmod(int(attribute_to_places(part, slopes).argmax()), 4)
        (1, 2)
    """
    number, height, width, channels = patches.shape
    quadrants = [(rows, columns) for rows in quadrant_slices(height) for columns in quadrant_slices(width)]
    shape = (2, len(quadrants), channels)
    centres = slopes.centre.reshape(shape)
    gradient = slopes.gradient.reshape(number, *shape)
    contributions = np.zeros((number, height, width), np.float32)
    for place, (rows, columns) in enumerate(quadrants):
        inside = patches[:, rows, columns].reshape(number, -1, channels)
        mean, deviation = inside.mean(axis=1), inside.std(axis=1)
        of_mean, of_deviation = gradient[:, 0, place], gradient[:, 1, place] / np.maximum(deviation, 1e-6)
        level = np.einsum("npd,nd->np", inside - centres[0, place], of_mean)
        level += np.einsum("npd,nd->np", (inside - mean[:, None]) ** 2, of_deviation)
        level -= (gradient[:, 1, place] * centres[1, place]).sum(axis=1)[:, None]
        target = contributions[:, rows, columns]
        target[...] = (level / inside.shape[1]).reshape(target.shape)
    return contributions


def pooled_anomaly_maps(groups: dict[str, Floats], patches: dict[str, list[Floats]], judge: Judge) -> Floats:
    """Anomaly maps of pooled features: the sum over all feature groups, on the grid of the first.

    Args:
        groups: what `pool_quadrants` made, `[N, 8d]` by feature group.
        patches: what it was made from, `[h, w, d]` by feature group and photograph.
        judge: the fitted judge.

    Returns:
        float32 `[N, h, w]`, smoothed, at least 0.
    """
    slopes = judge.slopes(groups)
    first = next(iter(patches.values()))
    shape = first[0].shape[:2]
    maps = np.zeros((len(first), *shape), np.float32)
    for name, grids in patches.items():
        for row, grid in enumerate(grids):
            own = Slopes(slopes[name].centre, slopes[name].gradient[row : row + 1])
            maps[row] += _resize(attribute_to_places(grid[None], own)[0], shape)
    return smooth(np.maximum(maps, 0))


def detector_maps(judge: Judge, groups: Mapping[str, NDArray[Any]]) -> Floats | None:
    """Anomaly maps by the detectors of a judge, float32 `[N, h, w]`; `None` where it has none on patches.

    With a fine scale, a place has the larger of both scales' distances.

    Args:
        judge: fitted.
        groups: feature groups of the photographs; those that the judge does not know are passed over.
    """
    maps = judge.patch_maps(judge.select(groups))
    if PATCHES not in maps:
        return None
    coarse = smooth(maps[PATCHES])
    return larger_of_maps(coarse, maps[FINE]) if FINE in maps else coarse


def smooth(maps: Floats) -> Floats:
    """Each place averaged with its neighbours, weights 1 : 2 : 1 along both axes: `[N, h, w]` → `[N, h, w]`."""
    for axis in (1, 2):
        margins = [(0, 0)] * 3
        margins[axis] = (1, 1)
        padded = np.moveaxis(np.pad(maps, margins, mode="edge"), axis, 0)
        blurred = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        maps = np.ascontiguousarray(np.moveaxis(blurred, 0, axis), np.float32)
    return maps


def larger_of_maps(coarse: Floats, fine: Floats) -> Floats:
    """The larger of two maps at each place, on the grid of the second: `[N, h, w]`, `[N, H, W]` → `[N, H, W]`.

    Example:
        >>> larger_of_maps(np.zeros((1, 2, 2), np.float32), np.eye(3, dtype=np.float32)[None])[0, 1]
        array([0., 1., 0.], dtype=float32)
    """
    shape = fine.shape[1:]
    factor = math.prod(shape) / math.prod(coarse.shape[1:])  # undoes that a sum is kept
    resized = np.stack([factor * _resize(each, shape) for each in coarse])
    return np.asarray(np.maximum(resized, fine), np.float32)


def _resize(map_: Floats, shape: tuple[int, int]) -> Floats:
    """A map on another grid, `[h, w]` → `[*shape]`, with the same sum."""
    if map_.shape == shape:
        return map_
    resized = Image.fromarray(map_).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32) * (map_.size / math.prod(shape))
