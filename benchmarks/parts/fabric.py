"""Fabric: a weave whose threads drift slowly; a missing thread, a stain, or a hole."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.parts.drawing import Chance, Floats, PartKind, Pixels, grid, smooth_noise, take_photo

MARGIN = 8
"""Threads outside the photograph on each side, which drift may bring into it."""


def draw(height: int, width: int, chance: Chance, defect: str | None) -> Pixels:
    """A piece of cloth."""
    lot, own, rng = chance.lot, chance.own, chance.defect
    pitch = lot.uniform(7.5, 9.5)
    twill = int(lot.integers(2, 4))  # a thread lies over each second, or each third, that it crosses
    y, x = grid(height, width)
    turn = np.radians(own.normal(0, 2))
    # Where a pixel lies, counted in threads; the phase differs from photograph to photograph, and over each of them.
    drift = 0.4 * pitch * np.stack([smooth_noise(own, height, width, 110) for _ in range(2)])
    drift += 0.05 * pitch * np.stack([smooth_noise(own, height, width, 25) for _ in range(2)])
    start = own.uniform(0, 6, 2) + MARGIN
    across = (np.cos(turn) * x + np.sin(turn) * y + drift[0]) / pitch + start[0]
    down = (np.cos(turn) * y - np.sin(turn) * x + drift[1]) / pitch + start[1]
    down = down - np.minimum(down.min(), 0)
    across = across - np.minimum(across.min(), 0)
    warp, weft = across.astype(int), down.astype(int)
    over = (warp + weft) % twill == 0
    shades = [1 + 0.045 * own.standard_normal(int(most.max()) + 1) for most in (warp, weft)]
    widths = [own.normal(0.86, 0.025, int(most.max()) + 1) for most in (warp, weft)]

    missing = np.zeros((height, width), np.float32)
    if defect == "missing thread":
        cy, cx = (int(rng.uniform(0.15, 0.85) * side) for side in (height, width))
        half = rng.uniform(3, 11) * pitch
        gone = weft == weft[cy, cx]
        missing = gone * np.clip((half - np.abs(x - cx)) / pitch + 0.5, 0, 1).astype(np.float32)

    u, v = across - warp - 0.5, down - weft - 0.5
    # A thread is round across, and dives under those that it crosses.
    warp_light = _round(u, widths[0][warp]) * (0.75 + 0.25 * np.cos(np.pi * v) ** 2)
    weft_light = _round(v, widths[1][weft]) * (0.75 + 0.25 * np.cos(np.pi * u) ** 2)
    fuzz = 1 + 0.07 * own.standard_normal((height, width), np.float32)
    warp_light = warp_light * shades[0][warp] * 0.96
    weft_light = weft_light * shades[1][weft] * (1 - missing)
    top, below = np.where(over, weft_light, warp_light), np.where(over, warp_light, weft_light)
    # Through gaps between threads one sees those below, in their shade, and between these the ground.
    cloth = np.where(top > 0.12, top, np.maximum(0.55 * below, 0.16)) * fuzz
    level = lot.uniform(120, 165) * own.uniform(0.95, 1.05)
    light = 1 + own.normal(0, 0.08) * (x / width - 0.5) + own.normal(0, 0.08) * (y / height - 0.5)
    image = (level * light * cloth).astype(np.float32)
    if defect == "stain":
        image = image * (1 - _stain(height, width, rng))
    if defect == "hole":
        image = _tear(image, down, across, pitch, level, rng)
    tint = np.array(lot.uniform(0.82, 1.05, 3), np.float32)
    return take_photo(image[:, :, None] * tint, own, blur=0.7, noise=2.5)


def _round(away: Floats, width: Floats) -> Floats:
    return np.sqrt(np.maximum(1 - (2 * away / width) ** 2, 0)) * 0.6 + 0.4 * (2 * np.abs(away) < width)


def _stain(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Share of the light that a dried drop takes: more at its uneven edge."""
    y, x = grid(height, width)
    cy, cx, radius = rng.uniform(0.1, 0.9) * height, rng.uniform(0.1, 0.9) * width, rng.uniform(9, 22)
    away = np.hypot((y - cy) * rng.uniform(0.7, 1.4), x - cx) / radius
    away = away + 0.16 * smooth_noise(rng, height, width, 12)
    inside = np.clip(4 * (1 - away) + 0.5, 0, 1)
    ring = np.exp(-(((away - 0.95) / 0.12) ** 2))
    stain: Floats = (rng.uniform(0.1, 0.25) * (0.7 * inside + 0.6 * ring)).astype(np.float32)
    return stain


def _tear(
    image: Floats, down: Floats, across: Floats, pitch: float, level: float, rng: np.random.Generator
) -> Floats:
    """The cloth with one to three threads torn away over a few others, and loose fibres left."""
    height, width = image.shape
    cy, cx = (int(rng.uniform(0.1, 0.9) * side) for side in (height, width))
    radius = rng.uniform(0.9, 1.9)
    away = np.hypot(down - down[cy, cx], across - across[cy, cx]) + 0.3 * smooth_noise(
        rng, height, width, 0.6 * pitch
    )
    hole = gaussian_filter((away < radius).astype(np.float32), 0.6)
    fibres = 1 / (1 + np.exp(-4 * (smooth_noise(rng, height, width, 2.5) - 1.2)))
    ground = level * (rng.uniform(0.1, 0.35) + 0.5 * fibres)
    torn: Floats = (image + hole * (ground - image)).astype(np.float32)
    return torn


FABRIC = PartKind((400, 400), ("missing thread", "stain", "hole"), draw)
