"""Outlines of synthetic defects: a height from 0 to 1 at each pixel.

A shape is a function of the size and the photograph's shorter side, both in pixels, and a generator. It returns float32
`[h, w]`, above 0 where the defect is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

_EDGE = 0.2  # where on the slope of a soft edge the outline is: a tenth of the height is reached there

Field = NDArray[np.float32]


def _patch(size: float, side: int, rng: np.random.Generator) -> Field:
    """An upright rectangle, up to twice as long as wide."""
    longer, shorter = round(size), max(1, round(size * rng.uniform(0.5, 1)))
    return np.ones((longer, shorter) if rng.random() < 0.5 else (shorter, longer), np.float32)


def _turned_patch(size: float, side: int, rng: np.random.Generator) -> Field:
    """A thin rectangle at any angle, 4 to 10 times as long as wide unless the photograph is too small for it."""
    length = max(1.5 * size, min(size * rng.uniform(4, 10), 0.7 * side))
    angle = rng.uniform(0, np.pi)
    height = math.ceil(length * abs(math.sin(angle)) + size * abs(math.cos(angle)))
    width = math.ceil(length * abs(math.cos(angle)) + size * abs(math.sin(angle)))
    along, across = _turned_grid(height, width, angle)
    return ((np.abs(along) <= length / 2) & (np.abs(across) <= size / 2)).astype(np.float32)


def _perlin_region(size: float, side: int, rng: np.random.Generator) -> Field:
    """Where Perlin noise is high, within a circle; stretched so that its longer side is the size."""
    number = round(size)
    work = min(max(number, 16), 128)
    y, x = centred_grid(work, work)
    hill = 1 - (y * y + x * x) / (work / 2) ** 2
    land = hill + 0.8 * perlin_noise((work, work), int(rng.integers(2, 5)), rng)
    circle = hill > 0
    region = circle & (land > min(0.3, float(np.quantile(land[circle], 0.75))))
    rows, columns = find_objects(region.astype(np.uint8))[0]
    region = region[rows, columns]
    stretch = number / max(region.shape)
    for axis, length in enumerate(region.shape):
        count = max(1, round(length * stretch))
        # The largest of the pixels that fall into one; where the region grows, each is repeated.
        region = np.maximum.reduceat(region, np.arange(count) * length // count, axis=axis)
    return region.astype(np.float32)


def _spot(size: float, side: int, rng: np.random.Generator) -> Field:
    """A round or slightly oval blob with a soft edge."""
    angle, stretch, edge = rng.uniform(0, np.pi), rng.uniform(1, 1.3), size * rng.uniform(0.1, 0.4) + 0.5
    along, across = _turned_grid(round(size), round(size), angle)
    return _soften(size / 2 - np.hypot(along, across * stretch), edge)


def _stain(size: float, side: int, rng: np.random.Generator) -> Field:
    """A patch with an uneven outline that fades from its middle outwards."""
    angle, stretch, edge = rng.uniform(0, np.pi), rng.uniform(1, 1.7), size * rng.uniform(0.15, 0.35) + 0.5
    along, across = _turned_grid(round(size), round(size), angle)
    bearing = np.arctan2(across, along)
    outline = np.ones_like(bearing)
    for n in (2, 3, 5):
        height, start = np.float32(rng.uniform(0, 0.12)), np.float32(rng.uniform(0, 2 * np.pi))
        outline += height * np.cos(n * bearing + start)
    return _soften(size / 2 * outline / outline.max() - np.hypot(along, across * stretch), edge)


def _scratch(size: float, side: int, rng: np.random.Generator) -> Field:
    """A line with slight bends, 8 to 16 times as long as wide unless the photograph is too small; faint ends."""
    length = max(2 * size, min(size * rng.uniform(8, 16), 0.7 * side))
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(-0.35, 0.35, 4))
    steps = np.stack([np.sin(turns), np.cos(turns)], axis=1) * (length - size) / len(turns)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    points -= (points.min(axis=0) + points.max(axis=0)) / 2
    height, width = np.ceil(np.ptp(points, axis=0) + size).astype(int)
    y, x = centred_grid(height, width)
    nearest, position = np.full((height, width), np.inf, np.float32), np.zeros((height, width), np.float32)
    for k, ((y0, x0), (dy, dx)) in enumerate(zip(points[:-1], steps, strict=True)):
        t = np.clip(((y - y0) * dy + (x - x0) * dx) / (dy * dy + dx * dx), 0, 1)
        distance = np.hypot(y - y0 - t * dy, x - x0 - t * dx)
        position = np.where(distance < nearest, (k + t) / len(steps), position)
        nearest = np.minimum(nearest, distance)
    faint = 1 - 0.7 * np.abs(2 * position - 1) ** 4
    shape: Field = (_soften(size / 2 - nearest, 0.3 * size + 0.2) * faint).astype(np.float32)
    return shape


def centred_grid(height: int, width: int) -> tuple[Field, Field]:
    """Coordinates from the middle, `[h, 1]` and `[1, w]`."""
    y = np.arange(height, dtype=np.float32) - (height - 1) / 2
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2
    return y[:, None], x[None, :]


def _turned_grid(height: int, width: int, angle: float) -> tuple[Field, Field]:
    y, x = centred_grid(height, width)
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _soften(depth: NDArray[Any], edge: float) -> Field:
    """Heights 0 to 1 from the depth inside an outline in pixels, which rise over `edge` pixels; 0 outside."""
    t = np.clip(depth / edge + _EDGE, 0, 1)
    return np.where(depth >= 0, t * t * (3 - 2 * t), 0).astype(np.float32)


def perlin_noise(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> Field:
    """Gradient noise of deviation about 1 with so many cells along each side."""
    angles = rng.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
    slopes = np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)
    v, u = ((np.arange(n, dtype=np.float32) + 0.5) / n * cells for n in shape)
    i, j = np.minimum(v.astype(np.intp), cells - 1), np.minimum(u.astype(np.intp), cells - 1)
    dy, dx = (v - i)[:, None], (u - j)[None, :]
    fade_y, fade_x = (t**3 * (t * (6 * t - 15) + 10) for t in (dy, dx))
    corners = [
        slopes[0][np.ix_(i + a, j + b)] * (dy - a) + slopes[1][np.ix_(i + a, j + b)] * (dx - b)
        for a in (0, 1)
        for b in (0, 1)
    ]
    upper = corners[0] + fade_x * (corners[1] - corners[0])
    lower = corners[2] + fade_x * (corners[3] - corners[2])
    raw = upper + fade_y * (lower - upper)
    noise: Field = (4 * raw).astype(np.float32)  # the deviation of raw is about 1/4
    return noise


SHAPES: dict[str, Callable[[float, int, np.random.Generator], Field]] = {
    "cut-paste": _patch,
    "scar": _turned_patch,
    "blend": _perlin_region,
    "spot": _spot,
    "scratch": _scratch,
    "stain": _stain,
}
"""Shapes by the kind of defect."""
THIN = ("scar", "scratch")
"""Kinds whose size is their width; they are far longer."""
