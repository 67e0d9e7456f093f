"""Synthetic defects painted on photographs of OK parts, with masks of the pixels that they change.

A judge learns from OK parts only, so there is nothing to choose its settings by, or to say how small a defect it
sees. Painted defects of known place, size and contrast stand in for real ones. They differ from what a line makes:
a rate measured on them is a comparison between settings, not a promise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, find_objects

from mekiki.errors import InputError, not_known
from mekiki.judging.defect_shapes import SHAPES, THIN, Field, centred_grid, perlin_noise

KINDS = tuple(SHAPES)
"""Kinds of painted defects."""
DEFAULT_SIZES = (1 / 64, 1 / 36, 1 / 20, 1 / 11, 1 / 6)
"""Sizes of a battery, as shares of the photograph's shorter side."""
DEFAULT_CONTRASTS = (1.0, 2.0, 4.0)
"""Contrasts of a battery, in local standard deviations: hard to see, visible, plain."""
LEAST_DEVIATION = 2.0
"""Grey levels that stand in for a smaller local standard deviation: about the noise of a camera."""

_THIN_SHARE = 1 / 8  # the width of a scratch that is about as long as another defect is wide
_LEAST_ROOM = 32  # grey levels; with less up to black or white, the change goes the other way
_SAMPLE_SIDE, _CELLS = 128, 16  # pixels and cells along a side, when structure is looked for
_SOURCES = 3  # places that are tried for a patch before one much like the covered place is taken

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PaintedDefect:
    """A photograph with one painted defect.

    Attributes:
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
        mask: bool `[H, W]`, the pixels that differ from the photograph.
        kind: one of `KINDS`.
        size: pixels: diameter or longer side; the width for `scar` and `scratch`.
        contrast: in local standard deviations, as asked for.
        change: root mean square of the change within the mask, in grey levels, as reached: rounding makes it larger
            where little is asked for, black and white smaller where much is.
        photo: number of the photograph, from 0.
    """

    pixels: Pixels
    mask: Mask
    kind: str
    size: float
    contrast: float
    change: float
    photo: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of the mask in pixels; the last two are just outside."""
        rows, columns = find_objects(self.mask.astype(np.uint8))[0]
        return rows.start, columns.start, rows.stop, columns.stop


def paint(
    pixels: NDArray[Any],
    kind: str,
    size: float,
    contrast: float,
    rng: np.random.Generator,
    *,
    other: NDArray[Any] | None = None,
) -> tuple[Pixels, Mask]:
    """Paint a defect on a copy of a photograph.

    Kinds: `cut-paste`, a patch from elsewhere in the photograph, and `scar`, a thin turned one (Li et al. 2021);
    `blend`, a region of Perlin noise mixed with another texture: a part of the same or of another photograph, or noise
    (Zavrtanik et al. 2021); `spot`, a blob with a soft edge; `scratch`, a thin bent line; `stain`, a patch with an
    uneven outline that fades outwards.

    Contrast has one meaning for all kinds: the root mean square of the change within the mask, divided by the standard
    deviation of the photograph around the defect, which is the median of those of nine tiles of a box somewhat larger
    than it, or `LEAST_DEVIATION` if that is more. What hides a defect is the texture around it, so the same contrast is
    about as hard to see on a smooth surface as on a rough one; a share of the range of grey levels would not be. A
    patch is mixed in more strongly as the contrast grows, and made lighter or darker as well once it covers the place
    fully.

    The mask holds exactly the pixels that change, each by a grey level at least. It does not depend on the contrast:
    a generator in the same state gives the same place and shape. Defects are painted where the photograph has
    structure, or inside of what structure encloses, and so on the part rather than on a plain background; anywhere if
    the photograph is plain throughout. Ends of a thin defect that do not fit into the photograph are cut off.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
        kind: one of `KINDS`.
        size: diameter or longer side in pixels, 1 or more; the width for `scar` and `scratch`. One above the
            photograph's shorter side is taken as that side.
        contrast: more than 0, in local standard deviations.
        rng: its state decides everything that is random.
        other: another OK photograph, uint8 of any size, that `blend` may take its texture from.

    Returns:
        The painted photograph, of the same shape, and its mask, bool `[H, W]`.

    Raises:
        InputError: photograph, kind, size or contrast cannot be used.

    References:
        Li, Sohn, Yoon, Pfister: CutPaste: Self-Supervised Learning for Anomaly Detection and Localization, CVPR 2021,
        arXiv:2104.04015.
        Zavrtanik, Kristan, Skočaj: DRAEM – A discriminatively trained reconstruction embedding for surface anomaly
        detection, ICCV 2021, arXiv:2108.07610.

    Example:
        >>> grey = np.full((60, 80), 128, np.uint8)
        >>> painted, mask = paint(grey, "spot", 9, 4.0, np.random.default_rng(0))
        >>> painted.shape, bool((mask == (painted != grey)).all()), int(mask.any(axis=0).sum())
        ((60, 80), True, 9)
    """
    photo = _as_channels(pixels, "the photograph")
    texture = None if other is None else _as_channels(other, "the other photograph")
    if kind not in KINDS:
        raise not_known("kind of painted defect", kind, KINDS)
    if not (math.isfinite(size) and size >= 1):
        raise InputError(f"size {size} of a painted defect: give a number of pixels, 1 or more")
    if not (math.isfinite(contrast) and contrast > 0):
        raise InputError(f"contrast {contrast} of a painted defect: give a number greater than 0")
    height, width = photo.shape[:2]

    side = min(height, width)
    size = min(size, side)
    shape = _crop(SHAPES[kind](size, side, rng), height, width)
    top, left = _place(photo, shape.shape, rng)
    inside = shape > 0
    rows, columns = slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1])
    box = photo[rows, columns]
    here = box.astype(np.float32)
    deviation = _local_deviation(photo, rows, columns, margin=8 + int(size / 2))

    sign = rng.choice((-1, 1))
    level = float(np.median(box[inside]))
    if (level if sign < 0 else 255 - level) < _LEAST_ROOM:
        sign = -1 if level > 127 else 1
    shift = sign * shape[:, :, None] * _tint(box, rng)
    difference = np.zeros_like(here)
    if kind in ("cut-paste", "scar"):
        difference = _other_place(photo, here, inside, deviation, rng, turn=kind == "scar")
    elif kind == "blend":
        source = rng.choice(("same", "noise") if texture is None else ("same", "noise", "other"))
        if source == "noise":
            difference = 2 * deviation * perlin_noise(shape.shape, 6, rng)[:, :, None] * _tint(box, rng)
        else:
            material = photo if source == "same" or texture is None else texture
            difference = _other_place(material, here, inside, deviation, rng)
    difference = difference * inside[:, :, None]

    change = _scale(difference[inside], shift[inside], contrast * deviation)
    covered = box[inside]
    values = np.clip(np.rint(covered + change), 0, 255).astype(np.uint8)
    # The mask would be wrong about pixels that come out as they were: they change by one level.
    same = (values == covered).all(axis=1)
    step = covered[same].astype(np.int16) + sign
    values[same] = np.where((step < 0) | (step > 255), step - 2 * sign, step).astype(np.uint8)

    result, mask = photo.copy(), np.zeros((height, width), bool)
    result[rows, columns][inside] = values
    mask[rows, columns] = inside
    return result.reshape(pixels.shape), mask


def paint_battery(
    photos: Iterable[NDArray[Any]],
    rng: np.random.Generator,
    *,
    sizes: Sequence[float] | None = None,
    kinds: Sequence[str] | None = None,
    contrasts: Sequence[float] | None = None,
    per_photo: int = 1,
) -> Iterator[PaintedDefect]:
    """Paint defects on photographs, with kinds, sizes and contrasts in even numbers.

    However many are taken, the numbers painted of any two kinds differ by 1 at most, and so do those of sizes and of
    contrasts; within that, pairs and then triples of them come in even numbers. The photographs are read one by one;
    the one before, from which `blend` may take texture, is held as well.

    Args:
        photos: uint8 `[H, W]` or `[H, W, 3]` each; sizes may differ.
        rng: decides everything that is random.
        sizes: below 1 a share of the photograph's shorter side, otherwise pixels; `DEFAULT_SIZES` if left out. It is
            how far the defect extends; a scar or scratch, far longer than wide, gets an eighth of it as its width.
            None is painted smaller than a pixel or larger than the shorter side.
        kinds: some of `KINDS`; all if left out.
        contrasts: in local standard deviations, see `paint`; `DEFAULT_CONTRASTS` if left out.
        per_photo: defects painted on each photograph, each on a copy of its own.

    Raises:
        InputError: a photograph or a setting cannot be used; settings are checked before the first is painted.

    Example:
        >>> photos = np.random.default_rng(0).integers(90, 110, (2, 64, 64), dtype=np.uint8)
        >>> battery = paint_battery(photos, np.random.default_rng(0), kinds=["spot"], sizes=[1 / 8, 5], per_photo=3)
        >>> sorted({(defect.photo, defect.size) for defect in battery})
        [(0, 5.0), (0, 8.0), (1, 5.0), (1, 8.0)]
    """
    sizes = DEFAULT_SIZES if sizes is None else sizes
    kinds = KINDS if kinds is None else kinds
    contrasts = DEFAULT_CONTRASTS if contrasts is None else contrasts
    for name, given in (("sizes", sizes), ("kinds", kinds), ("contrasts", contrasts)):
        if not len(given):
            raise InputError(f"painted defects: {name} is empty; give one or more, or leave it out")
    for kind in kinds:
        if kind not in KINDS:
            raise not_known("kind of painted defect", kind, KINDS)
    for name, numbers in (("size", sizes), ("contrast", contrasts)):
        for number in numbers:
            if not (math.isfinite(number) and number > 0):
                raise InputError(f"{name} {number} of painted defects: give a number greater than 0")
    if per_photo < 1:
        raise InputError(f"per_photo {per_photo}: give a whole number, 1 or more")
    return _paint_evenly(photos, rng, sizes, kinds, contrasts, per_photo)


def _paint_evenly(
    photos: Iterable[NDArray[Any]],
    rng: np.random.Generator,
    sizes: Sequence[float],
    kinds: Sequence[str],
    contrasts: Sequence[float],
    per_photo: int,
) -> Iterator[PaintedDefect]:
    before = None
    combinations = _even_combinations((len(kinds), len(sizes), len(contrasts)), rng)
    for number, pixels in enumerate(photos):
        side = min(_as_channels(pixels, f"photograph {number}").shape[:2])
        for _ in range(per_photo):
            k, s, c = next(combinations)
            extent = sizes[s] * side if sizes[s] < 1 else sizes[s]
            size = min(max(1.0, float(extent) * (_THIN_SHARE if kinds[k] in THIN else 1)), float(side))
            contrast = float(contrasts[c])
            painted, mask = paint(pixels, kinds[k], size, contrast, rng, other=before)
            change = painted[mask].astype(np.float64) - pixels[mask]
            yield PaintedDefect(painted, mask, kinds[k], size, contrast, _rms(change), number)
        before = pixels


def _even_combinations(
    shape: tuple[int, int, int], rng: np.random.Generator
) -> Iterator[tuple[int, int, int]]:
    """Places in an array of this shape: singles in even numbers, then pairs, then triples; ties at random."""
    counts = np.zeros(shape)
    while True:
        cost = counts + rng.uniform(0, 0.5, shape)
        for axes, weight in (
            ((0,), 1e3),
            ((1,), 1e3),
            ((2,), 1e3),
            ((0, 1), 1e6),
            ((0, 2), 1e6),
            ((1, 2), 1e6),
        ):
            used = counts.sum(axis=axes, keepdims=True)
            cost += weight * (used - used.min())
        k, s, c = np.unravel_index(int(cost.argmin()), shape)
        counts[k, s, c] += 1
        counts -= counts.min()
        yield int(k), int(s), int(c)


def _as_channels(pixels: NDArray[Any], what: str) -> Pixels:
    """View a photograph as `[H, W, C]`."""
    if pixels.dtype != np.uint8 or pixels.size == 0 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)):
        raise InputError(
            f"{what} is {pixels.dtype} {list(pixels.shape)}; give uint8 [H, W] or [H, W, 3] with a pixel at least"
        )
    return pixels.reshape(*pixels.shape[:2], -1)


def _scale(difference: Field, shift: Field, target: float) -> Field:
    """The share (at most 1) of the difference, plus a multiple of the shift, with `target` as root mean square."""
    strength = _rms(difference)
    if strength >= target:
        return difference * np.float32(target / strength)
    # Solve mean((difference + b·shift)²) = target² for b > 0.
    square = float(np.mean(shift.astype(np.float64) ** 2))
    product = float(np.mean(difference.astype(np.float64) * shift))
    b = (-product + math.sqrt(product**2 + square * (target**2 - strength**2))) / square
    return difference + np.float32(b) * shift


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


def _local_deviation(photo: Pixels, rows: slice, columns: slice, margin: int) -> float:
    """Median standard deviation of nine tiles of a box grown by the margin; root mean square over the channels.

    An edge of the part, which crosses some of the tiles only, does not make the defect glaring.
    """
    top, left = max(0, rows.start - margin), max(0, columns.start - margin)
    around = photo[top : rows.stop + margin, left : columns.stop + margin]
    variances = [
        tile.reshape(-1, photo.shape[2]).var(axis=0, dtype=np.float32).mean()
        for band in np.array_split(around, min(3, around.shape[0]))
        for tile in np.array_split(band, min(3, around.shape[1]), axis=1)
    ]
    return max(LEAST_DEVIATION, float(np.sqrt(np.median(variances))))


def _tint(box: Pixels, rng: np.random.Generator) -> Field:
    """How much each channel changes, root mean square 1: alike where the photograph is grey."""
    weights = rng.uniform(0.3, 1, 3)
    if box.shape[2] == 1 or (box == box[:, :, :1]).all():
        return np.ones(box.shape[2], np.float32)
    tint: Field = (weights / _rms(weights)).astype(np.float32)
    return tint


def _place(photo: Pixels, extent: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of a box around a random point at which the photograph has structure or is enclosed by it."""
    height, width = photo.shape[:2]
    step = max(1, math.ceil(max(height, width) / _SAMPLE_SIDE))
    sample = photo[::step, ::step].mean(axis=2, dtype=np.float32)
    side = max(2, math.ceil(max(sample.shape) / _CELLS))  # of a cell, in pixels of the sample
    down, across = max(1, sample.shape[0] // side), max(1, sample.shape[1] // side)
    cells = sample[: down * side, : across * side].reshape(
        down, min(side, sample.shape[0]), across, min(side, sample.shape[1])
    )
    structured = binary_fill_holes(cells.std(axis=(1, 3)) > LEAST_DEVIATION)
    candidates = np.argwhere(structured if structured.any() else np.ones((down, across), bool))
    cell = candidates[rng.integers(len(candidates))]
    point = (cell + rng.random(2)) / (down, across) * (height, width)
    top, left = (
        int(np.clip(round(point[i] - extent[i] / 2), 0, (height, width)[i] - extent[i])) for i in (0, 1)
    )
    return top, left


def _crop(shape: Field, height: int, width: int) -> Field:
    """The middle of a shape, no larger than the photograph, with one pixel of it at least."""
    top, left = max(0, (shape.shape[0] - height) // 2), max(0, (shape.shape[1] - width) // 2)
    shape = shape[top : top + height, left : left + width]
    if not shape.any():
        shape[shape.shape[0] // 2, shape.shape[1] // 2] = 1
    return shape


def _other_place(
    source: Pixels,
    here: Field,
    inside: Mask,
    deviation: float,
    rng: np.random.Generator,
    *,
    turn: bool = False,
) -> Field:
    """Pixels at another place minus those here, `[h, w, C]`.

    Of a few places the first that differs here by more than the deviation, or else the one that differs most: on a
    periodic surface a patch may meet its like.
    """
    if source.shape[2] != here.shape[2]:
        source = np.broadcast_to(source.mean(axis=2, keepdims=True), (*source.shape[:2], here.shape[2]))
    best, most = np.zeros_like(here), -1.0
    y, x = centred_grid(*inside.shape)
    for _ in range(_SOURCES):
        angle = rng.uniform(0, 2 * np.pi) if turn else 0.0
        slack = np.maximum(np.array(source.shape[:2]) - inside.shape, 0)
        centre = rng.integers(0, slack + 1) + (np.array(inside.shape) - 1) / 2
        rows = np.rint(centre[0] + np.cos(angle) * y - np.sin(angle) * x).astype(np.intp) % source.shape[0]
        columns = np.rint(centre[1] + np.sin(angle) * y + np.cos(angle) * x).astype(np.intp) % source.shape[1]
        if most > deviation:
            continue  # the places are drawn all the same, so that equally many random numbers are used
        difference = source[rows, columns].astype(np.float32) - here
        strength = _rms(difference[inside])
        if strength > most:
            best, most = difference, strength
    return best
