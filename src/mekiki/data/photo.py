"""Photographs from files for a judge: a stream in which a bad file is an answer, not the end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mekiki.data.decoding import TWELVE_BITS, decode, read_header
from mekiki.data.folder_layout import image_files
from mekiki.data.image_set import Pixels
from mekiki.errors import InputError

BLOCK = 16
"""Photographs that are decoded, looked at and judged together."""
_AHEAD = 4


@dataclass(frozen=True, eq=False)
class Photo:
    """One file, read or not.

    Attributes:
        path: the file.
        pixels: uint8 `[H, W]` or `[H, W, 3]`, or `None`.
        problem: why there are no pixels, in one line.
        size: height and width of the photograph in the file.
        coloured: whether it has colour.
        dark: the highest value of a 16-bit photograph whose upper four bits are never used, else 0.
    """

    path: Path
    pixels: Pixels | None
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    coloured: bool = False
    dark: int = 0

    @property
    def content(self) -> str:
        """A hash of the pixels as the judge sees them, by which the same photograph is known again."""
        return pixel_hash(self.pixels) if self.pixels is not None else ""


SIZE_ROOM = 1.25
"""A photograph larger or smaller than all those calibrated on by more than this is remarked on."""


@dataclass(frozen=True)
class Conditions:
    """How OK parts were photographed, for a photograph of another kind to be told.

    Attributes:
        heights: lowest and highest, in pixels.
        widths: lowest and highest.
        coloured: whether any has colour.

    Example:
        >>> conditions = Conditions((300, 320), (400, 400), False)
        >>> conditions.remark(Photo(Path("a.png"), np.zeros((3, 4), np.uint8), size=(1200, 1600)))
        'all pixels are equal; 1200×1600 pixels, where those calibrated on have 300…320×400'
    """

    heights: tuple[int, int]
    widths: tuple[int, int]
    coloured: bool

    @classmethod
    def of(cls, photographs: Sequence[Photo]) -> Conditions:
        """Those of photographs that could be read."""
        heights, widths = zip(*(one.size for one in photographs), strict=True)
        return cls(
            (min(heights), max(heights)),
            (min(widths), max(widths)),
            any(one.coloured for one in photographs),
        )

    def remark(self, one: Photo) -> str:
        """What sets a photograph apart before any judge has seen it; empty for nothing."""
        said = []
        if one.pixels is not None and one.pixels.min() == one.pixels.max():
            said.append("all pixels are equal")
        sides = zip(one.size, (self.heights, self.widths), strict=True)
        if any(not low / SIZE_ROOM <= side <= high * SIZE_ROOM for side, (low, high) in sides):
            said.append(
                f"{one.size[0]}×{one.size[1]} pixels, where those calibrated on have {_span(self.heights)}×"
                f"{_span(self.widths)}"
            )
        if one.coloured and not self.coloured:
            said.append("has colour, where those calibrated on are grey")
        if one.dark:
            said.append(f"16 bits deep, but no value is above {one.dark}, so it is dark; scale it first")
        return "; ".join(said)


def _span(ends: tuple[int, int]) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}…{ends[1]}"


def pixel_hash(pixels: Pixels) -> str:
    """Hash of pixels and shape, 32 hexadecimal digits."""
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:32]


def list_photos(places: Sequence[Path]) -> list[Path]:
    """All image files at these places, folders searched to the bottom; each file once, in order.

    Raises:
        InputError: a place does not exist, or there is no image file at all.
    """
    return list_photos_with_notes(places)[0]


def list_photos_with_notes(places: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The same, and a note where files in the folders are no photographs by their endings."""
    files: dict[Path, Path] = {}
    others = 0
    for place in places:
        path = place.expanduser()
        if path.is_dir():
            found, strangers = image_files(path)
            others += len(strangers)
        elif path.exists():
            found = [path]
        elif path.parts[0][2:].endswith(
            ":"
        ):  # as a path, a URL has lost a slash; C: has its colon in the second place
            raise InputError(
                f"{path}: is a URL, and photographs are looked at on this machine's disks; fetch them first, or judge "
                "them there with --engine ray"
            )
        else:
            raise InputError(f"{path}: does not exist; give photographs or folders of them")
        for file in found:
            # Not resolve(), which some versions of Python end with an error for a link to itself.
            files.setdefault(Path(os.path.realpath(file)), file)
    if not files:
        raise InputError(
            f"{', '.join(map(str, places))}: no photograph here; give files or folders of png, jpg, bmp, tif or webp"
        )
    notes = [f"{others} other files there are no photographs by their endings"] if others else []
    return list(files.values()), notes


def iter_photos(
    paths: Sequence[Path], frame: Callable[[int, int], tuple[int, int]], channels: int
) -> Iterator[list[Photo]]:
    """Read files in blocks, a few ahead of the caller; never raises for a file that cannot be read.

    Args:
        paths: the files.
        frame: from height and width of a photograph to those it is read at.
        channels: 1 or 3.

    Yields:
        `BLOCK` photographs at a time, in order.
    """

    def read(path: Path) -> Photo:
        try:
            header = read_header(path)
            decoded = decode(path, frame(header.height, header.width), channels)
        except InputError as error:
            said = str(error)
            return Photo(path, None, said.removeprefix(f"{path}: "))
        highest = decoded.highest_of_16_bit or 0
        return Photo(
            path,
            decoded.pixels,
            size=(header.height, header.width),
            coloured=decoded.coloured,
            dark=highest if highest <= TWELVE_BITS else 0,
        )

    if len(paths) == 1:  # threads cost more than there is to gain
        yield [read(paths[0])]
        return
    with ThreadPoolExecutor(2, thread_name_prefix="mekiki-photographs") as threads:
        blocks = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
        waiting = [[threads.submit(read, path) for path in block] for block in blocks[:_AHEAD]]
        for number in range(len(blocks)):
            if number + _AHEAD < len(blocks):
                waiting.append([threads.submit(read, path) for path in blocks[number + _AHEAD]])
            yield [one.result() for one in waiting.pop(0)]
