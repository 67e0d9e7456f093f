"""Embedding a folder of photographs: decoding a block ahead, against decoding alone and against one after the other.

The photographs are generated surfaces, enlarged and with noise, half JPEG (colour), half PNG (grey), and lie in the
system's file cache, so no disk is measured. Five ways over the same files and the same network, in turn in one process:

- ahead: `embed_images` as it is, reading the run and writing the vectors included; how long the network waits for
  blocks is timed inside it;
- decoding alone: the same blocks, thrown away, which is the least that any way takes with these threads;
- network alone: the same pixels, decoded before;
- one after the other: the same decoding with as many threads, but none while the network works;
- DataLoader: torch's own, each file opened, made grey and resized by Pillow, with 0 and 2 worker processes (started
  anew for each pass, as they are for whoever embeds a folder once).

Where network and decoding share the same cores, as here without a GPU, looking ahead cannot hide one behind the
other; what it can save is the time in which some core had nothing to do.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.measuring import measured, median

PHOTOGRAPHS = 1_000
ROUNDS = 5
ENCODERS = ("mlp", "conv")
SIDES = ((640, 480), (480, 360), (320, 240))
"""Width and height of the photographs, in turn."""
SIZE = (64, 64)
BLOCK = 256
WORKERS = (0, 2)
WAITS = ("waiting", "waiting after the first block")
"""The network's part of `ahead`: for all blocks, and for those that something could be decoded ahead of."""

MEASURE = """
import json, sys
from pathlib import Path
from benchmarks.streaming import measure
print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
"""


def main(
    photographs: int = PHOTOGRAPHS, rounds: int = ROUNDS, encoders: tuple[str, ...] = ENCODERS
) -> dict[str, Any]:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), photographs)
        taken = {encoder: measured(MEASURE, folder, encoder, rounds) for encoder in encoders}
    for seconds in taken.values():
        alone = zip(seconds["decoding alone"], seconds["network alone"], strict=True)
        seconds["the slower alone"] = list(map(max, alone))
    print(f"{'':24}" + "".join(f"{encoder + ', files/s':>16}" for encoder in encoders))
    for way in taken[encoders[0]]:
        if way not in WAITS:
            speeds = (f"{photographs / median(taken[encoder][way]):>16,.0f}" for encoder in encoders)
            print(f"{way:24}" + "".join(speeds))
    result = {
        encoder: {
            "seconds": seconds,
            "share_of_decoding_alone": _ratio(seconds, "decoding alone", "ahead"),
            "times_faster_than_one_after_the_other": _ratio(seconds, "one after the other", "ahead"),
            "share_of_the_slower_alone": _ratio(seconds, "the slower alone", "ahead"),
            "share_of_time_waiting": _ratio(seconds, WAITS[0], "ahead"),
            "share_of_time_waiting_after_the_first_block": _ratio(seconds, WAITS[1], "ahead"),
            **{
                f"times_faster_than_dataloader_{workers}": _ratio(seconds, _loader_name(workers), "ahead")
                for workers in WORKERS
            },
        }
        for encoder, seconds in taken.items()
    }
    for encoder, figures in result.items():
        loaders = ", ".join(
            f"{figures[f'times_faster_than_dataloader_{workers}']:.2f} with {workers} workers"
            for workers in WORKERS
        )
        print(
            f"streaming, {encoder}: {figures['share_of_decoding_alone']:.0%} of the speed of decoding alone, "
            f"{figures['times_faster_than_one_after_the_other']:.2f} times as fast as one after the other; the network "
            f"waits {figures['share_of_time_waiting']:.0%} of the time, "
            f"{figures['share_of_time_waiting_after_the_first_block']:.0%} after the first block. Times as fast as a "
            f"DataLoader: {loaders}"
        )
    return {"photographs": photographs, "rounds": rounds, **result}


