"""What every benchmark needs: fresh processes, the machine's own limits, medians, and the files of results."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ORIGINAL = Path(os.environ.get("MEKIKI_SEED", ROOT.parent / "shared" / "seed")) / "run_seed.py"
"""The post's own code, run as it is."""
MNIST = Path(os.environ.get("MEKIKI_DATA", "")) / "mnist"

PERCEPTRON = [(784, 256), (256, 256), (256, 2)]
"""Inputs and outputs of each layer of the post's network."""


def measured(
    code: str, *args: object, env: dict[str, str] | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Run Python source text in a fresh process and return the JSON object that it prints last.

    Args:
        code: may import `mekiki` and `benchmarks`.
        args: its `sys.argv[1:]`, as text.
        env: set on top of this process's environment.
        timeout: seconds, after which `subprocess.TimeoutExpired` is raised.
    """
    return _run([sys.executable, "-c", code, *map(str, args)], env, timeout)


def measured_script(path: Path | str, *args: object, timeout: float | None = None) -> dict[str, Any]:
    """The same for a file of Python."""
    return _run([sys.executable, str(path), *map(str, args)], None, timeout)


def _run(command: list[str], env: dict[str, str] | None, timeout: float | None) -> dict[str, Any]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | (env or {})
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=timeout)
    found = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not found:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing printed").splitlines()[-1]
        what = "code of this benchmark" if command[1] == "-c" else command[1]
        sys.exit(f"{what} gave no figures (exit {done.returncode}): {said}")
    result: dict[str, Any] = json.loads(found[-1])
    return result


def matrix_limit(shapes: list[tuple[int, int]], batch: int, *, backward: bool, steps: int = 469) -> float:
    """Seconds a step of the matrix products alone that these dense layers cannot do without.

    Args:
        shapes: inputs and outputs of each layer, in order.
        batch: rows that go through them at once.
        backward: also the gradients of all weights, and of all inputs but the first layer's, which needs none.
        steps: that many are timed, after a tenth as many to warm up.
    """
    import torch  # here, so that the process that only starts others stays small

    x = [torch.randn(batch, inputs) for inputs, _ in shapes]
    w = [torch.randn(outputs, inputs) for inputs, outputs in shapes]
    g = [torch.randn(batch, outputs) for _, outputs in shapes]
    # Written in place: what memory costs to get is no part of the limit.
    y, dw, dx = (list(map(torch.empty_like, like)) for like in (g, w, x))

    def step() -> None:
        for i in range(len(shapes)):
            torch.mm(x[i], w[i].T, out=y[i])
            if backward:
                torch.mm(g[i].T, x[i], out=dw[i])
                if i:
                    torch.mm(g[i], w[i], out=dx[i])

    for _ in range(max(1, steps // 10)):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def matrix_flops(shapes: list[tuple[int, int]], batch: int, *, backward: bool) -> int:
    """Additions and multiplications of one step of `matrix_limit`."""
    one_way = [2 * batch * inputs * outputs for inputs, outputs in shapes]
    return 3 * sum(one_way) - one_way[0] if backward else sum(one_way)


def copy_limit(size: int = 2**28, seconds: float = 0.5) -> float:
    """GB/s of copying an array over another one, reading and writing both counted.

    Args:
        size: bytes of the array. As large as by default it comes from memory, a few MB come from the cache.
        seconds: about how long to copy.
    """
    import torch

    source, target = torch.ones(size // 4), torch.zeros(size // 4)  # written to: their pages are there
    copies, start, taken = 0, time.perf_counter(), 0.0
    while taken < seconds:
        target.copy_(source)
        copies += 1
        taken = time.perf_counter() - start
    return copies * 2 * source.nbytes / taken / 1e9


def median(values: Iterable[float]) -> float:
    """The middle one; of an even number, the mean of the middle two."""
    return float(statistics.median(values))


def write_result(name: str, result: dict[str, Any]) -> None:
    """Write `results/NAME.json`, with the date, the number of processors and torch's version."""
    where = {"measured": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "torch": version("torch")}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(where | result, indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def read_result(name: str) -> dict[str, Any] | None:
    """What `write_result` wrote last, None if nothing."""
    try:
        result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return result


def original_is_here(name: str) -> bool:
    """Whether the post's code and MNIST are; says of what benchmark `name` lacks."""
    if ORIGINAL.is_file() and MNIST.is_dir():
        return True
    print(f"{name}: needs the original ({ORIGINAL}) and MNIST ($MEKIKI_DATA/mnist); skipped")
    return False
