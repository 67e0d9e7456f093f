"""One part: its images in, a Parquet file with one row an image out. Runs in whatever process the engine has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mekiki.bulk.plan import Plan
from mekiki.data.decoding import decode
from mekiki.data.image_set import Pixels
from mekiki.data.remote import is_url, temporary_copies
from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.extras import require
from mekiki.judging.inspector import Inspector
from mekiki.judging.results import COLUMNS
from mekiki.storage.atomic import replace_file
from mekiki.storage.run import Run
from mekiki.storage.run_folder import CONFIG, CORRECTIONS, JUDGE, JUDGE_ARRAYS, JUDGE_SETTINGS, MODEL

Work = Literal["embed", "judge"]
FILES: dict[Work, tuple[str, ...]] = {
    "embed": (MODEL, CONFIG),
    "judge": (f"{JUDGE}/{JUDGE_SETTINGS}", f"{JUDGE}/{JUDGE_ARRAYS}", CORRECTIONS, MODEL),
}
"""What of a run decides what comes out; those that are there."""
FETCH = 256
"""Images that are on this machine, and decoded, at a time."""


def fingerprint(run: Path, work: Work) -> str:
    """A hash of what of a run decides what comes out."""
    digest = hashlib.sha256()
    for name in FILES[work]:
        path = run / name
        if path.is_file():
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def do_part(folder: str, part: int, run: str, work: Work, known_as: str) -> dict[str, int]:
    """Do a part, unless it is done.

    Args:
        folder: of the plan.
        part: its number.
        run: the run folder.
        work: what is done with an image.
        known_as: fingerprint of the run, for a process that has done others before.

    Returns:
        `part`, and how many `rows` and `problems` it has.
    """
    plan = Plan(Path(folder))
    names, path = plan.names(part), plan.table(part)
    arrow = require("pyarrow", extra="scale", purpose="writing .parquet")
    parquet = require("pyarrow.parquet", extra="scale", purpose="writing .parquet")
    if path.is_file():  # by a process that was thought lost
        table = parquet.read_table(path, columns=["problem"])
    else:
        rows = _embedded(names, run, known_as) if work == "embed" else _judged(names, run, known_as)
        table = arrow.Table.from_pylist(list(rows), schema=_schema(arrow, work, run, known_as))
        with replace_file(path) as temporary:
            parquet.write_table(table, temporary)
    if table.num_rows != len(names):
        raise InputError(f"{path}: has {table.num_rows} rows and not {len(names)}; delete it")
    return {"part": part, "rows": len(names), "problems": sum(map(bool, table["problem"].to_pylist()))}


def _embedded(names: Sequence[str], run: str, known_as: str) -> Iterator[dict[str, Any]]:
    embedder = _embedder(run, known_as)
    channels, *size = embedder.input_shape_
    for start in range(0, len(names), FETCH):
        some = names[start : start + FETCH]
        read: list[Pixels | str] = []
        with _here(some) as paths:
            for path in paths:
                try:
                    read.append(decode(path, (size[0], size[1]), channels).pixels)
                except InputError as error:
                    read.append(str(error).removeprefix(f"{path}: "))
        pixels = [each for each in read if not isinstance(each, str)]
        vectors = iter(embedder.transform(np.stack(pixels)) if pixels else ())
        for name, each in zip(some, read, strict=True):
            bad = isinstance(each, str)
            yield {
                "name": _text(name),
                "label": "",
                "vector": None if bad else next(vectors),
                "problem": _text(each) if isinstance(each, str) else "",
            }


def _judged(names: Sequence[str], run: str, known_as: str) -> Iterator[dict[str, Any]]:
    inspector = _inspector(run, known_as)
    for start in range(0, len(names), FETCH):
        some = names[start : start + FETCH]
        with _here(some) as paths:
            for name, verdict in zip(some, inspector.judge_files(paths), strict=True):
                yield verdict.row() | {"file": _text(name)}


@contextmanager
def _here(names: Sequence[str]) -> Iterator[list[Path]]:
    """The images as files on this machine."""
    if names and is_url(names[0]):
        with temporary_copies(names) as paths:
            yield paths
    else:
        yield [Path(name) for name in names]


def _schema(arrow: Any, work: Work, run: str, known_as: str) -> Any:
    text, number = arrow.string(), arrow.float64()
    if work == "judge":
        numbers = ("score", "p", "threshold")
        return arrow.schema([(name, number if name in numbers else text) for name in COLUMNS])
    vector = arrow.list_(arrow.float32(), int(_embedder(run, known_as).dim))
    return arrow.schema([("name", text), ("label", text), ("vector", vector), ("problem", text)])


@lru_cache(maxsize=1)
def _embedder(run: str, known_as: str) -> Embedder:
    """Read once a process; `known_as` makes it read again what was trained anew."""
    return Embedder.load(Run(Path(run)).open().folder)


@lru_cache(maxsize=1)
def _inspector(run: str, known_as: str) -> Inspector:
    return Inspector.open(Path(run))


def _text(name: str) -> str:
    """A name as a table may hold it: bytes that are no text are written out."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
