"""Photographs from files for a judge: a stream in which a bad file is an answer, not the end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mekiki.datasets.decoding import decode
from mekiki.datasets.layout import image_files
from mekiki.errors import InputError
from mekiki.images import Pixels

BLOCK = 16
"""Photographs that are decoded, looked at and judged together."""
_AHEAD = 4


@dataclass(frozen=True, eq=False)
class Photograph:
    """One file, read or not.

    Attributes:
        path: the file.
        pixels: uint8 `[H, W]` or `[H, W, 3]`, or `None`.
        problem: why there are no pixels, in one line.
    """

    path: Path
    pixels: Pixels | None
    problem: str = ""

    @property
    def content(self) -> str:
        """A hash of the pixels as the judge sees them, by which the same photograph is known again."""
        return content_of(self.pixels) if self.pixels is not None else ""


def content_of(pixels: Pixels) -> str:
    """Hash of pixels and shape, 32 hexadecimal digits."""
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:32]


def gather(places: Sequence[Path]) -> list[Path]:
    """All image files at these places, folders searched to the bottom; each file once, in order.

    Raises:
        InputError: a place does not exist, or there is no image file at all.
    """
    return gather_noting(places)[0]


def gather_noting(places: Sequence[Path]) -> tuple[list[Path], list[str]]:
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
        else:
            raise InputError(f"{path}: does not exist; give photographs or folders of them")
        for file in found:
            files.setdefault(file.resolve(), file)
    if not files:
        raise InputError(
            f"{', '.join(map(str, places))}: no photograph here; give files or folders of png, jpg, bmp, tif or webp"
        )
    notes = [f"{others} other files there are no photographs by their endings"] if others else []
    return list(files.values()), notes


def photographs(paths: Sequence[Path], size: tuple[int, int], channels: int) -> Iterator[list[Photograph]]:
    """Read files in blocks, a few ahead of the caller; never raises for a file that cannot be read.

    Args:
        paths: the files.
        size: height and width to squeeze them to.
        channels: 1 or 3.

    Yields:
        `BLOCK` photographs at a time, in order.
    """

    def read(path: Path) -> Photograph:
        try:
            return Photograph(path, decode(path, size, channels).pixels)
        except InputError as error:
            said = str(error)
            return Photograph(path, None, said.removeprefix(f"{path}: "))

    with ThreadPoolExecutor(2, thread_name_prefix="mekiki-photographs") as threads:
        blocks = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
        waiting = [[threads.submit(read, path) for path in block] for block in blocks[:_AHEAD]]
        for number in range(len(blocks)):
            if number + _AHEAD < len(blocks):
                waiting.append([threads.submit(read, path) for path in blocks[number + _AHEAD]])
            yield [one.result() for one in waiting.pop(0)]
