"""Shards processed by Ray Data, on this machine's processors or on those of a cluster.

When a worker dies, only its current shard is lost, and another worker processes that again. A shard is a file that is
put in place in one step under the name that the plan gives it, so processing it twice does no harm.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mekiki.bulk.plan import SHARD_LENGTH, Plan
from mekiki.bulk.shard import Work, fingerprint, process_shard
from mekiki.console import Progress, silent
from mekiki.data.folder_layout import image_files
from mekiki.data.remote import is_url, list_images
from mekiki.embedder import Embedder
from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.judging.judge_photos import Inspector
from mekiki.storage.run_folder import BULK_FORMAT
from mekiki.storage.training_run import Run

MOST_TASKS = 5000
"""Beyond this number of shards, a task of Ray processes several, one after another."""
STORE_BYTES = 100 * 2**20
"""Memory that Ray's processes share on one machine: only numbers of shards pass through it."""


def embed_in_bulk(
    run: Path, data: str, output: Path, *, shard_length: int = SHARD_LENGTH, progress: Progress = silent
) -> dict[str, Any]:
    """Write the vectors of images to a folder of Parquet files, one row per image; what is there already stays.

    Columns are name, label (empty), vector (none for an image that cannot be read) and problem (why not).

    Args:
        run: the run folder, reachable from every machine.
        data: a folder, or a URL that fsspec knows, searched recursively.
        output: a folder, reachable from every machine.
        shard_length: images per file.
        progress: called after each shard.

    Returns:
        `n`, the number of rows, how many `problems`, how many were `done` before; `parts`, `dim`, `output` and `notes`.

    Raises:
        InputError: the run, the data or the folder cannot be used.
        MissingExtraError: Ray is not installed.
    """
    embedder = Embedder.load(Run(run).open().folder)
    if len(embedder.input_shape_) != 3:
        raise InputError(f"{run}: was trained on {embedder.input_shape_[0]} features, not on images")
    summary = _process("embed", run, data, output, shard_length, progress)
    return summary | {"dim": int(embedder.dim)}


def judge_in_bulk(
    run: Path, data: str, output: Path, *, shard_length: int = SHARD_LENGTH, progress: Progress = silent
) -> dict[str, Any]:
    """The same with a verdict per photograph, in the columns of `mekiki judge -o results.parquet`."""
    Inspector.open(run)
    return _process("judge", run, data, output, shard_length, progress)


def _process(
    work: Work, run: Path, data: str, output: Path, shard_length: int, progress: Progress
) -> dict[str, Any]:
    require("pyarrow.parquet", extra="scale", purpose="writing .parquet")
    if shard_length < 1:
        raise InputError(f"--part is {shard_length}; give at least 1")
    names, notes = _list_names(data)
    run_fingerprint = fingerprint(run, work)
    about = {"format": BULK_FORMAT, "work": work, "run": run_fingerprint}
    plan = Plan.create(output, about, names, shard_length)
    lengths = {shard: len(plan.names(shard)) for shard in plan.shards()}
    total, missing = sum(lengths.values()), plan.missing()
    before = done = total - sum(lengths[shard] for shard in missing)
    arguments: dict[str, Any] = {
        "folder": str(output.absolute()),
        "run": str(run.absolute()),
        "work": work,
        "run_fingerprint": run_fingerprint,
    }
    if missing:
        require("ray.data", extra="scale", purpose="--engine ray")
        for counts in _process_with_ray(missing, arguments):
            done += counts["rows"]
            progress(f"{work} by ray", done, total)
    if plan.missing():
        raise InputError(f"{output}: {len(plan.missing())} parts are not done; the same command goes on")
    results = [process_shard(shard=shard, **arguments) for shard in lengths]  # all are done: this counts them
    return {
        "n": sum(counts["rows"] for counts in results),
        "problems": sum(counts["problems"] for counts in results),
        "done": before,
        "parts": len(results),
        "output": str(output),
        "notes": notes,
    }


def _list_names(data: str) -> tuple[list[str], list[str]]:
    """Names of all images, valid on every machine, and a note on other files."""
    if is_url(data):
        names, skipped = list_images(data)
    else:
        path = Path(data).expanduser()
        if not path.is_dir():
            raise InputError(f"{data}: no such folder; --engine ray takes a folder or a URL")
        images, others = image_files(path.absolute())
        names, skipped = [str(image) for image in images], len(others)
    if not names:
        raise InputError(f"{data}: no image to read; give a folder of png, jpg, bmp, tif or webp")
    return names, [f"{skipped} other files there are no images by their endings"] if skipped else []


def _process_with_ray(shards: list[int], arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Process all shards; the counts of each as it is done."""
    with _ray() as ray:
        rows = ray.data.from_items(
            [{"shard": shard} for shard in shards], override_num_blocks=min(len(shards), MOST_TASKS)
        )
        counts = rows.map(_process_row, fn_kwargs={"arguments": arguments}, num_cpus=1)
        try:
            yield from counts.iter_rows()
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise InputError(f"ray: {first_line(cause)}; the same command goes on") from None


def _process_row(row: dict[str, Any], arguments: dict[str, Any]) -> dict[str, int]:
    return process_shard(shard=int(row["shard"]), **arguments)


@contextlib.contextmanager
def _ray() -> Iterator[Any]:
    """Ray, at the cluster in `RAY_ADDRESS` or else on this machine alone, without its output."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # In milliseconds: a busy machine must not be taken for dead, and its work for lost.
    os.environ.setdefault("RAY_health_check_timeout_ms", "60000")
    ray = require("ray", extra="scale", purpose="--engine ray")
    require("ray.data", extra="scale", purpose="--engine ray")
    own = not ray.is_initialized()
    if own:
        here = {} if "RAY_ADDRESS" in os.environ else {"object_store_memory": STORE_BYTES}
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # Ray has no error class of its own for this
            ray.shutdown()
            raise InputError(
                f"ray: does not start ({first_line(error)}); the same command tries again"
            ) from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        # Ray reports lost workers on standard output, where results belong.
        with contextlib.redirect_stdout(sys.stderr):
            yield ray
    finally:
        if own:
            ray.shutdown()
