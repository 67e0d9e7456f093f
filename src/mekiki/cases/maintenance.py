"""Statistics, export, import and removal of the cases of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mekiki.cases.parquet import encoder_of, export_cases, import_cases
from mekiki.cases.run_memory import SPACES, RunMemory
from mekiki.cases.store import complete_ids, matching_ids, stats
from mekiki.cases.where import parse_where
from mekiki.errors import InputError
from mekiki.storage.lock import hold_lock


def case_stats(run_memory: RunMemory) -> dict[str, Any]:
    """What the stores of a run hold, by space (see `mekiki.cases.stats`), and how much `feedback` there is.

    Raises:
        InputError: there is no store.
    """
    result: dict[str, Any] = {}
    problems = []
    for space in SPACES:
        try:
            result[space] = stats(run_memory.store(space))
        except InputError as error:
            problems.append(error)
    if not result:
        raise problems[0]
    judgements = run_memory.log.judgements()
    active = sum(not each.undone for each in judgements)
    return result | {"feedback": {"in_force": active, "all": len(judgements)}}


def export_memory(
    run_memory: RunMemory, output: Path, *, space: str = "images", where: str | None = None
) -> dict[str, Any]:
    """Write the cases of a run to a Parquet file: `cases` and `output`."""
    condition = None if where is None else parse_where(where)
    return {"cases": export_cases(run_memory.store(space), output, condition), "output": str(output)}


def import_memory(run_memory: RunMemory, path: Path, *, space: str = "images") -> dict[str, Any]:
    """Add the cases of a Parquet file to those of a run: `cases`, how many of them are `new`, and the `store`."""
    encoder = encoder_of(path)
    run_memory.folder.mkdir(parents=True, exist_ok=True)
    store = run_memory.store(space, encoder)
    with hold_lock(run_memory.folder, "remembering"):
        count, new = import_cases(store, path)
        run_memory.save_config()
    return {"cases": count, "new": new, "store": store.place}


def forget(
    run_memory: RunMemory, ids: Sequence[str] = (), *, space: str = "images", where: str | None = None
) -> dict[str, Any]:
    """Remove cases, by their ids or by a condition: `forgotten`.

    Raises:
        InputError: neither or both are given, or there is no such case.
    """
    if bool(ids) == (where is not None):
        raise InputError("say which cases to forget: ids, or --where")
    store = run_memory.store(space)
    chosen = complete_ids(store, ids) if where is None else matching_ids(store, parse_where(where))
    with hold_lock(run_memory.folder, "forgetting"):
        return {"forgotten": store.forget(chosen)}
