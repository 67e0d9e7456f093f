"""Photographs read from files. A file that cannot be read is a `Photo` with a problem, not an exception."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from mekiki.console import Progress, silent
from mekiki.data.decoding import TWELVE_BITS, decode, read_header
from mekiki.data.folder_layout import image_files
from mekiki.data.image_set import Pixels
from mekiki.errors import InputError

BLOCK = 16
"""Photographs that are decoded and processed together."""
SIZE_TOLERANCE = 1.25
"""A photograph larger or smaller than all those calibrated on by more than this factor gets a remark."""
MOST_BYTES = 128 * 2**20
"""Pixels of the photographs that are decoded and processed together, and of those decoded ahead, at most."""
_BLOCKS_AHEAD = 4

Frame = Callable[[int, int], tuple[int, int]]
"""From height and width of a photograph to the height and width it is read at."""
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Photo:
    """One photograph: its file, and its pixels or the problem that it could not be read for.

    Attributes:
        path: the file.
        pixels: uint8 `[H, W]` or `[H, W, 3]`, or `None`.
        problem: why there are no pixels, in one line.
        size: height and width of the photograph in the file.
        coloured: whether it has colour.
        dark_maximum: the highest value of a 16-bit photograph that uses only its lower 12 bits, else 0.
        remark: what is unusual about it, such as its size; empty for nothing. See `PhotoConditions.remark`.
        known_content: `content` of a photograph whose pixels are no longer in memory.
    """

    path: Path
    pixels: Pixels | None
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    coloured: bool = False
    dark_maximum: int = 0
    remark: str = ""
    known_content: str = ""

    @cached_property
    def content(self) -> str:
        """A hash of the pixels, by which the same photograph is recognised; empty if it could not be read."""
        return pixel_hash(self.pixels) if self.pixels is not None else self.known_content

    def without_pixels(self) -> Photo:
        """The same photograph with its pixels out of memory; `read_again` has them."""
        return replace(self, pixels=None, known_content=self.content)


@dataclass(frozen=True)
class PhotoConditions:
    """Sizes and colour of the photographs calibrated on, to recognise a photograph of another kind.

    Attributes:
        heights: lowest and highest, in pixels.
        widths: lowest and highest.
        coloured: whether any has colour.

    Example:
        >>> conditions = PhotoConditions((300, 320), (400, 400), False)
        >>> conditions.remark(Photo(Path("a.png"), np.zeros((3, 4), np.uint8), size=(1200, 1600)))
        'all pixels are equal; 1200×1600 pixels, where those calibrated on have 300…320×400'
    """

    heights: tuple[int, int]
    widths: tuple[int, int]
    coloured: bool

    @classmethod
    def of(cls, photos: Sequence[Photo]) -> PhotoConditions:
        """The conditions of photographs that could be read."""
        heights, widths = zip(*(photo.size for photo in photos), strict=True)
        return cls(
            (min(heights), max(heights)),
            (min(widths), max(widths)),
            any(photo.coloured for photo in photos),
        )

    def remark(self, photo: Photo) -> str:
        """What distinguishes a photograph from these before it is judged; empty for nothing."""
        remarks = []
        if photo.pixels is not None and photo.pixels.min() == photo.pixels.max():
            remarks.append("all pixels are equal")
        sides = zip(photo.size, (self.heights, self.widths), strict=True)
        if any(not low / SIZE_TOLERANCE <= side <= high * SIZE_TOLERANCE for side, (low, high) in sides):
            remarks.append(
                f"{photo.size[0]}×{photo.size[1]} pixels, where those calibrated on have "
                f"{_range(self.heights)}×{_range(self.widths)}"
            )
        if photo.coloured and not self.coloured:
            remarks.append("has colour, where those calibrated on are grey")
        if photo.dark_maximum:
            remarks.append(
                f"16 bits deep, but no value is above {photo.dark_maximum}, so it is dark; scale it first"
            )
        return "; ".join(remarks)


def _range(ends: tuple[int, int]) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}…{ends[1]}"


def pixel_hash(pixels: Pixels) -> str:
    """Hash of pixels and shape, 32 hexadecimal digits."""
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:32]


def list_photos(places: Sequence[Path]) -> list[Path]:
    """All image files at these places, folders searched recursively; each file once, in order.

    Raises:
        InputError: a place does not exist, or there is no image file at all.
    """
    return list_photos_with_notes(places)[0]


def list_photos_with_notes(places: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The same, and a note on files in the folders that are no photographs by their endings."""
    files: dict[Path, Path] = {}
    skipped = 0
    for place in places:
        path = place.expanduser()
        if path.is_dir():
            images, others = image_files(path)
            skipped += len(others)
        elif path.exists():
            images = [path]
        # As a path, a URL has lost a slash. A drive such as C: has its colon in the second place.
        elif path.parts[0][2:].endswith(":"):
            raise InputError(
                f"{path}: is a URL, and photographs are looked at on this machine's disks; fetch them first, or judge "
                "them there with --engine ray"
            )
        else:
            raise InputError(f"{path}: does not exist; give photographs or folders of them")
        for file in images:
            # Not resolve(), which raises in some versions of Python for a link to itself.
            files.setdefault(Path(os.path.realpath(file)), file)
    if not files:
        raise InputError(
            f"{', '.join(map(str, places))}: no photograph here; give files or folders of png, jpg, bmp, tif or webp"
        )
    notes = [f"{skipped} other files there are no photographs by their endings"] if skipped else []
    return list(files.values()), notes


