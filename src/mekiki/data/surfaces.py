"""Grey metal surfaces, generated: ground, brushed or cast, clean or with a scratch, pits, a stain or a crack.

No photograph is behind them. They stand in where no inspection images are at hand, with masks that are exactly
right; how well a network does on them says nothing about a real line.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from mekiki.data.image_set import ImageSet
from mekiki.errors import InputError

CLASSES = ("clean", "scratch", "pit", "stain", "crack")
DEFAULT_PER_CLASS = 300
DEFAULT_SIDE = 64
SMALLEST_SIDE, LARGEST_SIDE = 16, 1024

Field = NDArray[np.float32]


def generate_surfaces(
    size: tuple[int, int] | None = None, *, per_class: int | None = None, seed: int = 0
) -> ImageSet:
    """Generate `per_class` surfaces of each of `CLASSES`, with masks of the defects.

    Image i of a class depends on seed, size, class and i alone, not on how many are made.

    Args:
        size: height and width, 16 to 1024 pixels; 64×64 by default.
        per_class: images of each class; 300 by default.
        seed: a non-negative whole number.

    Raises:
        InputError: the size is out of range.

    Example:
        >>> few = generate_surfaces((32, 32), per_class=2)
        >>> few.counts(), few.names[3], few.masks[:2].any(), few.masks[2:].any(axis=(1, 2)).all()
        ({'clean': 2, 'scratch': 2, 'pit': 2, 'stain': 2, 'crack': 2}, 'surfaces/scratch/1', np.False_, np.True_)
    """
    height, width = size or (DEFAULT_SIDE, DEFAULT_SIDE)
    each = DEFAULT_PER_CLASS if per_class is None else per_class
    if not SMALLEST_SIDE <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise InputError(
            f"surfaces: sides must be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, not {height}×{width}"
        )
    pixels = np.empty((len(CLASSES) * each, height, width), np.uint8)
    masks = np.zeros(pixels.shape, bool)
    for label, kind in enumerate(CLASSES):
        for i in range(each):
            row = label * each + i
            pixels[row], masks[row] = _surface(kind, (height, width), np.random.default_rng((seed, label, i)))
    labels = np.repeat(np.arange(len(CLASSES)), each)
    names = [f"surfaces/{kind}/{i}" for kind in CLASSES for i in range(each)]
    return ImageSet(pixels, labels, CLASSES, names, f"surfaces (generated, seed {seed})", masks)


def _surface(
    kind: str, size: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    scale = min(size) / 64
    texture = _texture(size, scale, rng)
    contrast = rng.uniform(5, 13)
    light = _light(size, rng)
    # Deeper than the texture by a varied factor: some defects are plain, some have to be looked for.
    depth = contrast * rng.uniform(1.8, 4.5) + 8
    if kind == "clean":
        change, shape = np.zeros(size, np.float32), np.zeros(size, np.float32)
    elif kind == "scratch":
        shape = _scratch(size, scale, rng)
        change = shape * depth * rng.choice((-1, 1))
    elif kind == "pit":
        shape, rim = _pits(size, scale, rng)
        change = (0.7 * rim - shape) * depth
    elif kind == "stain":
        shape = _stain(size, scale, rng)
        change = shape * (0.5 * depth + 4) * rng.choice((-1, 1), p=(0.75, 0.25))
        texture = texture * (1 - 0.35 * shape)
    else:
        shape = _crack(size, scale, rng)
        change = -shape * depth * 1.2
    values = light * (1 + (contrast * texture + change) / 128) + rng.normal(0, rng.uniform(1, 2.5), size)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8), shape > 0.3


def _texture(size: tuple[int, int], scale: float, rng: np.random.Generator) -> Field:
    """Filtered noise of mean 0 and deviation 1: streaks (ground, brushed) or blotches (cast)."""
    angle = rng.uniform(0, np.pi)
    finish = rng.choice(("ground", "brushed", "cast"))
    if finish == "ground":
        along, across, grain = rng.uniform(3, 7), rng.uniform(0.4, 0.7), 0.5
    elif finish == "brushed":
        along, across, grain = rng.uniform(10, 22), rng.uniform(0.5, 1.0), 0.3
    else:
        along = across = rng.uniform(0.9, 1.8)
        grain = 0.6
    main = _filtered_noise(size, angle, along * scale, across * scale, rng)
    fine = _filtered_noise(size, angle, 0.6, 0.6, rng)
    cloud = _filtered_noise(size, 0, 9 * scale, 9 * scale, rng)
    mixed = main + grain * fine + rng.uniform(0.1, 0.5) * cloud
    texture: Field = mixed / mixed.std()
    return texture


def _filtered_noise(
    size: tuple[int, int], angle: float, along: float, across: float, rng: np.random.Generator
) -> Field:
    """White noise blurred by a Gaussian, `along` and `across` pixels wide, turned by `angle`; deviation 1."""
    vertical, horizontal = _frequencies(size)
    a = (np.cos(angle) * horizontal + np.sin(angle) * vertical) * along
    b = (np.cos(angle) * vertical - np.sin(angle) * horizontal) * across
    spectrum = np.fft.rfft2(rng.standard_normal(size)) * np.exp(-2 * np.pi**2 * (a * a + b * b))
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=size)
    field: Field = (noise / noise.std()).astype(np.float32)
    return field


def _light(size: tuple[int, int], rng: np.random.Generator) -> Field:
    """Brightness, its slope in some direction, and a slightly darker border."""
    y, x = _grid(size)
    v, u = y / size[0] - 0.5, x / size[1] - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.25) * (np.cos(angle) * u + np.sin(angle) * v)
    light: Field = rng.uniform(95, 170) * (1 + slope - rng.uniform(0, 0.3) * (u * u + v * v))
    return light


def _scratch(size: tuple[int, int], scale: float, rng: np.random.Generator) -> Field:
    """One or two thin strokes, hardly curved, that fade at their ends."""
    shape = np.zeros(size, np.float32)
    for _ in range(rng.integers(1, 3)):
        length = rng.uniform(0.35, 0.9) * min(size)
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
        turns = angle + bend * np.linspace(-0.5, 0.5, 7)
        steps = np.stack([np.sin(turns), np.cos(turns)], axis=1) * (length / 6)
        points = np.concatenate([[[0.0, 0.0]], np.cumsum(steps[:-1], axis=0)])
        points += _place(size, rng, 0.3) - points.mean(axis=0)
        stroke = _stroke(size, points, rng.uniform(0.5, 0.9) * max(scale, 0.8), fade=0.25)
        shape = np.maximum(shape, stroke * rng.uniform(0.75, 1))
    return shape


def _pits(size: tuple[int, int], scale: float, rng: np.random.Generator) -> tuple[Field, Field]:
    """One to four dark holes, not quite round, each with a bright rim on the side that the light leaves."""
    y, x = _grid(size)
    shape, rim = np.zeros(size, np.float32), np.zeros(size, np.float32)
    lit = rng.uniform(0, 2 * np.pi)
    for _ in range(rng.integers(1, 5)):
        centre = _place(size, rng, 0.1)
        dy, dx = y - centre[0], x - centre[1]
        radius = rng.uniform(1.4, 3.6) * scale + 0.3
        bearing = np.arctan2(dy, dx)
        wobble = (
            1 + 0.18 * np.sin(2 * bearing + rng.uniform(0, 6)) + 0.1 * np.sin(3 * bearing + rng.uniform(0, 6))
        )
        distance = np.hypot(dy, dx) / (radius * wobble)
        hole = 1 / (1 + np.exp((distance - 1) * 6))
        ring = np.exp(-(((distance - 1.45) / 0.3) ** 2)) * np.clip(np.cos(bearing - lit), 0, 1)
        shape, rim = np.maximum(shape, hole), np.maximum(rim, ring)
    return shape, rim * (1 - shape)


def _stain(size: tuple[int, int], scale: float, rng: np.random.Generator) -> Field:
    """A soft patch with an uneven outline."""
    y, x = _grid(size)
    centre = _place(size, rng, 0.22)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.7)
    dy, dx = y - centre[0], x - centre[1]
    a = (np.cos(angle) * dx + np.sin(angle) * dy) / stretch
    b = np.cos(angle) * dy - np.sin(angle) * dx
    radius = rng.uniform(6.5, 13) * scale
    outline = np.hypot(a, b) / radius + 0.22 * _filtered_noise(size, 0, 4 * scale, 4 * scale, rng)
    # The noise may dent the patch but never wipe out its heart.
    heart = np.hypot(a, b) < 0.25 * radius + 1
    patch = 1 / (1 + np.exp((outline - 1) * rng.uniform(5, 14)))
    shape: Field = np.maximum(patch, 0.8 * heart).astype(np.float32)
    return shape


def _crack(size: tuple[int, int], scale: float, rng: np.random.Generator) -> Field:
    """A thin jagged line with now and then a branch, uneven in width."""
    length = rng.uniform(0.45, 0.95) * min(size)
    joints = int(rng.integers(8, 15))
    angle = rng.uniform(0, 2 * np.pi)
    points = _jagged_path(joints, length / joints, angle, rng)
    points += _place(size, rng, 0.35) - points.mean(axis=0)
    shape = _stroke(size, points, rng.uniform(0.45, 0.8) * max(scale, 0.8), fade=0.1)
    if rng.random() < 0.6:
        start = points[rng.integers(2, joints - 2)]
        side = angle + rng.choice((-1, 1)) * rng.uniform(0.5, 1.1)
        branch = start + _jagged_path(joints // 2, length / joints, side, rng)
        shape = np.maximum(shape, 0.85 * _stroke(size, branch, 0.5 * max(scale, 0.8), fade=0.4))
    return shape * (1 - 0.25 * (_filtered_noise(size, 0, 2 * scale, 2 * scale, rng) > 0.8))


def _jagged_path(joints: int, step: float, angle: float, rng: np.random.Generator) -> NDArray[np.float64]:
    turns = angle + rng.uniform(-0.8, 0.8, joints)
    lengths = step * rng.uniform(0.5, 1.5, joints)
    steps = np.stack([np.sin(turns), np.cos(turns)], axis=1) * lengths[:, None]
    return np.concatenate([[[0.0, 0.0]], np.cumsum(steps, axis=0)])


def _stroke(size: tuple[int, int], points: NDArray[np.float64], width: float, *, fade: float) -> Field:
    """1 on the line through `points` `[K, 2]` (y, x), falling off over `width` pixels and towards its ends."""
    y, x = _grid(size)
    nearest = np.full(size, np.inf, np.float32)
    along = np.zeros(size, np.float32)
    segments = len(points) - 1
    for k in range(segments):
        (y0, x0), (dy, dx) = points[k], points[k + 1] - points[k]
        t = np.clip(((y - y0) * dy + (x - x0) * dx) / (dy * dy + dx * dx), 0, 1)
        distance = (y - y0 - t * dy) ** 2 + (x - x0 - t * dx) ** 2
        closer = distance < nearest
        nearest = np.where(closer, distance, nearest)
        along = np.where(closer, (k + t) / segments, along)
    ends = np.clip(np.minimum(along, 1 - along) / fade, 0.15, 1)
    stroke: Field = (np.exp(-nearest / (2 * width * width)) * ends).astype(np.float32)
    return stroke


def _place(size: tuple[int, int], rng: np.random.Generator, margin: float) -> NDArray[np.float64]:
    """A point that keeps away from the border by `margin` of each side."""
    point: NDArray[np.float64] = rng.uniform(margin, 1 - margin, 2) * np.array(size)
    return point


@functools.lru_cache(maxsize=4)
def _grid(size: tuple[int, int]) -> tuple[Field, Field]:
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return y, x


@functools.lru_cache(maxsize=4)
def _frequencies(size: tuple[int, int]) -> tuple[Field, Field]:
    vertical = np.fft.fftfreq(size[0]).astype(np.float32)[:, None]
    horizontal = np.fft.rfftfreq(size[1]).astype(np.float32)[None, :]
    return vertical, horizontal
