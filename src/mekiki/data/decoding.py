"""Decoding of one image file to 8-bit pixels: depth, colour, transparency, orientation, resizing.

Every image is treated alike, never scaled by itself, so that brightness stays comparable. Resizing is
Pillow's antialiased `BILINEAR` with `reducing_gap=2.0`; the aspect ratio is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from mekiki.data.image_set import Pixels
from mekiki.errors import InputError

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP")
"""What Pillow may take a file for: others it reads by starting other programs, such as PostScript's."""
_PLAIN = frozenset({"PNG", "JPEG", "MPO", "BMP", "DIB"})
_DENSEST = 8 * 1032
"""Pixels that a byte of these can hold: deflate makes data at most 1032 times smaller, and a bit is a pixel."""
LARGEST_IMAGE = 100_000_000
"""Pixels; more than that by its header and an image is not decoded."""
LARGEST_KEPT_SIDE = 128
"""Pixels; images of one size up to this are kept as they are when no size is asked for."""
DEFAULT_SIZE = (64, 64)
TWELVE_BITS = 4095

_ORIENTATION, _WIDTH, _LENGTH = 0x0112, 0x0100, 0x0101
_QUARTER_TURNS = (5, 6, 7, 8)


class TooLargeError(InputError):
    """The header promises more pixels than anyone photographs: a mistake or a decompression bomb."""


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded: its upright size in pixels, and whether its mode is a grey one."""

    height: int
    width: int
    grey: bool


@dataclass(frozen=True, eq=False)
class Decoded:
    """One image as uint8 `[H, W]` or `[H, W, 3]`, and what happened to it on the way."""

    pixels: Pixels
    coloured: bool = False
    enlarged: bool = False
    highest_of_16_bit: int | None = None
    float_range: str | None = None


def read_header(path: Path) -> Header:
    """Read size and mode without decoding.

    Raises:
        InputError: the file is no image, or (`TooLargeError`) too large a one.
    """
    with _open_image(path) as image:
        height, width = _upright_size(image)
        return Header(height, width, _is_grey(image.mode))


def decode(path: Path, size: tuple[int, int] | None, channels: int) -> Decoded:
    """Decode the first frame of an image file, upright, laid on white where it is transparent.

    16 bits become 8 by `value // 256`; floats up to 1 are multiplied by 255, floats up to 255 rounded.

    Args:
        path: the file.
        size: height and width to squeeze it to; `None` keeps its own.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.

    Raises:
        InputError: the file cannot be read, or (`TooLargeError`) is too large.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "deep.png"
        >>> Image.fromarray(np.full((4, 6), 65535, np.uint16)).save(path)
        >>> decoded = decode(path, (2, 3), 1)
        >>> decoded.pixels.shape, int(decoded.pixels.max()), decoded.highest_of_16_bit
        ((2, 3), 255, 65535)
    """
    with _open_image(path) as image:
        height, width = _upright_size(image)
        if size is not None:
            side = 2 * max(size)
            # JPEG: decode at a half, quarter or eighth where that suffices.
            image.draft(None, (side, side))
        return _convert(image, (height, width), size, channels)


def decode_mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode a mask, bool `[H, W]`: true where the file is not black; resized to the nearest pixel.

    Raises:
        InputError: the file cannot be read.
    """
    mask = decode(path, None, 1).pixels
    resized = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def resize_images(pixels: Pixels, size: tuple[int, int], channels: int) -> Pixels:
    """Bring images in memory to a size and a number of channels, as `decode` does with files.

    Example:
        >>> resize_images(np.zeros((5, 8, 8), np.uint8), (4, 4), 3).shape
        (5, 4, 4, 3)
    """
    if pixels.shape[1:3] == size and (3 if pixels.ndim == 4 else 1) == channels:
        return pixels
    out = np.empty((len(pixels), *size, *((3,) if channels == 3 else ())), np.uint8)
    for i, image in enumerate(pixels):
        out[i] = _fit(Image.fromarray(np.ascontiguousarray(image)), size, channels)
    return out


def has_colour(pixels: Pixels) -> bool:
    """Whether any pixel of `[..., 3]` is other than grey, by more than the one level that lossy formats may add.

    Example:
        >>> has_colour(np.array([[7, 7, 8]], np.uint8)), has_colour(np.array([[7, 7, 9]], np.uint8))
        (False, True)
    """
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return bool((highest - lowest > 1).any())


