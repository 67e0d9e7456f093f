"""Training of an adapter from the feedback of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mekiki.cases.adapter import AdapterConfig, train_adapter
from mekiki.cases.case_triplets import CaseTriplets, judged_triplets, read_triplet_rows, read_triplets
from mekiki.cases.run_memory import SPACES, RunMemory
from mekiki.cases.store import Store, complete_ids, read_all
from mekiki.console import Progress, silent
from mekiki.errors import InputError


def train_from_feedback(
    run_memory: RunMemory,
    *,
    space: str = "images",
    triplets: Path | None = None,
    config: AdapterConfig | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train an adapter from feedback or from a file, and use it from now on if it is better.

    Args:
        run_memory: of the run.
        space: `images` or `notes`.
        triplets: a `.npz` or `.parquet` file of vectors, or a `.csv` file with the columns anchor, positive, negative:
            ids of cases, or, for notes, texts. `None` takes the feedback.
        config: how it is trained.
        progress: called after each epoch.

    Returns:
        `before`, `after`, `frozen` (shares of test triplets in the right order), `replaced`, `triplets`, `held_out`,
        `epochs`, `space`, and the `file` if the adapter is used.

    Raises:
        InputError: there is too little to learn from, or the file cannot be read.
    """
    memory = run_memory.memory(space)
    store = memory.store
    if triplets is None:
        given = judged_triplets(memory.judgements)
    elif triplets.suffix.lower() == ".csv":
        given = _encode_triplets(run_memory, space, store, triplets)
    else:
        given = read_triplets(triplets)
    if given.anchors.shape[1] != store.encoder.dimension:
        raise InputError(
            f"{triplets}: has triplets of {given.anchors.shape[1]} dimensions, and {store.place} holds vectors of "
            f"{store.encoder}"
        )
    cases = read_all(store)
    adapter_store = run_memory.adapter_store(space, store.encoder)
    adapter, result = train_adapter(
        given,
        np.array(cases.vectors) if len(cases) else None,
        cases.texts("label"),
        old=adapter_store.current(),
        config=config,
        progress=progress,
    )
    file = str(adapter_store.put(adapter, result)) if result.better else None
    return {**vars(result), "replaced": result.better, "space": space, "file": file}


def untrain(run_memory: RunMemory, *, space: str = "images") -> dict[str, Any]:
    """Take the current adapter out of use; the one before it, or none, is used again: `taken_back`.

    Raises:
        InputError: there is none.
    """
    store = run_memory.store(space)
    return {"taken_back": str(run_memory.adapter_store(space, store.encoder).revert())}


def judged_space(run_memory: RunMemory) -> str:
    """The space that active feedback is about; `images` if about both or none."""
    judged = {each.space for each in run_memory.log.judgements() if not each.undone}
    return next((space for space in SPACES if space in judged), "images")


def _encode_triplets(run_memory: RunMemory, space: str, store: Store, path: Path) -> CaseTriplets:
    """The vectors of a .csv file's case ids or, for notes, texts."""
    rows = read_triplet_rows(path)
    names = sorted({name for row in rows for name in row})
    if space == "notes" and len(store.get(names)) < len(names):  # they are texts
        vectors = dict(zip(names, run_memory.text_encoder.embed(names), strict=True))
    else:
        ids = complete_ids(store, names)
        by_id = {case.id: case.vector for case in store.get(ids)}
        vectors = {name: by_id[id_] for name, id_ in zip(names, ids, strict=True)}
    return CaseTriplets(*(np.stack([vectors[name] for name in side]) for side in zip(*rows, strict=True)))
