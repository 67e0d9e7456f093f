"""What generated parts are drawn with: coverage of shapes, smooth noise, light on a relief, and a camera.

Images are float32 `[h, w]` or `[h, w, 3]` in grey levels, 0 to 255, until `take_photo` rounds them. Points are
`(y, x)` in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Points = Sequence[tuple[float, float]]

_SPLINE_DEVIATION = 151 / 315  # of a cubic B-spline in two directions, with coefficients of deviation 1
_FINER = 4  # lines are drawn with so many pixels a pixel, then averaged


class Chance(NamedTuple):
    """Generators that decide how a photograph comes out.

    Attributes:
        design: in the same state for all photographs of a set: what all its parts have in common.
        lot: in the same state for all photographs of a lot: material, machine and light of a day.
        own: of this part and photograph. A part draws the same numbers from it with a defect and without, so that the
            two differ at the defect alone.
        defect: place, size and contrast of the defect.
    """

    design: np.random.Generator
    lot: np.random.Generator
    own: np.random.Generator
    defect: np.random.Generator


class PartKind(NamedTuple):
    """A kind of part.

    Attributes:
        size: height and width of a photograph in pixels, unless another is asked for.
        defects: names of what may be wrong with it.
        draw: from height, width, `Chance` and a defect, or `None` for a good part, to a photograph: uint8 `[h, w]` or
            `[h, w, 3]`.
    """

    size: tuple[int, int]
    defects: tuple[str, ...]
    draw: Callable[[int, int, Chance, str | None], Pixels]


def grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Coordinates of pixels, `[h, 1]` and `[1, w]`."""
    return np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]


def cover(depth: NDArray[Any]) -> Floats:
    """Share of a pixel that a shape covers, from the depth inside its outline in pixels; negative is outside."""
    share: Floats = np.clip(depth + 0.5, 0, 1).astype(np.float32)
    return share


def mix(image: NDArray[Any], share: NDArray[Any], colour: float | Sequence[float] | NDArray[Any]) -> Floats:
    """The image with another one, or one colour, laid over it where `share` is 1."""
    if image.ndim == 3:
        share = share[:, :, None]
    mixed: Floats = (image + share * (np.asarray(colour, np.float32) - image)).astype(np.float32)
    return mixed


def smooth_noise(rng: np.random.Generator, height: int, width: int, scale: float) -> Floats:
    """Noise of deviation 1 that varies over `scale` pixels: a cubic B-spline with random coefficients."""
    noise = rng.standard_normal((int(height / scale) + 5, int(width / scale) + 5), np.float32)
    start = rng.uniform(0, 1, 2)
    for axis, side in enumerate((height, width)):
        place = (np.arange(side) / scale + start[axis]).astype(np.float32)
        first = place.astype(int)
        t = place - first
        weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3)
        shape = (-1, 1) if axis == 0 else (1, -1)
        noise = sum(
            np.take(noise, first + offset, axis) * (weight / np.float32(6)).reshape(shape)
            for offset, weight in enumerate(weights)
        )
    return noise / np.float32(_SPLINE_DEVIATION)


def line(height: int, width: int, points: Points, thickness: float | Sequence[float]) -> Floats:
    """Share of each pixel that a line through the points covers.

    Args:
        height: of the image.
        width: of the image.
        points: two or more.
        thickness: of the line, or one for each piece of it.
    """
    return lines(height, width, [(points, thickness)])


