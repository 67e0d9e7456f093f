"""Castings that always lie alike, but for small shifts, under light that is mirrored at another place each time."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.parts.drawing import (
    Chance,
    Floats,
    PartKind,
    Pixels,
    grid,
    light_relief,
    mix,
    smooth_noise,
    take_photo,
    text,
)

HOLES = 6
RIBS = 5


def draw(height: int, width: int, chance: Chance, defect: str | None) -> Pixels:
    """A flange with holes, ribs, a hub and a raised mark, seen from above."""
    lot, own, rng = chance.lot, chance.own, chance.defect
    unit = min(height, width) / 384  # one pixel of the default size
    y, x = grid(height, width)
    turn, zoom = np.radians(own.normal(0, 0.4)), 1 + own.normal(0, 0.003)
    shift = own.normal(0, 1.2, 2)
    down, right = y - height / 2 - shift[0] * unit, x - width / 2 - shift[1] * unit
    v = (np.cos(turn) * down - np.sin(turn) * right) / (zoom * unit)
    u = (np.cos(turn) * right + np.sin(turn) * down) / (zoom * unit)
    away, bearing = np.hypot(v, u), np.arctan2(v, u)

    # Heights in pixels of the default size.
    relief = (
        9 * _step(172 - away, 5)
        - 5 * _step(118 - away, 6)
        + 16 * _step(52 - away, 6)
        - 26 * _step(24 - away, 2)
    )
    ribs = np.abs((bearing * RIBS / (2 * np.pi) + 0.25) % 1 - 0.5) * 2 * np.pi / RIBS * away
    relief = relief + 7 * _step(6 - ribs, 4) * _step(away - 44, 6) * _step(122 - away, 6)
    missing = rng.integers(HOLES) if defect == "missing hole" else -1
    bores = np.zeros((height, width), np.float32)
    for number in range(HOLES):
        at = 2 * np.pi * number / HOLES
        hole = np.hypot(v - 146 * np.sin(at), u - 146 * np.cos(at))
        wear = own.normal(0, 0.2)
        if number != missing:
            relief = relief - 2 * _step(14 + wear - hole, 2)
            bores = np.maximum(bores, _step(10.5 + wear - hole, 0.8))
    bores = np.maximum(bores, _step(22 - away, 1))
    relief = relief + 2.6 * gaussian_filter(
        _mark(height, width, (v, u), defect == "wrong mark", rng), 1.0 * unit
    )
    # The skin of the mould: coarse grains, and waves of the pattern.
    skin = 0.09 * smooth_noise(own, height, width, 2.2) + 0.15 * smooth_noise(own, height, width, 7)
    relief = relief + skin + 1.2 * smooth_noise(own, height, width, 45)
    if defect == "burr":
        relief = relief + _burr(v, u, height, width, rng)
    if defect == "pore":
        relief, bores = _pore(relief, bores, v, u, rng)

    lamp = -2.0 + lot.normal(0, 0.7) + own.normal(0, 0.15)
    slant = own.uniform(0.35, 0.7)
    lit = light_relief(
        (relief * unit).astype(np.float32),
        (-slant * np.sin(lamp), -slant * np.cos(lamp)),
        gloss=lot.uniform(0.35, 0.7) * own.uniform(0.8, 1.2),
        sharpness=lot.uniform(25, 60),
    )
    level = lot.uniform(78, 104) * own.uniform(0.93, 1.07)
    stain = 1 + 0.05 * smooth_noise(own, height, width, 30)
    metal = level * lit * stain
    ground = lot.uniform(22, 42) + 2 * smooth_noise(own, height, width, 60)
    image = mix(ground, _step(172 - away, 1), metal)
    return take_photo(mix(image, bores, 16.0), own, blur=0.7, noise=2.5)


def _step(depth: Floats, slope: float) -> Floats:
    """0 outside, 1 inside, with a smooth slope so many pixels wide."""
    t = np.clip(depth / slope + 0.5, 0, 1)
    step: Floats = (t * t * (3 - 2 * t)).astype(np.float32)
    return step


def _mark(
    height: int, width: int, place: tuple[Floats, Floats], wrong: bool, rng: np.random.Generator
) -> Floats:
    """The number of the mould on the flange, or one that is another part's."""
    words = rng.choice(["K73", "K18", "N78", "X78"]) if wrong else "K78"
    stamp = text(40, 60, str(words), (20, 30), 24)
    rows = np.clip(np.rint(place[0] - 145 + 20), 0, 39).astype(int)
    columns = np.clip(np.rint(place[1] + 30), 0, 59).astype(int)
    return stamp[rows, columns]


def _burr(v: Floats, u: Floats, height: int, width: int, rng: np.random.Generator) -> Floats:
    """A ragged ridge left at an edge: of a hole, of the flange, or of the bore of the hub."""
    edge = rng.integers(3)
    if edge == 0:
        at = 2 * np.pi * rng.integers(HOLES) / HOLES
        cv, cu, radius = 146 * np.sin(at), 146 * np.cos(at), 13.0
    else:
        cv, cu, radius = 0.0, 0.0, (116.0, 27.0)[edge - 1]
    bearing = np.arctan2(v - cv, u - cu)
    turned = np.abs((bearing - rng.uniform(0, 2 * np.pi) + np.pi) % (2 * np.pi) - np.pi) * radius
    half = rng.uniform(7, 16)
    off = np.abs(np.hypot(v - cv, u - cu) - radius - 1.0 * smooth_noise(rng, height, width, 4))
    burr: Floats = rng.uniform(4, 8) * np.exp(-((off / 2.5) ** 2)) * _step(half - turned, 3)
    return burr * (1 + 0.5 * smooth_noise(rng, height, width, 3))


def _pore(
    relief: Floats, bores: Floats, v: Floats, u: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """One to three hollows where gas was caught, dark at the bottom, on the faces of the part."""
    at, far = (
        rng.uniform(0, 2 * np.pi),
        rng.choice((rng.uniform(34, 46), rng.uniform(64, 110), rng.uniform(126, 164))),
    )
    cv, cu = far * np.sin(at), far * np.cos(at)
    for _ in range(rng.integers(1, 4)):
        radius, long = rng.uniform(2.8, 5.5), rng.uniform(1, 1.6)
        away = np.hypot((v - cv) / long, u - cu)
        relief = relief - 1.6 * radius * np.exp(-((away / radius) ** 2))
        bores = np.maximum(bores, 0.75 * _step(0.62 * radius - away, 1.2))
        cv, cu = cv + rng.normal(0, 8), cu + rng.normal(0, 8)
    return relief, bores


CASTINGS = PartKind((384, 384), ("missing hole", "burr", "pore", "wrong mark"), draw)
