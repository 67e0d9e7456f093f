"""From a stored photograph to what a pretrained network takes: squeezed, scaled and centred as it was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mekiki.errors import InputError

FILES = ("preprocessor_config.json", "processor_config.json")
"""Where a model folder says how its pixels are prepared; the second is that of models of images and text."""

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


@dataclass(frozen=True)
class Preparation:
    """How pixels are prepared for a network, read from the settings saved with it.

    A whole image is squeezed to `size`; nothing is cut away at its edges, as the settings of most models would have
    it, because a defect may lie there.

    Attributes:
        size: height and width the network was trained at.
        scale: three numbers that red, green and blue (0…255) are multiplied by.
        shift: three numbers added to them then.
        resample: how to resize, as Pillow numbers it (2 is bilinear, 3 bicubic).
        blue_first: the network takes blue, green, red.
        settings: the text it was read from, for a copy of the model to be prepared for in the same way.

    Example:
        >>> prepare = Preparation((4, 4), (1 / 255,) * 3, (0.0,) * 3)
        >>> prepare(np.full((8, 6), 255, np.uint8), (4, 4)).shape
        torch.Size([3, 4, 4])
    """

    size: tuple[int, int]
    scale: tuple[float, float, float]
    shift: tuple[float, float, float]
    resample: int = 2
    blue_first: bool = False
    settings: str = field(default="{}", repr=False, compare=False)

    def __call__(self, image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
        """One image, uint8 `[H, W]` or `[H, W, 3]`, as float32 `[3, h, w]`; grey becomes three equal channels."""
        if image.shape[:2] != size:
            # Pillow, because the processors that most models were trained and published with use it too.
            whole = Image.fromarray(np.ascontiguousarray(image))
            image = np.asarray(whole.resize((size[1], size[0]), Image.Resampling(self.resample)))
        return self._scale(torch.from_numpy(np.array(image))[None])[0]

    def batch(self, stored: Tensor, size: tuple[int, int]) -> Tensor:
        """A batch `[B, H, W]` or `[B, H, W, 3]`, uint8 or float32 0…255, as float32 `[B, 3, h, w]`, by torch alone.

        For training through the network; up to one grey level in single pixels apart from the other way.
        """
        prepared = self._scale(stored)
        if prepared.shape[2:] != size:
            mode = "bicubic" if self.resample == 3 else "bilinear"
            prepared = functional.interpolate(prepared, size=size, mode=mode, antialias=True)
        return prepared

    def _scale(self, stored: Tensor) -> Tensor:
        if stored.ndim == 3:
            images = stored.unsqueeze(1).float().expand(-1, 3, -1, -1)
        else:
            images = stored.permute(0, 3, 1, 2).float()
            if self.blue_first:
                images = images.flip(1)
        scale = torch.tensor(self.scale, device=stored.device).view(3, 1, 1)
        shift = torch.tensor(self.shift, device=stored.device).view(3, 1, 1)
        return torch.addcmul(shift, images, scale)

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Preparation:
        """Read it from a model folder.

        Args:
            folder: holds `preprocessor_config.json`.
            config: the model's own `config.json`, which may know the image size where the other file does not.

        Raises:
            InputError: the file is missing or cannot be used. How pixels are to be scaled is never guessed.
        """
        path = next((folder / name for name in FILES if (folder / name).is_file()), None)
        if path is None:
            raise InputError(
                f"{folder}: {FILES[0]} is missing, which says how pixels are scaled for this model; put the one "
                "published with it there"
            )
        try:
            text = path.read_text(encoding="utf-8")
            given = json.loads(text)
            given = given.get("image_processor", given)
            size = _size(given, config)
            factor = float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 1.0
            mean, std = (0.0,) * 3, (1.0,) * 3
            if given.get("do_normalize", "image_mean" in given):
                mean, std = _three(given["image_mean"]), _three(given["image_std"])
            if not all(np.isfinite([*mean, *std, factor])) or min(std) <= 0 or factor <= 0:
                raise ValueError("a mean, deviation or factor is out of range")
            if given.get("rescale_offset") or given.get("offset"):
                raise ValueError("rescale_offset is not supported")
            resample = int(given.get("resample", 2))
            if resample not in _RESAMPLE:
                raise ValueError(f"resample is {resample}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{path}: cannot be used ({said}); put the file published with the model there"
            ) from None
        red, green, blue = (
            (factor / deviation, -centre / deviation) for centre, deviation in zip(mean, std, strict=True)
        )
        return cls(
            size,
            (red[0], green[0], blue[0]),
            (red[1], green[1], blue[1]),
            resample,
            bool(given.get("do_flip_channel_order", False)),
            text,
        )


def _size(given: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width the network was trained at: what is cut out, else what is resized to."""
    cut = given.get("crop_size") if given.get("do_center_crop") else None
    for size in (cut, given.get("size"), config.get("image_size"), 224):
        if isinstance(size, Mapping):
            sides = (size.get("height"), size.get("width"))
            if None in sides:
                sides = (size.get("shortest_edge"),) * 2
        elif isinstance(size, list | tuple):
            sides = tuple(size) if len(size) == 2 else (size[0],) * 2
        else:
            sides = (size, size)
        if None not in sides:
            height, width = int(sides[0]), int(sides[1])  # type: ignore[arg-type]
            if not 1 <= min(height, width) <= max(height, width) <= 4096:
                raise ValueError(f"images of {height}×{width} pixels")
            return height, width
    raise ValueError("no image size")


def _three(given: Any) -> tuple[float, float, float]:
    values = [float(value) for value in (given if isinstance(given, list | tuple) else [given] * 3)]
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise ValueError(f"{len(values)} channels; only RGB can be prepared")
    return values[0], values[1], values[2]
