"""`make bench`: run every benchmark in turn, print its table, and write its JSON under `benchmarks/results/`."""

from __future__ import annotations

import sys

from benchmarks import post_protocol

BENCHMARKS = {"post_protocol": post_protocol.main}

if __name__ == "__main__":
    asked = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in asked if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in asked:
        BENCHMARKS[name]()
