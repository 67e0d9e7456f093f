"""How good the recipe `best` is: read from what `mekiki compare` wrote, for it takes hours rather than minutes."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.measuring import RESULTS

FOLDER = RESULTS / "best"
SEEDS = 5


def main() -> dict[str, Any] | None:
    """Read it, or say what would make it."""
    path = FOLDER / "comparison.json"
    if not path.is_file():
        print(
            f"quality: mekiki compare mnist --recipe best --seeds {SEEDS} --out {FOLDER}, and then this again"
        )
        return None
    comparison = json.loads(path.read_text(encoding="utf-8"))
    nets = {
        net: {
            "knn": columns["knn"]["mean"],
            "knn_sd": columns["knn"]["sd"],
            "eer": columns["eer"]["mean"],
            "seconds": columns["seconds"]["mean"],
        }
        for net, columns in comparison["compared"].items()
    }
    for net, figures in nets.items():
        print(f"quality: {net}: 5-NN {figures['knn']:.4f}, equal error rate {figures['eer']:.4f}")
    return {"seeds": len(comparison["seeds"]), "nets": nets}
