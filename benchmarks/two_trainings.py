"""Two trainings at once on one machine: how much slower is each than alone? Ours, and the original.

Two that share the processors fairly take twice as long. What is above that is what they cost each other: threads that
spin while they wait for the other's.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.measuring import MNIST, ORIGINAL, measured, measured_script, median, original_is_here

ROUNDS = 3
EPOCHS = 3
PATIENCE = 150
"""Seconds after which the originals are stopped; they may be ten times slower together."""

OURS = """
import json, os, sys, time
from pathlib import Path
from mekiki import Embedder, load_images
here, number, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
train, _ = load_images("mnist")
Embedder(epochs=1).fit(train.pixels[:512], train.labels[:512])  # all is imported now
(here / str(os.getpid())).touch()
for _ in range(20_000):
    if len(list(here.iterdir())) == number:
        break
    time.sleep(0.005)
else:
    sys.exit("the other training never began")
embedder = Embedder(schedule="post19", epochs=epochs).fit(train.pixels, train.labels)
print(json.dumps({"seconds": sum(embedder.history_["seconds"])}))
"""


def main() -> dict[str, Any] | None:
    """Measure and print."""
    if not original_is_here("side_by_side"):
        return None
    rounds = []
    for number in range(1, ROUNDS + 1):
        alone, together = _ours(1)[0], max(_ours(2))
        rounds.append({"alone": alone, "together": together, "times_slower": together / alone})
        print(f"round {number}: {alone:.2f} s alone, {together:.2f} s together")
    result = {
        "epochs_a_round": EPOCHS,
        "times_slower": median(r["times_slower"] for r in rounds),
        "rounds": rounds,
        "original": _originals(),
    }
    theirs = result["original"]
    print(
        f"side_by_side: each of two {result['times_slower']:.2f} times slower than alone (median of {ROUNDS}, the "
        f"slower of the two); the original {'at least ' if theirs['stopped'] else ''}"
        f"{theirs['times_slower']:.1f} times"
    )
    return result


def _ours(number: int) -> list[float]:
    """Seconds of each of so many trainings, which wait for each other before they start."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(number) as pool:
        runs = [pool.submit(measured, OURS, folder, number, EPOCHS) for _ in range(number)]
        return [run.result()["seconds"] for run in runs]


def _originals() -> dict[str, Any]:
    """The same of the post's code, once, over one epoch; two start at the same time and load equally long."""

    def seconds(timeout: float | None) -> float:
        run = measured_script(ORIGINAL, "--data", MNIST, "--epochs", 1, timeout=timeout)
        return float(run["seconds"])

    start = time.perf_counter()
    alone = seconds(None)
    whole = time.perf_counter() - start
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(seconds, PATIENCE) for _ in range(2)]
        try:
            together = max(run.result() for run in runs)
        except (
            subprocess.TimeoutExpired
        ):  # then all that is known is how long the whole process took at least
            return {"alone": alone, "stopped": True, "times_slower": PATIENCE / whole}
    return {"alone": alone, "together": together, "stopped": False, "times_slower": together / alone}
