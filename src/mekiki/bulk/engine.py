"""Parts given out by Ray Data, on this machine's processors or on those of a cluster.

A worker that dies takes nothing with it but the part it was at, which another does again. A part is a file that appears
in one step under a name that the plan has given it, so doing it twice is doing it once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mekiki.bulk.plan import PART, Plan
from mekiki.bulk.shard import Work, do_part, fingerprint
from mekiki.console import Progress, silent
from mekiki.data.folder_layout import image_files
from mekiki.data.remote import is_url, list_images
from mekiki.embedder import Embedder
from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.judging.inspector import Inspector
from mekiki.storage.run import Run
from mekiki.storage.run_folder import BULK_FORMAT

MOST_TASKS = 5000
"""Beyond that a task of Ray does several parts, one after another."""
STORE_BYTES = 100 * 2**20
"""Of memory that Ray's processes share on one machine: only numbers of parts pass through it."""


def embed_in_bulk(
    run: Path, data: str, output: Path, *, part: int = PART, progress: Progress = silent
) -> dict[str, Any]:
    """Write the vectors of images to a folder of Parquet files, one row an image; what is there already stays.

    Columns are name, label (empty), vector (none for an image that cannot be read) and problem (why not).

    Args:
        run: the run folder, where every machine finds it.
        data: a folder, or a URL that fsspec knows, searched to the bottom.
        output: a folder, where every machine finds it.
        part: images a file.
        progress: told after each part.

    Returns:
        `n`, how many rows there are, how many `problems`, how many were `done` before; `dim`, `output` and `notes`.

    Raises:
        InputError: the run, the data or the folder cannot be used.
        MissingExtraError: Ray is not installed.
    """
    embedder = Embedder.load(Run(run).open().folder)
    if len(embedder.input_shape_) != 3:
        raise InputError(f"{run}: was trained on {embedder.input_shape_[0]} features, not on images")
    return _done("embed", run, data, output, part, progress) | {"dim": int(embedder.dim)}


def judge_in_bulk(
    run: Path, data: str, output: Path, *, part: int = PART, progress: Progress = silent
) -> dict[str, Any]:
    """The same with a verdict a photograph, in the columns of `mekiki judge -o results.parquet`."""
    Inspector.open(run)
    return _done("judge", run, data, output, part, progress)


def _done(work: Work, run: Path, data: str, output: Path, part: int, progress: Progress) -> dict[str, Any]:
    require("pyarrow.parquet", extra="scale", purpose="writing .parquet")
    if part < 1:
        raise InputError(f"--part is {part}; give at least 1")
    names, notes = _names(data)
    known_as = fingerprint(run, work)
    about = {"format": BULK_FORMAT, "work": work, "run": known_as}
    plan = Plan.made(output, about, names, part)
    lengths = {number: len(plan.names(number)) for number in plan.parts()}
    total, missing = sum(lengths.values()), plan.missing()
    before = done = total - sum(lengths[number] for number in missing)
    arguments: dict[str, Any] = {
        "folder": str(output.absolute()),
        "run": str(run.absolute()),
        "work": work,
        "known_as": known_as,
    }
    if missing:
        require("ray.data", extra="scale", purpose="--engine ray")
        for row in _given_out(missing, arguments):
            done += row["rows"]
            progress(f"{work} by ray", done, total)
    if plan.missing():
        raise InputError(f"{output}: {len(plan.missing())} parts are not done; the same command goes on")
    told = [do_part(part=number, **arguments) for number in plan.parts()]  # counts what is there
    return {
        "n": sum(each["rows"] for each in told),
        "problems": sum(each["problems"] for each in told),
        "done": before,
        "parts": len(told),
        "output": str(output),
        "notes": notes,
    }


def _names(data: str) -> tuple[list[str], list[str]]:
    """Every image, by a name that holds on every machine."""
    if is_url(data):
        names, others = list_images(data)
    else:
        path = Path(data).expanduser()
        if not path.is_dir():
            raise InputError(f"{data}: no such folder; --engine ray takes a folder or a URL")
        images, strangers = image_files(path.absolute())
        names, others = [str(image) for image in images], len(strangers)
    if not names:
        raise InputError(f"{data}: no image to read; give a folder of png, jpg, bmp, tif or webp")
    return names, [f"{others} other files there are no images by their endings"] if others else []


def _given_out(missing: list[int], arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Have all parts done; a row as each is."""
    with _ray() as ray:
        parts = ray.data.from_items(
            [{"part": number} for number in missing], override_num_blocks=min(len(missing), MOST_TASKS)
        )
        done = parts.map(_do, fn_kwargs={"arguments": arguments}, num_cpus=1)
        try:
            yield from done.iter_rows()
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise InputError(f"ray: {first_line(cause)}; the same command goes on") from None


def _do(row: dict[str, Any], arguments: dict[str, Any]) -> dict[str, int]:
    return do_part(part=int(row["part"]), **arguments)


@contextlib.contextmanager
def _ray() -> Iterator[Any]:
    """Ray, at the cluster in `RAY_ADDRESS` or else on this machine alone, and quiet."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Milliseconds: a machine that is merely busy must not be taken for dead, and all it has done for lost.
    os.environ.setdefault("RAY_health_check_timeout_ms", "60000")
    ray = require("ray", extra="scale", purpose="--engine ray")
    require("ray.data", extra="scale", purpose="--engine ray")
    own = not ray.is_initialized()
    if own:
        here = {} if "RAY_ADDRESS" in os.environ else {"object_store_memory": STORE_BYTES}
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # it has no kind of error of its own for this
            ray.shutdown()
            raise InputError(
                f"ray: does not start ({first_line(error)}); the same command tries again"
            ) from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # Ray tells of lost workers on the one, where results belong
            yield ray
    finally:
        if own:
            ray.shutdown()
