"""Time and memory as the images grow: an epoch of the post's protocol, embedding all, and the process at its largest.

The images are those of MNIST, moved by up to two pixels each way: each image and movement once, up to 1.5 million.
Each number of them is measured in a process of its own, pixels resident in uint8.
"""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.evaluation import peak_bytes
from benchmarks.measuring import MNIST, ROOT, measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PICTURE = ROOT / "docs" / "pictures" / "growth.png"
FARTHEST = 2
"""Pixels that an image is moved at most."""

MEASURE = """
import json, sys
from benchmarks.growth import measure
print(json.dumps(measure(int(sys.argv[1]))))
"""


def main(sizes: tuple[int, ...] = SIZES, picture: Path = PICTURE) -> dict[str, Any] | None:
    """Measure, print and draw."""
    if not MNIST.is_dir():
        print("growth: needs MNIST ($MEKIKI_DATA/mnist); skipped")
        return None
    print(
        f"{'images':>10} {'epoch, s':>9} {'µs/image':>9} {'embedding, s':>13} {'µs/image':>9} "
        f"{'peak, GB':>9} {'pixels, GB':>11}"
    )
    rows = []
    for size in sizes:
        row = measured(MEASURE, size)
        print(
            f"{size:>10,} {row['epoch_seconds']:>9.2f} {1e6 * row['epoch_seconds'] / size:>9.1f} "
            f"{row['embedding_seconds']:>13.2f} {1e6 * row['embedding_seconds'] / size:>9.1f} "
            f"{row['peak_gb']:>9.2f} {row['pixels_gb']:>11.3f}"
        )
        rows.append(row)
    from mekiki.report.figures.charts import save

    save(drawn(rows), picture)
    print(f"growth: drawn in {picture}")
    return {"rows": rows}


def measure(size: int) -> dict[str, Any]:
    """One epoch, and embedding all, of `size` images."""
    from mekiki import Embedder, load_images

    train = load_images("mnist").train
    libraries = peak_bytes()
    pixels, labels = moved(train.pixels, size), np.resize(train.labels, size)
    embedder = Embedder(schedule="post19", epochs=1).fit(pixels, labels)
    start = time.perf_counter()
    embedder.transform(pixels)
    return {
        "images": size,
        "epoch_seconds": embedder.history_["seconds"][0],
        "embedding_seconds": time.perf_counter() - start,
        "peak_gb": peak_bytes() / 1e9,
        "pixels_gb": pixels.nbytes / 1e9,
        "libraries_gb": libraries / 1e9,
    }


def moved(pixels, size: int):
    """`size` images: all as they are, then all moved one way, then all moved the next."""
    reach = range(-FARTHEST, FARTHEST + 1)
    ways = sorted(product(reach, reach), key=lambda way: (abs(way[0]) + abs(way[1]), way))
    if size > len(ways) * len(pixels):
        raise ValueError(f"{size:,} images asked for; there are {len(ways) * len(pixels):,} different ones")
    number, height, width = pixels.shape
    out = np.zeros((size, height, width), np.uint8)
    for (down, right), start in zip(ways, range(0, size, number), strict=False):
        part = out[start : start + number]
        to, source = zip(_overlap(height, down), _overlap(width, right), strict=True)
        part[:, *to] = pixels[: len(part), *source]
    return out


def drawn(rows: list[dict[str, Any]]) -> Figure:
    """Seconds and gigabytes against the number of images, both axes logarithmic."""
    from mekiki.report.figures.canvas import new_figure, style_axes, text_style
    from mekiki.report.figures.palette import ACCENT, DIFFERENT, FAINT_INK, INK, SAME

    images = [row["images"] for row in rows]
    figure = new_figure(9.6, 4.2)
    seconds, memory = figure.subplots(1, 2)
    style_axes(seconds, "images", "seconds", "Time")
    style_axes(memory, "images", "GB", "Memory")
    for axes, name, label, colour, marker in (
        (seconds, "epoch_seconds", "an epoch of the post's protocol", SAME, "o"),
        (seconds, "embedding_seconds", "embedding all", DIFFERENT, "s"),
        (memory, "peak_gb", "the process at its largest", ACCENT, "D"),
        (memory, "pixels_gb", "the pixels themselves (linear)", DIFFERENT, "^"),
    ):
        values = [row[name] for row in rows]
        axes.plot(images, values, color=colour, marker=marker, markersize=5, linewidth=1.8, label=label)
    # Between the two at their ends, so that it covers neither.
    pace = (rows[-1]["epoch_seconds"] * rows[-1]["embedding_seconds"]) ** 0.5 / images[-1]
    seconds.plot(
        images,
        [pace * n for n in images],
        color=FAINT_INK,
        linewidth=1.2,
        linestyle=(0, (4, 3)),
        label="linear",
    )
    memory.axhline(
        rows[0]["libraries_gb"],
        color=FAINT_INK,
        linewidth=1.2,
        linestyle=(0, (1, 2)),
        label="libraries and MNIST",
    )
    for axes in (seconds, memory):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(images, [_short(n) for n in images], **text_style(8.5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def _overlap(length: int, step: int) -> tuple[slice, slice]:
    """Where what is moved by `step` comes to lie, and where it comes from."""
    return slice(max(step, 0), length + min(step, 0)), slice(max(-step, 0), length + min(-step, 0))


def _short(number: int) -> str:
    return f"{number / 1e6:g}M" if number >= 1_000_000 else f"{number / 1e3:g}k"
