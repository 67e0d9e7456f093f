"""Two processes that share every batch, against one single-threaded process: images a second, and the same curve?

Each process has one thread, so on two cores twice as many is the limit. What is lost on the way is told by the network:
the perceptron has little to compute between two messages, the convolutions of `vgg` send one for each of their batch
normalisations, `conv` has neither trouble.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import MNIST, median

ROUNDS = 3
NETS: dict[str, tuple[str, ...]] = {
    "mlp": ("--schedule", "post19", "--epochs", "3"),
    "conv": ("--encoder", "conv", "--epochs", "2", "--per-class", "600"),
    "vgg": ("--recipe", "best", "--encoder", "vgg", "--epochs", "2", "--per-class", "1200"),
}
"""Options of `mekiki train mnist` by the network."""


def main() -> dict[str, Any] | None:
    """Measure and print."""
    if not MNIST.is_dir():
        print("scaling: left out, no MNIST in MEKIKI_DATA")
        return None
    nets: dict[str, Any] = {}
    for net, options in NETS.items():
        rounds = []
        for _ in range(ROUNDS):  # in turn, so that what else the machine does meets both
            one, two = _trained(options, 1), _trained(options, 2)
            rounds.append({"one": one, "two": two, "times_faster": two["pace"] / one["pace"]})
        last = rounds[-1]
        nets[net] = {
            "times_faster": median(r["times_faster"] for r in rounds),
            "val_loss": {side: last[side]["val_loss"] for side in ("one", "two")},
            "apart": abs(last["two"]["val_loss"] / last["one"]["val_loss"] - 1),
            "rounds": rounds,
        }
        print(
            f"scaling: {net}: two processes {nets[net]['times_faster']:.2f} times as fast as one "
            f"(median of {ROUNDS}); validation loss {last['one']['val_loss']:.5f} and {last['two']['val_loss']:.5f}"
        )
    return {"nets": nets}


def _trained(options: tuple[str, ...], processes: int) -> dict[str, float]:
    """Images a second in the last epoch, and its validation loss."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "mekiki", "train", "mnist", *options, "--out", str(run)]
        done = subprocess.run(
            [*command, "--devices", str(processes)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            sys.exit(
                f"scaling: training ended with {done.returncode}: {done.stderr.strip().splitlines()[-1]}"
            )
        with (run / "history.csv").open(encoding="utf-8", newline="") as file:
            last = list(csv.DictReader(file))[-1]
    return {"pace": float(last["images_per_second"]), "val_loss": float(last["val_loss"])}
