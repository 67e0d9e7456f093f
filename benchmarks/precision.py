"""bfloat16 against float32 on this processor: a training step of both networks, and a bare matrix product.

One without instructions for bfloat16 has to take each number apart, and is many times slower: hence a second of each is
all that is timed.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.measuring import measured, median

ROUNDS = 3
SECONDS = 1.0
"""How long each is timed, and at least one step."""
BATCHES = {"mlp": 256, "conv": 32}
"""Images a step."""

OURS = """
import json, sys, time
import torch
from mekiki.models.losses import OnlineContrastiveLoss
from mekiki.models.networks import build_encoder

seconds, batches = float(sys.argv[1]), json.loads(sys.argv[2])

def training(name, dtype):
    torch.manual_seed(0)
    encoder = build_encoder(name, (1, 28, 28), 2, normalise=False, mean=[33.3], std=[78.6])
    loss = OnlineContrastiveLoss(selection="all")
    optimizer = torch.optim.Adam(encoder.parameters(), fused=True)
    images = torch.randint(0, 256, (batches[name], 28, 28), dtype=torch.uint8)
    labels = torch.arange(batches[name]) % 10

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            vectors = encoder(images)
        optimizer.zero_grad()
        loss(vectors.float(), labels).backward()
        optimizer.step()

    return step

def product(dtype):
    a, b = torch.randn(256, 784).to(dtype), torch.randn(784, 256).to(dtype)
    return lambda: a @ b

def seconds_a_step(step):
    step()
    steps, start = 0, time.perf_counter()
    while not steps or time.perf_counter() - start < seconds:
        step()
        steps += 1
    return (time.perf_counter() - start) / steps

kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
result = {name: {kind: seconds_a_step(training(name, dtype)) for kind, dtype in kinds.items()} for name in batches}
result["product"] = {kind: seconds_a_step(product(dtype)) for kind, dtype in kinds.items()}
print(json.dumps(result))
"""


def main() -> dict[str, Any]:
    """Measure and print."""
    rounds = [measured(OURS, SECONDS, json.dumps(BATCHES)) for _ in range(ROUNDS)]
    slower = {name: median(r[name]["bfloat16"] / r[name]["float32"] for r in rounds) for name in rounds[0]}
    result = {
        "batches": BATCHES,
        "times_slower": slower,
        "float32_seconds_a_step": {name: median(r[name]["float32"] for r in rounds) for name in rounds[0]},
        "rounds": rounds,
    }
    told = ", ".join(f"{name} {times:.1f}" for name, times in slower.items())
    print(f"precision: bfloat16 takes so many times as long as float32 (median of {ROUNDS}): {told}")
    return result
