"""One image file into 8-bit pixels of a known size: depth, colour, transparency, orientation, resizing.

Whatever is fixed here is fixed for all images alike, never per image, for brightness to stay comparable. Resizing is
Pillow's antialiased `BILINEAR` with `reducing_gap=2.0`; the aspect ratio is not kept.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from mekiki.console import Progress, silent
from mekiki.data.image_set import Pixels
from mekiki.errors import DataWarning, InputError, count_noun, name_some

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
_WORKERS = min(8, os.cpu_count() or 1)
_BLOCK = 512
_BLOCK_BYTES = 2**25


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
    with _opened(path) as image:
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
    with _opened(path) as image:
        height, width = _upright_size(image)
        if size is not None:
            side = 2 * max(size)
            # JPEG: decode at a half, quarter or eighth where that suffices.
            image.draft(None, (side, side))
        return _decoded(image, (height, width), size, channels)


def decode_mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode a mask, bool `[H, W]`: true where the file is not black; resized to the nearest pixel.

    Raises:
        InputError: the file cannot be read.
    """
    mask = decode(path, None, 1).pixels
    resized = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def resized(pixels: Pixels, size: tuple[int, int], channels: int) -> Pixels:
    """Bring images in memory to a size and a number of channels, as `decode` does with files.

    Example:
        >>> resized(np.zeros((5, 8, 8), np.uint8), (4, 4), 3).shape
        (5, 4, 4, 3)
    """
    if pixels.shape[1:3] == size and (3 if pixels.ndim == 4 else 1) == channels:
        return pixels
    out = np.empty((len(pixels), *size, *((3,) if channels == 3 else ())), np.uint8)
    for i, image in enumerate(pixels):
        out[i] = _fitted(Image.fromarray(np.ascontiguousarray(image)), size, channels)
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
        _pixels(smallest)
        if len(sizes) == 1
        else f"{len(sizes)} sizes ({_pixels(smallest)} … {_pixels(largest)})"
    )
    return DEFAULT_SIZE, [
        f"images of {span} px are squeezed to {_pixels(DEFAULT_SIZE)} px; say size to choose another"
    ]


@dataclass
class Findings:
    """What decoding many files has met; `notes` says it in one line each."""

    unreadable: list[str] = field(default_factory=list)
    too_large: list[str] = field(default_factory=list)
    enlarged: list[str] = field(default_factory=list)
    deep: list[str] = field(default_factory=list)
    highest: int = 0
    unit_floats: list[str] = field(default_factory=list)
    byte_floats: list[str] = field(default_factory=list)
    coloured: bool = False

    def failed(self, name: str, error: InputError) -> None:
        """Count a file that gave no image."""
        (self.too_large if isinstance(error, TooLargeError) else self.unreadable).append(name)

    def met(self, name: str, decoded: Decoded) -> None:
        """Count a file that gave one."""
        self.coloured |= decoded.coloured
        if decoded.enlarged:
            self.enlarged.append(name)
        if decoded.highest_of_16_bit is not None:
            self.deep.append(name)
            self.highest = max(self.highest, decoded.highest_of_16_bit)
        if decoded.float_range is not None:
            (self.unit_floats if decoded.float_range == "0..1" else self.byte_floats).append(name)

    def concluded(self, notes: Sequence[str], size: tuple[int, int], *, some: bool) -> list[str]:
        """What is to be noted of a stream that has ended, each told as a `DataWarning` to whoever asked for its blocks.

        Args:
            notes: what was noted before any file was read.
            size: height and width of the images.
            some: whether any could be read.

        Raises:
            InputError: none could.
        """
        if not some:
            bad = self.unreadable + self.too_large
            raise InputError(
                f"none of {count_noun(len(bad), 'file')} can be read: {name_some(bad)}; check the copy"
            )
        every = [*notes, *self.notes(size)]
        for note in every:
            warnings.warn(note, DataWarning, stacklevel=3)
        return every

    def notes(self, size: tuple[int, int]) -> list[str]:
        """One line for each kind of finding."""
        lines = []
        if self.unreadable:
            lines.append(
                f"{count_noun(len(self.unreadable), 'file')} skipped, unreadable or cut short: "
                f"{name_some(self.unreadable)}"
            )
        if self.too_large:
            lines.append(
                f"{count_noun(len(self.too_large), 'file')} skipped, more than {LARGEST_IMAGE // 10**6} megapixels: "
                f"{name_some(self.too_large)}"
            )
        if self.enlarged:
            lines.append(
                f"{count_noun(len(self.enlarged), 'image')} enlarged to {_pixels(size)} px, which adds no detail: "
                f"{name_some(self.enlarged)}"
            )
        if self.deep and self.highest <= TWELVE_BITS:
            lines.append(
                f"{count_noun(len(self.deep), '16-bit image')} hold no value above {self.highest} of 65,535 (a 12-bit "
                f"camera?) and will be dark; scale them first: {name_some(self.deep)}"
            )
        lines.extend(
            f"{count_noun(len(names), 'float image')} taken to run over {span}: {name_some(names)}"
            for names, span in ((self.unit_floats, "0..1"), (self.byte_floats, "0..255"))
            if names
        )
        return lines


