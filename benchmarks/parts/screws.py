"""Screws that lie any way round on a plain ground; defects change few pixels."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.parts.drawing import (
    Chance,
    Floats,
    PartKind,
    Pixels,
    cover,
    grid,
    mix,
    smooth_noise,
    take_photo,
)

LENGTH = 0.8
"""Length as a share of the photograph's shorter side."""


def draw(height: int, width: int, chance: Chance, defect: str | None) -> Pixels:
    """A screw on its side. Its own coordinates are `u`, along it from the head, and `v`, across."""
    lot, own, rng = chance.lot, chance.own, chance.defect
    length = LENGTH * min(height, width)
    unit = length / 410  # one pixel of the default size
    y, x = grid(height, width)
    turn = own.uniform(0, 2 * np.pi)
    cy, cx = height / 2 + own.normal(0, 6) * unit, width / 2 + own.normal(0, 6) * unit
    u = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy) + length / 2
    v = np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx)
    if defect == "bent tip":
        beyond = np.maximum(u - length * rng.uniform(0.82, 0.9), 0) / (0.14 * length)
        v = v - rng.choice((-1, 1)) * rng.uniform(14, 32) * unit * beyond

    # The lamp stands still while screws turn, so that light and shade change sides.
    lamp = -2.2 + lot.normal(0, 0.1) + own.normal(0, 0.05)
    side_light = np.sin(lamp - turn)
    pitch, depth = 23 * unit, 8 * unit
    core, head_end, thread_start = 20 * unit, 52 * unit, 96 * unit
    winding = own.uniform(0, 1)
    phase = u / pitch + winding + 0.5 * np.arcsin(np.clip(v / (core + depth), -1, 1)) / np.pi
    wave = np.abs(2 * (phase % 1) - 1)
    crest = np.clip(1.6 * wave - 0.2, 0, 1)
    if defect == "damaged thread":
        at = rng.uniform(thread_start + 2 * pitch, 0.86 * length)
        half = rng.uniform(0.8, 2.0) * pitch
        flank = rng.choice((-1, 1))
        hurt = np.clip((half - np.abs(u - at)) / (2 * unit) + 0.5, 0, 1) * np.clip(
            flank * v / (8 * unit) - 1, 0, 1
        )
        crest = crest * (1 - rng.uniform(0.8, 1.0) * hurt)
    taper = np.clip((length - u) / (46 * unit), 0, 1) ** 0.7
    threaded = np.clip((u - thread_start) / (8 * unit), 0, 1)
    radius = np.where(
        u < head_end,
        _head(u / unit) * unit,
        (core + 2 * unit * (1 - threaded) + depth * crest * threaded) * taper,
    )
    inside = cover(np.minimum(radius - np.abs(v), np.minimum(u, length - u)))

    facing = np.clip(v / np.maximum(radius, 1e-3), -1, 1)
    upward = np.sqrt(1 - 0.98 * facing**2)
    slope = np.where(
        u > head_end, np.gradient(crest, axis=1) * np.cos(turn) + np.gradient(crest, axis=0) * np.sin(turn), 0
    )
    end_light = np.cos(lamp - turn)
    lit = (
        0.42 + 0.48 * upward + 0.34 * side_light * facing - 0.9 * end_light * slope * threaded * upward * unit
    )
    lit = lit - 0.26 * threaded * (1 - crest) * (u > head_end)
    lit = lit + 0.5 * np.exp(-(((facing - 0.45 * side_light) / 0.14) ** 2)) * (1 - 0.6 * threaded)
    steel = lot.uniform(98, 112) * own.uniform(0.95, 1.05)
    metal = (
        steel
        * lit
        * (1 + 0.03 * smooth_noise(own, height, width, 2.2) + 0.02 * smooth_noise(own, height, width, 14))
    )
    metal = _mark_head(metal, u / unit, v / unit)
    if defect == "scratched head":
        metal = metal * (1 + _scratch(u / unit, v / unit, rng))

    ground = lot.uniform(192, 208) * own.uniform(0.98, 1.02)
    ground = ground * (
        1
        + 0.02 * own.standard_normal() * (x / width - 0.5)
        + 0.02 * own.standard_normal() * (y / height - 0.5)
    )
    cast = np.roll(inside, (round(9 * unit * np.sin(lamp)), round(9 * unit * np.cos(lamp))), (0, 1))
    shadow = gaussian_filter(cast, 7 * unit)
    plain = ground * (1 - 0.33 * shadow)
    return take_photo(mix(plain, inside, metal), own, blur=0.8, noise=2.5)


def _head(u: Floats) -> Floats:
    """Radius of the head along the screw: a rounded cap, a rim, and a cone down to the shank."""
    cap = 54 * np.sqrt(np.clip(1 - ((20 - u) / 20.5) ** 2, 0, 1))
    cone = 54 - (u - 26) * 32 / 26
    head: Floats = np.where(u < 20, cap, np.where(u < 26, 54, cone)).astype(np.float32)
    return head


def _mark_head(metal: Floats, u: Floats, v: Floats) -> Floats:
    """Dark lines at the rim of the head, and fine turning marks."""
    rim = np.exp(-(((u - 20) / 1.5) ** 2)) + np.exp(-(((u - 26) / 1.5) ** 2))
    marks = 0.05 * np.sin(2 * np.pi * u / 3.1) * (u < 52)
    return metal * (1 - 0.35 * rim * (np.abs(v) < 54) + marks)


def _scratch(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """A short bright line with a dark flank on the head."""
    u0, v0, turned = rng.uniform(14, 38), rng.uniform(-26, 26), rng.uniform(0, np.pi)
    along = np.cos(turned) * (u - u0) + np.sin(turned) * (v - v0)
    across = np.cos(turned) * (v - v0) - np.sin(turned) * (u - u0)
    across = across + 0.004 * along**2
    half, thickness = rng.uniform(10, 20), rng.uniform(1.2, 2.2)
    bright = np.exp(-((across / thickness) ** 2)) - 0.7 * np.exp(-(((across - 3) / thickness) ** 2))
    scratch: Floats = (
        rng.uniform(0.6, 1.2) * bright * np.clip(half - np.abs(along), 0, 1) * (u < 52)
    ).astype(np.float32)
    return scratch


SCREWS = PartKind((512, 512), ("damaged thread", "bent tip", "scratched head"), draw)