def lines(height: int, width: int, every: Sequence[tuple[Points, float | Sequence[float]]]) -> Floats:
    """Share of each pixel that lines cover together; each has points and a thickness as `line` takes them."""
    result = np.zeros((height, width), np.float32)
    if not every:
        return result
    pieces = []
    for points, thickness in every:
        number = len(points) - 1
        widths = [float(thickness)] * number if isinstance(thickness, (int, float)) else list(thickness)
        pieces += list(zip(points[:-1], points[1:], widths, strict=True))
    ends = np.array([end for *both, _ in pieces for end in both], float)
    margin = max(each for *_, each in pieces) + 2
    top, left = np.clip(ends.min(axis=0) - margin, 0, (height, width)).astype(int)
    bottom, right = np.clip(ends.max(axis=0) + margin + 1, 0, (height, width)).astype(int)
    if bottom <= top or right <= left:
        return result
    canvas = Image.new("L", (int(right - left) * _FINER, int(bottom - top) * _FINER))
    draw = ImageDraw.Draw(canvas)
    for *both, each in pieces:
        radius = each * _FINER / 2
        (y0, x0), (y1, x1) = ((np.array(end) - (top, left) + 0.5) * _FINER for end in both)
        draw.line((x0, y0, x1, y1), 255, max(1, round(2 * radius)))
        for y, x in ((y0, x0), (y1, x1)):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    small = canvas.resize((right - left, bottom - top), Image.Resampling.BOX)
    result[top:bottom, left:right] = np.asarray(small, np.float32) / 255
    return result


def text(height: int, width: int, words: str, place: tuple[float, float], size: float) -> Floats:
    """Share of each pixel that letters around a place cover, `size` pixels high."""
    canvas = Image.new("L", (12 * len(words) + 4, 16))
    ImageDraw.Draw(canvas).text((2, 2), words, 255)
    box = canvas.getbbox() or (0, 0, 1, 1)
    letters = canvas.crop(box)
    wide = max(1, round(letters.width * size / letters.height))
    letters = letters.resize((wide, max(1, round(size))), Image.Resampling.BICUBIC)
    result = Image.new("L", (width, height))
    result.paste(letters, (round(place[1] - wide / 2), round(place[0] - size / 2)))
    return np.asarray(result, np.float32) / 255


def wander(
    rng: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    length: float,
    step: float,
    bend: float,
) -> list[tuple[float, float]]:
    """Points of a path that starts at a place in a direction and bends at random, by about `bend` a step."""
    points = [start]
    for _ in range(max(2, round(length / step))):
        angle += bend * rng.standard_normal()
        y, x = points[-1]
        points.append((y + step * np.sin(angle), x + step * np.cos(angle)))
    return points


def light_relief(
    relief: Floats, light: tuple[float, float], *, gloss: float, sharpness: float, ambient: float = 0.35
) -> Floats:
    """Brightness of a relief in slanting light, 1 where it is flat and matt.

    Args:
        relief: height of the surface in pixels, `[h, w]`.
        light: slope of the rays down and to the right: where the light comes from.
        gloss: brightness of the specular reflection.
        sharpness: exponent of the reflection; the larger, the smaller it is.
        ambient: share of the light that comes from everywhere.
    """
    slope_y, slope_x = np.gradient(relief)
    length = np.sqrt(slope_y**2 + slope_x**2 + 1)
    towards = np.array([*light, 1.0], np.float32)
    towards /= np.linalg.norm(towards)
    facing = (-slope_y * towards[0] - slope_x * towards[1] + towards[2]) / length
    half = towards + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    mirrored = (-slope_y * half[0] - slope_x * half[1] + half[2]) / length
    diffuse = ambient + (1 - ambient) * np.maximum(facing, 0) / towards[2]
    lit: Floats = (diffuse + gloss * np.maximum(mirrored, 0) ** sharpness).astype(np.float32)
    return lit


def take_photo(image: Floats, rng: np.random.Generator, *, blur: float = 0.6, noise: float = 2.0) -> Pixels:
    """What a camera makes of an image: blurred by the lens, with noise that grows with the light, in whole levels.

    Args:
        image: grey levels.
        rng: of the noise.
        blur: deviation of the lens' blur in pixels.
        noise: deviation in grey levels where the image is medium grey; a third of it is there in the dark.
    """
    across = (blur, blur, 0)[: image.ndim]
    seen = gaussian_filter(image, across)
    deviation = noise * np.sqrt(0.1 + 0.9 * np.maximum(seen, 0) / 128)
    seen = seen + deviation * rng.standard_normal(image.shape, np.float32)
    pixels: Pixels = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
    return pixels
