"""Teaching a memory: what people judged becomes a way to compare."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from mekiki.cases.adapter import Schooling, train_adapter
from mekiki.cases.case import Cases
from mekiki.cases.run_memory import SPACES, RunMemory, Settings, resolved
from mekiki.cases.triplets import SIDES, Triplets, read_triplets, triplets_of
from mekiki.console import Progress, silent
from mekiki.errors import InputError


def train(
    folder: Path,
    *,
    space: str = "images",
    triplets: Path | None = None,
    schooling: Schooling | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Learn an adapter from the feedback of a run, or from a file, and put it in force if it is better.

    Args:
        folder: the run folder.
        space: `images` or `notes`.
        triplets: a `.npz` or `.parquet` file of vectors, or a `.csv` file with the columns anchor, positive, negative:
            ids of cases, or, for notes, texts. `None` takes what people said of what was found.
        schooling: how it learns.
        settings: where else to look.
        progress: told after each epoch.

    Returns:
        `before`, `after`, `frozen` (shares of held-out triplets in the right order), `replaced`, `triplets`,
        `held_out`, `epochs`, `space`, and the `file` if it is in force.

    Raises:
        InputError: there is too little to learn from, or the file cannot be read.
    """
    run_memory = RunMemory(folder, settings)
    memory = run_memory.memory(space)
    store = memory.store
    if triplets is None:
        given = triplets_of(memory.judgements)
    elif triplets.suffix.lower() == ".csv":
        given = _of_csv(run_memory, space, triplets)
    else:
        given = read_triplets(triplets)
    if given.anchors.shape[1] != store.encoder.dimension:
        raise InputError(
            f"{triplets}: has triplets of {given.anchors.shape[1]} dimensions, and {store.place} holds vectors of "
            f"{store.encoder}"
        )
    parts = list(store.read(whole=False))
    cases = Cases.joined(parts) if parts else Cases.none(store.encoder.dimension)
    adapter_store = run_memory.adapter_store(space, store.encoder)
    adapter, lesson = train_adapter(
        given,
        np.array(cases.vectors) if len(cases) else None,
        cases.texts("label") if len(cases) else None,
        old=adapter_store.current(),
        schooling=schooling,
        progress=progress,
    )
    file = str(adapter_store.put(adapter, lesson)) if lesson.better else None
    return {**vars(lesson), "replaced": lesson.better, "space": space, "file": file}


def untrain(folder: Path, *, space: str = "images", settings: Settings | None = None) -> dict[str, Any]:
    """Take the adapter in force back; the one before it, or none, is in force again: `taken_back`.

    Raises:
        InputError: there is none.
    """
    run_memory = RunMemory(folder, settings)
    return {"taken_back": str(run_memory.adapter_store(space, run_memory.store(space).encoder).revert())}


def spaces_judged(folder: Path) -> list[str]:
    """The spaces that feedback in force speaks of."""
    said = {each.space for each in RunMemory(folder).log.judgements() if not each.undone}
    return [space for space in SPACES if space in said]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a .csv file of triplets: by `SIDES`, what each side is called there, an id or a text.

    Raises:
        InputError: it cannot be read, lacks a column, or a row lacks a side.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as .csv in UTF-8") from None
    if not rows or any(not (row.get(side) or "").strip() for row in rows for side in SIDES):
        raise InputError(f"{path}: must have the columns anchor, positive and negative, and no row without")
    return [{side: row[side].strip() for side in SIDES} for row in rows]


def _of_csv(run_memory: RunMemory, space: str, path: Path) -> Triplets:
    rows = read_rows(path)
    named = sorted({name for row in rows for name in row.values()})
    store = run_memory.store(space)
    if space == "notes" and len(store.get(named)) < len(named):  # they are texts
        vectors = dict(zip(named, run_memory.texts.embed(named), strict=True))
    else:
        ids = resolved(store, named)
        place = {case.id: case.vector for case in store.get(ids)}
        vectors = {name: place[id_] for name, id_ in zip(named, ids, strict=True)}
    return Triplets(*(np.stack([vectors[row[side]] for row in rows]) for side in SIDES))
