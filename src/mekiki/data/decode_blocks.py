"""Many image files decoded by several threads, in blocks, with an account of what was skipped or converted."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mekiki.console import Progress, silent
from mekiki.data.decoding import (
    LARGEST_IMAGE,
    TWELVE_BITS,
    Decoded,
    Header,
    TooLargeError,
    decode,
    format_size,
    read_header,
)
from mekiki.data.image_set import Pixels
from mekiki.errors import DataWarning, InputError, count_noun, name_some

_WORKERS = min(8, os.cpu_count() or 1)


_BLOCK = 512


_BLOCK_BYTES = 2**25


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

    def add_failure(self, name: str, error: InputError) -> None:
        """Count a file that gave no image."""
        (self.too_large if isinstance(error, TooLargeError) else self.unreadable).append(name)

    def add_image(self, name: str, decoded: Decoded) -> None:
        """Count a file that gave one."""
        self.coloured |= decoded.coloured
        if decoded.enlarged:
            self.enlarged.append(name)
        if decoded.highest_of_16_bit is not None:
            self.deep.append(name)
            self.highest = max(self.highest, decoded.highest_of_16_bit)
        if decoded.float_range is not None:
            (self.unit_floats if decoded.float_range == "0..1" else self.byte_floats).append(name)

    def finish(self, notes: Sequence[str], size: tuple[int, int], *, some: bool) -> list[str]:
        """Notes on a stream that has ended, each also given as a `DataWarning`.

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
                f"{count_noun(len(self.enlarged), 'image')} enlarged to {format_size(size)} px, which adds no detail: "
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
    as it would on Windows and macOS, where a new process imports it again.

    Args:
        paths: the files.
        names: one name a file, for the findings.
        size: height and width.
        channels: 1 or 3.
        findings: filled on the way, in the order of the files and by the calling thread alone; of a block when it is
            given out, not when it was decoded.
        batch: files a block; by default about 32 MB of pixels.
        progress: called after each block.

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
                findings.add_failure(name, found)
            else:
                findings.add_image(name, found)
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
                    findings.add_failure(names[len(headers)], result)
                    headers.append(None)
                else:
                    headers.append(result)
            progress("reading headers", len(headers), len(paths))
    return headers
