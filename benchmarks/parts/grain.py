"""Brushed metal: grain in one direction, in lots that differ in grain and light; pits, and scratches across it."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter1d, uniform_filter1d

from benchmarks.parts.drawing import (
    Chance,
    Floats,
    PartKind,
    Pixels,
    grid,
    line,
    smooth_noise,
    take_photo,
    wander,
)


def draw(height: int, width: int, chance: Chance, defect: str | None) -> Pixels:
    """A piece of a brushed sheet."""
    lot, own = chance.lot, chance.own
    angle = np.radians(lot.normal(0, 5) + own.normal(0, 0.7))
    long, thin, rough = lot.uniform(15, 60), lot.uniform(0.5, 0.9), lot.uniform(7, 13)
    level, tilt = lot.uniform(105, 165), lot.uniform(-0.25, 0.25, 2)
    fine = _fibres(height, width, angle, long, thin, own)
    broad = _fibres(height, width, angle, 3 * long, 3.0, own)
    y, x = grid(height, width)
    light = 1 + (tilt[0] + own.normal(0, 0.05)) * (y / height - 0.5)
    light = light + (tilt[1] + own.normal(0, 0.05)) * (x / width - 0.5)
    light = light * (1 + 0.04 * smooth_noise(own, height, width, max(height, width) / 4))
    image = level * own.uniform(0.94, 1.06) * light + rough * (fine + 0.5 * broad)
    rng = chance.defect
    if defect == "pit":
        for _ in range(rng.integers(1, 4)):
            image = image + _pit(height, width, rng) * rough
    if defect == "scratch":
        image = image + _scratch(height, width, angle, rng) * rough
    return take_photo(image.astype(np.float32), own, blur=0.5, noise=2.0)


def _fibres(
    height: int, width: int, angle: float, long: float, thin: float, own: np.random.Generator
) -> Floats:
    """Noise of deviation 1 drawn out along an angle, with gaps where the brush held less."""
    side = int(np.hypot(height, width)) + 4
    lines = gaussian_filter1d(own.standard_normal((side, side), np.float32), thin, axis=0, mode="wrap")
    for _ in range(3):  # three boxes of twice a deviation are a Gaussian, and take no longer if they are wide
        lines = uniform_filter1d(lines, max(1, round(2 * long)), axis=1, mode="wrap")
    lines /= lines.std()
    lines *= 1 + 0.25 * smooth_noise(own, side, side, 60)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([height, width]) / 2
    offset = side / 2 - turn @ middle
    fibres: Floats = affine_transform(lines, turn, offset, (height, width), order=1, mode="mirror")
    return fibres


def _pit(height: int, width: int, rng: np.random.Generator) -> Floats:
    """A dark hollow, brighter at the rim that faces the light, in deviations of the grain."""
    y, x = grid(height, width)
    cy, cx = rng.uniform(0.04, 0.96) * height, rng.uniform(0.04, 0.96) * width
    radius, long, turned = rng.uniform(2.0, 5.0), rng.uniform(1, 1.5), rng.uniform(0, np.pi)
    along = np.cos(turned) * (x - cx) + np.sin(turned) * (y - cy)
    across = np.cos(turned) * (y - cy) - np.sin(turned) * (x - cx)
    away = np.hypot(along / long, across) / radius
    hollow = -np.exp(-(away**4))
    rim = np.exp(-(((away - 1.25) / 0.3) ** 2)) * np.clip((y - cy) / radius, 0, 1)
    pit: Floats = (rng.uniform(2.0, 4.5) * (hollow + 0.7 * rim)).astype(np.float32)
    return pit


def _scratch(height: int, width: int, angle: float, rng: np.random.Generator) -> Floats:
    """A thin line across the grain, with skips, bright on one flank and dark on the other."""
    turned = angle + rng.choice((-1, 1)) * rng.uniform(0.45, np.pi / 2)
    start = rng.uniform(0.1, 0.9) * height, rng.uniform(0.1, 0.9) * width
    length = rng.uniform(0.08, 0.3) * min(height, width) + 10
    points = wander(rng, start, turned, length, 5, 0.03)
    thickness = rng.uniform(1.0, 1.9)
    bright = line(height, width, points, thickness)
    beside = [(y + 1.0, x + 0.7) for y, x in points]
    dark = line(height, width, beside, thickness)
    held = 1 / (1 + np.exp(-3 * (smooth_noise(rng, height, width, 25) + 0.9)))
    sign = rng.choice((-1, 1))
    scratch: Floats = (rng.uniform(2.2, 4.5) * sign * held * (bright - 0.6 * dark)).astype(np.float32)
    return scratch


GRAIN = PartKind((480, 640), ("pit", "scratch"), draw)
