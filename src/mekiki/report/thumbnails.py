"""Images inside a page: one sheet of small images for the scatter, and single images as data addresses."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 32  # pixels on the longer side of a thumbnail
LARGEST_PAIR = 160  # pixels on the longer side of an image shown in a pair


@dataclass(frozen=True)
class Sheet:
    """Many thumbnails in one PNG: number `i` stands at column `i % columns`, row `i // columns`.

    Attributes:
        address: `data:` address of the image.
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


def sheet(pixels: NDArray[np.uint8], rows: NDArray[np.integer[Any]]) -> Sheet:
    """Lay the images at `rows` of uint8 `[N, H, W]` or `[N, H, W, 3]` out on one sheet.

    Example:
        >>> made = sheet(np.zeros((5, 64, 48), np.uint8), np.arange(5))
        >>> made.width, made.height, made.columns, made.reduced, made.address[:22]
        (24, 32, 3, True, 'data:image/png;base64,')
    """
    height, width = pixels.shape[1:3]
    small_height, small_width = _fit(height, width, LARGEST)
    columns = max(1, math.ceil(math.sqrt(len(rows))))
    shape = (math.ceil(len(rows) / columns) * small_height, columns * small_width, *pixels.shape[3:])
    canvas = np.zeros((max(shape[0], 1), *shape[1:]), np.uint8)
    for place, row in enumerate(rows):
        top, left = place // columns * small_height, place % columns * small_width
        canvas[top : top + small_height, left : left + small_width] = fitted(pixels[row], LARGEST)
    return Sheet(
        address(canvas), small_width, small_height, columns, (width, height) != (small_width, small_height)
    )


def pair_image(pixels: NDArray[np.uint8]) -> str:
    """`data:` address of one image `[H, W]` or `[H, W, 3]`, at most 160 px on its longer side."""
    return address(fitted(pixels, LARGEST_PAIR))


def fitted(pixels: NDArray[np.uint8], largest: int) -> NDArray[np.uint8]:
    """One image `[H, W]` or `[H, W, C]`, made smaller where its longer side exceeds `largest` pixels.

    Example:
        >>> fitted(np.zeros((64, 48, 3), np.uint8), 32).shape
        (32, 24, 3)
    """
    from PIL import Image

    height, width = _fit(pixels.shape[0], pixels.shape[1], largest)
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=np.uint8)


def address(pixels: NDArray[np.uint8]) -> str:
    """`data:` address of an image as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=7)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _fit(height: int, width: int, largest: int) -> tuple[int, int]:
    shrink = min(1.0, largest / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))
