"""Cache of decoded pixels that are too many for memory: a pair of memory maps, reused by the next load."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.data.decode_blocks import rows_per_block
from mekiki.data.image_set import ImageSet, Indices
from mekiki.data.splits import Division, ImageSplit
from mekiki.errors import InputError
from mekiki.storage.atomic import replace_file, write_text
from mekiki.storage.cache_folder import cache_folder

MEMORY_BUDGET = 512 * 2**20
"""Bytes of decoded pixels that may stay in memory; more go to memory maps."""

_FORMAT = 1


def store_key(files: list[tuple[str, int, int]], settings: object) -> str:
    """Name what is stored by all that decides it: files (path, bytes, mtime in ns) and how they are loaded.

    Example:
        >>> store_key([("ok/1.png", 900, 0)], (64, 64)) == store_key([("ok/1.png", 900, 1)], (64, 64))
        False
    """
    text = json.dumps([_FORMAT, files, repr(settings)])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


@contextmanager
def pool_for(key: str, shape: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    """A writable uint8 array of `shape`: in memory within the budget, else on disk until the block ends."""
    if int(np.prod(shape)) <= MEMORY_BUDGET:
        yield np.empty(shape, np.uint8)
        return
    with _disk_errors():
        _folder().mkdir(parents=True, exist_ok=True)
        path = _folder() / f".{key}.{os.getpid()}.pool.npy"
        try:
            pool = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
            yield pool
            del pool
        finally:
            with suppress(PermissionError):  # after an error Windows may still hold the map
                path.unlink(missing_ok=True)


def write_split(
    key: str, pool: ImageSet, division: Division, notes: tuple[str, ...], *, grey: bool
) -> ImageSplit:
    """Copy the rows of each side from the pool into a memory map of its own, in blocks; the index goes last.

    Args:
        key: from `store_key`.
        pool: all images; `labels` are those of `division`.
        division: which rows go where.
        notes: kept with the pixels, for the next load to say the same.
        grey: the pool is RGB without colour, so keep one channel.
    """
    with _disk_errors():
        for side, rows in (("train", division.train), ("test", division.test)):
            _write_rows(_folder() / f"{key}.{side}.npy", pool.pixels, rows, grey=grey)
            if pool.masks is not None:
                _write_rows(_folder() / f"{key}.{side}-masks.npy", pool.masks, rows, grey=False)
        index = {
            "source": pool.source,
            "class_names": division.class_names,
            "notes": notes,
            "masks": pool.masks is not None,
            "sides": {
                side: {"labels": division.labels[rows].tolist(), "names": [pool.names[i] for i in rows]}
                for side, rows in (("train", division.train), ("test", division.test))
            },
        }
        write_text(_folder() / f"{key}.json", json.dumps(index))
    split = read_split(key)
    if split is None:
        raise InputError(f"{_folder()}: decoded pixels vanished while they were written; load once more")
    return split


def read_split(key: str) -> ImageSplit | None:
    """What `write_split` left, its pixels as read-only memory maps; `None` if there is nothing or it is damaged."""
    try:
        index = json.loads((_folder() / f"{key}.json").read_text(encoding="utf-8"))
        sides = [
            ImageSet(
                np.load(_folder() / f"{key}.{side}.npy", mmap_mode="r"),
                np.array(index["sides"][side]["labels"], np.int64),
                tuple(index["class_names"]),
                tuple(index["sides"][side]["names"]),
                index["source"],
                np.load(_folder() / f"{key}.{side}-masks.npy", mmap_mode="r") if index["masks"] else None,
            )
            for side in ("train", "test")
        ]
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None  # decoding again writes it whole
    return ImageSplit(sides[0], sides[1], tuple(index["notes"]))


def _folder() -> Path:
    return cache_folder() / "pixels"


def _write_rows(path: Path, pixels: NDArray[np.generic], rows: Indices, *, grey: bool) -> None:
    shape = (len(rows), *pixels.shape[1 : 3 if grey else None])
    with replace_file(path) as temporary:
        out = np.lib.format.open_memmap(temporary, "w+", pixels.dtype, shape)
        batch = rows_per_block(pixels.shape[1:])
        for start in range(0, len(rows), batch):
            block = pixels[rows[start : start + batch]]
            out[start : start + batch] = block[..., 0] if grey else block
        out.flush()
        del out


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{_folder()}: decoded pixels cannot be written ({error.strerror or error}); free space there, choose "
            "another place with MEKIKI_CACHE, or a smaller size"
        ) from None
