"""Bars: turned, commutator-like parts with segments, seen from the side; hairline cracks are 1 to 3 px wide."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from benchmarks.parts.drawing import (
    Chance,
    Floats,
    PartKind,
    Pixels,
    cover,
    grid,
    line,
    smooth_noise,
    take_photo,
    wander,
)

SEGMENT = 0.46
"""Length of a segment as a share of the photograph's height."""


def draw(height: int, width: int, chance: Chance, defect: str | None) -> Pixels:
    """A bar that lies across the photograph."""
    lot, own = chance.lot, chance.own
    y, x = grid(height, width)
    # A cylinder, lit by a long lamp whose place differs from photograph to photograph.
    around = (y / height - 0.5) * own.uniform(1.5, 1.7)
    lamp, spread = own.normal(0, 0.12) + lot.uniform(-0.2, 0.2), own.uniform(0.25, 0.5)
    level = lot.uniform(85, 125) * own.uniform(0.9, 1.1)
    light = level * (0.35 + 0.65 * np.sqrt(np.maximum(1 - around**2, 0.05)))
    light = light + level * own.uniform(0.25, 0.6) * np.exp(-(((around - lamp) / spread) ** 2))
    light = light * (1 + own.normal(0, 0.12) * (x / width - 0.5))
    image = light * (1 + _turning_marks(height, width, lot, own))
    image = image * (1 + 0.035 * smooth_noise(own, height, width, 90))
    image = image * (1 + 0.02 * smooth_noise(own, height, width, 3))
    image = _grooves(image, lot, own)
    image = _dirt(image, own)
    if defect == "crack":
        image = image * (1 - _crack(height, width, chance.defect))
    return take_photo(image.astype(np.float32), own, blur=0.8, noise=3.0)


def _turning_marks(height: int, width: int, lot: np.random.Generator, own: np.random.Generator) -> Floats:
    """Fine lines around the bar: the feed of the tool, and its chatter."""
    feed = lot.uniform(5, 9)
    profile = gaussian_filter1d(own.standard_normal(width + 40), 0.9) * 0.09
    profile = profile + gaussian_filter1d(own.standard_normal(width + 40), 4) * 0.10
    positions = np.arange(width + 40)
    profile = profile + 0.03 * np.sin(
        2 * np.pi * positions / feed + gaussian_filter1d(own.standard_normal(width + 40), 30) * 12
    )
    # They fade and come again along their length.
    strength = 1 + 0.35 * smooth_noise(own, height, width, 45)
    slant = own.normal(0, 4)
    y, x = grid(height, width)
    at = np.clip(x + 20 + slant * (y / height - 0.5), 0, width + 39)
    marks: Floats = (np.interp(at.ravel(), positions, profile).reshape(at.shape) * strength).astype(
        np.float32
    )
    return marks


def _grooves(image: Floats, lot: np.random.Generator, own: np.random.Generator) -> Floats:
    """Dark slots between segments, with a bright edge on the side of the light."""
    height, width = image.shape
    y, x = grid(height, width)
    pitch = SEGMENT * height
    wide = lot.uniform(0.016, 0.024) * height
    start = own.normal(0.5, 0.03) * pitch
    for number in range(-1, int(width / pitch) + 2):
        middle = start + number * pitch + own.normal(0, 1.2) + own.normal(0, 1.5) * (y / height - 0.5)
        away = np.abs(x - middle)
        edge = np.exp(-(((x - middle + wide / 2 + 2) / 1.6) ** 2)) * own.uniform(0.1, 0.35)
        image = image * (1 + edge)
        depth = own.uniform(0.18, 0.32)
        image = image * (1 - (1 - depth) * cover((wide / 2 - away) / 1.5))
    return image


def _dirt(image: Floats, own: np.random.Generator) -> Floats:
    """Dust and rub marks, as on good parts."""
    height, width = image.shape
    y, x = grid(height, width)
    for _ in range(own.poisson(7)):
        cy, cx, radius = own.uniform(0, height), own.uniform(0, width), own.uniform(1, 3.2)
        top, left = max(0, int(cy - 12)), max(0, int(cx - 12))
        part = (slice(top, top + 25), slice(left, left + 25))
        dot = np.exp(-((y[part[0]] - cy) ** 2 + (x[:, part[1]] - cx) ** 2) / radius**2)
        image[part] *= 1 + own.choice((-1, 1)) * own.uniform(0.08, 0.3) * dot
    for _ in range(own.poisson(2)):  # rubbed along the bar when it was laid down
        cy, cx, length = own.uniform(0, height), own.uniform(0, width), own.uniform(40, 160)
        points = [(cy, cx), (cy + own.normal(0, 2), cx + length)]
        image = image * (1 + own.uniform(0.03, 0.08) * line(height, width, points, own.uniform(1, 3)))
    return image


def _crack(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Share of the light that a crack swallows."""
    length = rng.uniform(0.16, 0.5) * height
    angle = rng.uniform(0, 2 * np.pi)
    start = rng.uniform(0.12, 0.88) * height, rng.uniform(0.05, 0.95) * width
    contrast = rng.uniform(0.2, 0.55)
    dark = np.zeros((height, width), np.float32)
    paths = [wander(rng, start, angle, length, 4, 0.28)]
    if rng.random() < 0.4:  # a branch
        at = int(rng.uniform(0.2, 0.8) * len(paths[0]))
        turned = angle + rng.choice((-1, 1)) * rng.uniform(0.4, 1.0)
        paths.append(wander(rng, paths[0][at], turned, 0.4 * length, 4, 0.28))
    widest = rng.uniform(1.3, 3)
    for path in paths:
        along = np.linspace(-1, 1, len(path) - 1)
        widths = np.maximum(0.8, widest * (1 - along**2) * rng.uniform(0.7, 1.1, len(along)))
        dark = np.maximum(dark, line(height, width, path, widths.tolist()))
    dark *= contrast * (1 + 0.25 * np.clip(smooth_noise(rng, height, width, 14), -2, 2))
    return np.clip(dark, 0, 0.8)


BARS = PartKind((500, 1400), ("crack",), draw)
