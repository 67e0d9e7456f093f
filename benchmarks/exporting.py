"""One photograph judged by the exported graph with onnxruntime against the program itself, from decoded pixels on.

The two take turns in one process, each with as many threads as torch has, on magnetic tiles brought to one size; and
the parity that `mekiki export` found on the way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.measuring import median
from mekiki.data.decoding import decode
from mekiki.export.export_run import export_run
from mekiki.export.onnx_graph import Runtime
from mekiki.export.parity import Program
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.judge_photos import Inspector

DATA = Path(os.environ.get("MEKIKI_DATA", ""))
TILES = DATA / "magnetic_tile"
BACKBONE = f"hf:{DATA / 'weights' / 'mobilenet_v1_0.75_224'}"
SIZE = (320, 256)
GOOD, BAD = 200, 40
TIMED = 60


def main() -> dict[str, Any] | None:
    """Measure and print."""
    if not TILES.is_dir():
        print("exporting: needs MEKIKI_DATA with magnetic_tile")
        return None
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "size": list(SIZE)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        good = _of_one_size(sorted((TILES / "free").iterdir())[:GOOD], place / "ok")
        bad = _of_one_size(sorted((TILES / "blowhole").iterdir())[:BAD], place / "ng")
        words = [
            "train",
            "surfaces",
            "--encoder",
            "conv",
            "--dim",
            "16",
            "--epochs",
            "1",
            "--per-class",
            "20",
        ]
        subprocess.run(
            [sys.executable, "-m", "mekiki", *words, "--out", str(place / "conv")],
            check=True,
            capture_output=True,
        )
        for name, encoder in {"backbone": BACKBONE, "filters": "filters", "conv": None}.items():
            inspector, _ = calibrate_run(
                place / name, [good], [bad], encoder=encoder, settings=CalibrationSettings(0.05)
            )
            result[name] = _measured(inspector, place / name)
            print(name, result[name])
    return result


def _of_one_size(paths: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for path in paths:
        Image.fromarray(decode(path, SIZE, 1).pixels).save(folder / f"{path.stem}.png")
    return folder


def _measured(inspector: Inspector, run: Path) -> dict[str, Any]:
    told = export_run(run, with_judge=True)
    graph = Runtime((run / "export.onnx").read_bytes(), torch.get_num_threads())
    program = Program(inspector.extractor, list(told["views"]), inspector)
    channels = 1 if told["mode"] == "L" else 3
    photographs = [decode(Path(path), None, channels).pixels for path in inspector.metadata["ok"][:TIMED]]
    spent: dict[str, list[float]] = {"program": [], "onnxruntime": []}
    for number in range(TIMED + 5):
        image = photographs[number % len(photographs)]
        for name, work in (("program", lambda x: program([x])), ("onnxruntime", lambda x: graph(x[None]))):
            begun = time.perf_counter()
            work(np.ascontiguousarray(image))
            if number >= 5:
                spent[name].append(1000 * (time.perf_counter() - begun))
    return {
        "milliseconds": {name: median(times) for name, times in spent.items()},
        "megabytes": told["bytes"] / 1e6,
        "verdicts_differ": sum(row["verdicts"] for row in told["parity"]),
        "score_differs": max(row["score"] for row in told["parity"]),
        "images": sum(row["images"] for row in told["parity"]),
    }


if __name__ == "__main__":
    main()