def read_photo(path: Path, frame: Frame, channels: int) -> Photo:
    """Read one file; never raises for a file that cannot be read.

    Args:
        path: the file.
        frame: see `Frame`.
        channels: 1 or 3.
    """
    try:
        header = read_header(path)
        decoded = decode(path, frame(header.height, header.width), channels)
    except InputError as error:
        return Photo(path, None, str(error).removeprefix(f"{path}: "))
    highest = decoded.highest_of_16_bit or 0
    return Photo(
        path,
        decoded.pixels,
        size=(header.height, header.width),
        coloured=decoded.coloured,
        dark_maximum=highest if highest <= TWELVE_BITS else 0,
    )


def iter_photos(
    paths: Sequence[Path], frame: Frame, channels: int, *, block: int = BLOCK
) -> Iterator[list[Photo]]:
    """Read files in blocks, a few blocks ahead of the caller, in bounded memory.

    Args:
        paths: the files.
        frame: see `Frame`.
        channels: 1 or 3.
        block: photographs in a block; of large ones there are fewer.

    Yields:
        The photographs of each block, in order.
    """
    if len(paths) == 1:  # threads cost more than they gain
        yield [read_photo(paths[0], frame, channels)]
        return
    with ThreadPoolExecutor(2, thread_name_prefix="mekiki-photographs") as threads:
        waiting, pending = iter(paths), deque[Future[Photo]]()
        together, largest, number = list[Photo](), 0, 0
        while number < len(paths):
            # Few until the first one says how much memory they take.
            ahead = _BLOCKS_AHEAD * block if largest else 2
            ahead = min(ahead, max(2, MOST_BYTES // max(largest, 1)))
            for path in islice(waiting, max(0, ahead - len(pending))):
                pending.append(threads.submit(read_photo, path, frame, channels))
            photo = pending.popleft().result()
            together.append(photo)
            largest, number = max(largest, 1, _bytes(photo)), number + 1
            if len(together) == block or sum(map(_bytes, together)) >= MOST_BYTES or number == len(paths):
                yield together
                together = []


def _bytes(photo: Photo) -> int:
    return 0 if photo.pixels is None else photo.pixels.nbytes


def read_again(photo: Photo, frame: Frame, channels: int) -> Pixels:
    """The pixels of a photograph that was read before, from its file where they are no longer in memory.

    Raises:
        InputError: the file has changed since.
    """
    if photo.pixels is not None:
        return photo.pixels
    again = read_photo(photo.path, frame, channels)
    if again.pixels is None or again.content != photo.known_content:
        raise InputError(f"{photo.path}: has changed since it was read; start again")
    return again.pixels


def map_photos(
    paths: Sequence[Path],
    frame: Frame,
    channels: int,
    function: Callable[[list[Pixels]], Iterable[Result]],
    *,
    block: int = BLOCK,
    progress: Progress = silent,
    label: str = "reading photographs",
) -> Iterator[tuple[Photo, Result | None]]:
    """Read files in blocks and apply a function to those that can be read.

    Args:
        paths: the files.
        frame: see `Frame`.
        channels: 1 or 3.
        function: from the pixels of the readable photographs of a block to one result each.
        block: photographs in a block.
        progress: called after each block.
        label: what `progress` shows.

    Yields:
        Each photograph in order, with its result; `None` for one that could not be read.
    """
    done = 0
    for photos in iter_photos(paths, frame, channels, block=block):
        yield from map_readable(photos, function)
        done += len(photos)
        progress(label, done, len(paths))


def map_readable(
    photos: Sequence[Photo], function: Callable[[list[Pixels]], Iterable[Result]]
) -> Iterator[tuple[Photo, Result | None]]:
    """Apply a function to the photographs of one block that could be read; see `map_photos`.

    Example:
        >>> block = [Photo(Path("a.png"), np.ones((2, 2), np.uint8)), Photo(Path("b.png"), None, "is empty")]
        >>> [(photo.path.name, mean) for photo, mean in map_readable(block, lambda all: [p.mean().item() for p in all])]
        [('a.png', 1.0), ('b.png', None)]
    """
    pixels = [photo.pixels for photo in photos if photo.pixels is not None]
    results = iter(function(pixels) if pixels else ())
    for photo in photos:
        yield photo, None if photo.pixels is None else next(results)
