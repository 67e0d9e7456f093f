"""Random changes of training images: geometry, brightness and contrast, a whole batch at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from mekiki.errors import InputError, not_known

Border = Literal["zeros", "reflection"]

LIMITS: dict[str, float] = {
    "rotate": 180,
    "shift": 0.5,
    "scale": 1,
    "shear": 1,
    "elastic": 0.5,
    "brightness": 1,
    "contrast": 1,
}
"""The largest value of each amount; the smallest is 0, which leaves that change out."""
GRID_POINTS = range(2, 17)
"""What `elastic_grid` may be."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images; each image of a batch gets its own.

    All geometry is one bilinear resampling about the middle of the image, in pixels, so that an image is blurred once
    and keeps its right angles. Brightness and contrast follow, and so change the border as well.

    The elastic part is after Simard, Steinkraus and Platt, *Best Practices for Convolutional Neural Networks Applied
    to Visual Document Analysis* (2003), but with random displacements at the points of a coarse grid, interpolated
    (bicubic) between them, which is faster than their Gaussian filter.

    Attributes:
        rotate: degrees, uniform in ± this, 0…180.
        shift: share of the side, uniform in ± this, each axis by itself, 0…0.5.
        scale: each axis by itself is stretched by e^s, s uniform in ± this, 0…1.
        shear: by how many pixels a row moves sideways for each pixel of height, uniform in ± this, 0…1.
        elastic: standard deviation of the displacement at a point of the coarse grid, along each axis, as a share of
            that side, 0…0.5; over the whole image it is about a fifth smaller.
        elastic_grid: points of the coarse grid along each side, 2…16; more of them give finer waves.
        flip: mirror left to right, and top to bottom, each with chance ½.
        quarter_turns: turn by 0, 90, 180 or 270°, equally often. An image that is not square is turned by 0 or 180°
            only, because a quarter turn would not fit its frame.
        brightness: what is added to all of an image, uniform in ± this, 0…1. The unit is 255 for uint8 images, and
            the standard deviation of all numbers in the batch for float images.
        contrast: differences from the image's own mean (one mean for all channels) are multiplied by e^c, c uniform
            in ± this, 0…1.
        border: what lies outside an image: `"zeros"` (black) or `"reflection"` (the image, mirrored at its edge).

    Raises:
        InputError: a value is out of range, or of another type.

    Example:
        >>> change = Augmentation(rotate=10, shift=0.07)
        >>> images = torch.zeros(4, 28, 28, dtype=torch.uint8)
        >>> changed = change(images, torch.Generator().manual_seed(0))
        >>> changed.shape, changed.dtype
        (torch.Size([4, 28, 28]), torch.float32)
    """

    rotate: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_grid: int = 5
    flip: bool = False
    quarter_turns: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    border: Border = "zeros"

    def __post_init__(self) -> None:
        for name, most in LIMITS.items():
            value: Any = getattr(self, name)
            # bool is a kind of int to Python, and `not 0 <= x` holds for NaN.
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise InputError(f"augmentation {name} must be a number from 0 to {most:g}, not {value!r}")
        points: Any = self.elastic_grid
        if not isinstance(points, int) or points not in GRID_POINTS:
            raise InputError(
                f"augmentation elastic_grid must be a whole number from {GRID_POINTS[0]} to {GRID_POINTS[-1]}, "
                f"not {points!r}"
            )
        for name in ("flip", "quarter_turns"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"augmentation {name} must be true or false, not {getattr(self, name)!r}")
        if self.border not in get_args(Border):
            raise not_known("augmentation border", self.border, get_args(Border))

    def __call__(self, stored: Tensor, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Change a batch.

        Args:
            stored: images as they are stored, `[B, H, W]` or `[B, H, W, 3]`, uint8 or float32; not changed.
            generator: on the processor for every device, so that a seed gives the same changes on each. Each change
                has its own draws: without one, the others of that call stay the same.
            share: change and return these of the batch only, as they are changed in the whole batch.

        Returns:
            float32 of the same shape (or of the share's), in the units of `stored`, on its device. Values of uint8
            images stay within 0…255, those of float images are not clamped.

        Raises:
            InputError: `stored` is not a batch of images.
        """
        if stored.ndim not in (3, 4) or (stored.ndim == 4 and stored.shape[3] != 3):
            raise InputError(
                "augmentation needs images, [B, H, W] or [B, H, W, 3], not examples of shape "
                f"{list(stored.shape)}; leave it out"
            )
        draws = torch.rand(11, len(stored), generator=generator, dtype=torch.float32) * 2 - 1
        # For each image the points of its grid along x, then along y.
        points = 2 * self.elastic_grid**2 if self.elastic else 0
        noise = torch.randn(len(stored), points, generator=generator, dtype=torch.float32)
        byte = stored.dtype == torch.uint8
        unit: Tensor | float = 255.0 if byte or not self.brightness else stored.float().std(correction=0)
        draws, noise = draws[:, share], noise[share]
        numbers = stored[share].to(torch.float32)
        images = numbers.unsqueeze(1) if stored.ndim == 3 else numbers.permute(0, 3, 1, 2)
        if self._moves:
            positions = self._source_positions(draws[:9], noise, images)
            images = functional.grid_sample(images, positions, padding_mode=self.border, align_corners=False)
        if self.brightness or self.contrast:
            images = self._adjust_light(draws[9:], images, unit)
            if byte:  # resampling alone stays between the values there are
                images.clamp_(0.0, 255.0)
        return images.squeeze(1) if stored.ndim == 3 else images.permute(0, 2, 3, 1)

    @property
    def _moves(self) -> bool:
        """Whether there is any change of geometry."""
        amounts = (self.rotate, self.shift, self.scale, self.shear, self.elastic)
        return self.flip or self.quarter_turns or any(amounts)

    def _source_positions(self, draws: Tensor, noise: Tensor, images: Tensor) -> Tensor:
        """The position in the image of each pixel of the result: `[B, H, W, 2]`, x and y, −1…1 from edge to edge."""
        height, width = images.shape[2:]
        angle, right, down, wide, high, lean, mirror_x, mirror_y, turn = draws
        angle = angle * math.radians(self.rotate)
        if self.quarter_turns:
            turns = (2 * turn + 2).floor() if height == width else 2 * (turn + 1).floor()
            angle = angle + turns * (math.pi / 2)
        # A position is rotation · [[wide, lean], [0, high]] · pixel + shift; a mirror is a stretch by −1.
        wide, high, lean = (wide * self.scale).exp(), (high * self.scale).exp(), lean * self.shear
        if self.flip:
            wide, high = wide.copysign(mirror_x), high.copysign(mirror_y)
        cos, sin = angle.cos(), angle.sin()
        x_row = torch.stack((cos * wide, cos * lean - sin * high, right * self.shift * width))
        y_row = torch.stack((sin * wide, sin * lean + cos * high, down * self.shift * height))
        # From pixels to sides of length 2.
        amounts = torch.stack((x_row * (2 / width), y_row * (2 / height))).permute(2, 0, 1).reshape(-1, 3)
        if self.elastic:
            amounts = torch.cat((amounts, noise.view(-1, self.elastic_grid**2) * (2 * self.elastic)), 1)
        waves = _waves(height, width, self.elastic_grid if self.elastic else 0, images.device)
        # One product for the affine and the elastic part: apart, they would pass over the positions twice.
        positions = amounts.to(images.device) @ waves
        return positions.view(-1, 2, height, width).permute(0, 2, 3, 1)

    def _adjust_light(self, draws: Tensor, images: Tensor, unit: Tensor | float) -> Tensor:
        """Brightness and contrast of `[B, C, H, W]`, as a new tensor."""
        light, contrast = draws.to(images.device).view(2, -1, 1, 1, 1)
        factor = (contrast * self.contrast).exp()
        mean = images.mean((1, 2, 3), keepdim=True)
        return torch.addcmul(mean * (1 - factor) + light * self.brightness * unit, images, factor)