def measure(folder: Path, encoder: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, a round after another; `waiting` is the network's part of `ahead`."""
    from torch.utils.data import DataLoader

    from mekiki.data.decoding import decode
    from mekiki.data.streaming import iter_images, read_images
    from mekiki.experiments import embed as run_embedding
    from mekiki.models.networks import embed

    photographs = folder / "photographs"
    run = folder / f"run-{encoder}"
    embedder = _trained_run(run, encoder)
    pixels, names, _ = read_images(photographs, size=SIZE, channels=1)
    waits: list[list[float]] = []

    def ahead() -> None:
        def stream(*args: Any, **more: Any) -> _Waited:
            return _Waited(iter_images(*args, **more), waits)

        with patch.object(run_embedding, "iter_images", stream):
            run_embedding.embed_images(run, str(photographs), folder / "vectors.npz")

    def decoding_alone() -> None:
        for _ in iter_images(photographs, size=SIZE, channels=1):
            pass

    def network_alone() -> None:
        for start in range(0, len(pixels), BLOCK):
            embedder.transform(pixels[start : start + BLOCK])

    def one_after_the_other() -> None:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            for start in range(0, len(names), BLOCK):
                files = map(Path, names[start : start + BLOCK])
                block = list(threads.map(lambda path: decode(path, SIZE, 1).pixels, files))
                embedder.transform(np.stack(block))

    def loader(workers: int) -> Callable[[], None]:
        def with_workers() -> None:
            for block in DataLoader(Photographs(names), BLOCK, num_workers=workers):
                embed(embedder.encoder_, block)

        return with_workers

    ways = {
        "ahead": ahead,
        "decoding alone": decoding_alone,
        "network alone": network_alone,
        "one after the other": one_after_the_other,
        **{_loader_name(workers): loader(workers) for workers in WORKERS},
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, run_once in ways.items():
            start = time.perf_counter()
            run_once()
            if number:  # the first round warms up
                seconds[way].append(time.perf_counter() - start)
    return seconds | {
        "waiting": [sum(blocks) for blocks in waits[1:]],
        "waiting after the first block": [sum(blocks[1:]) for blocks in waits[1:]],
    }


class Photographs:
    """What a person gives a DataLoader: one file opened, made grey and resized by Pillow, at each index."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        import torch
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            grey = image.convert("L").resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(grey))


class _Waited:
    """A stream of images that notes how many seconds its user waits for each block, the end included."""

    def __init__(self, stream, waits: list[list[float]]) -> None:
        self._stream, self._waits = stream, waits

    def __iter__(self):
        blocks, waited = iter(self._stream), []
        self._waits.append(waited)
        while True:
            start = time.perf_counter()
            block = next(blocks, None)
            waited.append(time.perf_counter() - start)
            if block is None:
                return
            yield block

    @property
    def notes(self) -> list[str]:
        return self._stream.notes


def write_photographs(folder: Path, number: int) -> None:
    """Write `number` photographs into `folder / "photographs"`, no two alike, ten to a folder of their own."""
    from PIL import Image

    from mekiki.data.surfaces import generate_surfaces

    surfaces = generate_surfaces((120, 160), per_class=8).pixels
    rng = np.random.default_rng(0)
    for i in range(number):
        surface = Image.fromarray(np.roll(surfaces[i % len(surfaces)], rng.integers(160, size=2), (0, 1)))
        side = SIDES[i // 2 % len(SIDES)]
        enlarged = np.asarray(surface.resize(side, Image.Resampling.BICUBIC), np.float32)
        # A camera's noise, which leaves little to compress.
        noisy = enlarged + 3 * rng.standard_normal(enlarged.shape, np.float32)
        photograph = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        path = folder / "photographs" / f"{i // 10:05}" / f"{i:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 2:
            photograph.save(path.with_suffix(".png"), compress_level=1)
        else:
            photograph.convert("RGB").save(path.with_suffix(".jpg"), quality=90)


def _trained_run(folder: Path, encoder: str):
    """The least of a run that `embed_images` takes: an embedder, and the file that says it is complete."""
    from mekiki import Embedder
    from mekiki.data.surfaces import generate_surfaces

    surfaces = generate_surfaces(SIZE, per_class=20)
    embedder = Embedder(encoder=encoder, epochs=1, batch_size=32).fit(surfaces.pixels, surfaces.labels)
    embedder.save(folder)
    (folder / "metrics.json").write_text("{}")
    return embedder


def _ratio(seconds: dict[str, list[float]], above: str, below: str) -> float:
    return median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))


def _loader_name(workers: int) -> str:
    return f"DataLoader, {workers} workers"
