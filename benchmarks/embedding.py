"""Embedding: its speed against the matrix products alone, and whether its memory grows with the images.

Speed: the post's network over MNIST in uint8, and the forward products of the same shapes and block, in turn in one
process. Memory: images streamed from a memory map in a temporary file (784 MB for a million), each number of them in
a process of its own. The pages of a mapped file count as resident though they can be dropped at any time, so where
Linux tells anonymous memory apart (`RssAnon`) only that is counted.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import MNIST, PERCEPTRON, matrix_limit, measured, median

ROUNDS = 7
IMAGES = 60_000
SIZES = (10_000, 100_000, 1_000_000)
SAMPLED_EVERY = 0.002
"""Seconds between two looks at the memory."""

SPEED = """
import json, sys
from benchmarks.embedding import speed
print(json.dumps(speed(*map(int, sys.argv[1:]))))
"""
MEMORY = """
import json, sys
from benchmarks.embedding import memory
print(json.dumps(memory(int(sys.argv[1]))))
"""


def main(sizes: tuple[int, ...] = SIZES, images: int = IMAGES, rounds: int = ROUNDS) -> dict[str, Any] | None:
    """Measure and print."""
    if not MNIST.is_dir():
        print("embedding: needs MNIST ($MEKIKI_DATA/mnist); skipped")
        return None
    fast = measured(SPEED, images, rounds)
    print(
        f"embedding: {fast['images_per_second']:,.0f} images/s, matrix products alone "
        f"{fast['limit_images_per_second']:,.0f}: {fast['share_of_limit']:.0%} of the limit (median of {rounds})"
    )
    rows = [measured(MEMORY, size) for size in sizes]
    print(f"{'images':>10} {'images/s':>10} {'more memory, MB':>16} {'vectors, MB':>12} {'pixels, MB':>11}")
    for row in rows:
        print(
            f"{row['images']:>10,} {row['images_per_second']:>10,.0f} {row['more_mb']:>16.1f} "
            f"{row['vectors_mb']:>12.1f} {row['pixels_mb']:>11,.0f}"
        )
    print(f"memory is {rows[0]['memory_is']}")
    return fast | {"memory": rows}


def speed(images: int, rounds: int) -> dict[str, Any]:
    """Images a second of `Embedder.transform`, and of the products alone, in turn."""
    from mekiki.models.networks import block_length

    pixels, embedder = _pixels(images), _trained()
    block = block_length(embedder.encoder_)
    blocks = -(-images // block)
    embedder.transform(pixels[: 8 * block])
    ours, limit = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        embedder.transform(pixels)
        ours.append(time.perf_counter() - start)
        limit.append(blocks * matrix_limit(PERCEPTRON, block, backward=False, steps=blocks))
    return {
        "images": images,
        "block": block,
        "images_per_second": images / median(ours),
        "limit_images_per_second": images / median(limit),
        "share_of_limit": median(least / taken for least, taken in zip(limit, ours, strict=True)),
        "seconds": ours,
        "limit_seconds": limit,
    }


def memory(images: int) -> dict[str, Any]:
    """How much memory `Embedder.transform` takes beyond what is there before, for images in a memory map."""
    embedder = _trained()
    with tempfile.TemporaryDirectory() as folder:
        stored = _memory_map(Path(folder) / "pixels.npy", images)
        embedder.transform(stored[:4096])  # what is made once, at the first use, does not grow
        with Peak() as peak:
            start = time.perf_counter()
            vectors = embedder.transform(stored)
            seconds = time.perf_counter() - start
        pixels_mb = stored.nbytes / 1e6
        del stored  # Windows removes no file that is mapped
    return {
        "images": images,
        "images_per_second": images / seconds,
        "more_mb": peak.more / 1e6,
        "vectors_mb": vectors.nbytes / 1e6,
        "pixels_mb": pixels_mb,
        "memory_is": peak.kind,
    }


class Peak:
    """Looks at this process's memory while the block runs.

    Attributes:
        kind: what is counted.
        more: bytes at the peak beyond those at the start.
    """

    def __init__(self) -> None:
        self.kind = "anonymous memory (RssAnon), looked at every 2 ms"
        if _anonymous() is None:
            self.kind = "the growth of the largest resident memory, pages of the mapped file included"
        self.more = 0

    def __enter__(self) -> Peak:
        self._before = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.more = max(self.more, self._now() - self._before)

    def _look(self) -> None:
        while not self._done.wait(SAMPLED_EVERY):
            self.more = max(self.more, self._now() - self._before)

    @staticmethod
    def _now() -> int:
        now = _anonymous()
        if now is not None:
            return now
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _anonymous() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else None


def _trained():
    from mekiki import Embedder, load_images

    train = load_images("mnist").train
    return Embedder(epochs=1).fit(train.pixels[:2000], train.labels[:2000])


def _pixels(images: int):
    from mekiki import load_images

    return np.resize(
        load_images("mnist").train.pixels, (images, 28, 28)
    )  # repeated where they do not suffice


def _memory_map(path: Path, images: int):
    source = _pixels(10_000)
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (images, 28, 28))
    for start in range(0, images, len(source)):
        part = out[start : start + len(source)]
        part[...] = source[: len(part)]
    out.flush()
    del out, part
    return np.load(path, mmap_mode="r")