def choose_size(
    sizes: set[tuple[int, int]], asked: tuple[int, int] | None
) -> tuple[tuple[int, int], list[str]]:
    """The height and width that all images get, and a note where that was not asked for and changes something.

    Example:
        >>> choose_size({(28, 28)}, None)
        ((28, 28), [])
        >>> choose_size({(480, 640)}, None)
        ((64, 64), ['images of 480×640 px are squeezed to 64×64 px; say size to choose another'])
    """
    if asked is not None:
        return asked, []
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_KEPT_SIDE:
        return next(iter(sizes)), []
    smallest, largest = min(sizes), max(sizes)
    span = (
        format_size(smallest)
        if len(sizes) == 1
        else f"{len(sizes)} sizes ({format_size(smallest)} … {format_size(largest)})"
    )
    return DEFAULT_SIZE, [
        f"images of {span} px are squeezed to {format_size(DEFAULT_SIZE)} px; say size to choose another"
    ]


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    """Open the image of a file; any error in the block becomes an `InputError` about that file."""
    try:
        # Given a path, Pillow maps an uncompressed TIFF into memory and gets a turned one wrong; given a file, not.
        with path.open("rb") as handle, Image.open(handle, formats=FORMATS) as image:
            _refuse_bomb(image, path)
            if image.format in _PLAIN and image.width * image.height > _DENSEST * path.stat().st_size:
                raise ValueError("its header promises more pixels than the file can hold")
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise TooLargeError(f"{path}: more than {LARGEST_IMAGE // 10**6} megapixels; scale it down") from None
    except Exception as error:  # damaged files raise nearly anything, by format
        raise _unreadable(path, error) from None


def _convert(
    image: Image.Image, original: tuple[int, int], size: tuple[int, int] | None, channels: int
) -> Decoded:
    ImageOps.exif_transpose(image, in_place=True)
    flat, highest, float_range = _eight_bit(image)
    pixels = _fit(flat, size or (flat.height, flat.width), channels)
    return Decoded(
        pixels,
        coloured=channels == 3 and has_colour(pixels),
        enlarged=size is not None and (original[0] < size[0] or original[1] < size[1]),
        highest_of_16_bit=highest,
        float_range=float_range,
    )


def _eight_bit(image: Image.Image) -> tuple[Image.Image, int | None, str | None]:
    """The image in mode L or RGB; the highest value it had if it was 16 bits deep; the range if it held floats."""
    if image.mode == "I" or image.mode.startswith("I;"):
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("integers outside 0..65535")
        return Image.fromarray((deep // 256).astype(np.uint8)), int(deep.max()), None
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
            raise ValueError("floats outside 0..255")
        unit = values.max() <= 1
        grey = np.rint(values * 255 if unit else values).astype(np.uint8)
        return Image.fromarray(grey), None, "0..1" if unit else "0..255"
    if image.has_transparency_data:
        front = image.convert("RGBA")
        white = Image.new("RGBA", front.size, "white")
        return Image.alpha_composite(white, front).convert("RGB"), None, None
    return image.convert("L" if _is_grey(image.mode) else "RGB"), None, None


def _fit(image: Image.Image, size: tuple[int, int], channels: int) -> Pixels:
    image = image.convert("L" if channels == 1 else "RGB")
    if (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    # A PNG's exif may stand behind its pixels, and asking for it would decode them.
    known = image.format != "PNG" or "exif" in image.info
    turned = known and image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
    height, width = image.height, image.width
    if isinstance(image, TiffImageFile):  # some versions of Pillow give its size upright, others as stored
        height, width = int(image.tag_v2[_LENGTH]), int(image.tag_v2[_WIDTH])
    return (width, height) if turned else (height, width)


def _is_grey(mode: str) -> bool:
    return mode in {"1", "L", "LA", "La", "I", "F"} or mode.startswith("I;")


def _refuse_bomb(image: Image.Image, path: Path) -> None:
    if image.width * image.height > LARGEST_IMAGE:
        raise TooLargeError(
            f"{path}: {format_size((image.height, image.width))} px is too large; scale it down"
        )


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: does not exist; check the path")
    reason = (
        "not an image" if type(error).__name__ == "UnidentifiedImageError" else " ".join(str(error).split())
    )
    return InputError(
        f"{path}: cannot be read ({reason or type(error).__name__}); give a png, jpg, bmp, tif or webp"
    )


def format_size(size: tuple[int, int]) -> str:
    """Height × width, for messages."""
    return f"{size[0]}×{size[1]}"
