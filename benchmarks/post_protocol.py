"""The post's protocol: its own code against ours, in turn, each in a process of its own; and the machine's limit.

The original is `run_seed.py` beside the seed post, named by `MEKIKI_SEED` or found at `../shared/seed`; without it, or
without MNIST, there is nothing to measure. Each round times both over the same number of epochs, validation included;
the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 3
EPOCHS = 3
RESULTS = Path(__file__).parent / "results"

OURS = """
import json, resource, sys, time
from mekiki import Embedder, load_images
train, test = load_images("mnist")
embedder = Embedder(schedule="post19", epochs=int(sys.argv[1]))
ends = []
embedder.fit(train.pixels, train.labels, validation=(test.pixels, test.labels),
             on_epoch=lambda row, findings: ends.append(time.perf_counter()),
             progress=lambda what, done, total: ends or ends.append(time.perf_counter()))
print(json.dumps({"seconds_per_epoch": (ends[-1] - ends[0]) / int(sys.argv[1]),
                  "training_only": sum(embedder.history_["seconds"]) / int(sys.argv[1]),
                  "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""

LIMIT = """
import json, time, torch
shapes = [(784, 256), (256, 256), (256, 2)]
x = [torch.randn(256, rows) for rows, _ in shapes]
w = [torch.randn(rows, columns) for rows, columns in shapes]
g = [torch.randn(256, columns) for _, columns in shapes]
def step():
    for i in range(3):
        x[i] @ w[i]                 # forward
        x[i].T @ g[i]               # gradient of the weights
        if i:
            g[i] @ w[i].T           # gradient of the input; the first layer needs none
for _ in range(50):
    step()
start = time.perf_counter()
for _ in range(469):
    step()
seconds = time.perf_counter() - start
flops = 469 * 256 * 2 * (2 * 784 * 256 + 3 * 256 * 256 + 3 * 256 * 2)
big = torch.empty(2**26)
copy = time.perf_counter()
for _ in range(5):
    big.clone()
print(json.dumps({"seconds_per_epoch": seconds, "gflops": flops / seconds / 1e9,
                  "copy_gb_per_second": 5 * 2 * big.nbytes / (time.perf_counter() - copy) / 1e9}))
"""


def measured(*command: str) -> dict[str, float]:
    """Run a Python program and read the JSON object it prints."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    found = re.search(r"\{.*\}", done.stdout, re.DOTALL)
    if found is None:
        sys.exit(f"no figures came back: {done.stdout}{done.stderr}")
    return json.loads(found[0])


def main() -> None:
    """Measure, print, and write `results/post_protocol.json`."""
    seed = Path(os.environ.get("MEKIKI_SEED", "../shared/seed")) / "run_seed.py"
    data = Path(os.environ.get("MEKIKI_DATA", "")) / "mnist"
    if not seed.is_file() or not data.is_dir():
        print(f"post_protocol: needs the original ({seed}) and MNIST ($MEKIKI_DATA/mnist); skipped")
        return
    rounds = []
    for number in range(1, ROUNDS + 1):
        theirs = measured(str(seed), "--data", str(data), "--epochs", str(EPOCHS))
        ours = measured("-c", OURS, str(EPOCHS))
        limit = measured("-c", LIMIT)
        rounds.append({"theirs": theirs, "ours": ours, "limit": limit})
        print(
            f"round {number}: theirs {theirs['seconds_per_epoch']:.2f} s an epoch, ours "
            f"{ours['seconds_per_epoch']:.2f} s (training {ours['training_only']:.2f} s), matrix products alone "
            f"{limit['seconds_per_epoch']:.2f} s at {limit['gflops']:.0f} GFLOP/s"
        )

    def median(figure):
        return statistics.median(figure(r) for r in rounds)

    result = {
        "measured": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "epochs_a_round": EPOCHS,
        "times_faster": median(lambda r: r["theirs"]["seconds_per_epoch"] / r["ours"]["seconds_per_epoch"]),
        "share_of_limit": median(lambda r: r["limit"]["seconds_per_epoch"] / r["ours"]["training_only"]),
        "memory_mb": max(r["ours"]["memory_mb"] for r in rounds),
        "rounds": rounds,
    }
    print(
        f"post_protocol: {result['times_faster']:.1f} times faster than the original (median of {ROUNDS}); training "
        f"reaches {result['share_of_limit']:.0%} of the matrix products' speed; {result['memory_mb']:.0f} MB at most"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "post_protocol.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
