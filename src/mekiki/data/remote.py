"""Images at URLs: `s3://…`, `gs://…`, `https://…` and every other protocol of fsspec."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from mekiki.console import Progress, silent
from mekiki.data.decode_blocks import Findings, decode_blocks
from mekiki.data.decoding import IMAGE_ENDINGS
from mekiki.data.image_set import Pixels
from mekiki.errors import InputError, count_noun, first_line
from mekiki.extras import require

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_AT_ONCE = 8
"""Files that are fetched at a time: what is waited for is the way, not the processor."""
_BLOCKS_FETCHED = 4
"""Blocks whose files are on this machine at a time."""


def is_url(place: str) -> bool:
    """Whether a place is a URL and not a path.

    Example:
        >>> is_url("s3://line1/2026"), is_url("photos/s3"), is_url("C:/photos")
        (True, False, False)
    """
    return _URL.match(place) is not None


def list_images(url: str) -> tuple[list[str], int]:
    """All image files at a URL, searched to the bottom, in order; and how many others there are.

    Raises:
        InputError: nothing is there, no image is among it, or it cannot be reached.

    Example:
        >>> import fsspec
        >>> with fsspec.open("memory://line1/b.png", "wb") as file:
        ...     _ = file.write(b"")
        >>> list_images("memory://line1")
        (['memory:///line1/b.png'], 0)
    """
    files, root = _filesystem(url)
    try:
        found = [root] if files.isfile(root) else sorted(files.find(root))
    except Exception as error:  # each protocol has errors of its own
        raise InputError(f"{url}: cannot be reached ({first_line(error)})") from None
    shown = [path for path in found if not _hidden(path, root)]
    images = [path for path in shown if PurePosixPath(path).suffix.lower() in IMAGE_ENDINGS]
    if not images:
        raise InputError(f"{url}: no image there; give where png, jpg, bmp, tif or webp files are")
    return [files.unstrip_protocol(path) for path in images], len(shown) - len(images)


@contextmanager
def temporary_copies(urls: Sequence[str]) -> Iterator[list[Path]]:
    """Download files for the block; they are deleted when it ends.

    A file that cannot be fetched is empty here and is then reported as no image; connection errors are reported by the
    listing.
    """
    with tempfile.TemporaryDirectory(prefix="mekiki-") as folder, ThreadPoolExecutor(_AT_ONCE) as threads:
        paths = [
            Path(folder) / f"{number}{PurePosixPath(url).suffix.lower()}" for number, url in enumerate(urls)
        ]
        list(threads.map(_fetch, urls, paths))
        yield paths


class RemoteStream:
    """Blocks of `(pixels, URLs)` as `ImageStream` gives them of files.

    Args:
        url: see `list_images`.
        size: height and width.
        channels: 1 or 3.
        batch: images a block, less what is skipped.
        progress: called after each block.

    Attributes:
        urls: every file that will be tried.
        notes: what was skipped and why; complete when the stream has ended.
    """

    def __init__(
        self, url: str, *, size: tuple[int, int], channels: int, batch: int, progress: Progress = silent
    ) -> None:
        self.urls, others = list_images(url)
        self.notes = [f"{count_noun(others, 'file is', 'files are')} no image, by the name"] if others else []
        self._size, self._channels, self._batch, self._progress = size, channels, batch, progress

    def __len__(self) -> int:
        return len(self.urls)

    def __iter__(self) -> Iterator[tuple[Pixels, list[str]]]:
        findings = Findings()
        some = False
        length = self._batch * _BLOCKS_FETCHED
        for start in range(0, len(self.urls), length):
            urls = self.urls[start : start + length]
            with temporary_copies(urls) as paths:
                blocks = decode_blocks(paths, urls, self._size, self._channels, findings, batch=self._batch)
                for rows, pixels in blocks:
                    if rows:
                        some = True
                        yield pixels, [urls[row] for row in rows]
            self._progress("decoding images", start + len(urls), len(self.urls))
        self.notes = findings.finish(self.notes, self._size, some=some)


def _fetch(url: str, path: Path) -> None:
    files, place = _filesystem(url)
    try:
        files.get_file(place, str(path))
    except Exception:  # each protocol has errors of its own; the empty file speaks for it
        path.write_bytes(b"")


def _filesystem(url: str) -> tuple[Any, str]:
    core = require("fsspec.core", extra="scale", purpose=f"reading {url}")
    try:
        files, place = core.url_to_fs(url)
    except (ValueError, ImportError, OSError) as error:
        raise InputError(f"{url}: cannot be read ({first_line(error)})") from None
    return files, place


def _hidden(path: str, root: str) -> bool:
    below = path.removeprefix(root).strip("/")
    return any(part.startswith(".") for part in below.split("/"))
