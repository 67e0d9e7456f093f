"""Resizing as Pillow does it, in whole numbers for a graph: the same pixels, to the last grey level.

Pillow resizes 8-bit images in two passes, along rows and down columns, and rounds to whole grey levels after each; its
weights are whole numbers too, in units of 2⁻²². ONNX's own `Resize` does not, so it gives other pixels. Here each pass
is a sum of a few shifted and weighted copies in int32, which is exact.

Source: `Resample.c` and `Reduce.c` of Pillow, whose arithmetic is described in `docs/exporting.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mekiki.errors import InputError

BITS = 22
"""Weights of a pass are whole numbers of this many bits behind the point."""

_PROBES = 20  # small images in which the order of the passes may not show


def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _hamming(x: float) -> float:
    x = abs(x)
    if x == 0:
        return 1.0
    return 0.0 if x >= 1 else math.sin(math.pi * x) / (math.pi * x) * (0.54 + 0.46 * math.cos(math.pi * x))


def _bicubic(x: float) -> float:
    x, a = abs(x), -0.5
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def _lanczos(x: float) -> float:
    if not -3 <= x < 3:
        return 0.0
    return 1.0 if x == 0 else _sinc(x) * _sinc(x / 3)


def _sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x)


FILTERS: dict[int, tuple[Callable[[float], float], float]] = {
    1: (_lanczos, 3.0),
    2: (_triangle, 1.0),
    3: (_bicubic, 2.0),
    4: (_box, 0.5),
    5: (_hamming, 1.0),
}
"""Filters and how far they reach, as Pillow numbers them."""


def weights(
    given: int, wanted: int, resample: int = 2, end: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Source pixels and weights of each pixel of a resized line.

    Args:
        given: pixels of the line.
        wanted: pixels of the new one.
        resample: the filter; see `FILTERS`.
        end: where the line ends, if its last pixel stands for less than a whole one.

    Returns:
        Places and weights, both `[wanted, taps]`; a weight is a whole number of 2⁻²², and places without one are 0.

    Example:
        >>> places, shares = weights(4, 2)
        >>> places.tolist(), (shares / 2**22).round(3).tolist()
        ([[0, 1, 2], [1, 2, 3]], [[0.429, 0.429, 0.143], [0.143, 0.429, 0.429]])
    """
    curve, reach = FILTERS[resample]
    scale = float(np.float32(given if end is None else end)) / wanted
    stretch = max(scale, 1.0)
    support = reach * stretch
    windows: list[tuple[int, list[float]]] = []
    for place in range(wanted):
        centre = (place + 0.5) * scale
        first, last = max(0, int(centre - support + 0.5)), min(given, int(centre + support + 0.5))
        each = [curve((x - centre + 0.5) / stretch) for x in range(first, last)]
        total = sum(each)
        windows.append((first, [one / total for one in each] if total else each))
    taps = max(len(each) for _, each in windows)
    places, shares = np.zeros((wanted, taps), np.int64), np.zeros((wanted, taps), np.int32)
    for row, (first, each) in enumerate(windows):
        places[row, : len(each)] = np.arange(first, first + len(each))
        places[row, len(each) :] = first
        shares[row, : len(each)] = [int(one * 2**BITS + math.copysign(0.5, one)) for one in each]
    return places, shares


