"""The post's protocol: its own code against ours, in turn, each in a process of its own; and the machine's limit.

Each round times both over the same number of epochs, validation included, and then what the machine can do: the
matrix products alone, and copies. The figures are the medians of the rounds' ratios.
"""

from __future__ import annotations

from typing import Any

from benchmarks.measuring import (
    MNIST,
    ORIGINAL,
    PERCEPTRON,
    matrix_flops,
    measured,
    measured_script,
    median,
    original_is_here,
)

ROUNDS = 3
EPOCHS = 3
BATCH = 256
"""Both sides of 128 pairs."""
STEPS = 469
"""Batches of 128 pairs in an epoch."""

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
import json, sys
from benchmarks.measuring import PERCEPTRON, copy_limit, matrix_limit
print(json.dumps({"seconds_a_step": matrix_limit(PERCEPTRON, int(sys.argv[1]), backward=True),
                  "copy_gb_per_second": copy_limit(),
                  "copy_gb_per_second_in_cache": copy_limit(2**21)}))
"""


def main() -> dict[str, Any] | None:
    """Measure and print."""
    if not original_is_here("post_protocol"):
        return None
    rounds = []
    for number in range(1, ROUNDS + 1):
        theirs = measured_script(ORIGINAL, "--data", MNIST, "--epochs", EPOCHS)
        ours = measured(OURS, EPOCHS)
        limit = _limit()
        rounds.append({"theirs": theirs, "ours": ours, "limit": limit})
        print(
            f"round {number}: theirs {theirs['seconds_per_epoch']:.2f} s an epoch, ours "
            f"{ours['seconds_per_epoch']:.2f} s (training {ours['training_only']:.2f} s), matrix products alone "
            f"{limit['seconds_per_epoch']:.2f} s at {limit['gflops']:.0f} GFLOP/s, memory traffic "
            f"{limit['traffic_seconds_per_epoch']:.2f} s more"
        )
    result = {
        "epochs_a_round": EPOCHS,
        "times_faster": median(
            r["theirs"]["seconds_per_epoch"] / r["ours"]["seconds_per_epoch"] for r in rounds
        ),
        "share_of_limit": median(
            r["limit"]["seconds_per_epoch"] / r["ours"]["training_only"] for r in rounds
        ),
        "share_of_limit_with_traffic": median(
            (r["limit"]["seconds_per_epoch"] + r["limit"]["traffic_seconds_per_epoch"])
            / r["ours"]["training_only"]
            for r in rounds
        ),
        "gflops": median(r["limit"]["gflops"] for r in rounds),
        "memory_mb": max(r["ours"]["memory_mb"] for r in rounds),
        "rounds": rounds,
    }
    print(
        f"post_protocol: {result['times_faster']:.1f} times faster than the original (median of {ROUNDS}); training "
        f"reaches {result['share_of_limit']:.0%} of the matrix products' speed, "
        f"{result['share_of_limit_with_traffic']:.0%} if memory traffic counts as unavoidable too; "
        f"{result['memory_mb']:.0f} MB at most"
    )
    return result


def _limit() -> dict[str, float]:
    """What the machine needs at least for an epoch.

    The traffic is what no way of computing avoids: Adam reads weights, gradients and both moments and writes three of
    them back, and the pixels are read as bytes and written as float32. It is counted at the speed of copies of a
    megabyte or two, which is what the weights are: they stay in the cache, and memory's own speed would flatter.
    """
    limit = measured(LIMIT, BATCH)
    weights = sum((inputs + 1) * outputs for inputs, outputs in PERCEPTRON)
    traffic = 7 * 4 * weights + (1 + 4) * BATCH * PERCEPTRON[0][0]
    step = limit["seconds_a_step"]
    return {
        "seconds_per_epoch": STEPS * step,
        "gflops": matrix_flops(PERCEPTRON, BATCH, backward=True) / step / 1e9,
        "traffic_seconds_per_epoch": STEPS * traffic / limit["copy_gb_per_second_in_cache"] / 1e9,
        **limit,
    }
