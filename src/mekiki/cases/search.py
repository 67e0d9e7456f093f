"""Search in the memory of a run, and feedback on what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import case_id
from mekiki.cases.encoders import JudgeEncoder
from mekiki.cases.feedback import FeedbackLog, Judgement
from mekiki.cases.memory import Memory, move_query
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.store import complete_ids
from mekiki.cases.where import parse_where
from mekiki.data.image_set import Pixels
from mekiki.errors import InputError
from mekiki.judging.verdict import Verdict

Floats = NDArray[np.float32]


def search(
    run_memory: RunMemory,
    image: Path | None = None,
    text: str | None = None,
    *,
    k: int = 10,
    where: str | None = None,
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
) -> dict[str, Any]:
    """The cases most similar to a photograph or a text, re-ranked by feedback.

    Args:
        run_memory: of the run.
        image: a photograph; its own case is left out.
        text: what notes should say; either of the two, or neither and `like`.
        k: how many.
        where: a condition, such as `label = 'crack'`; see `mekiki.cases.where`.
        like: ids of cases that results should be like, in this search only.
        unlike: ids of cases that they should be unlike.

    Returns:
        `query`, `space`, `feedback` (how many judgements are active) and `found`: for each case `rank`, `id`,
        `distance`, `shift` (what feedback added), `label`, `note`, `image`, `who`, `time`, `run`.

    Raises:
        InputError: no query, or two; or the store is of another encoder.
    """
    space = "images" if text is None else "notes"
    condition = None if where is None else parse_where(where)
    memory = run_memory.memory(space)
    query, own = None, list[str]()
    if image is not None or text is not None or not like:
        query, own = _encode_query(run_memory, image, text)
    wanted, unwanted = (complete_ids(memory.store, ids) for ids in (like, unlike))
    if query is None or wanted or unwanted:
        query = move_query(query, *(memory.store.get(ids).vectors for ids in (wanted, unwanted)))
    result = memory.search(query, k, condition, without=[*own, *wanted, *unwanted])
    return {
        "query": _query_name(image, text) or f"like {', '.join(like)}",
        "space": space,
        "feedback": len(memory.judgements),
        "found": result.to_dicts(),
    }


def give_feedback(
    run_memory: RunMemory,
    image: Path | None = None,
    text: str | None = None,
    *,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    asked: str | None = None,
) -> list[Judgement]:
    """Record which cases are what a query wanted and which are not; it counts from the next search on.

    Args:
        run_memory: of the run.
        image: the photograph that was searched for.
        text: or the text.
        good: ids of cases, or their beginnings.
        bad: ids of cases, or their beginnings.
        asked: name of the query in the log; its path or text if not given.

    Raises:
        InputError: no query, no such case, or no judgement.
    """
    space = "images" if text is None else "notes"
    store = run_memory.memory(space).store
    query, _ = _encode_query(run_memory, image, text)
    return run_memory.log.add(store, space, query, good, bad, asked=asked or _query_name(image, text))


def read_feedback(folder: Path) -> list[Judgement]:
    """All feedback of a run in order, that undone too.

    Raises:
        InputError: there is no such folder, or the log cannot be read.
    """
    return _log(folder).judgements()


def undo_feedback(folder: Path, entry: int | None = None) -> list[Judgement]:
    """Undo one entry of the feedback, the last active one if none is named.

    Raises:
        InputError: there is none, or it was undone before.
    """
    return _log(folder).undo(entry)


class SimilarCases:
    """Search of past cases to show beside a verdict.

    Args:
        folder: a calibrated run that remembers.
        k: how many.

    Raises:
        InputError: it remembers nothing, is not calibrated, or its store is of another encoder.
    """

    def __init__(self, folder: Path, k: int) -> None:
        run_memory = RunMemory(folder)
        self._memory = run_memory.memory("images")
        if not isinstance(run_memory.photo_encoder, JudgeEncoder):
            raise InputError(f"{folder}: is not calibrated; `mekiki calibrate {folder} --ok FOLDER` does it")
        self._encoder, self._k = run_memory.photo_encoder, k

    def find(self, verdict: Verdict) -> list[dict[str, Any]]:
        """The nearest past cases of a photograph, as in `search`; none if it could not be read."""
        if verdict.photo.pixels is None:
            return []
        return find_similar(self._memory, self._encoder.vector(verdict), verdict.photo.pixels, self._k)


def find_similar(memory: Memory, vector: Floats, pixels: Pixels, k: int) -> list[dict[str, Any]]:
    """The past cases nearest to a photograph, its own left out, as in `search`."""
    return memory.search(vector, k, without=[case_id(pixels)]).to_dicts()


def _log(folder: Path) -> FeedbackLog:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a run that remembers")
    return FeedbackLog(folder)


def _query_name(image: Path | None, text: str | None) -> str:
    return str(image) if image is not None else text or ""


def _encode_query(run_memory: RunMemory, image: Path | None, text: str | None) -> tuple[Floats, list[str]]:
    """The vector of a query, and the id of the photograph's own case."""
    if (image is None) == (text is None):
        raise InputError("give one query: a photograph, or --text")
    if text is not None:
        if not text.strip():
            raise InputError("--text is empty; say what notes should say")
        return run_memory.text_encoder.embed([text])[0], []
    if image is None or not image.is_file():
        raise InputError(f"{image}: no such photograph; for words give --text")
    encoded = next(run_memory.photo_encoder.extract([image]))
    if encoded.photo.pixels is None or encoded.vector is None:
        raise InputError(f"{image}: {encoded.photo.problem}")
    return encoded.vector, [case_id(encoded.photo.pixels)]
