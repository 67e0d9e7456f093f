"""What an image costs in bulk: processor seconds and bytes, from files to Parquet, of one process with one thread.

Processor time, not time on the clock, because that is what is paid for by the core-hour, and what other programs on the
machine change least. `docs/scaling.md` reckons with these figures.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.measuring import measured

TILES = Path(os.environ.get("MEKIKI_DATA", "")) / "magnetic_tile"
WEIGHTS = TILES.parent / "weights" / "mobilenet_v1_0.75_224"
PHOTOGRAPHS = 120
CALIBRATED_ON = 90

CODE = """
import json, shutil, sys, tempfile, time
from pathlib import Path
import torch
from mekiki import Embedder, load_images
from mekiki.bulk.plan import Plan
from mekiki.bulk.shard import process_shard, fingerprint
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.storage.run_folder import METRICS

kind, tiles, weights, number, good = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
with tempfile.TemporaryDirectory() as folder:
    here = Path(folder)
    free = sorted((tiles / "free").iterdir())
    (here / "new").mkdir()
    for path in free[good : good + number]:
        shutil.copy(path, here / "new")
    run, work = here / "run", "embed" if kind.startswith("embed") else "judge"
    if work == "embed":
        train, _ = load_images(str(tiles), per_class=20)
        encoder = kind.partition(" ")[2]
        Embedder(dim=64, encoder=encoder, epochs=1, batch_size=16).fit(train.pixels, train.labels).save(run)
        (run / METRICS).write_text("{}")
    else:
        (here / "ok").mkdir()
        for path in free[:good]:
            shutil.copy(path, here / "ok")
        eye = "filters" if kind.endswith("filters") else "hf:" + weights
        calibrate_run(run, [here / "ok"], [], encoder=eye, settings=CalibrationSettings(0.05))
    names = sorted(map(str, (here / "new").iterdir()))
    known = fingerprint(run, work)
    Plan.create(here / "warm", {}, names[:4])
    process_shard(str(here / "warm"), 0, str(run), work, known)
    plan = Plan.create(here / "out", {}, names)
    start = time.process_time()
    process_shard(str(here / "out"), 0, str(run), work, known)
    seconds = time.process_time() - start
    print(json.dumps({
        "images": len(names),
        "cpu_ms": 1000 * seconds / len(names),
        "bytes_a_row": plan.table(0).stat().st_size / len(names),
        "bytes_an_image": sum(Path(name).stat().st_size for name in names) / len(names),
    }))
"""


def main() -> dict[str, Any] | None:
    """Measure and print."""
    if not TILES.is_dir():
        print("bulk: left out, no magnetic_tile in MEKIKI_DATA")
        return None
    kinds = ["embed conv", "embed vgg", "judge filters", *(["judge backbone"] if WEIGHTS.is_dir() else [])]
    rows = {}
    for kind in kinds:
        rows[kind] = measured(
            CODE, kind, TILES, WEIGHTS, PHOTOGRAPHS, CALIBRATED_ON, env={"OMP_NUM_THREADS": "1"}
        )
        row = rows[kind]
        print(
            f"bulk: {kind}: {row['cpu_ms']:.1f} ms of processor time and {row['bytes_a_row']:.0f} bytes a photograph"
        )
    return {"rows": rows}