class Resizing(nn.Module):
    """`Image.resize` of 8-bit images of one size to another, as Pillow does it.

    Args:
        given: height and width of the images.
        wanted: height and width to bring them to.
        resample: the filter as Pillow numbers it: 2 is bilinear, 3 bicubic.
        reducing_gap: as in Pillow: images much larger than wanted are first averaged over whole blocks of pixels.

    Raises:
        InputError: the filter is not one of `FILTERS`.

    Shapes: int32 `[N, H, W, C]` → int32 `[N, h, w, C]`, values 0…255.

    Example:
        >>> from PIL import Image
        >>> image = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
        >>> there = Resizing((50, 40), (7, 9), reducing_gap=2.0)(torch.from_numpy(image).int()[None])[0].numpy()
        >>> bool((there == Image.fromarray(image).resize((9, 7), 2, reducing_gap=2.0)).all())
        True
    """

    def __init__(
        self,
        given: tuple[int, int],
        wanted: tuple[int, int],
        resample: int = 2,
        reducing_gap: float | None = None,
    ) -> None:
        super().__init__()
        if resample not in FILTERS:
            raise InputError(f"resampling number {resample} of Pillow cannot be exported; use 2, bilinear")
        self.given, self.wanted = given, wanted
        self.factors = (1, 1)
        ends = (float(given[0]), float(given[1]))
        if reducing_gap is not None:
            factors = [
                int(old / new / reducing_gap) or 1 for old, new in zip(given, self.wanted, strict=True)
            ]
            self.factors = (factors[0], factors[1])
            ends = (given[0] / factors[0], given[1] / factors[1])
            given = (math.ceil(ends[0]), math.ceil(ends[1]))
        if self.factors != (1, 1):
            counts = np.outer(*map(_in_blocks, self.given, self.factors))
            self.register_buffer("halves", torch.from_numpy(counts // 2).int()[None, :, :, None])
            # Pillow divides by a whole number of 2⁻²⁴, made in single precision.
            inverse = (np.float32(2**32) / (256 * counts).astype(np.float32)).astype(np.int64)
            self.register_buffer("inverse", torch.from_numpy(inverse).double()[None, :, :, None])
        self.passes: list[int] = []  # Pillow skips a pass that would change nothing
        for axis, old, new, end in ((2, given[1], wanted[1], ends[1]), (1, given[0], wanted[0], ends[0])):
            if old == new and end == old:
                continue
            places, shares = weights(old, new, resample, end)
            self.passes.append(axis)
            self.register_buffer(f"places{axis}", torch.from_numpy(places))
            self.register_buffer(f"shares{axis}", torch.from_numpy(shares))
        if len(self.passes) > 1:
            self._order_passes(given, ends, resample)

    def forward(self, pixels: Tensor) -> Tensor:
        """Resize a batch; see the class for shapes."""
        if self.given == self.wanted:
            return pixels
        if self.factors != (1, 1):
            pixels = self._reduce(pixels)
        for axis in self.passes:
            pixels = self._pass_along(pixels, axis)
        return pixels

    def _order_passes(self, given: tuple[int, int], ends: tuple[float, float], resample: int) -> None:
        """Order the passes as the installed version of Pillow does; versions differ."""
        size, box = (self.wanted[1], self.wanted[0]), (0, 0, ends[1], ends[0])
        draws = np.random.default_rng(0)
        for _ in range(_PROBES):
            noise = draws.integers(0, 256, (*given, 3)).astype(np.uint8)
            there = np.asarray(Image.fromarray(noise).resize(size, Image.Resampling(resample), box))
            pixels = torch.from_numpy(noise).int()[None]
            for order in (self.passes, self.passes[::-1]):
                first, second = order
                if not np.array_equal(self._pass_along(self._pass_along(pixels, first), second)[0], there):
                    self.passes = order[::-1]
                    return

    def _reduce(self, pixels: Tensor) -> Tensor:
        """The rounded mean of each block of pixels; blocks at the end may be smaller."""
        (down, across), (height, width) = self.factors, self.given
        pixels = nn.functional.pad(pixels, (0, 0, 0, -width % across, 0, -height % down))
        height, width = -(-height // down), -(-width // across)
        blocks = pixels.reshape(-1, height, down, width, across, pixels.shape[3])
        total = blocks.sum((2, 4), dtype=torch.int32) + self.get_buffer("halves")
        return _divide(total.double() * self.get_buffer("inverse"), 24)

    def _pass_along(self, pixels: Tensor, axis: int) -> Tensor:
        """One pass: along rows (axis 2), or down columns (axis 1)."""
        places, shares = self.get_buffer(f"places{axis}"), self.get_buffer(f"shares{axis}")
        # The lines to be added stand in front, so that each copy is of whole lines.
        lines = pixels.transpose(1, axis)
        total = torch.full((), 2 ** (BITS - 1), dtype=torch.int32)
        for tap in range(places.shape[1]):
            total = total + lines.index_select(1, places[:, tap]) * shares[:, tap, None, None]
        return _divide(total.double(), BITS).clamp(0, 255).transpose(1, axis)


def _divide(values: Tensor, bits: int) -> Tensor:
    """Whole numbers over a power of two, rounded down: exact in float64, and faster than integer division."""
    return (values * 2.0**-bits).floor().int()


def _in_blocks(length: int, factor: int) -> NDArray[np.int64]:
    """Number of pixels of a line in each block."""
    return np.minimum(factor, length - np.arange(0, length, factor))