def decode_blocks(
    paths: Sequence[Path],
    names: Sequence[str],
    size: tuple[int, int],
    channels: int,
    findings: Findings,
    *,
    batch: int | None = None,
    progress: Progress = silent,
) -> Iterator[tuple[list[int], Pixels]]:
    """Decode files with several threads, a block ahead: while the caller uses one, the next is being decoded.

    Never more than that, so memory holds two blocks and what the threads have in hand. When the caller stops early
    (closes the generator, raises, is interrupted), what has not begun is dropped and the threads end.

    Threads, not processes: Pillow lets go of Python's lock while it decodes and resizes, so threads keep every core
    busy, and pixels need not travel from one process to another. Nor does a script need `if __name__ == "__main__"`,
    as it would on Windows and macOS, where a new process imports it anew.

    Args:
        paths: the files.
        names: one name a file, for the findings.
        size: height and width.
        channels: 1 or 3.
        findings: filled on the way, in the order of the files and by the calling thread alone; of a block when it is
            given out, not when it was decoded.
        batch: files a block; by default about 32 MB of pixels.
        progress: told after each block.

    Yields:
        Positions in `paths` of the images of this block (bad files are missing) and their pixels.
    """
    shape = (*size, *((3,) if channels == 3 else ()))
    length = batch or rows_per_block(shape)

    def attempt(path: Path, place: Pixels) -> Decoded | InputError:
        try:
            decoded = decode(path, size, channels)
        except InputError as error:
            return error
        place[...] = decoded.pixels
        return replace(decoded, pixels=place)

    def begin(start: int) -> tuple[Pixels, list[Future[Decoded | InputError]]]:
        files = paths[start : start + length]
        block = np.empty((len(files), *shape), np.uint8)
        return block, [threads.submit(attempt, path, block[i]) for i, path in enumerate(files)]

    def finish(
        start: int, block: Pixels, results: list[Future[Decoded | InputError]]
    ) -> tuple[list[int], Pixels]:
        good = []
        for i, result in enumerate(results):
            found, name = result.result(), names[start + i]
            if isinstance(found, InputError):
                findings.failed(name, found)
            else:
                findings.met(name, found)
                good.append(i)
        progress("decoding images", start + len(results), len(paths))
        return [start + i for i in good], block if len(good) == len(block) else block[good]

    threads = ThreadPoolExecutor(_WORKERS, thread_name_prefix="mekiki-decoding")
    try:
        ahead = begin(0)
        for start in range(0, len(paths), length):
            # The one after next is queued before the next is waited for: no thread idles over the last of a block.
            current, ahead = ahead, begin(start + length)
            yield finish(start, *current)
    finally:
        threads.shutdown(cancel_futures=True)


def rows_per_block(shape: tuple[int, ...]) -> int:
    """How many images of `shape` to hold at a time, for memory to stay flat whatever their size.

    Example:
        >>> rows_per_block((28, 28)), rows_per_block((1024, 1024, 3))
        (512, 10)
    """
    return min(_BLOCK, max(1, _BLOCK_BYTES // math.prod(shape)))


def read_headers(
    paths: Sequence[Path], names: Sequence[str], findings: Findings, *, progress: Progress = silent
) -> list[Header | None]:
    """Read many headers with several threads; `None` and a finding for a file that has none."""

    def attempt(path: Path) -> Header | InputError:
        try:
            return read_header(path)
        except InputError as error:
            return error

    headers: list[Header | None] = []
    with ThreadPoolExecutor(_WORKERS) as threads:
        for start in range(0, len(paths), _BLOCK):
            for result in threads.map(attempt, paths[start : start + _BLOCK]):
                if isinstance(result, InputError):
                    findings.failed(names[len(headers)], result)
                    headers.append(None)
                else:
                    headers.append(result)
            progress("reading headers", len(headers), len(paths))
    return headers


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file; whatever goes wrong in the block is told as an `InputError` about that file."""
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


def _decoded(
    image: Image.Image, original: tuple[int, int], size: tuple[int, int] | None, channels: int
) -> Decoded:
    ImageOps.exif_transpose(image, in_place=True)
    flat, highest, float_range = _eight_bit(image)
    pixels = _fitted(flat, size or (flat.height, flat.width), channels)
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


def _fitted(image: Image.Image, size: tuple[int, int], channels: int) -> Pixels:
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
        raise TooLargeError(f"{path}: {_pixels((image.height, image.width))} px is too large; scale it down")


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: does not exist; check the path")
    reason = (
        "not an image" if type(error).__name__ == "UnidentifiedImageError" else " ".join(str(error).split())
    )
    return InputError(
        f"{path}: cannot be read ({reason or type(error).__name__}); give a png, jpg, bmp, tif or webp"
    )


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
