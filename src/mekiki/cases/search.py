"""Searching the memory of a run, judging what it found, and looking after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.encoders import JudgeView
from mekiki.cases.feedback import FeedbackLog, Judgement
from mekiki.cases.memory import Memory, SearchResult, steered
from mekiki.cases.parquet import encoder_of, export_cases, import_cases
from mekiki.cases.remember import ID
from mekiki.cases.run_memory import SPACES, RunMemory, Settings, resolved
from mekiki.cases.store import open_store, stats
from mekiki.cases.where import parse_where
from mekiki.data.image_set import Pixels
from mekiki.data.photo import pixel_hash
from mekiki.errors import InputError
from mekiki.judging.inspector import Verdict
from mekiki.storage.lock import hold_lock

Floats = NDArray[np.float32]


def search(
    folder: Path,
    image: Path | None = None,
    text: str | None = None,
    *,
    k: int = 10,
    where: str | None = None,
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
    settings: Settings | None = None,
) -> dict[str, Any]:
    """The cases that are most like a photograph or a text, as people judged what was found before.

    Args:
        folder: the run folder.
        image: a photograph; it is not found itself.
        text: what notes should say; either of the two, or neither and `like`.
        k: how many.
        where: which are meant, such as `label = 'crack'`; see `mekiki.cases.where`.
        like: ids of cases that it should be like, in this search only.
        unlike: ids of cases that it should be unlike.
        settings: where else to look.

    Returns:
        `query`, `space`, `feedback` (how many judgements are in force) and `found`: of each `rank`, `id`, `distance`,
        `shift` (what feedback added), `label`, `note`, `image`, `who`, `time`, `run`.

    Raises:
        InputError: no query, or two; or the store is of another encoder.
    """
    return search_room(RunMemory(folder, settings), image, text, k=k, where=where, like=like, unlike=unlike)


def search_room(
    run_memory: RunMemory,
    image: Path | None = None,
    text: str | None = None,
    *,
    k: int = 10,
    where: str | None = None,
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
) -> dict[str, Any]:
    """The same in a room that is open."""
    space = "images" if text is None else "notes"
    condition = None if where is None else parse_where(where)
    memory = run_memory.memory(space)
    query, own = (None, "") if image is None and text is None and like else _query(run_memory, image, text)
    steering = [resolved(memory.store, ids) for ids in (like, unlike)]
    if query is None or like or unlike:
        towards, away = (memory.store.get(ids).vectors for ids in steering)
        query = steered(query, towards, away)
    without = [own] if own else []
    recalled = memory.search(query, k, condition, without=[*without, *steering[0], *steering[1]])
    return {
        "query": str(image) if image is not None else text or f"like {', '.join(like)}",
        "space": space,
        "feedback": len(memory.judgements),
        "found": rows_of(recalled),
    }


def rows_of(recalled: SearchResult) -> list[dict[str, Any]]:
    """What was found, for JSON."""
    return [
        {"rank": rank + 1, **case.to_dict(), "distance": float(apart), "shift": float(shift)}
        for rank, (case, apart, shift) in enumerate(
            zip(recalled.cases, recalled.distances, recalled.shifts, strict=True)
        )
    ]


def give_feedback(
    folder: Path,
    image: Path | None = None,
    text: str | None = None,
    *,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    settings: Settings | None = None,
) -> list[Judgement]:
    """Say which cases are what a query wanted, and which are not; it holds from the next search on.

    Args:
        folder: the run folder.
        image: the photograph that was searched for.
        text: or the text.
        good: ids of cases, or their beginnings.
        bad: ids of cases, or their beginnings.
        settings: where else to look.

    Raises:
        InputError: no query, no such case, or no judgement.
    """
    return say_in_room(RunMemory(folder, settings), image, text, good=good, bad=bad)


def say_in_room(
    run_memory: RunMemory,
    image: Path | None = None,
    text: str | None = None,
    *,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    asked: str | None = None,
) -> list[Judgement]:
    """The same in a room that is open; `asked` is what the query is called in the log."""
    space = "images" if text is None else "notes"
    memory = run_memory.memory(space)
    query, _ = _query(run_memory, image, text)
    named = [resolved(memory.store, ids) for ids in (good, bad)]
    asked = asked or (str(image) if image is not None else text or "")
    return run_memory.log.add(memory.store, space, query, *named, asked=asked)


def feedback_of(folder: Path) -> list[Judgement]:
    """All that people said, in order, what was taken back too."""
    return _log(folder).judgements()


def undo_feedback(folder: Path, go: int | None = None) -> list[Judgement]:
    """Take back what was said in one go, the last in force if none is named.

    Raises:
        InputError: there is none, or it was taken back before.
    """
    return _log(folder).undo(go)


def case_stats(folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    """What the stores of a run hold, by space; see `mekiki.cases.stats`.

    Raises:
        InputError: there is none.
    """
    run_memory = RunMemory(folder, settings)
    told: dict[str, Any] = {}
    problem: InputError | None = None
    for space in SPACES:
        try:
            told[space] = stats(run_memory.store(space))
        except InputError as error:
            problem = problem or error
    if not told and problem is not None:
        raise problem
    said = run_memory.log.judgements()
    told["feedback"] = {"in_force": sum(not each.undone for each in said), "all": len(said)}
    return told


def export_run(
    folder: Path,
    output: Path,
    *,
    space: str = "images",
    where: str | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Write the cases of a run to a Parquet file: `cases` and `output`."""
    condition = None if where is None else parse_where(where)
    store = RunMemory(folder, settings).store(space)
    return {"cases": export_cases(store, output, condition), "output": str(output)}


