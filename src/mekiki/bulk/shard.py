"""Processing one shard: images in, a Parquet file with one row per image out. Runs in any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mekiki.bulk.plan import Plan
from mekiki.data.image_set import Pixels
from mekiki.data.photo import map_photos
from mekiki.data.remote import is_url, temporary_copies
from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.extras import require
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.results import parquet_schema
from mekiki.judging.verdict import escape_name
from mekiki.storage.atomic import replace_file
from mekiki.storage.run_folder import CONFIG, CORRECTIONS, JUDGE, JUDGE_ARRAYS, JUDGE_SETTINGS, MODEL
from mekiki.storage.training_run import Run

Work = Literal["embed", "judge"]
FILES: dict[Work, tuple[str, ...]] = {
    "embed": (MODEL, CONFIG),
    "judge": (f"{JUDGE}/{JUDGE_SETTINGS}", f"{JUDGE}/{JUDGE_ARRAYS}", CORRECTIONS, MODEL),
}
"""The files of a run that determine the rows, as far as they exist."""
BLOCK = 256
"""Images that are on this machine, and decoded, at a time."""


def fingerprint(run: Path, work: Work) -> str:
    """A hash of what in a run determines the rows."""
    digest = hashlib.sha256()
    for name in FILES[work]:
        path = run / name
        if path.is_file():
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def process_shard(folder: str, shard: int, run: str, work: Work, run_fingerprint: str) -> dict[str, int]:
    """Process a shard, unless it is done.

    Args:
        folder: of the plan.
        shard: its number.
        run: the run folder.
        work: what is done with an image.
        run_fingerprint: so that a process that is used again loads a changed run again.

    Returns:
        `rows` and `problems`, their numbers.
    """
    plan = Plan(Path(folder))
    names, path = plan.names(shard), plan.table(shard)
    arrow = require("pyarrow", extra="scale", purpose="writing .parquet")
    parquet = require("pyarrow.parquet", extra="scale", purpose="writing .parquet")
    if path.is_file():  # written by a process that was taken for lost
        table = parquet.read_table(path, columns=["problem"])
    else:
        if work == "embed":
            embedder = _load_embedder(run, run_fingerprint)
            rows, schema = _embed(embedder, names), _embedding_schema(arrow, int(embedder.dim))
        else:
            rows, schema = _judge(_load_inspector(run, run_fingerprint), names), parquet_schema(arrow)
        table = arrow.Table.from_pylist(list(rows), schema=schema)
        with replace_file(path) as temporary:
            parquet.write_table(table, temporary)
    if table.num_rows != len(names):
        raise InputError(f"{path}: has {table.num_rows} rows and not {len(names)}; delete it")
    return {"rows": len(names), "problems": sum(map(bool, table["problem"].to_pylist()))}


def _embed(embedder: Embedder, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    channels, height, width = embedder.input_shape_

    def embed(images: list[Pixels]) -> Any:
        return embedder.transform(np.stack(images))

    for start in range(0, len(names), BLOCK):
        some = names[start : start + BLOCK]
        with _local_files(some) as paths:
            photos = map_photos(paths, lambda *size: (height, width), channels, embed, block=BLOCK)
            for name, (photo, vector) in zip(some, photos, strict=True):
                problem = escape_name(photo.problem)
                yield {"name": escape_name(name), "label": "", "vector": vector, "problem": problem}


def _judge(inspector: Inspector, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(names), BLOCK):
        some = names[start : start + BLOCK]
        with _local_files(some) as paths:
            for name, verdict in zip(some, inspector.judge_files(paths), strict=True):
                yield verdict.row() | {"file": escape_name(name)}


@contextmanager
def _local_files(names: Sequence[str]) -> Iterator[list[Path]]:
    """The images as files on this machine."""
    if names and is_url(names[0]):
        with temporary_copies(names) as paths:
            yield paths
    else:
        yield [Path(name) for name in names]


def _embedding_schema(arrow: Any, dim: int) -> Any:
    text, vector = arrow.string(), arrow.list_(arrow.float32(), dim)
    return arrow.schema([("name", text), ("label", text), ("vector", vector), ("problem", text)])


@lru_cache(maxsize=1)
def _load_embedder(run: str, run_fingerprint: str) -> Embedder:
    return Embedder.load(Run(Path(run)).open().folder)


@lru_cache(maxsize=1)
def _load_inspector(run: str, run_fingerprint: str) -> Inspector:
    return Inspector.open(Path(run))
