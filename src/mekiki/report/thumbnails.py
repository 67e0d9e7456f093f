"""Images inside a page: one sheet of small images for a scatter, and single images as data URLs."""

from __future__ import annotations

import base64
import io
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST = 32
"""Pixels on the longer side of a thumbnail."""


class Sheet(NamedTuple):
    """Many thumbnails in one PNG: number `i` stands at column `i % columns`, row `i // columns`.

    Attributes:
        address: data URL of the image.
        width: of one thumbnail, in pixels.
        height: of one thumbnail, in pixels.
        columns: thumbnails in a row.
        reduced: whether the images were larger; then they are shown smoothed, else pixel by pixel.
    """

    address: str
    width: int
    height: int
    columns: int
    reduced: bool


def thumbnail_sheet(pixels: NDArray[np.uint8], rows: NDArray[np.integer[Any]]) -> Sheet:
    """Lay out the images at `rows` of uint8 `[N, H, W]` or `[N, H, W, 3]` on one sheet.

    Example:
        >>> sheet = thumbnail_sheet(np.zeros((5, 64, 48), np.uint8), np.arange(5))
        >>> sheet.width, sheet.height, sheet.columns, sheet.reduced, sheet.address[:22]
        (24, 32, 3, True, 'data:image/png;base64,')
    """
    height, width = _fit(pixels.shape[1], pixels.shape[2], LARGEST)
    columns = max(1, math.ceil(math.sqrt(len(rows))))
    lines = max(1, math.ceil(len(rows) / columns))
    canvas = np.zeros((lines * height, columns * width, *pixels.shape[3:]), np.uint8)
    for place, row in enumerate(rows):
        top, left = place // columns * height, place % columns * width
        canvas[top : top + height, left : left + width] = shrink(pixels[row], LARGEST)
    return Sheet(data_url(canvas), width, height, columns, pixels.shape[1:3] != (height, width))


def shrink(pixels: NDArray[np.uint8], largest: int) -> NDArray[np.uint8]:
    """One image `[H, W]` or `[H, W, C]`, made smaller where its longer side exceeds `largest` pixels.

    Example:
        >>> shrink(np.zeros((64, 48, 3), np.uint8), 32).shape
        (32, 24, 3)
    """
    from PIL import Image

    height, width = _fit(pixels.shape[0], pixels.shape[1], largest)
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=np.uint8)


def data_url(pixels: NDArray[np.uint8]) -> str:
    """An image as the `data:` URL of a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=7)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _fit(height: int, width: int, largest: int) -> tuple[int, int]:
    factor = min(1.0, largest / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))