def import_run(
    folder: Path, path: Path, *, space: str = "images", settings: Settings | None = None
) -> dict[str, Any]:
    """Add the cases of a Parquet file to those of a run: `cases`, how many of them are `new`, and the `store`."""
    run_memory = RunMemory(folder, settings)
    encoder = encoder_of(path)
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(run_memory.place, space, encoder)
    with hold_lock(folder, "remembering"):
        count, new = import_cases(store, path)
        run_memory.keep_settings()
    return {"cases": count, "new": new, "store": store.place}


def forget(
    folder: Path,
    ids: Sequence[str] = (),
    *,
    space: str = "images",
    where: str | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Remove cases, by their ids or by a condition: `forgotten`.

    Raises:
        InputError: neither or both are given, or there is no such case.
    """
    if bool(ids) == (where is not None):
        raise InputError("say which cases to forget: ids, or --where")
    store = RunMemory(folder, settings).store(space)
    if where is None:
        meant = resolved(store, ids)
    else:
        condition = parse_where(where)
        meant = [id_ for part in store.read(condition, whole=False) for id_ in part.ids]
    with hold_lock(folder, "forgetting"):
        return {"forgotten": store.forget(meant)}


class SimilarCases:
    """Past cases to show beside a judgement.

    Args:
        folder: a calibrated run that remembers.
        k: how many.

    Raises:
        InputError: it remembers nothing, is not calibrated, or remembers in another space.
    """

    def __init__(self, folder: Path, k: int) -> None:
        run_memory = RunMemory(folder)
        self._memory: Memory = run_memory.memory("images")
        if not isinstance(run_memory.view, JudgeView):
            raise InputError(f"{folder}: is not calibrated; `mekiki calibrate {folder} --ok FOLDER` does it")
        self._view, self._k = run_memory.view, k

    def of(self, verdict: Verdict) -> list[dict[str, Any]]:
        """The nearest past cases of a photograph that was judged, as in `search`; none if it could not be read."""
        if verdict.pixels is None:
            return []
        return nearest(self._memory, self._view.vector(verdict), verdict.pixels, self._k)


def nearest(memory: Memory, vector: Floats, pixels: Pixels, k: int) -> list[dict[str, Any]]:
    """The past cases nearest to a photograph that was looked at, itself left out, as in `search`."""
    return rows_of(memory.search(vector, k, without=[pixel_hash(pixels)[:ID]]))


def _log(folder: Path) -> FeedbackLog:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a run that remembers")
    return RunMemory(folder).log


def _query(run_memory: RunMemory, image: Path | None, text: str | None) -> tuple[Floats, str]:
    """The vector of what is searched for, and the id of the photograph itself."""
    if (image is None) == (text is None):
        raise InputError("give one query: a photograph, or --text")
    if text is not None:
        if not text.strip():
            raise InputError("--text is empty; say what notes should say")
        return run_memory.texts.embed([text])[0], ""
    if image is None or not image.is_file():
        raise InputError(f"{image}: no such photograph; for words give --text")
    seen = next(run_memory.view.extract([image]))
    if seen.pixels is None or seen.vector is None:
        raise InputError(f"{image}: {seen.problem}")
    return seen.vector, pixel_hash(seen.pixels)[:ID]