AUGMENTATIONS: dict[str, Augmentation] = {
    "digits": Augmentation(rotate=6, shift=1.5 / 28, scale=0.06, shear=0.06, elastic=0.5 / 28),
    "surfaces": Augmentation(
        rotate=8,
        shift=0.08,
        scale=0.08,
        flip=True,
        quarter_turns=True,
        brightness=0.1,
        contrast=0.15,
        border="reflection",
    ),
}
"""For handwritten digits, which may not be mirrored, and for photographs of a surface, which may be turned as well."""


def augmentation(given: str | Mapping[str, Any] | None) -> Augmentation | None:
    """The augmentation of a setting.

    Args:
        given: `None` or `"none"`; a name in `AUGMENTATIONS`; or fields of `Augmentation` by name, with `"base"` for the
            name of the augmentation whose other fields are used.

    Returns:
        `None` for no augmentation.

    Raises:
        InputError: there is no such name or field, or a value is out of range.

    Example:
        >>> augmentation("digits").rotate
        6
        >>> wider = augmentation({"base": "digits", "rotate": 20})
        >>> wider.rotate, wider.scale
        (20, 0.06)
    """
    if given is None or given == "none":
        return None
    if isinstance(given, str):
        if given not in AUGMENTATIONS:
            raise not_known("augmentation", given, ("none", *AUGMENTATIONS))
        return AUGMENTATIONS[given]
    if not isinstance(given, Mapping):
        raise InputError(
            f"augmentation must be a name (none, {', '.join(AUGMENTATIONS)}) or fields by name, not {given!r}"
        )
    options = dict(given)
    start = Augmentation()
    if "base" in options:
        base = options.pop("base")
        if not isinstance(base, str) or base not in AUGMENTATIONS:
            raise not_known("augmentation base", base, AUGMENTATIONS)
        start = AUGMENTATIONS[base]
    known = [field.name for field in fields(Augmentation)]
    for name in options:
        if name not in known:
            raise not_known("augmentation field", name, ("base", *known))
    return replace(start, **options)


@functools.lru_cache(maxsize=8)
def _waves(height: int, width: int, points: int, device: torch.device) -> Tensor:
    """What each amount of an image adds to the positions of its pixels: `[3 + points², H · W]`.

    The first three rows are x, y (pixels, from the middle) and 1, of an affine map; then comes one bicubic bump for
    each point of the coarse grid.
    """
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32) - (height - 1) / 2,
        torch.arange(width, dtype=torch.float32) - (width - 1) / 2,
        indexing="ij",
    )
    rows = torch.stack((x, y, torch.ones_like(x)))
    if points:
        alone = torch.eye(points**2, dtype=torch.float32).view(-1, 1, points, points)
        bumps = functional.interpolate(alone, size=(height, width), mode="bicubic", align_corners=True)
        rows = torch.cat((rows, bumps.squeeze(1)))
    return rows.flatten(1).to(device)
